//! Workers and agents that die, on the real server.
//!
//! Owns what their callers are left with: one agent for each call that had one. Refuses the ways in which the API fails,
//! which are tested beside the rescue.

use anyhow::Result;
use last_call_testkit::{Child, Job, LiveKit, Participant, Peer, Python, Signal, processes, proto, skip};
use proto::participant_info::State;

use crate::rig::{
    Rig, SOON, agents, all_started, gone, guarded, leaves_with, log, logged, main_process, on, signal, until,
    worker,
};

/// A server with people in its rooms, and a worker behind guard.
struct Scene {
    server: LiveKit,
    directory: tempfile::TempDir,
    guard: Child,
    /// In the rooms as long as this is there.
    _callers: Vec<Participant>,
}

impl Scene {
    fn new(peer: Peer, options: &[&str], rooms: &[&str]) -> Result<Option<Self>> {
        let Some(server) = LiveKit::or_skip()? else { return Ok(None) };
        let Ok(python) = Python::find().map_err(skip) else { return Ok(None) };
        // Before the first room: livekit-server does not always find a worker that registers while a room begins.
        let Some(guard) = registered(peer, options, &server)? else { return Ok(None) };
        let callers: Result<Vec<_>> =
            rooms.iter().map(|room| python.join(&server, room, "caller", false)).collect();
        let directory = tempfile::tempdir()?;
        Ok(Some(Self { server, directory, guard, _callers: callers? }))
    }

    /// Asks for an agent that does this; its dispatch.
    fn dispatch(&self, room: &str, what: &str) -> Result<String> {
        Ok(self.server.api().create_dispatch(room, "bar", what, &[])?.id)
    }

    /// Asks for an agent that stays until its room's file is there.
    fn call(&self, room: &str) -> Result<String> {
        self.dispatch(room, &format!("connect, wait {}", self.directory.path().join(room).display()))
    }

    /// The processes of all jobs that have started, in order.
    fn started(&self) -> Vec<i64> {
        all_started(&self.guard)
    }

    /// Waits until this many jobs have started in all.
    fn await_started(&self, count: usize) -> Vec<i64> {
        until(&format!("{count} jobs; it said:\n{}", self.guard.output()), || self.started().len() >= count);
        self.started()
    }

    /// Waits until so many agents are in a room.
    fn await_agents(&self, room: &str, count: usize) {
        until(&format!("{count} agents in {room}; guard said:\n{}", self.guard.output()), || {
            agents(&self.server, room).len() == count
        });
    }

    /// Waits until the server lists a job of this room: of one that it does not list it says nothing.
    fn await_jobs_listed(&self, room: &str) {
        let has_job =
            |one: &proto::AgentDispatch| one.state.as_ref().is_some_and(|state| !state.jobs.is_empty());
        until("its job to be listed", || {
            self.server.api().list_dispatch(room).is_ok_and(|listed| listed.iter().any(has_job))
        });
    }

    /// Each dispatch of a room but the one that the server makes for nameless agents: its id, and its attribute of the rescue.
    fn dispatches(&self, room: &str) -> Result<Vec<(String, Option<String>)>> {
        let listed = self.server.api().list_dispatch(room)?;
        let there = |one: &proto::AgentDispatch| one.state.as_ref().is_none_or(|state| state.deleted_at == 0);
        let listed = listed.into_iter().filter(|one| one.agent_name == "bar" && there(one));
        Ok(listed.map(|one| (one.id, one.attributes.get("lc.rescue").cloned())).collect())
    }

    /// The only job fails, and nobody comes in its agent's place.
    fn fails_for_good(&self, room: &str) -> Result<()> {
        until("the job to have its end", || logged(&self.guard, "job failed") == 1);
        self.end(&[room])?;
        assert_eq!((self.dispatches(room)?.len(), self.started().len()), (1, 1), "{}", self.guard.output());
        Ok(())
    }

    fn end(&self, rooms: &[&str]) -> Result<()> {
        self.guard.signal(Signal::SIGTERM)?;
        for room in rooms {
            std::fs::write(self.directory.path().join(room), "")?;
        }
        leaves_with(&self.guard, 0);
        Ok(())
    }
}

/// A worker behind guard that takes jobs of this server; `None` where its SDK is missing.
fn registered(peer: Peer, options: &[&str], server: &LiveKit) -> Result<Option<Child>> {
    let Some(worker) = worker(peer, &server.url()) else { return Ok(None) };
    let worker = on(server, worker).env("PEER_IDLE", "3").env("LIVEKIT_AGENT_NAME", "bar");
    let guard = guarded(worker, options).spawn()?;
    log(&guard, "registered");
    Ok(Some(guard))
}

