//! What a job is told while it runs: that the worker drains, that it must stop.
//!
//! Owns the two notices. Refuses to end a job that does not listen: the core's timers do.

use std::future::pending;
use std::time::Instant;

use tokio::sync::watch;

/// The worker drains: nobody new is served, and this job may finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Until when the job may go on by itself. Past it the job is told to stop.
    pub deadline: Instant,
}

/// The job must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// Why, for people.
    pub reason: String,
    /// When the entrypoint is cancelled if it has not returned.
    pub deadline: Instant,
}

impl Stopping {
    /// The reason of a stop that user code asked for, until the words it gave are put in its place.
    pub(crate) const REQUESTED: &str = "the job asked for it";
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
