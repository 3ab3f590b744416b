//! What livekit-server writes about its workers: the only place where some of it can be seen.
//!
//! Owns the wording of release 1.13.5. Refuses to guess: a line of another wording is not there.

use anyhow::Result;
use last_call_testkit::LiveKit;
use serde_json::Value;

use crate::scene::eventually;

/// A worker has taken a dispatch.
pub(crate) const ASSIGNED: &str = "assigned job to worker";
/// A worker has reported the end of a job.
pub(crate) const JOB_ENDED: &str = "job ended";
/// A dispatch was given up: no worker would have it.
pub(crate) const GIVEN_UP: &str = "failed to send job request";
/// A worker is known.
pub(crate) const REGISTERED: &str = "worker registered";
/// A worker says another status than before.
pub(crate) const STATUS_CHANGED: &str = "worker status changed";
/// A worker is no longer known.
pub(crate) const CLOSING: &str = "closing worker";

/// A job and who has it.
pub(crate) struct Assigned {
    pub(crate) job: String,
    pub(crate) room: String,
}

/// Every line so far, in order.
pub(crate) fn lines(server: &LiveKit) -> Vec<Value> {
    server.child().lines().iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect()
}

/// The lines so far with this message.
pub(crate) fn said(server: &LiveKit, message: &str) -> Vec<Value> {
    lines(server).into_iter().filter(|line| line["msg"] == message).collect()
}

/// The lines so far with this message about this agent.
pub(crate) fn said_of(server: &LiveKit, agent: &str, message: &str) -> Vec<Value> {
    said(server, message).into_iter().filter(|line| line["agentName"] == agent).collect()
}

/// Waits until there are `count` lines with this message about this agent; those lines.
pub(crate) fn wait_for(server: &LiveKit, agent: &str, message: &str, count: usize) -> Result<Vec<Value>> {
    eventually(&format!("{count} times {message:?} of {agent:?} in the server's log"), || {
        let found = said_of(server, agent, message);
        Ok((found.len() >= count).then_some(found))
    })
}

/// Waits until the server knows that this agent's worker is full.
pub(crate) fn wait_full(server: &LiveKit, agent: &str) -> Result<Value> {
    eventually(&format!("WS_FULL of {agent:?} in the server's log"), || {
        Ok(said_of(server, agent, STATUS_CHANGED).into_iter().find(|line| line["status"] == "WS_FULL"))
    })
}

/// Every assignment so far.
pub(crate) fn assigned(server: &LiveKit) -> Vec<Assigned> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |line: &Value| Assigned { job: text(&line["jobID"]), room: text(&line["room"]) };
    said(server, ASSIGNED).iter().map(read).collect()
}
