//! Registrations between a scripted server and a worker that is channels in the test's hands.

use futures_util::FutureExt;
use last_call_proto::{End, Load};
use last_call_testkit::{Event, Job, Options, Stub, What};
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use prost::Message as _;
use tokio::sync::oneshot;

use super::*;
use crate::guard::connection::Sdk;
use crate::guard::guarded::Call;
use crate::guard::rig::{PATIENCE, in_time, keys};
use crate::jobs::Jobs;
use crate::socket::Endpoint;

struct Rig {
    stub: Stub,
    registrations: Registrations,
    shown: watch::Receiver<Snapshot>,
    connections: u64,
    calls: mpsc::UnboundedReceiver<Call>,
}

impl Rig {
    fn new() -> Self {
        let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
        let endpoint = Endpoint::parse(&stub.url(), false).expect("a URL");
        let (calls, taken) = mpsc::unbounded_channel();
        let parts = Parts {
            dialler: Dialler::new(endpoint),
            keys: keys(),
            limits: Limits { threshold: Some(Load::WHOLE), counts_itself: true, ..Limits::default() },
            policy: Policy { backoff_cap: Duration::from_millis(20), ..Policy::default() },
            load: None,
            metrics: Arc::new(Metrics::new("test")),
            beat: Arc::new(Beat::new()),
            surroundings: Surroundings { url: stub.url(), jobs: Jobs::default(), calls },
        };
        let (snapshot, shown) = watch::channel(Snapshot::default());
        let registrations = Registrations::new(parts, snapshot);
        Self { stub, registrations, shown, connections: 0, calls: taken }
    }

    /// The agent of this name registers.
    fn arrives(&mut self, name: &str) -> Worker {
        let request = livekit::RegisterWorkerRequest { agent_name: name.to_owned(), ..Default::default() };
        self.connections += 1;
        let (number, (to, from_guard)) = (self.connections, mpsc::unbounded_channel());
        let (link, mut linked) = oneshot::channel();
        self.registrations.arrived(Arrival {
            register: frame(Up::Register(request.clone())),
            request,
            query: String::new(),
            connection: Attached { number, to, json: false, sdk: Sdk::Unknown },
            link,
        });
        Worker { number, from_guard, link: linked.try_recv().expect("it is let in") }
    }

    /// The same, up to the server's confirmation.
    async fn registers(&mut self, name: &str) -> Worker {
        let mut worker = self.arrives(name);
        assert!(matches!(worker.next().await, Some(Down::Register(_))));
        worker
    }

    /// A job that the worker runs.
    async fn runs(&self, worker: &mut Worker, id: &str) {
        let available = Up::UpdateWorker(livekit::UpdateWorkerStatus {
            status: Some(livekit::WorkerStatus::WsAvailable.into()),
            ..Default::default()
        });
        worker.say(available);
        self.stub.offer(Job::new(id)).expect("it is registered");
        assert!(matches!(worker.next().await, Some(Down::Availability(_))), "{id} is not offered");
        worker.say(yes(id, "agent"));
        self.until("it to be taken", |event| matches!(event, Up::Availability(answer) if answer.available))
            .await;
        self.stub.assign(id, Some("token".to_owned()), None).expect("it was offered");
        assert!(matches!(worker.next().await, Some(Down::Assignment(_))), "{id} is not assigned");
    }

    /// Waits for a message of this kind to the server.
    async fn until(&self, what: &str, seek: impl Fn(&Up) -> bool) {
        let so = || self.stub.events().iter().filter_map(Event::message).any(&seek);
        until(what, so).await;
    }

    fn refused(&self) -> usize {
        self.stub.events().iter().filter(|event| matches!(event.what, What::Refused(..))).count()
    }
}

/// A connection of the worker, as the worker has it.
struct Worker {
    number: u64,
    from_guard: mpsc::UnboundedReceiver<Message>,
    link: mpsc::UnboundedSender<FromUser>,
}

