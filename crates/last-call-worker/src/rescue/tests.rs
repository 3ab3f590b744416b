//! The rescue against the embedded server and the real one, by a server in the middle that loses answers.
//!
//! Owns what a call and its room are here. Refuses workers: who takes a dispatch is the server's affair.

mod lists;
mod middle;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use last_call_server::{Config, Keys as ServerKeys, Server};
use last_call_testkit::{LiveKit, Python, Signal};

use self::middle::{Faults, Middle};
use super::call::{ATTRIBUTE, Mark};
use super::*;
use crate::metrics::Rescued;
use crate::token::Keys;
use crate::{Dialler, Endpoint};

/// Ends a hang.
const LONG: Duration = Duration::from_secs(120);
const SECRET: &str = "secret-secret-secret-secret-secret";
/// Runs the promise's full number of calls; a minute for both tests.
const FULL: &str = "LAST_CALL_FULL";

fn api(url: &str, keys: Keys) -> Api {
    Api::new(Dialler::new(Endpoint::parse(url, false).expect("a URL")), keys)
}

fn embedded() -> (String, Keys) {
    let keys = ServerKeys { key: "key".into(), secret: SECRET.into() };
    let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys)).expect("a server");
    let url = server.url();
    tokio::spawn(server.run(std::future::pending()));
    (url, Keys::new("key", SECRET))
}

/// A server, someone in its middle, and a rescue that asks there.
struct Rig {
    direct: Api,
    middle: Middle,
    keys: Keys,
    metrics: Arc<Metrics>,
    rescues: Rescues,
}

impl Rig {
    async fn new((url, keys): (String, Keys), faults: Faults, dir: Option<&Path>) -> Self {
        let middle = Middle::start(&url, faults).await;
        let metrics = Arc::new(Metrics::new("1"));
        let rescues = begin(&middle, &keys, &metrics, dir).expect("started");
        Self { direct: api(&url, keys.clone()), middle, keys, metrics, rescues }
    }

    /// A dispatch into a new room, and its job, whose agent this worker has.
    async fn call(&self, room: &str) -> livekit::Job {
        let attributes = [("table".to_owned(), "7".to_owned())].into();
        let wish = livekit::CreateAgentDispatchRequest {
            agent_name: "bar".to_owned(),
            room: room.to_owned(),
            metadata: format!("about {room}"),
            deployment: "blue".to_owned(),
            attributes,
            ..Default::default()
        };
        let job = job(&self.direct.create_dispatch(&wish).await.expect("dispatched"));
        self.rescues.assigned(&job, &agent(&job));
        job
    }

    fn dies(&self, job: &livekit::Job) {
        self.rescues.orphaned(&JobId::from(job.id.as_str()), false);
    }

    async fn settled(&self) {
        self.rescues.settle(LONG).await;
        assert_eq!(self.metrics.rescues_pending.get(), 0);
    }

    /// Dispatches of the room that were made by a rescue.
    async fn rescued(&self, room: &str) -> Vec<(livekit::AgentDispatch, Mark)> {
        let all = self.direct.list_dispatches(room).await.expect("listed");
        all.into_iter().filter_map(|one| Mark::read(&one.attributes).map(|mark| (one, mark))).collect()
    }

    /// Dispatches of [`Rig::call`], and those in their place.
    async fn ours(&self, room: &str) -> Vec<livekit::AgentDispatch> {
        let all = self.direct.list_dispatches(room).await.expect("listed");
        all.into_iter().filter(|one| one.metadata == format!("about {room}")).collect()
    }

    /// This worker takes what was dispatched into the room by a rescue.
    async fn takes(&self, room: &str) -> livekit::Job {
        let [(again, _)] = &self.rescued(room).await[..] else { panic!("not one dispatch into {room}") };
        let job = job(again);
        self.rescues.assigned(&job, &agent(&job));
        job
    }

    fn count(&self, verdict: Rescued) -> u64 {
        self.metrics.rescues.of(verdict).get()
    }
}

fn begin(
    middle: &Middle,
    keys: &Keys,
    metrics: &Arc<Metrics>,
    dir: Option<&Path>,
) -> Result<Rescues, StartError> {
    let options = RescueOptions {
        rescue: Some(Which::Crashed),
        rescue_attempts: 2,
        state_dir: dir.map(Path::to_owned),
    };
    let started = start(&options, Which::Off, api(&middle.url(), keys.clone()), metrics.clone());
    started.map(|rescues| rescues.expect("it is on"))
}

