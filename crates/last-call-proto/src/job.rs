//! The jobs that a worker answers for, from the offer to the end.
//!
//! Owns each job's state and the counts over them. Refuses to decide on any.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::message::JobId;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Offered; user code is asked.
    Offered {
        /// User code answered the heartbeat sent beside the offer.
        alive: bool,
    },
    /// Accepted: it holds a slot, and its assignment is to come.
    Accepted,
    /// Accepted, but the assignment did not come in time: its slot is free again. It runs if the
    /// assignment comes after all, because the server then counts on it.
    Overdue,
    /// Assigned: the entrypoint runs.
    Running(Stop),
}

/// How far a running job has been brought to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// Nothing asks it to stop.
    #[default]
    No,
    /// It was told, and may finish in its own way.
    Told,
    /// Its entrypoint returned or was cancelled; only its shutdown callbacks still run.
    Finishing,
}

/// Overdue jobs kept at most; the server would have to lose that many assignments on one connection.
const OVERDUE_KEPT: usize = 64;

/// All jobs that the worker knows, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobTable(BTreeMap<JobId, JobState>);

impl JobTable {
    /// Where this job stands, if it is known.
    #[must_use]
    pub fn get(&self, job: &JobId) -> Option<JobState> {
        self.0.get(job).copied()
    }

    pub(crate) fn set(&mut self, job: JobId, state: JobState) {
        self.0.insert(job, state);
        if state == JobState::Overdue {
            let overdue = self.select(|state| state == JobState::Overdue);
            if overdue.len() > OVERDUE_KEPT {
                self.remove(&overdue[0]);
            }
        }
    }

    pub(crate) fn remove(&mut self, job: &JobId) -> Option<JobState> {
        self.0.remove(job)
    }

    /// The jobs whose state `wanted` picks, in the order of their ids.
    #[must_use]
    pub fn select(&self, wanted: impl Fn(JobState) -> bool) -> Vec<JobId> {
        self.0.iter().filter(|(_, state)| wanted(**state)).map(|(job, _)| job.clone()).collect()
    }

    fn count(&self, wanted: impl Fn(JobState) -> bool) -> u32 {
        u32::try_from(self.0.values().filter(|state| wanted(**state)).count()).unwrap_or(u32::MAX)
    }

    /// Whether a death of the job's process now is no end that anybody asked for (CALL-2). livekit-server ends the job of
    /// each agent that leaves its room; of one that died it finds out 20 s later.
    #[must_use]
    pub fn may_be_rescued(&self, job: &JobId) -> bool {
        self.get(job) == Some(JobState::Running(Stop::No))
    }

    /// Offers that are asked about.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.count(|state| matches!(state, JobState::Offered { .. }))
    }

    /// Jobs whose entrypoint runs.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.count(|state| matches!(state, JobState::Running(_)))
    }

    /// Jobs accepted whose assignment may still come in time.
    #[must_use]
    pub fn accepted(&self) -> u32 {
        self.count(|state| state == JobState::Accepted)
    }

    /// Slots taken: running jobs and accepted ones.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.running() + self.accepted()
    }
}
