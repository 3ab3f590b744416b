//! What crosses the wire between worker and server, as small values that can be compared and hashed.
//!
//! Owns the vocabulary of the cores. Refuses payloads: tokens, rooms and participants stay with the
//! drivers, which key them by [`JobId`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// A job's id as the server gave it (`Job.id`, "AJ_…").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for JobId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A load in thousandths: 0 is idle, 1000 is all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Load(u16);

impl Load {
    /// No load at all.
    pub const IDLE: Self = Self(0);
    /// The whole of the worker.
    pub const WHOLE: Self = Self(1000);

    /// A load of `thousandths`, cut off at 1000.
    #[must_use]
    pub const fn from_thousandths(thousandths: u16) -> Self {
        if thousandths > 1000 { Self::WHOLE } else { Self(thousandths) }
    }

    /// A load of `fraction` of the whole; what is no number counts as the whole, so that a broken
    /// load function cannot draw calls.
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        if fraction.is_nan() {
            return Self::WHOLE;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
        Self((fraction.clamp(0.0, 1.0) * 1000.0 + 0.5) as u16)
    }

    /// The load in thousandths, 0 to 1000.
    #[must_use]
    pub const fn thousandths(self) -> u16 {
        self.0
    }

    /// The load as a fraction of the whole, 0.0 to 1.0.
    #[must_use]
    pub fn fraction(self) -> f32 {
        f32::from(self.0) / 1000.0
    }
}

/// `UpdateWorkerStatus`: what a worker says of itself. The latest one on a connection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// `WS_AVAILABLE`, or `WS_FULL` when false. The only switch that livekit-server 1.13 heeds.
    pub available: bool,
    /// The worker is leaving. Sent beside `WS_FULL`: livekit-server 1.13 dispatches by status alone.
    pub draining: bool,
    /// The load on the server's scale (see [`crate::policy::reported_load`]).
    pub load: Load,
    /// Jobs that run or hold a slot.
    pub jobs: u32,
}

/// `AvailabilityResponse`: the one answer that an offer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The worker takes the job.
    Accept,
    /// The server offers the job to the next worker.
    Decline,
    /// The dispatch ends without an agent, as a success. Only ever the user's own choice: said in a
    /// drain it would end the call.
    Terminate,
}

/// `UpdateJobStatus`: how a job fares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// `JS_RUNNING`: the entrypoint is being started.
    Running,
    /// `JS_SUCCESS`.
    Success,
    /// `JS_FAILED`, with a text for people.
    Failed(Arc<str>),
}

/// One frame from a worker to its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToServer {
    /// `RegisterWorkerRequest`, first on every connection.
    Register,
    /// `UpdateWorkerStatus`.
    Status(Status),
    /// `AvailabilityResponse`.
    Answer(JobId, Answer),
    /// `UpdateJobStatus`.
    Report(JobId, Report),
    /// `MigrateJobRequest`: the jobs that still run, said after a reconnect.
    Migrate(Vec<JobId>),
    /// A WebSocket ping, no LiveKit message.
    Ping,
}

/// One frame from a server to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromServer {
    /// `RegisterWorkerResponse`.
    Registered,
    /// `AvailabilityRequest`.
    Offer(JobId),
    /// `JobAssignment`.
    Assignment(JobId),
    /// `JobTermination`.
    Termination(JobId),
    /// `GoAway`: register elsewhere, running jobs go on.
    GoAway,
    /// A frame that says nothing to the core (a pong, an unknown message), but that proves life.
    Other,
}