/// The only worker is killed with three calls.
fn worker_dies(peer: Peer) -> Result<()> {
    const ROOMS: [&str; 3] = ["one", "two", "three"];
    let Some(scene) = Scene::new(peer, &[], &ROOMS)? else { return Ok(()) };
    let mut first = Vec::new();
    for room in ROOMS {
        first.push(scene.call(room)?);
        scene.await_agents(room, 1);
    }
    let (worker, before) = (main_process(&scene.guard), scene.await_started(3));
    signal(worker, Signal::SIGKILL);
    before.iter().for_each(|job| gone(*job));
    let after = scene.await_started(6);
    assert_ne!(main_process(&scene.guard), worker);
    for (room, dispatch) in ROOMS.iter().zip(first) {
        scene.await_agents(room, 1);
        let made: Vec<_> = scene.dispatches(room)?.into_iter().filter(|one| one.0 != dispatch).collect();
        assert_eq!(made.len(), 1, "{made:?}");
        let mark = made[0].1.as_deref().unwrap_or_default();
        assert!(mark.contains(&dispatch) && mark.contains("\"attempt\":1"), "{mark}");
    }
    scene.end(&ROOMS)?;
    assert_eq!(scene.started().len(), after.len(), "an agent too many\n{}", scene.guard.output());
    Ok(())
}

#[test]
fn call_1_a_worker_that_leaks_until_it_dies_is_started_again() {
    let leaks = [("PEER_LEAK", "$DIR/leak")];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &["--rescue", "off"], &leaks) else { return };
    let first = rig.call("AJ_1");
    // One job's memory is its own affair.
    rig.offer(Job::new("AJ_2").metadata("leak"));
    rig.end("AJ_2");
    assert!(processes::runs(first), "left its caller\n{}", rig.guard.output());

    let (worker, mark) = (main_process(&rig.guard), rig.stub.mark());
    rig.make("leak");
    gone(worker);
    gone(first);
    assert_eq!(rig.end("AJ_1"), proto::JobStatus::JsFailed);
    rig.await_status(mark, proto::WorkerStatus::WsAvailable);
    assert_ne!(main_process(&rig.guard), worker);
    let ended = log(&rig.guard, "the worker has ended by itself")["ended"].to_string();
    assert!(ended.contains("SIGABRT"), "{ended}");
    rig.call("AJ_3");
    rig.send(Signal::SIGTERM);
    rig.finish("AJ_3");
    rig.leaves_with(0);
}

#[test]
fn call_1_a_killed_worker_is_started_again_and_each_of_its_calls_has_one_agent() -> Result<()> {
    worker_dies(Peer::Python1_8_9)
}

#[test]
fn call_1_a_killed_worker_of_1_5_7_is_started_again_and_each_of_its_calls_has_one_agent() -> Result<()> {
    worker_dies(Peer::Python1_5_7)
}

#[test]
fn call_1_a_killed_worker_of_1_3_12_is_started_again_and_each_of_its_calls_has_one_agent() -> Result<()> {
    worker_dies(Peer::Python1_3_12)
}

#[test]
fn call_1_the_calls_of_a_killed_worker_go_to_the_one_beside_it() -> Result<()> {
    const ROOMS: [&str; 3] = ["one", "two", "three"];
    let Some(scene) = Scene::new(Peer::Python1_8_9, &[], &ROOMS)? else { return Ok(()) };
    for room in ROOMS {
        scene.call(room)?;
        scene.await_agents(room, 1);
    }
    let Some(beside) = registered(Peer::Python1_8_9, &[], &scene.server)? else { return Ok(()) };
    signal(main_process(&scene.guard), Signal::SIGKILL);
    until("agents of the other worker", || all_started(&beside).len() == ROOMS.len());
    ROOMS.iter().for_each(|room| scene.await_agents(room, 1));
    scene.end(&ROOMS)?;
    beside.signal(Signal::SIGTERM)?;
    leaves_with(&beside, 0);
    let all = scene.started().len() + all_started(&beside).len();
    assert_eq!(all, 2 * ROOMS.len(), "an agent too many\n{}\n{}", scene.guard.output(), beside.output());
    Ok(())
}

