//! What a tap sees, as the demo shows it.
//!
//! Owns the vocabulary. Refuses metadata, tokens and participants' names: it may be shown to anyone.

use last_call_server::Reply;

use crate::demo::now_us;

/// One thing that a tap saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// When it was read, in microseconds since 1970; it is passed on afterwards.
    pub(crate) at_us: u64,
    /// The worker's number, as the tap was given it.
    pub(crate) worker: usize,
    pub(crate) what: SeenWhat,
}

impl Seen {
    /// This, now.
    pub(super) fn now(worker: usize, what: SeenWhat) -> Self {
        Self { at_us: now_us(), worker, what }
    }
}

/// What was seen. Jobs are named by `AJ_…`, dispatches by `AD_…`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SeenWhat {
    /// The worker's socket is open.
    Connected,
    /// The worker asks to be registered.
    Registering { agent_name: String, version: String },
    /// The server took the registration.
    Registered { worker_id: String },
    /// The worker said how it fares. Without a word about it, `available` is what it was.
    Status { available: bool, draining: bool, load: f32, jobs: u32 },
    /// The server asked whether the worker takes a job.
    Offered { job: String, dispatch: String, room: String },
    /// The worker answered.
    Answered { job: String, reply: Reply },
    /// The job is the worker's.
    Assigned { job: String, dispatch: String, room: String },
    /// The worker reported that the job runs.
    Running { job: String },
    /// The worker reported the job's end; `error` is empty with success.
    Ended { job: String, success: bool, error: String },
    /// The server ended the job.
    Terminated { job: String },
    /// A message that says nothing to the tap passed; it may be of a newer protocol, or garbage.
    Unread { from_worker: bool, bytes: usize },
    /// Something failed between the worker and the server, in words for a person. It may come after `Gone`.
    Trouble { text: String },
    /// The worker's socket is closed, whoever ended it.
    Gone,
}