/// The job that a server makes of a dispatch.
fn job(dispatch: &livekit::AgentDispatch) -> livekit::Job {
    livekit::Job {
        id: dispatch.id.replace("AD_", "AJ_"),
        dispatch_id: dispatch.id.clone(),
        room: Some(livekit::Room { name: dispatch.room.clone(), ..Default::default() }),
        metadata: dispatch.metadata.clone(),
        agent_name: dispatch.agent_name.clone(),
        deployment: dispatch.deployment.clone(),
        attributes: dispatch.attributes.clone(),
        ..Default::default()
    }
}

fn agent(job: &livekit::Job) -> String {
    format!("agent-{}", job.id)
}

/// Looks again and again until there is something.
async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => break found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LONG, found).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_a_call_is_dispatched_again_with_all_that_it_had() {
    let rig = Rig::new(embedded(), Faults::default(), None).await;
    let first = rig.call("lobby").await;
    let over = rig.call("bar").await;
    rig.rescues.ended(&JobId::from(over.id.as_str()));
    rig.dies(&over);
    rig.dies(&first);
    // As it comes when the report is out.
    rig.rescues.ended(&JobId::from(first.id.as_str()));
    rig.settled().await;
    let [(again, mark)] = &rig.rescued("lobby").await[..] else { panic!("not one") };
    let expected = Mark { first: first.dispatch_id.clone(), attempt: 1, dead: vec![agent(&first)] };
    assert_eq!(*mark, expected);
    let text = r#""attempt":1,"#;
    assert!(again.attributes[ATTRIBUTE].contains(text), "{:?}", again.attributes);
    assert_eq!(again.attributes["table"], "7");
    assert_eq!(
        (&again.agent_name[..], &again.metadata[..], &again.deployment[..]),
        ("bar", "about lobby", "blue")
    );
    assert_eq!(rig.rescued("bar").await.len(), 0, "a call that had its end");

    // The next agent dies too, and then the one after that.
    let second = job(again);
    rig.rescues.assigned(&second, &agent(&second));
    rig.dies(&second);
    rig.settled().await;
    let all = rig.rescued("lobby").await;
    let (again, mark) = all.iter().find(|(_, mark)| mark.attempt == 2).expect("a second attempt");
    assert_eq!((&mark.first, &mark.dead), (&first.dispatch_id, &vec![agent(&first), agent(&second)]));
    let third = job(again);
    rig.rescues.assigned(&third, &agent(&third));
    rig.dies(&third);
    rig.settled().await;
    assert_eq!(rig.rescued("lobby").await.len(), 2, "a call may lose two agents");
    assert_eq!((rig.count(Rescued::Again), rig.count(Rescued::TooOften)), (2, 1));
    // The dead are removed before the new are dispatched.
    let asked = rig.middle.asked();
    let order: Vec<_> = asked.iter().filter(|asked| !asked.contains("List")).map(String::as_str).collect();
    let (remove, create) = ("RoomService/RemoveParticipant", "AgentDispatchService/CreateDispatch");
    assert_eq!(order, [remove, create, remove, create]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_only_jobs_for_rooms_in_which_somebody_waits_are_rescued() {
    let rig = Rig::new(embedded(), Faults { empty: Some("deserted"), ..Faults::default() }, None).await;
    let deserted = rig.call("deserted").await;
    rig.dies(&deserted);
    let mut targeted = rig.call("lobby").await;
    targeted.r#type = livekit::JobType::JtPublisher.into();
    rig.rescues.assigned(&targeted, "agent");
    rig.dies(&targeted);
    let deleted = rig.call("cellar").await;
    rig.direct.delete_dispatch("cellar", &deleted.dispatch_id).await.expect("deleted");
    rig.dies(&deleted);
    rig.settled().await;
    assert_eq!((rig.count(Rescued::NotNeeded), rig.count(Rescued::Targeted)), (2, 1));
    for room in ["deserted", "lobby", "cellar"] {
        assert_eq!(rig.rescued(room).await, [], "{room}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_8_a_call_that_is_given_up_in_the_drain_or_is_not_dispatched_again_is_cut_off() {
    let rig = Rig::new(embedded(), Faults::default(), None).await;
    let targeted = async || {
        let mut job = rig.call("lobby").await;
        job.r#type = livekit::JobType::JtPublisher.into();
        rig.rescues.assigned(&job, "agent");
        rig.dies(&job);
        JobId::from(job.id.as_str())
    };
    targeted().await;
    assert_eq!(rig.rescues.settle(LONG).await, [], "that was before the drain");
    rig.rescues.draining();
    let lost = targeted().await;
    let rescued = rig.call("lobby").await;
    rig.dies(&rescued);
    assert_eq!(rig.rescues.settle(LONG).await, [lost]);

    let rig = Rig::new(embedded(), Faults { deaf: true, ..Faults::default() }, None).await;
    let waits = rig.call("lobby").await;
    rig.dies(&waits);
    assert_eq!(rig.rescues.settle(Duration::ZERO).await, [JobId::from(waits.id.as_str())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_what_a_killed_process_left_is_rescued_by_the_next_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Rig::new(embedded(), Faults { deaf: true, ..Faults::default() }, Some(dir.path())).await;
    let (waits, over, tried) =
        (first.call("waits").await, first.call("over").await, first.call("tried").await);
    first.rescues.ended(&JobId::from(over.id.as_str()));
    first.dies(&tried);
    assert_eq!(first.rescues.settle(Duration::ZERO).await, [], "the journal has it");
    assert_eq!(first.metrics.rescues_pending.get(), 1, "nobody answers");
    let metrics = Arc::new(Metrics::new("1"));
    let taken = begin(&first.middle, &first.keys, &metrics, Some(dir.path())).expect_err("taken").to_string();
    assert!(taken.contains("another process's"), "{taken}");

    let Rig { direct, middle, keys, rescues: gone, .. } = first;
    drop(gone);
    middle.set(Faults::default());
    // The thread lets go of the directory by and by.
    let again = async || begin(&middle, &keys, &metrics, Some(dir.path())).ok();
    let rescues = eventually(again).await;
    let second = Rig { direct, middle, keys, metrics, rescues };
    second.settled().await;
    for room in ["waits", "tried"] {
        let taken = second.takes(room).await;
        second.rescues.ended(&JobId::from(taken.id.as_str()));
    }
    second.settled().await;
    assert_eq!((second.rescued("over").await, second.count(Rescued::Again)), (vec![], 2));
    assert_eq!(second.rescued("waits").await[0].1.first, waits.dispatch_id);
    drop(second);
    let (_, left) = eventually(async || Journal::open(dir.path()).ok()).await;
    assert_eq!(left, [], "a rescue that is over is not tried once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_a_server_that_drops_attributes_makes_no_second_agent() {
    let faults = Faults { drops_attributes: true, lost: 1, of: 3, ..Faults::default() };
    let rig = Rig::new(embedded(), faults, None).await;
    let calls = 4;
    for number in 0..calls {
        let job = rig.call(&format!("lobby-{number}")).await;
        rig.dies(&job);
    }
    rig.settled().await;
    for number in 0..calls {
        let room = format!("lobby-{number}");
        let ours = rig.ours(&room).await;
        assert_eq!(ours.len(), 2, "{room}: {ours:?}");
        // What became of it is known here, although the job does not say it.
        let again = ours.iter().find(|one| one.attributes.is_empty()).expect("dispatched again");
        let job = job(again);
        rig.rescues.assigned(&job, &agent(&job));
        rig.dies(&job);
        rig.settled().await;
        let newest = rig.ours(&room).await.into_iter().find(|one| !ours.contains(one)).expect("once more");
        let job = self::job(&newest);
        rig.rescues.assigned(&job, &agent(&job));
        rig.dies(&job);
    }
    rig.settled().await;
    assert_eq!(rig.count(Rescued::TooOften), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_an_agent_that_dies_before_its_own_rescue_is_known_is_rescued_too() {
    // The answer to the first dispatch is lost, and the look after it late.
    let rig = Rig::new(embedded(), Faults { loses_first_dispatch: true, ..Faults::default() }, None).await;
    let first = rig.call("lobby").await;
    rig.dies(&first);
    let (again, _) = eventually(async || rig.rescued("lobby").await.pop()).await;
    let second = job(&again);
    rig.rescues.assigned(&second, &agent(&second));
    rig.dies(&second);
    rig.settled().await;
    let attempts: BTreeSet<_> = rig.rescued("lobby").await.iter().map(|(_, mark)| mark.attempt).collect();
    assert_eq!((attempts, rig.count(Rescued::Again)), ([1, 2].into(), 1));
}

/// A dispatch that no worker takes is made again, also where another agent is in the room.
async fn untaken(server: (String, Keys)) {
    let faults = Faults { untaken: true, neighbour: Some("neighbour"), ..Faults::default() };
    let rig = Rig::new(server, faults, None).await;
    let other = rig.call("lobby").await;
    rig.rescues.assigned(&other, "neighbour");
    let first = rig.call("lobby").await;
    rig.dies(&first);
    rig.settled().await;
    let untaken = rig.rescued("lobby").await;
    let again = async || Some(rig.rescued("lobby").await).filter(|now| now.len() == 1 && *now != untaken);
    let again = eventually(again).await;
    assert_eq!(again[0].1, untaken[0].1, "it is the same attempt");
    rig.takes("lobby").await;
    rig.settled().await;
    assert_eq!((rig.count(Rescued::Again), rig.rescued("lobby").await), (1, again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_what_nobody_takes_from_the_embedded_server_is_dispatched_again() {
    untaken(embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_what_nobody_takes_from_the_real_server_is_dispatched_again() {
    let Some(livekit) = LiveKit::or_skip().expect("livekit-server") else { return };
    untaken((livekit.url(), Keys::new(livekit.key(), livekit.secret()))).await;
}

/// Three of ten answers never come, of which one was not even asked for.
async fn losses(server: (String, Keys)) {
    let calls = if std::env::var_os(FULL).is_some() { 1_000 } else { 16 };
    let rig = Rig::new(server, Faults { lost: 3, of: 10, ..Faults::default() }, None).await;
    for number in 0..calls {
        let job = rig.call(&format!("lobby-{number}")).await;
        rig.dies(&job);
    }
    assert_eq!(rig.rescues.settle(LONG * 10).await, [], "calls are lost");
    assert_eq!(rig.metrics.rescues_pending.get(), 0, "rescues are not over");
    let (mut lost, mut doubled) = (0, 0);
    for number in 0..calls {
        match rig.rescued(&format!("lobby-{number}")).await.len() {
            0 => lost += 1,
            1 => {}
            _ => doubled += 1,
        }
    }
    assert!(rig.middle.lost() > calls / 4, "{} answers were lost: the test is of no use", rig.middle.lost());
    assert_eq!((lost, doubled), (0, 0), "of {calls}, lost and doubled");
    for number in 0..calls {
        rig.takes(&format!("lobby-{number}")).await;
    }
    rig.settled().await;
    assert_eq!(rig.count(Rescued::Again), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_three_of_ten_answers_lost_by_the_embedded_server() {
    losses(embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_three_of_ten_answers_lost_by_the_real_server() {
    let Some(livekit) = LiveKit::or_skip().expect("livekit-server") else { return };
    losses((livekit.url(), Keys::new(livekit.key(), livekit.secret()))).await;
}

/// A caller and an agent by LiveKit's own SDK; the agent is killed, and the room is as it then is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_1_a_killed_agent_of_the_real_server_is_removed_and_its_caller_kept() {
    let Some(livekit) = LiveKit::or_skip().expect("livekit-server") else { return };
    let python = match Python::find() {
        Ok(python) => python,
        Err(missing) => return last_call_testkit::skip(missing),
    };
    let keys = Keys::new(livekit.key(), livekit.secret());
    let rig = Rig::new((livekit.url(), keys), Faults { callers: false, ..Faults::default() }, None).await;
    let job = rig.call("lobby").await;
    let deserted = rig.call("deserted").await;
    let caller = python.join(&livekit, "lobby", "caller", false).expect("joined");
    let mut agents = Vec::new();
    for job in [&job, &deserted] {
        let room = &job.room.as_ref().expect("a room").name;
        let token = rig.keys.join_token(room, &agent(job)).expect("a token");
        agents.push(python.join_with(&livekit.url(), &token, false).expect("joined"));
        assert!(rig.direct.agent_is_there(room, &agent(job)).await.expect("listed"), "{room}");
    }
    for (agent, job) in agents.iter().zip([&job, &deserted]) {
        agent.child().signal(Signal::SIGKILL).expect("killed");
        agent.child().wait(LONG).expect("dead");
        rig.dies(job);
    }
    rig.settled().await;
    let there = rig.direct.list_participants("lobby").await.expect("listed");
    assert_eq!(there.iter().map(|one| &one.identity[..]).collect::<Vec<_>>(), ["caller"]);
    assert_eq!(rig.rescued("lobby").await.len(), 1);
    assert_eq!(rig.rescued("deserted").await.len(), 0, "nobody waits there but the dead");
    rig.takes("lobby").await;
    rig.settled().await;
    assert_eq!((rig.count(Rescued::Again), rig.count(Rescued::NotNeeded)), (1, 1));
    caller.leave().expect("left");
}
