//! Phases, the drain and the exit.
//!
//! Owns when the worker may leave: once nothing is owed to the server or to a job, or once the one budget
//! is spent, whichever is first. Refuses to wait for anything without a bound.

use alloc::vec::Vec;

use super::{Declined, Event, Output, StopReason, Worker, jobs};
use crate::job::{JobState, JobTable, Stop};
use crate::message::JobId;
use crate::timer::Timer;

/// `Serving ⇄ Quiet → Draining → Drained`. Only the first two can be left again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Takes jobs as far as slots and load allow.
    #[default]
    Serving,
    /// Takes no job; runs those it has.
    Quiet,
    /// Takes no job, and leaves when the last one has ended.
    Draining,
    /// Nothing runs any more; the last frames leave.
    Drained,
}

/// How the worker left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Every job ended by itself.
    Finished,
    /// The drain budget ran out: these jobs were cut off.
    CutOff(Vec<JobId>),
    /// The worker was forced to leave: these jobs were cut off.
    Forced(Vec<JobId>),
    /// The server refused the first registration.
    Refused,
}

/// How far the drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    #[default]
    Waiting,
    Told,
    Cancelled,
}

/// Everything about the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ending {
    stage: Stage,
    forced: bool,
    exited: bool,
    /// Frames were taken and not yet written.
    in_flight: bool,
    /// Jobs cut off so far.
    cut: Vec<JobId>,
    /// Jobs over, whose last report is not known to be written.
    pub(super) departing: Vec<JobId>,
}

impl Ending {
    pub(super) fn exited(&self) -> bool {
        self.exited
    }

    /// Whether frames were taken that are not yet written.
    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }
}

impl Worker {
    pub(super) fn quiet(&mut self) {
        if self.phase == Phase::Serving {
            self.enter(Phase::Quiet);
            self.refuse_what_is_open(Declined::Quiet);
        }
    }

    pub(super) fn unquiet(&mut self) {
        if self.phase == Phase::Quiet {
            self.enter(Phase::Serving);
        }
    }

    pub(super) fn drain(&mut self) {
        if !matches!(self.phase, Phase::Serving | Phase::Quiet) {
            return;
        }
        self.enter(Phase::Draining);
        self.refuse_what_is_open(Declined::Draining);
        self.arm(Timer::DrainTell);
        for job in self.running() {
            self.outputs.push_back(Output::Notify(job));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.advertise();
        self.emit(Event::Phase(phase));
    }

    /// Declines what user code is still thinking about, and takes back acceptances that were not sent.
    fn refuse_what_is_open(&mut self, why: Declined) {
        for job in self.jobs.select(|state| matches!(state, JobState::Offered { .. })) {
            self.withdraw(&job, why);
        }
        for job in self.outbox.withdraw_acceptances() {
            // A server may assign what it was not told is accepted: that job runs, and stays.
            if let Some(JobState::Accepted | JobState::Overdue) = self.jobs.get(&job) {
                self.jobs.remove(&job);
                self.disarm(Timer::Assignment(job.clone()));
                self.outputs.push_back(Output::Forget(job.clone()));
                self.emit(Event::Declined(job, why));
            }
        }
    }

    /// A job that was assigned while the worker drains is brought to where the others are.
    pub(super) fn catch_up(&mut self, job: &JobId) {
        self.outputs.push_back(Output::Notify(job.clone()));
        if self.ending.stage >= Stage::Told {
            self.tell(job, StopReason::DrainDeadline);
        }
        if self.ending.stage >= Stage::Cancelled {
            self.cut(job);
        }
    }

    pub(super) fn drain_tell(&mut self) {
        if self.phase != Phase::Draining || self.ending.stage != Stage::Waiting {
            return;
        }
        self.ending.stage = Stage::Told;
        for job in self.running() {
            self.tell(&job, StopReason::DrainDeadline);
        }
        self.arm(Timer::DrainCancel);
    }

    pub(super) fn drain_cancel(&mut self) {
        if self.phase != Phase::Draining || self.ending.stage != Stage::Told {
            return;
        }
        self.ending.stage = Stage::Cancelled;
        for job in self.running() {
            self.cut(&job);
        }
        self.arm(Timer::DrainKill);
    }

    /// Cancels a job that did not end by itself.
    fn cut(&mut self, job: &JobId) {
        if let Some(JobState::Running(Stop::No | Stop::Told)) = self.jobs.get(job) {
            self.ending.cut.push(job.clone());
            self.cancel(job);
        }
    }

    pub(super) fn drain_kill(&mut self) {
        if self.phase == Phase::Draining && self.ending.stage == Stage::Cancelled {
            self.end_everything(jobs::OUT_OF_BUDGET);
        }
    }

    pub(super) fn force(&mut self) {
        if self.phase != Phase::Drained {
            self.ending.forced = true;
            self.enter(Phase::Draining);
            self.refuse_what_is_open(Declined::Draining);
            self.end_everything(jobs::FORCED);
        }
    }

    fn end_everything(&mut self, why: &str) {
        let held = |state| matches!(state, JobState::Accepted | JobState::Running(_));
        for job in self.jobs.select(held) {
            if !self.ending.cut.contains(&job) {
                self.ending.cut.push(job.clone());
            }
            if self.jobs.get(&job) == Some(JobState::Accepted) {
                self.jobs.remove(&job);
                self.disarm(Timer::Assignment(job.clone()));
                self.missed(&job);
            } else {
                self.kill(&job, why);
            }
        }
    }

    /// Runs after every input: leaves as soon as nothing is owed.
    pub(super) fn leave_if_done(&mut self) {
        if self.phase == Phase::Draining {
            let owed = |state| state != JobState::Overdue;
            if self.jobs.select(owed).is_empty() {
                // An overdue assignment that came now could not be run to its end.
                self.jobs = JobTable::default();
                self.enter(Phase::Drained);
                self.arm(Timer::Flush);
            }
        }
        self.release_departed(false);
        let unwritten = self.ending.in_flight || !self.outbox.is_empty();
        if self.phase == Phase::Drained && !(self.link.is_connected() && unwritten) {
            self.leave();
        }
    }

    pub(super) fn flush_due(&mut self) {
        if self.phase == Phase::Drained {
            self.leave();
        }
    }

    pub(super) fn taken(&mut self) {
        self.ending.in_flight = true;
    }

    /// What was being written went with its connection.
    pub(super) fn gone(&mut self) {
        self.ending.in_flight = false;
    }

    pub(super) fn flushed(&mut self) {
        self.ending.in_flight = false;
        self.release_departed(true);
        self.move_on_if_free();
    }

    fn leave(&mut self) {
        let cut = core::mem::take(&mut self.ending.cut);
        self.exit(match (self.ending.forced, cut.is_empty()) {
            (true, _) => Outcome::Forced(cut),
            (false, false) => Outcome::CutOff(cut),
            (false, true) => Outcome::Finished,
        });
    }

    pub(super) fn exit(&mut self, outcome: Outcome) {
        if !self.ending.exited {
            self.ending.exited = true;
            for job in core::mem::take(&mut self.ending.departing) {
                self.outputs.push_back(Output::Release(job));
            }
            self.outputs.push_back(Output::Exit(outcome));
        }
    }

    fn running(&self) -> Vec<JobId> {
        self.jobs.select(|state| matches!(state, JobState::Running(_)))
    }
}
