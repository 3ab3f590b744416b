//! What is worth a log line and a count, as the state machine saw it.
//!
//! Owns the names of these happenings. Refuses texts, levels and metrics: those are the driver's.

use super::{End, Phase};
use crate::message::JobId;

/// Something to log and count; nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The phase is another one now.
    Phase(Phase),
    /// The server confirmed the registration.
    Registered,
    /// The connection is gone, or an attempt at one failed.
    Disconnected,
    /// The server asked to be left; a new connection is made once no acceptance is pending.
    GoAway,
    /// An offer was accepted.
    Accepted(JobId),
    /// An offer was declined.
    Declined(JobId, Declined),
    /// The connection went before this offer was answered; the server asks the next worker.
    OfferLost(JobId),
    /// User code decided on an offer that had its answer already.
    LateDecision(JobId),
    /// An accepted job was not assigned in time, or the connection went before: its slot is free (JOB-5).
    AssignmentMissed(JobId),
    /// A job was assigned that was not accepted, or twice.
    AssignmentUnknown(JobId),
    /// The server ended a job that the worker does not run.
    TerminationUnknown(JobId),
    /// A job is over.
    Ended(JobId, End),
    /// User code missed a heartbeat.
    Wedged,
    /// User code answers heartbeats again.
    Recovered,
    /// A frame that makes no sense where it came.
    OutOfOrder,
    /// Bytes that are no frame of the protocol.
    Garbage,
}

/// Why an offer was declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Declined {
    /// The worker drains.
    Draining,
    /// The worker is quiet.
    Quiet,
    /// Every slot is taken.
    Full,
    /// The load is at the threshold.
    Load,
    /// User code misses heartbeats, or missed the one beside this offer.
    Wedged,
    /// User code is alive but did not answer in time.
    Slow,
    /// User code said no.
    Rejected,
    /// User code said no, and that the dispatch ends here.
    Terminated,
    /// User code failed while deciding.
    Failed,
    /// The worker has this job already.
    Duplicate,
    /// The server asked for this connection to be left.
    Leaving,
    /// The server ended the job before it was answered.
    Ended,
}
