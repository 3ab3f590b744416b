//! What became of the calls of all links together: what guard's last line and its exit code say.
//!
//! Owns which calls run, and which were cut off. Refuses to cut one off.

use std::collections::BTreeSet;

use last_call_proto::{JobId, Outcome};

use super::guarded::Call;
use crate::link::Report;

/// The calls of all links.
pub(super) struct Tally {
    report: Report,
    /// Those that have begun and not had their end.
    running: BTreeSet<JobId>,
    /// The worker's process has ended, and is not started again.
    gone: bool,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { report: Report::new(), running: BTreeSet::new(), gone: false }
    }

    pub(super) fn outcome(&self) -> &Outcome {
        &self.report.outcome
    }

    pub(super) fn whole(self) -> Report {
        self.report
    }

    /// The calls of these jobs lost their agents, and got no other one.
    pub(super) fn lost(&mut self, lost: Vec<JobId>, forced: bool) {
        self.report.lost(lost, forced);
    }

    /// A link has left.
    pub(super) fn left(&mut self, report: Report) {
        self.report.succeeded += report.succeeded;
        self.report.failed += report.failed;
        self.report.worsen(report.outcome);
    }

    /// The worker's process has ended; whether for good.
    pub(super) fn ended(&mut self, for_good: bool) {
        self.gone = for_good;
    }

    /// Something became of a call. One whose worker is gone for good is nobody's, unless it is `rescued`.
    pub(super) fn heard(&mut self, call: &Call, rescued: bool) {
        match call {
            Call::Began { job, .. } => drop(self.running.insert(JobId::from(job.id.as_str()))),
            Call::Ended(job) => drop(self.running.remove(job)),
            Call::Orphaned(job) if self.gone && !rescued => {
                tracing::error!(job_id = %job, "cut off: its worker has ended, and no call is dispatched again");
                self.report.why_cut_off = "their worker ended";
                self.report.worsen(Outcome::CutOff(vec![job.clone()]));
            }
            Call::Orphaned(_) | Call::Strayed(..) | Call::Unheard(_) | Call::Terminate(_) | Call::Kill(_) => {
            }
        }
    }

    /// Links that were told to leave at once did not come back, or had a fault: nobody knows of the calls that they held.
    pub(super) fn abandon(&mut self) {
        tracing::error!("calls that guard lost sight of are taken for cut off");
        self.report.worsen(Outcome::Forced(self.running.iter().cloned().collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(id: &str) -> Call {
        let job = livekit_protocol::Job { id: id.to_owned(), ..Default::default() };
        Call::Began { job: Box::new(job), agent: String::new(), reported: true }
    }

    #[test]
    fn drain_8_calls_of_a_link_that_does_not_come_back_are_cut_off() {
        let mut tally = Tally::new();
        for id in ["AJ_1", "AJ_2", "AJ_3"] {
            tally.heard(&began(id), true);
        }
        tally.heard(&Call::Ended("AJ_2".into()), true);
        tally.abandon();
        assert_eq!(*tally.outcome(), Outcome::Forced(vec!["AJ_1".into(), "AJ_3".into()]));
    }

    #[test]
    fn drain_8_a_worker_that_is_gone_cuts_off_what_nobody_rescues() {
        for (for_good, rescued, cut) in [(true, false, true), (true, true, false), (false, false, false)] {
            let mut tally = Tally::new();
            tally.heard(&began("AJ_1"), rescued);
            tally.ended(for_good);
            tally.heard(&Call::Orphaned("AJ_1".into()), rescued);
            tally.left(Report { failed: 1, ..Report::new() });
            let report = tally.whole();
            assert_eq!((report.outcome != Outcome::Finished, report.failed), (cut, 1));
        }
    }
}