/// One agent of two in a room is killed, one leaves its caller, and one call kills whatever answers it.
fn jobs_die(peer: Peer) -> Result<()> {
    const ROOMS: [&str; 3] = ["two", "left", "poison"];
    let Some(scene) = Scene::new(peer, &[], &ROOMS)? else { return Ok(()) };
    let first = scene.call("two")?;
    let victim = scene.await_started(1)[0];
    let second = scene.call("two")?;
    let other = scene.await_started(2)[1];
    scene.await_agents("two", 2);
    signal(victim, Signal::SIGKILL);
    scene.await_started(3);
    scene.await_agents("two", 2);
    assert!(processes::runs(other), "the wrong one");
    let made: Vec<_> =
        scene.dispatches("two")?.into_iter().filter(|one| one.0 != first && one.0 != second).collect();
    let mark = made.first().and_then(|one| one.1.clone()).unwrap_or_default();
    assert!(made.len() == 1 && mark.contains(&first) && !mark.contains(&second), "{made:?}");

    scene.dispatch("left", "connect")?;
    scene.await_started(4);
    until("the agent to have left", || logged(&scene.guard, "job finished") == 1);
    scene.dispatch("poison", "connect, kill")?;
    // The first and two more.
    scene.await_started(7);
    scene.guard.wait_for_line(|line| line.contains("call lost"), SOON)?;
    assert_eq!(scene.dispatches("left")?.len(), 1, "an agent that left is not replaced");
    assert!(processes::runs(main_process(&scene.guard)));
    scene.end(&ROOMS)?;
    assert_eq!(scene.started().len(), 7, "an agent too many\n{}", scene.guard.output());
    assert_eq!(logged(&scene.guard, "call dispatched again"), 3, "{}", scene.guard.output());
    Ok(())
}

#[test]
fn call_2_jobs_of_python_that_die_have_an_agent_again() -> Result<()> {
    jobs_die(Peer::Python1_8_9)
}

#[test]
fn call_2_jobs_of_python_1_5_7_that_die_have_an_agent_again() -> Result<()> {
    jobs_die(Peer::Python1_5_7)
}

#[test]
fn call_2_jobs_of_python_1_3_12_that_die_have_an_agent_again() -> Result<()> {
    jobs_die(Peer::Python1_3_12)
}

#[test]
fn call_2_jobs_of_node_that_die_have_an_agent_again() -> Result<()> {
    jobs_die(Peer::Node)
}

/// As native code does at the interpreter's end.
fn crashes_on_its_way_out(peer: Peer) -> Result<()> {
    let Some(scene) = Scene::new(peer, &[], &["one"])? else { return Ok(()) };
    let file = scene.directory.path().join("one");
    scene.dispatch("one", &format!("connect, wait {}, leave, sleep 0.5, kill", file.display()))?;
    scene.await_jobs_listed("one");
    std::fs::write(file, "")?;
    scene.fails_for_good("one")
}

#[test]
fn call_2_an_agent_of_python_that_left_and_crashes_is_not_replaced() -> Result<()> {
    crashes_on_its_way_out(Peer::Python1_8_9)
}

#[test]
fn call_2_an_agent_of_node_that_left_and_crashes_is_not_replaced() -> Result<()> {
    crashes_on_its_way_out(Peer::Node)
}

#[test]
fn call_2_an_agent_that_is_removed_and_killed_later_is_not_replaced() -> Result<()> {
    let Some(scene) = Scene::new(Peer::Python1_8_9, &[], &["one"])? else { return Ok(()) };
    scene.dispatch("one", "connect, ignore")?;
    scene.await_agents("one", 1);
    let agent = || agents(&scene.server, "one").pop();
    // One that has not got there yet comes back.
    until("an agent to be there", || agent().is_some_and(|one| one.state() == State::Active));
    scene.await_jobs_listed("one");
    scene.server.api().remove_participant("one", &agent().expect("it is there").identity)?;
    until("no agent to be there", || agent().is_none());
    log(&scene.guard, "job told to stop");
    signal(scene.await_started(1)[0], Signal::SIGKILL);
    scene.fails_for_good("one")
}

#[test]
fn call_2_nothing_is_dispatched_again_where_that_is_not_wanted() -> Result<()> {
    let Some(scene) = Scene::new(Peer::Node, &["--rescue", "off", "--exit-within", "2s"], &["one"])? else {
        return Ok(());
    };
    scene.call("one")?;
    signal(scene.await_started(1)[0], Signal::SIGKILL);
    until("the job to have its end", || logged(&scene.guard, "job failed") == 1);
    scene.end(&["one"])?;
    assert_eq!(scene.dispatches("one")?.len(), 1);
    Ok(())
}
