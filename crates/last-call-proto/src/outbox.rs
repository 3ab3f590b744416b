//! What stands between a decision and the wire: the frames not yet handed to the socket.
//!
//! Owns their order: registration first, then the status, then everything else in the order decided. A
//! status is a slot and no queue entry, so the newest replaces the one before and overtakes every answer.
//! Refuses to know when the socket can write.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::message::{Answer, JobId, Report, Status, ToServer};

/// Frames written at most in one go, so that a new status waits behind no more than these.
pub(crate) const BATCH: usize = 64;

/// The frames that wait for the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    register: bool,
    registered: bool,
    status: Option<Status>,
    ping: bool,
    queue: VecDeque<ToServer>,
}

impl Outbox {
    /// A connection opened: registration and status leave first, in one write.
    pub(crate) fn connect(&mut self, status: Status) {
        self.register = true;
        self.registered = false;
        self.status = Some(status);
        self.ping = false;
    }

    /// The registration was confirmed: what waited for it may leave.
    pub(crate) fn open(&mut self) {
        self.registered = true;
    }

    /// The connection is gone, and with it everything that only meant something there. Reports stay.
    pub(crate) fn disconnect(&mut self) {
        let reports = core::mem::take(&mut self.queue)
            .into_iter()
            .filter(|frame| matches!(frame, ToServer::Report(..)))
            .collect();
        *self = Self { queue: reports, ..Self::default() };
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        self.status = Some(status);
    }

    pub(crate) fn ping(&mut self) {
        self.ping = true;
    }

    pub(crate) fn answer(&mut self, job: JobId, answer: Answer) {
        self.queue.push_back(ToServer::Answer(job, answer));
    }

    pub(crate) fn report(&mut self, job: JobId, report: Report) {
        self.queue.push_back(ToServer::Report(job, report));
    }

    /// Said before the reports that waited, so that the server knows the jobs they are about.
    pub(crate) fn migrate(&mut self, jobs: Vec<JobId>) {
        self.queue.push_front(ToServer::Migrate(jobs));
    }

    /// Turns every acceptance that is still here into a refusal, and names the jobs.
    pub(crate) fn withdraw_acceptances(&mut self) -> Vec<JobId> {
        let mut withdrawn = Vec::new();
        for frame in &mut self.queue {
            if let ToServer::Answer(job, answer @ Answer::Accept) = frame {
                *answer = Answer::Decline;
                withdrawn.push(job.clone());
            }
        }
        withdrawn
    }

    /// Whether this job's end is reported in a frame that still waits.
    pub(crate) fn holds_end_of(&self, job: &JobId) -> bool {
        let is_end = |report: &Report| !matches!(report, Report::Running);
        self.queue
            .iter()
            .any(|frame| matches!(frame, ToServer::Report(of, report) if of == job && is_end(report)))
    }

    /// Whether nothing waits that could leave now.
    pub(crate) fn is_empty(&self) -> bool {
        !self.register && self.status.is_none() && (self.queue.is_empty() || !self.registered)
    }

    /// The frames to write next, in one write; `None` if there are none.
    pub(crate) fn take(&mut self) -> Option<Vec<ToServer>> {
        let mut frames = Vec::new();
        if core::mem::take(&mut self.register) {
            frames.push(ToServer::Register);
        }
        frames.extend(self.status.take().map(ToServer::Status));
        if core::mem::take(&mut self.ping) {
            frames.push(ToServer::Ping);
        }
        if self.registered {
            let room = BATCH.saturating_sub(frames.len()).min(self.queue.len());
            frames.extend(self.queue.drain(..room));
        }
        (!frames.is_empty()).then_some(frames)
    }
}