impl Worker {
    fn tell(&self, said: FromWorker) {
        self.link.send(FromUser::Worker(said)).expect("its link is there");
    }

    fn say(&self, message: Up) {
        self.tell(FromWorker::Frame(self.number, frame(message)));
    }

    /// The next frame; none when the connection is over.
    async fn next(&mut self) -> Option<Down> {
        loop {
            if let Message::Binary(bytes) = in_time(self.from_guard.recv()).await? {
                return livekit::ServerMessage::decode(bytes).expect("a frame").message;
            }
        }
    }

    fn hangs_up(self) {
        let Self { number, from_guard, link } = self;
        drop(from_guard);
        // As a connection does, whose link may have left.
        let _ = link.send(FromUser::Worker(FromWorker::Gone(number)));
    }
}

fn frame(message: Up) -> Bytes {
    livekit::WorkerMessage { message: Some(message) }.encode_to_vec().into()
}

fn yes(job: &str, identity: &str) -> Up {
    Up::Availability(livekit::AvailabilityResponse {
        job_id: job.to_owned(),
        available: true,
        participant_identity: identity.to_owned(),
        ..Default::default()
    })
}

fn success(job: &str) -> Up {
    let status = livekit::JobStatus::JsSuccess.into();
    Up::UpdateJob(livekit::UpdateJobStatus { job_id: job.to_owned(), status, ..Default::default() })
}

fn is_end(message: &Up) -> bool {
    matches!(message, Up::UpdateJob(update) if update.status == i32::from(livekit::JobStatus::JsSuccess))
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "no end of the wait for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn job_3_a_termination_reaches_a_worker_that_came_back_as_another() {
    let mut rig = Rig::new();
    let mut first = rig.registers("one").await;
    rig.runs(&mut first, "AJ_1").await;
    first.hangs_up();
    let mut second = rig.registers("another").await;
    rig.stub.terminate("AJ_1").expect("its registration stands");
    let unheard = async {
        loop {
            if let Some(Call::Unheard(frame)) = rig.calls.recv().await {
                return frame;
            }
        }
    };
    let frame = in_time(unheard).await;
    rig.registrations.tell(|| FromWorker::Termination(frame.clone()));
    let ended = second.next().await;
    assert!(matches!(&ended, Some(Down::Termination(end)) if end.job_id == "AJ_1"), "{ended:?}");
}

#[tokio::test]
async fn reg_3_a_registration_that_is_refused_ends_no_other() {
    let mut rig = Rig::new();
    let mut first = rig.registers("one").await;
    rig.runs(&mut first, "AJ_1").await;
    rig.stub.refuse(401);
    let mut second = rig.arrives("two");
    until("it to be tried again", || rig.refused() > 2).await;
    assert_eq!(rig.registrations.left().now_or_never(), None, "a link has left");
    first.say(success("AJ_1"));
    rig.until("the end of the call", is_end).await;
    rig.stub.accept();
    assert!(matches!(second.next().await, Some(Down::Register(_))));
}

#[tokio::test]
async fn reg_3_a_refusal_just_before_another_registration_is_not_the_last_word() {
    let mut rig = Rig::new();
    rig.stub.set_register(false);
    let mut first = rig.arrives("one");
    rig.until("the first registration", |event| matches!(event, Up::Register(_))).await;
    rig.stub.refuse(403);
    let mut second = rig.arrives("two");
    until("the second to be refused", || rig.registrations.slots[&1].link.is_closed()).await;
    let answer =
        Down::Register(livekit::RegisterWorkerResponse { worker_id: "AW_1".into(), ..Default::default() });
    rig.stub.send(rig.stub.connections()[0], answer).expect("it is open");
    assert!(matches!(first.next().await, Some(Down::Register(_))));
    assert_eq!(in_time(rig.registrations.left()).await, None, "guard would leave");
    assert!(second.next().await.is_none(), "the worker would wait for ever");
    rig.stub.set_register(true);
    rig.stub.accept();
    rig.registers("two").await;
}

