//! The example `desk`: a task for each participant, and a job that deletes its room.

use std::io::Write;

use anyhow::Result;
use last_call_testkit::{Child, Launch, LiveKit, Python, Signal, skip};
use serde_json::{Value, json};

use crate::scene::LONG;

/// As tasks and as processes, where the secret lies in a file, and is in no argument and no variable: who is there and who
/// comes is served, each apart; who comes again is served again; the last to leave ends the room, and that ends the job, well.
#[test]
fn everybody_is_served_and_the_last_one_out_closes_the_room() -> Result<()> {
    let Ok(python) = Python::find().map_err(skip) else { return Ok(()) };
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for runner in ["tasks", "process"] {
        let mut secret = tempfile::NamedTempFile::new()?;
        writeln!(secret, "{}", server.secret())?;
        let launch =
            Launch::new(env!("CARGO_BIN_EXE_desk")).args(["start", "--http", "off", "--runner", runner]);
        // A busy machine is no reason to decline the call.
        let launch = launch.args(["--load-threshold", "off", "--api-secret-file"]).arg(secret.path());
        let launch = launch.env("LIVEKIT_URL", server.url()).env("LIVEKIT_API_KEY", server.key());
        let worker = launch.spawn()?;
        worker.wait_for_line(|line| line.contains("\"message\":\"registered\""), LONG)?;
        let room = format!("desk-{runner}");
        let ann = python.join(&server, &room, "ann", false)?;
        said(&worker, "greeted", "ann", 1)?;
        let bob = python.join(&server, &room, "bob", false)?;
        said(&worker, "greeted", "bob", 1)?;
        ann.leave()?;
        said(&worker, "gone", "ann", 1)?;
        let ann = python.join(&server, &room, "ann", false)?;
        said(&worker, "greeted", "ann", 2)?;
        bob.leave()?;
        said(&worker, "gone", "bob", 1)?;
        assert_eq!(lines(&worker, "the desk closes"), Vec::<Value>::new(), "{runner}: ann is still there");
        ann.leave()?;
        let closed = worker.wait_for_line(|line| line.contains("\"message\":\"the desk closes\""), LONG)?;
        let closed: Value = serde_json::from_str(&closed.text)?;
        // Whichever news of the deleted room comes first.
        let reasons = [json!("room disconnected"), json!("the server ended the job")];
        assert!(reasons.contains(&closed["reason"]), "{runner}: {closed}");
        let rooms = server.api().list_participants(&room)?;
        assert!(rooms.is_empty(), "{runner}: {rooms:?}");
        worker.signal(Signal::SIGTERM)?;
        assert_eq!(worker.wait(LONG)?.code, Some(0), "{runner}");
        // The server takes a job whose room is deleted for failed, whatever the worker says.
        let left = lines(&worker, "left: every job had its end");
        assert!(left.iter().any(|line| line["succeeded"] == 1 && line["failed"] == 0), "{runner}: {left:?}");
        assert_eq!(lines(&worker, "back before its task is over: it gets another"), Vec::<Value>::new());
    }
    Ok(())
}

/// The log lines so far with this message.
fn lines(worker: &Child, message: &str) -> Vec<Value> {
    let lines = worker.lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str(&line.text).ok());
    lines.filter(|line: &Value| line["message"] == message).collect()
}

/// Waits until that was said so often of this participant.
fn said(worker: &Child, message: &str, participant: &str, times: usize) -> Result<()> {
    crate::scene::eventually(&format!("{times} times {message:?} of {participant}"), || {
        let said = lines(worker, message).into_iter().filter(|line| line["participant"] == participant);
        Ok((said.count() >= times).then_some(()))
    })
}
