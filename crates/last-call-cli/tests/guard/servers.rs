//! Each SDK on each server: the real one, and `last-call server`.
//!
//! Owns the main job: a call that runs through a drain, and nothing new. Refuses rooms: the agents join none, since
//! `last-call server` has none.

use anyhow::{Context as _, Result};
use last_call_testkit::{Api, Launch, LiveKit, Peer, Signal};

use crate::rig::{PROGRAM, SECRET, SOON, all_started, guarded, leaves_with, log, worker};

/// On the server of these variables.
fn drains_on(peer: Peer, url: &str, key: &str, secret: &str) -> Result<()> {
    let Some(worker) = worker(peer, url) else { return Ok(()) };
    let worker = worker.env("LIVEKIT_API_KEY", key).env("LIVEKIT_API_SECRET", secret);
    let api = Api::new(url.replacen("ws", "http", 1), key, secret);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("end");
    let wait = format!("wait {}", file.display());
    let guard = guarded(worker.env("LIVEKIT_AGENT_NAME", "bar"), &[]).spawn()?;
    log(&guard, "registered");
    api.create_dispatch("one", "bar", &wait, &[])?;
    Peer::event(&guard, "started", None, SOON).with_context(|| format!("{}: no job runs", peer.name()))?;
    guard.signal(Signal::SIGTERM)?;
    log(&guard, "draining: taking no jobs");
    api.create_dispatch("two", "bar", &wait, &[])?;
    std::fs::write(file, "")?;
    leaves_with(&guard, 0);
    assert_eq!(
        all_started(&guard).len(),
        1,
        "{}: a call was taken in the drain:\n{}",
        peer.name(),
        guard.output()
    );
    Ok(())
}

#[test]
fn drain_1_every_sdk_drains_on_the_real_server() -> Result<()> {
    for peer in Peer::ALL {
        let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
        drains_on(peer, &server.url(), server.key(), server.secret())?;
    }
    Ok(())
}

#[test]
fn drain_1_every_sdk_drains_on_the_embedded_server() -> Result<()> {
    for peer in Peer::ALL {
        let server = Launch::new(PROGRAM).args(["server", "--port", "0"]).env_remove("LIVEKIT_API_KEY");
        let server = server.env("LIVEKIT_API_SECRET", SECRET).spawn()?;
        let line = server.wait_for_line(|line| line.contains("\"listening\""), SOON)?;
        let listening: serde_json::Value = serde_json::from_str(&line.text)?;
        let url = listening["url"].as_str().context("a URL")?;
        drains_on(peer, url, "devkey", SECRET)?;
    }
    Ok(())
}