#[tokio::test]
async fn reg_3_where_nothing_was_ever_registered_a_refusal_is_the_end() {
    let mut rig = Rig::new();
    rig.stub.refuse(401);
    let _worker = rig.arrives("one");
    let left = in_time(rig.registrations.left()).await;
    assert_eq!(left.map(|report| report.outcome), Some(Outcome::Refused));
}

#[tokio::test]
async fn a_worker_that_comes_back_to_a_link_that_leaves_has_a_new_one() {
    let mut rig = Rig::new();
    rig.registers("one").await.hangs_up();
    let now = Instant::now();
    rig.registrations.let_go(now);
    rig.registrations.let_go(now + 2 * GONE_FOR_GOOD);
    // The link has not run since: it is on its way out, and still there.
    let mut again = rig.arrives("one");
    assert!(in_time(rig.registrations.left()).await.is_some());
    assert!(matches!(again.next().await, Some(Down::Register(_))));
    let mark = rig.stub.mark();
    rig.runs(&mut again, "AJ_1").await;
    assert!(rig.stub.events_after(mark).len() > 1 && rig.registrations.slots.len() == 1);
}

#[tokio::test]
async fn readiness_wants_the_worker_and_not_the_one_before_it() {
    let mut rig = Rig::new();
    let shown = rig.shown.clone();
    let ready = || shown.borrow().registered && !shown.borrow().away;
    let (first, second) = (rig.registers("one").await, rig.registers("two").await);
    until("both to be there", ready).await;
    first.hangs_up();
    until("the first to be missed", || !ready()).await;
    assert!(shown.borrow().registered);
    let first = rig.registers("one").await;
    until("both to be there again", ready).await;

    // The next process has another registration, and the ones before are let go half a minute later.
    rig.registrations.died();
    first.hangs_up();
    second.hangs_up();
    until("the worker to be gone", || !ready()).await;
    let third = rig.registers("three").await;
    until("the new one to be enough", ready).await;
    // It comes back on a new connection before the old one is over.
    let _fourth = rig.registers("three").await;
    third.hangs_up();
    until("the old one to be gone", || {
        rig.registrations.slots.values().filter(|slot| slot.is_attached()).count() == 1
    })
    .await;
    let old = rig.registrations.slots[&2].snapshot.clone();
    until("its link to have noticed", || old.borrow().away).await;
    until("the new one to be enough", ready).await;
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_no_report() {
    let mut rig = Rig::new();
    let mut worker = rig.registers("one").await;
    rig.runs(&mut worker, "AJ_1").await;
    worker.say(yes("AJ_1", "late"));
    worker.tell(FromWorker::JobDied("AJ_1".into(), End::Success));
    rig.until("the end of the call", is_end).await;
    let answers = rig.stub.events();
    let answers = answers.iter().filter(|event| matches!(event.message(), Some(Up::Availability(_)))).count();
    assert_eq!(answers, 1, "the server was answered again");
}

#[tokio::test]
async fn drain_8_a_link_that_breaks_is_told_of_and_the_worker_registers_anew() {
    let mut rig = Rig::new();
    let mut broken = rig.registers("broken").await;
    rig.runs(&mut broken, "AJ_1").await;
    let mut other = rig.registers("other").await;
    let slot = rig.registrations.slots.values().next().expect("the first");
    until("it to show its call", || slot.snapshot.borrow().jobs_held() == 1).await;
    // A panic ends it as this does, and prints besides.
    rig.registrations.links.abort_all();
    assert!(in_time(rig.registrations.left()).await.is_none() && rig.registrations.fault());
    assert_eq!(rig.registrations.slots.len(), 1, "each link ends for itself");
    assert!(in_time(rig.registrations.left()).await.is_none());
    assert!(rig.registrations.is_empty());
    assert!(broken.next().await.is_none() && other.next().await.is_none(), "a connection nobody reads");
    rig.registers("broken").await;
}
