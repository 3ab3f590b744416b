//! What a job is told while it runs: that the worker drains, that it must stop.
//!
//! Owns the two notices. Refuses to end a job that does not listen: the core's timers do.

use std::fmt;
use std::future::pending;
use std::time::Instant;

use tokio::sync::watch;

/// The worker drains: nobody new is served, and this job may finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draining {
    /// Until when the job may go on by itself. Past it the job is told to stop.
    pub deadline: Instant,
}

/// The job must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopping {
    /// Why.
    pub reason: StopReason,
    /// When the entrypoint is cancelled if it has not returned.
    pub deadline: Instant,
}

/// Why a job must stop. Its `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The server ended the job: its dispatch was deleted, or its room is gone.
    Terminated,
    /// The job asked for it, by [`crate::JobContext::shutdown`], with these words.
    Requested(String),
    /// The worker drains, and the drain deadline has come.
    DrainDeadline,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminated => "the server ended the job",
            Self::Requested(reason) => reason,
            Self::DrainDeadline => "the drain deadline has come",
        })
    }
}

/// Both notices, as far as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobPhase {
    pub(crate) draining: Option<Draining>,
    pub(crate) stopping: Option<Stopping>,
}

/// Waits until `pick` finds something; for ever if nobody is left to tell.
pub(super) async fn until<T>(
    mut phase: watch::Receiver<JobPhase>,
    pick: impl Fn(&JobPhase) -> Option<T>,
) -> T {
    loop {
        if let Some(found) = pick(&phase.borrow_and_update()) {
            return found;
        }
        if phase.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}
