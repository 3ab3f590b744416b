//! The driver against a scripted server in memory, on paused time: hours pass in milliseconds, and every
//! instant is exact.

use crate::jobs::Jobs;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use last_call_proto::{Limits, Outcome, Policy};
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use tokio::io::DuplexStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::error::DialError;
use crate::job::JobContext;
use crate::program::Worker;
use crate::rescue::Heard;
use crate::socket::Transport;

const HOUR: Duration = Duration::from_secs(3600);

/// A link that runs, and its server's end of the world.
struct Rig {
    control: mpsc::UnboundedSender<Control>,
    dials: mpsc::UnboundedReceiver<(Instant, Conn)>,
    left: JoinHandle<Report>,
    /// Where nobody listens, no rescue is waited for.
    rescues: Option<Heard>,
    started: Instant,
}

/// One connection, as the server has it.
struct Conn(WebSocketStream<DuplexStream>);

impl Rig {
    fn new(worker: Worker) -> Self {
        Self { rescues: None, ..Self::with(worker, Limits::default(), 1 << 20, |_| true) }
    }

    /// `opens` says of each attempt, counted from 1, whether it succeeds.
    fn with(
        worker: Worker,
        limits: Limits,
        buffer: usize,
        opens: impl Fn(u32) -> bool + Send + 'static,
    ) -> Self {
        let (to_server, dials) = mpsc::unbounded_channel();
        let attempts = std::sync::atomic::AtomicU32::new(0);
        let dial: Dial = Box::new(move || {
            let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            let (to_server, open) = (to_server.clone(), opens(attempt));
            Box::pin(async move {
                if !open {
                    return Err(DialError::Unavailable { status: 503, said: String::new() });
                }
                let (client, server) = tokio::io::duplex(buffer);
                let client: Box<dyn Transport> = Box::new(client);
                let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
                let _ = to_server.send((Instant::now(), Conn(server)));
                Ok(Socket::new(WebSocketStream::from_raw_socket(client, Role::Client, None).await))
            })
        });
        Self::on(Source::Server { url: "ws://server".to_owned(), dial }, worker, limits, dials)
    }

    fn on(
        source: Source,
        worker: Worker,
        limits: Limits,
        dials: mpsc::UnboundedReceiver<(Instant, Conn)>,
    ) -> Self {
        let (control, orders) = mpsc::unbounded_channel();
        let (to_link, from_user) = mpsc::unbounded_channel();
        let (_, warmed) = oneshot::channel();
        let (to_rescues, rescues) = Rescues::heard();
        let link = Link {
            core: last_call_proto::Worker::new(limits),
            policy: Policy::default(),
            source,
            registration: livekit::RegisterWorkerRequest::default(),
            runner: Runner::Code(Box::new(TaskRunner::new(
                Handle::current(),
                Arc::new(worker.program),
                None,
                None,
                to_link,
                warmed,
                Jobs::default(),
            ))),
            signals: None,
            control: orders,
            verbs: mpsc::unbounded_channel().1,
            from_user,
            load: None,
            metrics: Arc::new(Metrics::new("test")),
            snapshot: watch::channel(Snapshot::default()).0,
            systemd: None,
            watched: Watched::default(),
            beat: Arc::new(Beat::new()),
            keep: Keep::default(),
            rescues: Some(to_rescues),
            connection: Connection::default(),
            timers: crate::timers::Timers::default(),
        };
        let left = tokio::spawn(link.run());
        control.send(Control::Start).expect("the link listens");
        Self { control, dials, left, rescues: Some(rescues), started: Instant::now() }
    }

    async fn accept(&mut self) -> Conn {
        self.dials.recv().await.expect("the link dials").1
    }

    /// A connection on which the worker is registered.
    async fn registered(&mut self) -> Conn {
        let mut conn = self.accept().await;
        assert!(matches!(conn.next().await, Up::Register(_)));
        assert!(matches!(conn.next().await, Up::UpdateWorker(_)));
        conn.send(Down::Register(livekit::RegisterWorkerResponse::default())).await;
        conn
    }

    fn drain(&self) {
        self.control.send(Control::Drain(std::time::Instant::now())).expect("the link listens");
    }

    async fn outcome(self) -> Outcome {
        self.left.await.expect("the link did not panic").outcome
    }
}

impl Conn {
    async fn send(&mut self, message: Down) {
        let bytes = livekit::ServerMessage { message: Some(message) }.encode_to_vec();
        self.0.send(Message::Binary(bytes.into())).await.expect("the worker is there");
    }

    async fn offer(&mut self, id: &str) {
        self.send(Down::Availability(livekit::AvailabilityRequest { job: Some(job(id)), resuming: false }))
            .await;
    }

