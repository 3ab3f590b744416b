//! What the link thread shows the rest of the process: a snapshot for probes, `/worker` and the
//! admin socket, and the verbs that travel the other way.
//!
//! Owns the shape of both. Refuses decisions: the core answers every verb.

use std::time::{Duration, SystemTime};

use last_call_proto::{Load, Phase};

/// The worker as its operators see it, replaced whole at every change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// Serving, quiet, draining or drained.
    pub(crate) phase: Phase,
    /// Whether the server has confirmed a registration on the connection that is open now.
    pub(crate) registered: bool,
    /// Behind guard: whether the worker of this registration has no connection to guard, and so gets no calls.
    pub(crate) away: bool,
    /// Whether user code stopped answering heartbeats.
    pub(crate) wedged: bool,
    /// The id that the server gave this worker at its latest registration.
    pub(crate) worker_id: Option<String>,
    /// Jobs whose entrypoint runs.
    pub(crate) active_jobs: u32,
    /// Jobs accepted whose assignment is still to come.
    pub(crate) accepted_jobs: u32,
    /// The load as last measured, before scaling, in thousandths.
    pub(crate) load: Load,
    /// Present from the moment that the drain starts.
    pub(crate) drain: Option<DrainProgress>,
}

/// How far a drain has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrainProgress {
    /// When the drain started, by the wall clock.
    pub(crate) started: SystemTime,
    /// The whole budget, from that moment.
    pub(crate) budget: Duration,
    /// Jobs that ran or were accepted when the drain started.
    pub(crate) jobs_at_start: u32,
    /// Jobs of those that have ended since.
    pub(crate) jobs_finished: u32,
    /// Offers declined since.
    pub(crate) declined: u64,
}

impl Snapshot {
    /// Jobs that a drain waits for.
    pub(crate) fn jobs_held(&self) -> u32 {
        self.active_jobs + self.accepted_jobs
    }
}

impl DrainProgress {
    /// What is left of the budget at `now`; a wall clock set back leaves the whole of it.
    pub(crate) fn time_left(&self, now: SystemTime) -> Duration {
        self.budget.saturating_sub(now.duration_since(self.started).unwrap_or_default())
    }
}

/// What an operator may ask of a worker; each is answered by the core, none is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Start the drain, as SIGTERM does.
    Drain,
    /// Stop taking jobs, reversibly.
    Quiet,
    /// Take jobs again.
    Unquiet,
}
