//! The README's example against the real server.
//!
//! Owns what a newcomer sees first: a call taken, a call ended, a drain. Refuses options that the README
//! does not need, but those that keep a test off fixed ports and away from a busy machine's load.

use anyhow::Result;
use last_call_testkit::{Launch, LiveKit, Signal};

use crate::scene::{LONG, eventually};
use crate::server_log::{self, JOB_ENDED};

#[test]
fn drain_5_hello_takes_a_call_and_drains() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let launch = Launch::new(env!("CARGO_BIN_EXE_hello"));
    let launch = launch.args(["start", "--http", "off", "--load-threshold", "off"]);
    let hello =
        server.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value)).spawn()?;
    let says = |message: &'static str| move |line: &str| line.contains(&format!("\"message\":\"{message}\""));
    hello.wait_for_line(says("registered"), LONG)?;
    let dispatch = server.api().create_dispatch("porch", "hello", "", &[])?;
    let said = hello.wait_for_line(says("hello"), LONG)?;
    assert!(said.text.contains("\"room\":\"porch\""), "{}", said.text);

    hello.signal(Signal::SIGTERM)?;
    hello.wait_for_line(|line| line.contains("draining"), LONG)?;
    assert!(hello.try_wait().is_none(), "left its caller");
    let listed = || {
        let dispatches = server.api().list_dispatch("porch")?;
        Ok(dispatches
            .iter()
            .any(|one| one.state.as_ref().is_some_and(|state| !state.jobs.is_empty()))
            .then_some(()))
    };
    eventually("the job is listed", listed)?;
    server.api().delete_dispatch("porch", &dispatch.id)?;
    hello.wait_for_line(says("goodbye"), LONG)?;
    assert_eq!(hello.wait(LONG)?.code, Some(0));
    let ended = server_log::wait_for(&server, "hello", JOB_ENDED, 1)?;
    assert_eq!(ended[0]["status"], "JS_SUCCESS");
    Ok(())
}