    async fn assign(&mut self, id: &str) {
        let assignment = livekit::JobAssignment { job: Some(job(id)), url: None, token: "t".into() };
        self.send(Down::Assignment(assignment)).await;
    }

    /// The next LiveKit message; the connection's pongs go out by themselves.
    async fn next(&mut self) -> Up {
        self.next_or_end().await.expect("the worker is there")
    }

    async fn next_or_end(&mut self) -> Option<Up> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => {
                    return livekit::WorkerMessage::decode(bytes).expect("a message").message;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Lets time pass on a server that lives: it answers pings, and is told nothing but statuses.
    async fn idle_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(message) = tokio::time::timeout_at(until, self.next()).await {
            assert!(matches!(message, Up::UpdateWorker(_)), "{message:?}");
        }
    }

    /// The next message that is no status.
    async fn event(&mut self) -> Up {
        loop {
            let message = self.next().await;
            if !matches!(message, Up::UpdateWorker(_)) {
                return message;
            }
        }
    }

    async fn answer(&mut self) -> livekit::AvailabilityResponse {
        let message = self.event().await;
        let Up::Availability(answer) = message else { panic!("no answer: {message:?}") };
        answer
    }

    /// Offers, and assigns what is accepted.
    async fn run(&mut self, id: &str) {
        self.offer(id).await;
        assert!(self.answer().await.available);
        self.assign(id).await;
        assert_eq!(self.report().await, (id.to_owned(), livekit::JobStatus::JsRunning, String::new()));
    }

    async fn report(&mut self) -> (String, livekit::JobStatus, String) {
        let message = self.event().await;
        let Up::UpdateJob(update) = message else { panic!("no report: {message:?}") };
        (update.job_id.clone(), update.status(), update.error)
    }
}

fn job(id: &str) -> livekit::Job {
    livekit::Job { id: id.to_owned(), ..Default::default() }
}

fn worker<F, Fut>(entrypoint: F) -> Worker
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), crate::job::Error>> + Send + 'static,
{
    Worker::new("test").entrypoint(entrypoint)
}

