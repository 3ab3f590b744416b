//! The example `echo`: a job that joins its room, hears its caller and is heard.

use anyhow::Result;
use last_call_testkit::{Launch, LiveKit, Python, Sdk, Signal, proto, skip};
use serde_json::json;

use crate::scene::{LONG, eventually};
use crate::server_log::{self, JOB_ENDED};

/// As tasks and as processes, called from Python and from a browser with a microphone: the caller hears itself; its job ends with it, well; and the agent is out of the room at
/// once, not when the server has waited for it.
#[test]
fn job_3_the_caller_hears_itself_and_the_agent_leaves_when_its_end_is_reported() -> Result<()> {
    let Ok(python) = Python::find().map_err(skip) else { return Ok(()) };
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let callers = [("tasks", Sdk::browser()), ("process", Sdk::python())];
    for (index, (runner, sdk)) in callers.into_iter().enumerate() {
        let Ok(sdk) = sdk.map_err(skip) else { return Ok(()) };
        let launch = Launch::new(env!("CARGO_BIN_EXE_echo")).args([
            "start",
            "--http",
            "off",
            "--load-threshold",
            "off",
            "--runner",
            runner,
        ]);
        let launch = server.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let worker = launch.spawn()?;
        worker.wait_for_line(|line| line.contains("\"message\":\"registered\""), LONG)?;
        let room = format!("echo-{runner}");
        let caller = sdk.join_listening(&server, &room, "caller")?;
        let agent = eventually("an agent in the room", || {
            let participants = server.api().list_participants(&room)?;
            Ok(participants.into_iter().find(|one| one.kind() == proto::participant_info::Kind::Agent))
        })?;
        caller.hears(&agent.identity, 440)?;
        // A second person keeps the room open, to see the agent go.
        let witness = python.join(&server, &room, "witness", false)?;
        caller.leave()?;
        let gone = |line: &str| line.starts_with(&format!("event disconnected {}", agent.identity));
        witness.child().wait_for_line(gone, LONG)?;
        let ended = server_log::wait_for(&server, "", JOB_ENDED, index + 1)?;
        assert_eq!(
            (&ended[index]["status"], &ended[index]["error"]),
            (&json!("JS_SUCCESS"), &json!("")),
            "{runner}"
        );
        witness.leave()?;
        worker.signal(Signal::SIGTERM)?;
        assert_eq!(worker.wait(LONG)?.code, Some(0), "{runner}");
    }
    Ok(())
}
