//! The worker's timers, by name. The driver arms and fires them; [`crate::Policy::wait`] says for how long.
//!
//! Owns the names. Refuses clocks.

use crate::message::JobId;

/// Why the worker would wake although nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// When to give up on a connection attempt that neither opened nor failed.
    Dial,
    /// When to give up on a registration that got no reply.
    Register,
    /// When to dial again.
    Redial,
    /// When to send the next WebSocket ping.
    Ping,
    /// When to take a connection for dead that showed no life since a ping.
    Pong,
    /// When to tell the server the load again.
    Refresh,
    /// When to take user code for wedged that did not answer the heartbeat beside this offer.
    Heartbeat(JobId),
    /// When to decline an offer that user code is still thinking about.
    Answer(JobId),
    /// When to release the slot of an accepted job that was never assigned.
    Assignment(JobId),
    /// When to send the next heartbeat to user code that is wedged.
    Probe,
    /// When to cancel a job that was told to stop.
    Cancel(JobId),
    /// When to end a job that did not stop when cancelled, or whose shutdown callbacks do not return.
    Kill(JobId),
    /// When to tell every job that still runs in a drain to stop.
    DrainTell,
    /// When to cancel every job that still runs in a drain.
    DrainCancel,
    /// When to end every job that still runs in a drain, and leave.
    DrainKill,
    /// When to leave although the last frames are still unwritten.
    Flush,
}