fn sleeper(time: Duration) -> Worker {
    worker(move |_| async move {
        tokio::time::sleep(time).await;
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn drain_5_a_worker_stays_fifty_minutes_for_one_call_and_then_leaves_at_once() {
    let mut rig = Rig::new(sleeper(HOUR / 60 * 50));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    let launched = Instant::now();
    rig.drain();
    let server = tokio::spawn(async move {
        let end = conn.report().await;
        while conn.next_or_end().await.is_some() {}
        end
    });
    assert_eq!(rig.outcome().await, Outcome::Finished);
    assert_eq!(server.await.expect("no panic").1, livekit::JobStatus::JsSuccess);
    assert!(launched.elapsed() < HOUR / 60 * 50 + Duration::from_millis(250), "{:?}", launched.elapsed());
}

#[tokio::test(start_paused = true)]
async fn drain_6_a_call_that_never_ends_is_told_cancelled_and_cut_within_the_budget() {
    let (log, mut seen) = mpsc::unbounded_channel();
    let mut rig = Rig::new(worker(move |job| {
        let log = log.clone();
        async move {
            log.send(("draining", job.draining().await.deadline)).expect("listened to");
            log.send(("stopping", job.stopping().await.deadline)).expect("listened to");
            pending().await
        }
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    rig.drain();
    let drained = Instant::now();
    let server = tokio::spawn(async move { while conn.next_or_end().await.is_some() {} });
    let (first, deadline) = seen.recv().await.expect("told");
    assert_eq!((first, Instant::from_std(deadline) - drained), ("draining", HOUR - Duration::from_secs(10)));
    let (second, cancelled) = seen.recv().await.expect("told");
    assert_eq!((second, drained.elapsed().as_secs()), ("stopping", 3590));
    assert!(Instant::from_std(cancelled) > Instant::now());
    assert_eq!(rig.outcome().await, Outcome::CutOff(vec!["AJ_1".into()]));
    assert!(drained.elapsed() <= HOUR, "{:?}", drained.elapsed());
    server.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn drain_2_a_stuck_write_cannot_hold_the_drain() {
    // A server that stops reading, and a pipe too small for one answer.
    let mut rig = Rig::with(sleeper(HOUR / 2), Limits::default(), 600, |_| true);
    let mut stuck = rig.registered().await;
    stuck.run("AJ_1").await;
    let offering = tokio::spawn(async move {
        for n in 0..100 {
            let offer = livekit::AvailabilityRequest { job: Some(job(&format!("AJ_x{n}"))), resuming: false };
            let bytes = livekit::ServerMessage { message: Some(Down::Availability(offer)) }.encode_to_vec();
            if stuck.0.send(Message::Binary(bytes.into())).await.is_err() {
                return;
            }
        }
        pending::<()>().await;
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.drain();
    let drained = Instant::now();
    let mut next = rig.accept().await;
    assert!(drained.elapsed() <= Duration::from_secs(13), "{:?}", drained.elapsed());
    assert!(matches!(next.next().await, Up::Register(_)));
    let Up::UpdateWorker(status) = next.next().await else { panic!("no status behind the registration") };
    assert!(status.draining && status.status() == livekit::WorkerStatus::WsFull);
    offering.abort();
    next.send(Down::Register(livekit::RegisterWorkerResponse::default())).await;
    tokio::spawn(async move { while next.next_or_end().await.is_some() {} });
    assert_eq!(rig.outcome().await, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn reg_2_a_silent_connection_is_replaced_within_ten_seconds() {
    let mut rig = Rig::new(sleeper(HOUR));
    let silent = rig.registered().await;
    let silence = Instant::now();
    let (at, _conn) = rig.dials.recv().await.expect("another connection");
    assert!(at - silence <= Duration::from_secs(10), "{:?}", at - silence);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn reg_1_a_day_without_a_server_ends_no_call() {
    // A full-jitter backoff of at most 5 s needs at least 17,280 attempts for a day.
    let mut rig =
        Rig::with(sleeper(HOUR * 30), Limits::default(), 1 << 20, |attempt| attempt == 1 || attempt > 17_280);
    let mut first = rig.registered().await;
    first.run("AJ_1").await;
    drop(first);
    let mut back = rig.registered().await;
    let message = back.event().await;
    let Up::MigrateJob(jobs) = message else { panic!("the running job is not said again: {message:?}") };
    assert_eq!(jobs.job_ids, ["AJ_1"]);
    assert!(rig.started.elapsed() > HOUR);
    rig.control.send(Control::Force).expect("the link listens");
    tokio::spawn(async move { while back.next_or_end().await.is_some() {} });
    assert_eq!(rig.outcome().await, Outcome::Forced(vec!["AJ_1".into()]));
}

#[tokio::test(start_paused = true)]
async fn job_1_a_slow_answer_is_a_decline_and_a_late_yes_is_dropped() {
    let slow = sleeper(HOUR).on_request(|request| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        request.accept()
    });
    let mut rig = Rig::new(slow);
    let mut conn = rig.registered().await;
    conn.offer("AJ_1").await;
    let offered = Instant::now();
    let answer = conn.answer().await;
    assert!(!answer.available && !answer.terminate);
    assert_eq!(offered.elapsed().as_secs(), 2);
    conn.idle_for(Duration::from_secs(10)).await;
    conn.offer("AJ_2").await;
    assert_eq!(conn.answer().await.job_id, "AJ_2", "nothing more was said of the first");
}

#[tokio::test(start_paused = true)]
async fn job_5_a_slot_is_free_again_when_the_assignment_never_comes() {
    let limits = Limits { max_jobs: Some(1), ..Limits::default() };
    let mut rig = Rig::with(sleeper(HOUR), limits, 1 << 20, |_| true);
    let mut conn = rig.registered().await;
    conn.offer("AJ_1").await;
    assert!(conn.answer().await.available);
    conn.offer("AJ_2").await;
    assert!(!conn.answer().await.available, "the slot is reserved");
    conn.idle_for(Duration::from_secs(11)).await;
    conn.run("AJ_3").await;
}

#[tokio::test(start_paused = true)]
async fn job_3_callbacks_run_with_the_reason_before_the_end_is_reported() {
    let (log, mut seen) = mpsc::unbounded_channel();
    let mut rig = Rig::new(worker(move |job| {
        let log = log.clone();
        async move {
            job.add_shutdown_callback(move |reason| async move {
                log.send(reason).expect("listened to");
            });
            job.shutdown("the caller hung up");
            job.stopping().await;
            Err("no one is left".into())
        }
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    let (_, status, error) = conn.report().await;
    assert_eq!((status, error.as_str()), (livekit::JobStatus::JsFailed, "no one is left"));
    assert_eq!(seen.try_recv().as_deref(), Ok("the caller hung up"));
}

#[tokio::test(start_paused = true)]
async fn job_3_a_callback_that_hangs_is_bounded() {
    let mut rig = Rig::new(worker(|job| async move {
        job.add_shutdown_callback(|_| pending());
        Ok(())
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    let ended = Instant::now();
    assert_eq!(conn.report().await.1, livekit::JobStatus::JsFailed);
    assert_eq!(ended.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn job_3_a_spawned_task_ends_with_its_job_and_its_panic_is_the_jobs_failure() {
    let (log, mut seen) = mpsc::unbounded_channel();
    let mut rig = Rig::new(worker(move |job| {
        let log = log.clone();
        async move {
            let id = job.id().to_owned();
            job.spawn(async move {
                struct Gone(mpsc::UnboundedSender<String>, String);
                impl Drop for Gone {
                    fn drop(&mut self) {
                        let _ = self.0.send(self.1.clone());
                    }
                }
                let _gone = Gone(log, JobContext::current().expect("inside the job").id().to_owned());
                pending().await
            });
            tokio::task::yield_now().await;
            if id == "AJ_2" {
                job.spawn(async { panic!("boom") });
                pending::<()>().await;
            }
            Ok(())
        }
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    assert_eq!(conn.report().await.1, livekit::JobStatus::JsSuccess);
    assert_eq!(seen.recv().await.as_deref(), Some("AJ_1"));
    conn.run("AJ_2").await;
    let (_, status, error) = conn.report().await;
    assert_eq!((status, error.as_str()), (livekit::JobStatus::JsFailed, "a task of the job panicked: boom"));
    assert_eq!(seen.recv().await.as_deref(), Some("AJ_2"));
}

#[tokio::test(start_paused = true)]
async fn job_3_termination_by_the_server_tells_then_cancels() {
    let mut rig = Rig::new(worker(|_| pending()));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    conn.send(Down::Termination(livekit::JobTermination { job_id: "AJ_1".into() })).await;
    let told = Instant::now();
    let (_, status, error) = conn.report().await;
    assert_eq!((status, told.elapsed().as_secs()), (livekit::JobStatus::JsFailed, 10), "{error}");
}

#[tokio::test(start_paused = true)]
async fn call_2_a_death_is_rescued_and_none_after_the_server_ended_the_job() {
    let dies = worker(|job| async move {
        if job.id() == "AJ_ended" {
            job.stopping().await;
        }
        job.process_died();
        Err("killed".into())
    });
    let mut rig = Rig::with(dies, Limits::default(), 1 << 20, |_| true);
    let mut conn = rig.registered().await;
    for (id, rescued) in [("AJ_killed", true), ("AJ_ended", false)] {
        conn.run(id).await;
        if !rescued {
            conn.send(Down::Termination(livekit::JobTermination { job_id: id.into() })).await;
        }
        conn.report().await;
        let orphans = rig.rescues.as_mut().map(Heard::orphans).unwrap_or_default();
        assert_eq!(!orphans.is_empty(), rescued, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn drain_5_a_job_without_a_server_runs_its_hour_and_ends_the_program() {
    let solo = Solo {
        url: "ws://server".to_owned(),
        room: "room".to_owned(),
        identity: "me".to_owned(),
        agent_name: String::new(),
        token: "t".to_owned(),
    };
    let nobody = mpsc::unbounded_channel().1;
    let mut rig = Rig::on(Source::Solo(solo), sleeper(HOUR), Limits::default(), nobody);
    rig.rescues = None;
    let started = rig.started;
    let report = rig.left.await.expect("the link did not panic");
    assert_eq!((report.outcome, report.succeeded), (Outcome::Finished, 1));
    assert_eq!(started.elapsed().as_secs(), 3600);
}

/// A value whose destructor panics, unless a panic is under way already.
struct Grudge;

impl Drop for Grudge {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn job_3_a_destructor_that_panics_is_the_jobs_failure_and_no_hang() {
    let mut rig = Rig::new(worker(|job| async move {
        let _grudge = Grudge;
        job.spawn(async { panic!("boom") });
        pending().await
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    let (_, status, error) = conn.report().await;
    assert_eq!((status, error.as_str()), (livekit::JobStatus::JsFailed, "panicked: dropped"));
    rig.drain();
    tokio::spawn(async move { while conn.next_or_end().await.is_some() {} });
    assert_eq!(rig.outcome().await, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn job_3_asking_to_stop_a_thousand_times_asks_once() {
    let mut rig = Rig::new(worker(|job| async move {
        for n in 0..1000 {
            job.shutdown(format!("reason {n}"));
        }
        Err(job.stopping().await.reason.to_string().into())
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    assert_eq!(conn.report().await.2, "reason 0");
}

#[tokio::test(start_paused = true)]
async fn job_3_nothing_is_started_once_the_entrypoint_is_over() {
    let (log, mut seen) = mpsc::unbounded_channel();
    let mut rig = Rig::new(worker(move |job| {
        let log = log.clone();
        async move {
            let later = job.clone();
            job.add_shutdown_callback(move |_| async move {
                later.spawn(async move {
                    let _ = log.send("started");
                });
            });
            Ok(())
        }
    }));
    let mut conn = rig.registered().await;
    conn.run("AJ_1").await;
    assert_eq!(conn.report().await.1, livekit::JobStatus::JsSuccess);
    conn.idle_for(Duration::from_secs(1)).await;
    assert!(seen.try_recv().is_err());
}
