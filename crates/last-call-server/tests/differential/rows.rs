//! Who is offered a call, for how long, and what is forgotten: the measured rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use last_call_testkit::proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::{JobStatus, WorkerStatus};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::target::{Target, on_both};
use crate::worker::{
    Manner, Worker, accept, assignment, binary, decline, offer, open, register, status, until,
};

/// Well within the budget of 3 s, of which the real server spends 0.2 s before it asks.
const IN_TIME: Duration = Duration::from_millis(2_000);
/// Longer than from one ping of the server's to the next.
const PING_MISSED: Duration = Duration::from_secs(22);
/// After any budget.
const TOO_LATE: Duration = Duration::from_millis(3_500);

fn dispatch_all(target: &Target, rooms: usize) -> Vec<proto::AgentDispatch> {
    (0..rooms).map(|room| target.dispatch(&format!("room-{room}"), "a")).collect()
}

#[test]
fn row_1_a_mute_worker_is_asked_once_and_the_call_is_lost() {
    on_both(|target| async move {
        let mute = Worker::start(&target, "a", Manner::Mute).await;
        let dispatch = target.dispatch("room", "a");
        let job = mute.wait(offer).await;
        sleep(TOO_LATE).await;
        mute.send([accept(&job.id)]);
        mute.caught_up().await;
        assert_eq!(mute.offers(), ["room"], "{}", target.name);
        assert!(mute.assignments().is_empty(), "{}: {:?}", target.name, mute.seen());
        assert!(target.jobs(&dispatch).is_empty(), "{}", target.name);
    });
}

#[test]
fn row_2_a_mute_worker_loses_its_share_beside_a_healthy_one() {
    on_both(|target| async move {
        let mute = Worker::start(&target, "a", Manner::Mute).await;
        let healthy = Worker::start(&target, "a", Manner::Accept).await;
        dispatch_all(&target, 40);
        let counts = || (mute.offers().len(), healthy.assignments().len());
        until(|| counts().0 + counts().1 == 40, || format!("{:?} of 40", counts())).await;
        // Half are expected to be lost, with a deviation of 3.
        assert!((6..=34).contains(&mute.offers().len()), "{}: {}", target.name, mute.offers().len());
        sleep(TOO_LATE).await;
        healthy.caught_up().await;
        mute.caught_up().await;
        assert_eq!(
            mute.offers().len() + healthy.offers().len(),
            40,
            "{}: nobody is asked again",
            target.name
        );
    });
}

#[test]
fn row_3_a_declining_worker_loses_nothing() {
    on_both(|target| async move {
        let declines = Worker::start(&target, "a", Manner::Decline).await;
        let healthy = Worker::start(&target, "a", Manner::Accept).await;
        dispatch_all(&target, 40);
        until(|| healthy.assignments().len() == 40, || format!("{:?}", healthy.assignments())).await;
        assert!(!declines.offers().is_empty(), "{}", target.name);
        assert!(declines.assignments().is_empty(), "{}", target.name);
    });
}

#[test]
fn row_4_a_full_worker_is_not_asked() {
    on_both(|target| async move {
        let full = Worker::start(&target, "a", Manner::Accept).await;
        full.send([status(WorkerStatus::WsFull, 0.0)]);
        full.caught_up().await;
        let healthy = Worker::start(&target, "a", Manner::Accept).await;
        dispatch_all(&target, 100);
        until(|| healthy.assignments().len() == 100, || format!("{:?}", healthy.assignments())).await;
        assert!(full.offers().is_empty(), "{}", target.name);
    });
}

/// Dispatches without pause until told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start(target: &Target) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, client) = (Arc::clone(&stop), Arc::clone(&made), target.client());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let room = format!("storm-{}", count.fetch_add(1, Ordering::Relaxed));
                client.create_dispatch(&room, "a", "", &[]).expect("a dispatch");
            }
        });
        Self { stop, made, thread: Some(thread) }
    }

    /// Waits until some more dispatches are made.
    async fn more(&self) {
        let before = self.made.load(Ordering::Relaxed);
        while self.made.load(Ordering::Relaxed) < before + 5 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking(), "the storm broke");
    }
}

#[test]
fn row_5_full_behind_the_registration_closes_the_door() {
    on_both(|target| async move {
        let storm = Storm::start(&target);
        for _ in 0..30 {
            let draining = Worker::connect(&target, Manner::Decline).await;
            draining.send([register("a"), status(WorkerStatus::WsFull, 0.0)]);
            draining.caught_up().await;
            storm.more().await;
            draining.caught_up().await;
            assert!(draining.offers().is_empty(), "{}: {:?}", target.name, draining.offers());
        }
    });
}

#[test]
fn row_5b_a_registration_is_available_until_it_says_otherwise() {
    on_both(|target| async move {
        let _storm = Storm::start(&target);
        let draining = Worker::start(&target, "a", Manner::Decline).await;
        draining.wait(offer).await;
        draining.send([status(WorkerStatus::WsFull, 0.0)]);
        draining.caught_up().await;
    });
}

#[test]
fn row_6_a_dropped_connection_takes_its_jobs_along() {
    on_both(|target| async move {
        let first = Worker::start(&target, "a", Manner::Accept).await;
        let dispatch = target.dispatch("room", "a");
        let job = first.wait(assignment).await.job.expect("a job");
        drop(first);
        let again = Worker::start(&target, "a", Manner::Accept).await;
        let running = proto::UpdateJobStatus {
            job_id: job.id.clone(),
            status: JobStatus::JsRunning.into(),
            error: String::new(),
        };
        let migrate = proto::MigrateJobRequest { job_ids: vec![job.id] };
        again.send([Up::MigrateJob(migrate), Up::UpdateJob(running)]);
        again.caught_up().await;
        target.api(|api| api.delete_dispatch("room", &dispatch.id));
        target.dispatch("another", "a");
        again.wait_assigned(&["another"]).await;
        assert_eq!(again.offers(), ["another"], "{}", target.name);
        assert!(!again.seen().contains(&"termination"), "{}: the job's end is told to nobody", target.name);
    });
}

