//! How a worker's life went, for its last log line and its exit code.
//!
//! Owns what a lost call makes of it. Refuses exit codes, which are in [`crate::exit`].

use last_call_proto::{JobId, Outcome};

/// How a worker's life went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// Jobs that ended well.
    pub(crate) succeeded: u32,
    /// Jobs that failed, those cut off among them.
    pub(crate) failed: u32,
    /// Why jobs were cut off that nobody forced to end.
    pub(crate) why_cut_off: &'static str,
}

impl Report {
    /// Before anything is known.
    pub(crate) fn new() -> Self {
        Self { outcome: Outcome::Finished, succeeded: 0, failed: 0, why_cut_off: "the drain budget ran out" }
    }

    /// The calls of these jobs lost their agents, and got no other one; where somebody `forced` that, by their word.
    pub(crate) fn lost(&mut self, mut lost: Vec<JobId>, forced: bool) {
        if let Outcome::CutOff(cut) | Outcome::Forced(cut) = &self.outcome {
            lost.retain(|job| !cut.contains(job));
        }
        if lost.is_empty() {
            return;
        }
        self.why_cut_off = "their agents died, and no other came";
        self.worsen(if forced { Outcome::Forced(lost) } else { Outcome::CutOff(lost) });
    }

    /// What has several ends has the worst of them.
    pub(crate) fn worsen(&mut self, how: Outcome) {
        let before = std::mem::replace(&mut self.outcome, Outcome::Finished);
        self.outcome = worse(before, how);
    }
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Refused, _) | (_, Outcome::Refused) => Outcome::Refused,
        (Outcome::Forced(mut cut), Outcome::Forced(more) | Outcome::CutOff(more))
        | (Outcome::CutOff(mut cut), Outcome::Forced(more)) => {
            cut.extend(more);
            Outcome::Forced(cut)
        }
        (Outcome::CutOff(mut cut), Outcome::CutOff(more)) => {
            cut.extend(more);
            Outcome::CutOff(cut)
        }
        (Outcome::Finished, other) => other,
        (one, Outcome::Finished) => one,
    }
}
