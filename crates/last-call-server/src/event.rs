//! What happens in the server, as a stream that a page, a demo or a test can follow.
//!
//! Owns the vocabulary. Refuses metadata, attributes and tokens: an event may be shown to anyone.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// One thing that happened. As JSON: `{"at_ms": …, "event": "assigned", …}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Workers are named by `AW_…`, jobs by `AJ_…`, dispatches by `AD_…`.
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

impl Event {
    /// This, now.
    pub(crate) fn now(what: What) -> Self {
        Self { at_ms: u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX), what }
    }
}