#[test]
fn row_7_a_late_yes_is_dropped() {
    on_both(|target| async move {
        let in_time = Worker::start(&target, "a", Manner::AcceptAfter(IN_TIME)).await;
        target.dispatch("room", "a");
        in_time.wait(assignment).await;
        drop(in_time);
        let late = Worker::start(&target, "b", Manner::Mute).await;
        target.dispatch("room", "b");
        let job = late.wait(offer).await;
        sleep(TOO_LATE).await;
        late.send([accept(&job.id)]);
        late.caught_up().await;
        assert!(late.assignments().is_empty(), "{}", target.name);
    });
}

#[test]
fn row_8_at_its_target_load_a_lone_worker_is_not_asked() {
    on_both(|target| async move {
        let loaded = Worker::start(&target, "a", Manner::Accept).await;
        loaded.send([status(WorkerStatus::WsAvailable, 0.71)]);
        loaded.caught_up().await;
        target.dispatch("too-much", "a");
        // Dispatched later and asked, so that the one before is decided.
        let clock = Worker::start(&target, "clock", Manner::Accept).await;
        target.dispatch("clock", "clock");
        clock.wait(assignment).await;
        loaded.send([status(WorkerStatus::WsAvailable, 0.69)]);
        loaded.caught_up().await;
        target.dispatch("fits", "a");
        loaded.wait(assignment).await;
        assert_eq!(loaded.offers(), ["fits"], "{}", target.name);
    });
}

#[test]
fn row_8b_beside_an_idle_worker_a_loaded_one_is_asked_too() {
    on_both(|target| async move {
        let loaded = Worker::start(&target, "a", Manner::Accept).await;
        loaded.send([status(WorkerStatus::WsAvailable, 0.8)]);
        loaded.caught_up().await;
        let idle = Worker::start(&target, "a", Manner::Accept).await;
        dispatch_all(&target, 100);
        let counts = || (loaded.assignments().len(), idle.assignments().len());
        until(|| counts().0 + counts().1 == 100, || format!("{:?} of 100", counts())).await;
        // A sixth is expected, 17, with a deviation of 4.
        let share = loaded.assignments().len();
        assert!((1..=40).contains(&share), "{}: {share}", target.name);
    });
}

#[test]
fn row_10_a_dead_workers_job_is_listed_as_running_and_offered_to_nobody() {
    on_both(|target| async move {
        let dies = Worker::start(&target, "a", Manner::Accept).await;
        let dispatch = target.dispatch("room", "a");
        dies.wait(assignment).await;
        target.listed(&dispatch);
        drop(dies);
        let next = Worker::start(&target, "a", Manner::Accept).await;
        target.dispatch("another", "a");
        next.wait_assigned(&["another"]).await;
        let state = target.listed(&dispatch).state.expect("a state");
        assert_eq!(state.status(), JobStatus::JsRunning, "{}", target.name);
        assert_eq!(next.offers(), ["another"], "{}", target.name);
    });
}

#[test]
fn row_11_dispatching_again_makes_a_second_agent() {
    on_both(|target| async move {
        let healthy = Worker::start(&target, "a", Manner::Accept).await;
        let first = target.dispatch("room", "a");
        healthy.wait_assigned(&["room"]).await;
        assert_eq!(target.listed(&first).dispatch_id, first.id, "{}", target.name);
        let second = target.dispatch("room", "a");
        assert_ne!(first.id, second.id, "{}", target.name);
        healthy.wait_assigned(&["room", "room"]).await;
    });
}

#[test]
fn row_12_a_worker_that_neither_reads_nor_speaks_is_still_asked() {
    on_both(|target| async move {
        let token = target.token(VideoGrants { agent: true, ..VideoGrants::default() });
        let mut deaf = open(&target, &token).await.expect("an upgrade");
        deaf.send(binary(register("a"))).await.expect("sent");
        let hears = async |deaf: &mut WebSocketStream<TcpStream>, wanted: fn(&Down) -> bool| {
            while let Some(Ok(frame)) = deaf.next().await {
                let Message::Binary(bytes) = frame else { continue };
                if proto::ServerMessage::decode(bytes)
                    .is_ok_and(|down| down.message.as_ref().is_some_and(wanted))
                {
                    return true;
                }
            }
            false
        };
        assert!(hears(&mut deaf, |down| matches!(down, Down::Register(_))).await, "{}", target.name);
        // Past a ping, which has no pong.
        sleep(PING_MISSED).await;
        target.dispatch("room", "a");
        assert!(hears(&mut deaf, |down| matches!(down, Down::Availability(_))).await, "{}", target.name);
    });
}

#[test]
fn row_12b_all_workers_share_one_budget() {
    on_both(|target| async move {
        let one = Worker::start(&target, "a", Manner::Mute).await;
        let two = Worker::start(&target, "a", Manner::Mute).await;
        target.dispatch("room", "a");
        let asked_one = tokio::select! {
            _ = one.wait(offer) => true,
            _ = two.wait(offer) => false,
        };
        let (first, second) = if asked_one { (&one, &two) } else { (&two, &one) };
        let job = first.wait(offer).await;
        sleep(IN_TIME).await;
        first.send([decline(&job.id)]);
        second.wait(offer).await;
        sleep(IN_TIME).await;
        second.send([accept(&job.id)]);
        second.caught_up().await;
        assert!(second.assignments().is_empty(), "{}: 4 s are over the budget of 3 s", target.name);
    });
}
