//! The agents of examples/guard, on the real server.
//!
//! Owns that they run as they stand there, but for what depends on this machine: the load, and a port that is taken.
//! Refuses failures.

use std::path::Path;

use anyhow::Result;
use last_call_testkit::{Launch, LiveKit, Peer, Signal, proto, skip};
use proto::participant_info::State;

use crate::rig::{agents, guarded, leaves_with, log, logged, on, settled, until};

const ROOM: &str = "lobby";

/// The example in a directory of its own, with one text in place of another.
fn example(directory: &Path, name: &str, from: &str, to: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guard").join(name);
    let text = std::fs::read_to_string(path).expect("the example");
    assert_eq!(text.matches(from).count(), 1, "{from} is in {name}");
    std::fs::write(directory.join(name), text.replace(from, to)).expect("a file");
}

/// It is called, told to leave, and does so when the room is closed.
fn runs_and_drains(launch: Launch, server: &LiveKit) -> Result<()> {
    let guard = guarded(on(server, settled(launch, "")), &["--exit-within", "2s"]).spawn()?;
    log(&guard, "registered");
    server.api().create_room(ROOM)?;
    server.api().create_dispatch(ROOM, "guarded", "", &[])?;
    // One that still joins does not notice that the room is closed.
    let there = || agents(server, ROOM).iter().filter(|one| one.state() == State::Active).count();
    until(&format!("the agent; guard said:\n{}", guard.output()), || there() == 1);
    guard.signal(Signal::SIGTERM)?;
    assert_eq!(log(&guard, "draining: taking no jobs")["jobs"], 1);
    assert_eq!((there(), guard.try_wait()), (1, None), "{}", guard.output());
    server.api().delete_room(ROOM)?;
    leaves_with(&guard, 0);
    assert_eq!(logged(&guard, "job finished"), 1, "{}", guard.output());
    Ok(())
}

#[test]
fn the_example_in_python_runs_and_drains() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let Ok(python) = Peer::Python1_8_9.place().map_err(skip) else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    example(directory.path(), "agent.py", "AgentServer()", "AgentServer(load_fnc=lambda: 0.0, port=0)");
    runs_and_drains(Launch::new(python).args(["agent.py", "start"]).directory(directory.path()), &server)
}

#[test]
fn the_example_in_node_runs_and_drains() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let Ok(modules) = Peer::Node.place().map_err(skip) else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let name = "agentName: 'guarded'";
    example(directory.path(), "agent.mjs", name, &format!("{name}, loadFunc: async () => 0, port: 0"));
    std::os::unix::fs::symlink(modules, directory.path().join("node_modules"))?;
    runs_and_drains(Launch::new("node").args(["agent.mjs", "start"]).directory(directory.path()), &server)
}
