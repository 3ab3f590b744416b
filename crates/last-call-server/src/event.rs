//! What happens in the server, as a stream that a page, a demo or a test can follow.
//!
//! Owns the vocabulary. Refuses metadata, attributes and tokens: an event may be shown to anyone.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Bytes of a text that strangers choose; room names are at most 256.
const LONGEST: usize = 512;

/// One thing that happened. As JSON: `{"at_us": …, "event": "assigned", …}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Workers are named by `AW_…`, jobs by `AJ_…`, dispatches by `AD_…`. A text that came from a worker or
/// a caller is cut after 512 bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum What {
    /// A worker registered: it is available at load 0.
    WorkerRegistered { worker: String, agent_name: String, version: String },
    /// A worker said how it fares.
    WorkerStatus { worker: String, available: bool, draining: bool, load: f32, jobs: u32 },
    /// A worker's connection is gone, and with it all that was known of the worker.
    WorkerGone { worker: String },
    /// A room was made.
    RoomStarted { room: String },
    /// A room was deleted, or nobody came, or the last agent left it long ago.
    RoomFinished { room: String },
    /// A room wants an agent.
    DispatchCreated { dispatch: String, room: String, agent_name: String },
    /// A worker was asked.
    Offered { job: String, dispatch: String, room: String, worker: String },
    /// A worker answered, in time or not.
    Answered { job: String, worker: String, reply: Reply },
    /// The job went to this worker.
    Assigned { job: String, dispatch: String, room: String, worker: String, identity: String },
    /// No worker was there, or left, to ask: the call has no agent.
    Unserved { job: String, dispatch: String, room: String },
    /// No worker answered within the budget: the call has no agent, and nobody is asked again.
    Unanswered { job: String, dispatch: String, room: String },
    /// The worker reported that the job runs.
    JobRunning { job: String, worker: String },
    /// The job is over: reported by its worker, or ended from outside.
    JobEnded { job: String, worker: String, success: bool, error: String },
    /// The connection of the job's worker is gone. The job is forgotten, not offered again.
    JobOrphaned { job: String, worker: String, dispatch: String, room: String },
    /// A remark of whoever runs the server, on one worker or on all: see [`Notes`](crate::Notes).
    Noted { worker: Option<String>, text: String },
}

/// A worker's answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It takes the job.
    Accepted,
    /// The next worker is asked.
    Declined,
    /// The dispatch ends without an agent.
    Terminated,
}

/// The time since 1970.
pub(crate) fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// As an event has it.
pub(crate) fn now_us() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX)
}

impl Event {
    /// This, now.
    pub(crate) fn now(what: What) -> Self {
        Self { at_us: now_us(), what }
    }
}

/// A text short enough to be remembered with a thousand others, cut where it is not.
pub(crate) fn brief(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST).last();
    format!("{}…", &text[..cut.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(brief("room"), "room");
        assert_eq!(brief(&"x".repeat(512)).len(), 512);
        let cut = brief(&"é".repeat(10_000));
        assert!(cut.starts_with('é') && cut.ends_with("é…") && cut.len() <= 515, "{}", cut.len());
    }
}
