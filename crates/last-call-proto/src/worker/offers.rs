//! Offers: every one gets one answer, in time, whatever user code does (JOB-1).
//!
//! Owns the wait for user code and the verdict that it is wedged. Refuses to launch anything.

use super::{Declined, Event, Output, Worker};
use crate::job::JobState;
use crate::message::{Answer, JobId};
use crate::timer::Timer;

/// What user code says of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Take it.
    Accept,
    /// Let the next worker have it.
    Reject,
    /// End the dispatch without an agent.
    Terminate,
    /// The request handler failed.
    Fail,
}

/// How user code that was found wedged answers probes since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Probes {
    answered_in_a_row: u8,
    /// The latest probe is unanswered. Answers to earlier ones, which come in a heap when user code
    /// wakes up, count as one.
    awaited: bool,
}

/// Probes that must be answered in a row before user code counts as recovered.
const PROBES_TO_RECOVER: u8 = 3;

impl Worker {
    pub(super) fn offered(&mut self, job: JobId) {
        match self.jobs.get(&job) {
            // The first copy's answer serves both.
            Some(JobState::Offered { .. }) => self.emit(Event::OutOfOrder),
            Some(JobState::Accepted | JobState::Overdue | JobState::Running(_)) => {
                self.decline(&job, Declined::Duplicate);
            }
            // It is over, but its end is not reported: two lives under one id would get into each other's way.
            None if self.ending.departing.contains(&job) || self.outbox.holds_end_of(&job) => {
                self.decline(&job, Declined::Duplicate);
            }
            None => match self.why_not().or_else(|| self.asked_enough()) {
                Some(why) => self.decline(&job, why),
                None => {
                    self.jobs.set(job.clone(), JobState::Offered { alive: false });
                    self.outputs.push_back(Output::Ask(job.clone()));
                    self.arm(Timer::Heartbeat(job.clone()));
                    self.arm(Timer::Answer(job));
                }
            },
        }
    }

    pub(super) fn heartbeat(&mut self, job: &JobId) {
        if let Some(JobState::Offered { alive: false }) = self.jobs.get(job) {
            self.jobs.set(job.clone(), JobState::Offered { alive: true });
            self.disarm(Timer::Heartbeat(job.clone()));
        }
    }

    pub(super) fn heartbeat_missed(&mut self, job: &JobId) {
        if let Some(JobState::Offered { alive: false }) = self.jobs.get(job) {
            self.withdraw(job, Declined::Wedged);
            if self.wedged.replace(Probes::default()).is_none() {
                self.emit(Event::Wedged);
                self.advertise();
                self.probe();
            }
        }
    }

    pub(super) fn answer_due(&mut self, job: &JobId) {
        if let Some(JobState::Offered { .. }) = self.jobs.get(job) {
            self.withdraw(job, Declined::Slow);
        }
    }

    pub(super) fn decided(&mut self, job: &JobId, decision: Decision) {
        let Some(JobState::Offered { .. }) = self.jobs.get(job) else {
            return self.emit(Event::LateDecision(job.clone()));
        };
        let why = match decision {
            Decision::Accept => self.why_not(),
            Decision::Reject => Some(Declined::Rejected),
            Decision::Terminate => Some(Declined::Terminated),
            Decision::Fail => Some(Declined::Failed),
        };
        match why {
            None => self.accept(job),
            Some(why) => self.withdraw(job, why),
        }
    }

    fn accept(&mut self, job: &JobId) {
        let before = self.why_not();
        self.disarm(Timer::Heartbeat(job.clone()));
        self.disarm(Timer::Answer(job.clone()));
        self.jobs.set(job.clone(), JobState::Accepted);
        self.outbox.answer(job.clone(), Answer::Accept);
        self.arm(Timer::Assignment(job.clone()));
        self.emit(Event::Accepted(job.clone()));
        if self.why_not() != before {
            self.advertise();
        }
    }

    /// Declines an offer that user code was asked about.
    pub(super) fn withdraw(&mut self, job: &JobId, why: Declined) {
        self.forget_offer(job);
        self.decline(job, why);
    }

    /// Drops an offer that user code was asked about, without an answer.
    pub(super) fn forget_offer(&mut self, job: &JobId) {
        self.jobs.remove(job);
        self.disarm(Timer::Heartbeat(job.clone()));
        self.disarm(Timer::Answer(job.clone()));
        self.outputs.push_back(Output::Forget(job.clone()));
    }

    pub(super) fn decline(&mut self, job: &JobId, why: Declined) {
        let answer = if why == Declined::Terminated { Answer::Terminate } else { Answer::Decline };
        self.outbox.answer(job.clone(), answer);
        self.emit(Event::Declined(job.clone(), why));
    }

    pub(super) fn probe(&mut self) {
        let Some(probes) = &mut self.wedged else { return };
        if core::mem::replace(&mut probes.awaited, true) {
            // One question is enough for code that does not answer.
            probes.answered_in_a_row = 0;
        } else {
            self.outputs.push_back(Output::Probe);
        }
        self.arm(Timer::Probe);
    }

    pub(super) fn probe_answered(&mut self) {
        let Some(probes) = &mut self.wedged else { return };
        if core::mem::take(&mut probes.awaited) {
            probes.answered_in_a_row += 1;
        }
        if probes.answered_in_a_row >= PROBES_TO_RECOVER {
            self.wedged = None;
            self.disarm(Timer::Probe);
            self.emit(Event::Recovered);
            self.advertise();
        }
    }
}
