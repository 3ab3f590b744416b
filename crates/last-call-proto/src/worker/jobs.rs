//! Jobs from the assignment to the last report, and the ladder that ends one: tell, cancel, kill.
//!
//! Owns that every step of it is bounded. Refuses to know what runs a job.

use alloc::sync::Arc;

use super::{Declined, Event, Output, Phase, Worker};
use crate::job::{JobState, Stop};
use crate::message::{JobId, Report};
use crate::timer::Timer;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The entrypoint returned without an error.
    Success,
    /// The entrypoint returned an error, panicked, was cancelled or was killed; the text is for people.
    Failed(Arc<str>),
}

/// Why a job is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The server ended the job.
    Terminated,
    /// User code asked for it.
    Requested,
    /// The drain deadline came.
    DrainDeadline,
}

/// Why a job that was killed failed.
pub(super) const OUT_OF_GRACE: &str = "it still ran at the end of its grace period, and was ended";
pub(super) const OUT_OF_BUDGET: &str = "it still ran at the end of the drain budget, and was ended";
pub(super) const FORCED: &str = "the worker was forced to leave";

impl Worker {
    pub(super) fn assigned(&mut self, job: JobId) {
        let Some(JobState::Accepted | JobState::Overdue) = self.jobs.get(&job) else {
            return self.emit(Event::AssignmentUnknown(job));
        };
        let before = self.why_not();
        self.disarm(Timer::Assignment(job.clone()));
        self.jobs.set(job.clone(), JobState::Running(Stop::No));
        if self.why_not() != before {
            self.advertise();
        }
        self.outbox.report(job.clone(), Report::Running);
        self.outputs.push_back(Output::Launch(job.clone()));
        if self.phase == Phase::Draining {
            self.catch_up(&job);
        }
    }

    pub(super) fn assignment_missed(&mut self, job: &JobId) {
        if self.jobs.get(job) == Some(JobState::Accepted) {
            self.jobs.set(job.clone(), JobState::Overdue);
            self.missed(job);
            self.advertise();
            self.move_on_if_free();
        }
    }

    /// No assignment is waited for any more.
    pub(super) fn missed(&mut self, job: &JobId) {
        self.outputs.push_back(Output::Forget(job.clone()));
        self.emit(Event::AssignmentMissed(job.clone()));
    }

    pub(super) fn terminated(&mut self, job: &JobId) {
        match self.jobs.get(job) {
            Some(JobState::Running(_)) => self.tell(job, StopReason::Terminated),
            Some(JobState::Accepted | JobState::Overdue) => {
                self.jobs.remove(job);
                self.disarm(Timer::Assignment(job.clone()));
                self.missed(job);
                self.advertise();
            }
            Some(JobState::Offered { .. }) => self.withdraw(job, Declined::Ended),
            None => self.emit(Event::TerminationUnknown(job.clone())),
        }
    }

    pub(super) fn tell(&mut self, job: &JobId, reason: StopReason) {
        if self.jobs.get(job) == Some(JobState::Running(Stop::No)) {
            self.jobs.set(job.clone(), JobState::Running(Stop::Told));
            self.outputs.push_back(Output::Tell(job.clone(), reason));
            // The drain has one budget: what it tells, it cancels.
            if reason != StopReason::DrainDeadline {
                self.arm(Timer::Cancel(job.clone()));
            }
        }
    }

    pub(super) fn cancel(&mut self, job: &JobId) {
        if let Some(JobState::Running(Stop::No | Stop::Told)) = self.jobs.get(job) {
            self.jobs.set(job.clone(), JobState::Running(Stop::Finishing));
            self.outputs.push_back(Output::Cancel(job.clone()));
            self.disarm(Timer::Cancel(job.clone()));
            self.arm(Timer::Kill(job.clone()));
        }
    }

    pub(super) fn finishing(&mut self, job: &JobId) {
        if let Some(JobState::Running(Stop::No | Stop::Told)) = self.jobs.get(job) {
            self.jobs.set(job.clone(), JobState::Running(Stop::Finishing));
            self.disarm(Timer::Cancel(job.clone()));
            self.arm(Timer::Kill(job.clone()));
        }
    }

    pub(super) fn kill(&mut self, job: &JobId, why: &str) {
        if let Some(JobState::Running(_)) = self.jobs.get(job) {
            self.outputs.push_back(Output::Kill(job.clone()));
            self.ended(job, End::Failed(why.into()));
        }
    }

    pub(super) fn ended(&mut self, job: &JobId, end: End) {
        let Some(JobState::Running(_)) = self.jobs.get(job) else { return };
        let before = self.why_not();
        self.jobs.remove(job);
        self.disarm_all(job);
        let report = match &end {
            End::Success => Report::Success,
            End::Failed(text) => Report::Failed(text.clone()),
        };
        self.outbox.report(job.clone(), report);
        self.emit(Event::Ended(job.clone(), end));
        self.ending.departing.push(job.clone());
        if self.why_not() != before {
            self.advertise();
        }
    }

    /// Lets agents leave their rooms whose last report is written: in the other order the server records
    /// a finished job as failed (JOB-3). Without a connection there is nothing to wait for.
    pub(super) fn release_departed(&mut self, flushed: bool) {
        let connected = self.link.is_connected();
        let departing = core::mem::take(&mut self.ending.departing);
        for job in departing {
            if connected && (!flushed || self.outbox.holds_end_of(&job)) {
                self.ending.departing.push(job);
            } else {
                self.outputs.push_back(Output::Release(job));
            }
        }
    }
}
