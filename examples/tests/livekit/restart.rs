//! The server restarts under a worker with a call.
//!
//! Owns both ways a server ends. Refuses the network's ways, which are another file's.

use anyhow::Result;
use last_call_testkit::LiveKit;

use crate::scene::{LONG, dispatch, lost, probe};
use crate::server_log::{self, GIVEN_UP};

fn kill(server: &LiveKit) -> Result<()> {
    server.kill().map(drop)
}

fn stop(server: &LiveKit) -> Result<()> {
    server.stop(LONG).map(drop)
}

#[test]
fn reg_1_a_worker_is_back_after_its_server_and_its_call_ran_on() -> Result<()> {
    for end in [kill, stop] {
        let Some(mut server) = LiveKit::or_skip()? else { return Ok(()) };
        let probe = probe(&server, "bar")?.start()?;
        dispatch(&server, "bar", "before", 1, r#"{"sleep":5}"#)?;
        probe.wait(1, "started")?;
        let mark = probe.child().mark();
        end(&server)?;
        probe.said_after(mark, "connection lost")?;
        server.restart()?;
        probe.said_after(mark, "registered")?;
        let rooms = dispatch(&server, "bar", "after", 3, "{}")?;
        assert_eq!(lost(&server, &rooms, &[&probe])?, [""; 0]);
        probe.wait(4, "finished")?;
        probe.drain()?;
        assert_eq!(probe.ended()?.code, Some(0));
    }
    Ok(())
}

#[test]
fn reg_1_a_draining_worker_is_back_as_full() -> Result<()> {
    let Some(mut server) = LiveKit::or_skip()? else { return Ok(()) };
    let probe = probe(&server, "bar")?.start()?;
    dispatch(&server, "bar", "before", 1, r#"{"sleep":10}"#)?;
    probe.wait(1, "started")?;
    probe.drain()?;
    let mark = probe.child().mark();
    server.kill()?;
    server.restart()?;
    probe.said_after(mark, "registered")?;
    server_log::wait_full(&server, "bar")?;
    dispatch(&server, "bar", "after", 5, "{}")?;
    server_log::wait_for(&server, "bar", GIVEN_UP, 5)?;
    assert_eq!(probe.ended()?.code, Some(0));
    assert_eq!((probe.count("started")?, probe.count("finished")?), (1, 1));
    Ok(())
}
