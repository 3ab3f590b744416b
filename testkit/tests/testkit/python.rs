//! The official Python packages against the real server.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call_testkit::{LiveKit, Python, skip};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_python_participant_publishes_and_leaves() -> Result<()> {
    let python = match LiveKit::binary().and_then(|_| Python::find()) {
        Ok(python) => python,
        Err(missing) => {
            skip(missing);
            return Ok(());
        }
    };
    let server = LiveKit::start()?;
    let dispatch = python.dispatch(&server, "kitchen", "concierge", "soup")?;
    let id = dispatch["id"].as_str().context("no id")?;
    assert!(server.api().list_dispatch("kitchen")?.iter().any(|one| one.id == id && one.metadata == "soup"));

    let listener = python.join(&server, "kitchen", "listener", false)?;
    let guest = python.join(&server, "kitchen", "guest", true)?;
    assert!(server.api().list_participants("kitchen")?.iter().any(|one| one.identity == "guest"));
    listener.child().wait_for_line(|line| line == "event published guest kitchen", LONG)?;
    assert_eq!(guest.leave()?.code, Some(0));
    listener.child().wait_for_line(|line| line == "event disconnected guest kitchen", LONG)?;

    server.api().delete_room("kitchen")?;
    listener.child().wait_for_line(|line| line.starts_with("left "), LONG)?;
    assert_eq!(listener.child().wait(LONG)?.code, Some(0));
    Ok(())
}
