//! A call whose agent's process dies, on the real server.
//!
//! Owns what the caller is left with. Refuses the rescue's own cases, which the worker crate tests.

use anyhow::Result;
use last_call_testkit::{LiveKit, Python, skip};

use crate::scene::{dispatch, eventually, probe};

#[test]
fn call_2_a_job_whose_process_dies_gets_an_agent_again_and_one_that_ends_does_not() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let Ok(python) = Python::find().map_err(skip) else { return Ok(()) };
    let asked =
        |launch: last_call_testkit::Launch| launch.args(["--runner", "process", "--rescue", "crashed"]);
    let probe = probe(&server, "bar")?.with(asked).start()?;
    let _callers =
        [python.join(&server, "died-0", "caller", false)?, python.join(&server, "left-0", "caller", false)?];

    dispatch(&server, "bar", "left", 1, r#"{"sleep":0.1}"#)?;
    probe.wait(1, "finished")?;
    dispatch(&server, "bar", "died", 1, r#"{"sleep":0.1,"abort":true}"#)?;
    // The first agent and two more, each of which dies of the call; then it is given up.
    let given_up = || Ok((probe.count_said("call lost") > 0).then_some(()));
    eventually("the call is given up", given_up)?;
    assert_eq!(probe.count("started")?, 4, "{:?}", probe.diaries()?);
    assert_eq!(probe.count_said("call dispatched again"), 2);
    probe.drain()?;
    assert_eq!(probe.ended()?.code, Some(0));
    Ok(())
}
