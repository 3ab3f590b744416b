//! The promises about the way out: DRAIN-1 to DRAIN-11.

use std::collections::BTreeSet;

use last_call_proto::{
    Answer, FromServer, Input, JobId, Outcome, Output, Phase, Status, StopReason, Timer, ToServer,
};

use super::{Clause, Holds, Scene};
use crate::record::{Acceptance, Run, Told};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "DRAIN-1",
        says: "after the signal the worker drains, and says so to whoever is connected",
        holds: Holds::Step(drains_from_every_state),
    },
    Clause {
        id: "DRAIN-1",
        says: "a drain has an end: a timer of its own is armed until the exit",
        holds: Holds::Step(drain_is_bounded),
    },
    Clause {
        id: "DRAIN-2",
        says: "FULL is the first frame after the signal; on a new connection it leaves in one write with Register",
        holds: Holds::Step(full_is_first),
    },
    Clause {
        id: "DRAIN-3",
        says: "nothing is accepted after the signal",
        holds: Holds::Step(nothing_accepted),
    },
    Clause {
        id: "DRAIN-3",
        says: "an offer in a drain is declined at once, and not terminated unless user code said so",
        holds: Holds::Step(offers_are_declined),
    },
    Clause {
        id: "DRAIN-4",
        says: "a job accepted before the signal runs when its assignment comes",
        holds: Holds::Step(accepted_jobs_run),
    },
    Clause {
        id: "DRAIN-4",
        says: "no exit while an acceptance awaits its assignment on an open connection",
        holds: Holds::Step(acceptances_are_awaited),
    },
    Clause {
        id: "DRAIN-5",
        says: "no exit before the last job has ended, nor without a reason",
        holds: Holds::Step(jobs_are_awaited),
    },
    Clause {
        id: "DRAIN-5",
        says: "with nothing owed and all written the worker is gone",
        holds: Holds::Step(leaves_at_once),
    },
    Clause {
        id: "DRAIN-6",
        says: "a job is told, then cancelled, then killed, in this order",
        holds: Holds::Step(ladder_in_order),
    },
    Clause {
        id: "DRAIN-6",
        says: "every rung of the ladder has a timer to the next",
        holds: Holds::Step(ladder_is_bounded),
    },
    Clause {
        id: "DRAIN-7",
        says: "every job that runs in a drain is notified, once, before it is told",
        holds: Holds::Step(jobs_see_it_coming),
    },
    Clause {
        id: "DRAIN-8",
        says: "the outcome lists the jobs that were cut off, and no others",
        holds: Holds::Step(outcome_is_true),
    },
    Clause {
        id: "DRAIN-9",
        says: "a further signal changes nothing",
        holds: Holds::Step(|scene| !scene.is().leaves() || scene.exited() || scene.drain_is_nothing),
    },
    Clause { id: "DRAIN-9", says: "force ends every job and leaves", holds: Holds::Step(force_leaves) },
    Clause {
        id: "DRAIN-11",
        says: "phases follow their graph and what the operator asked for",
        holds: Holds::Step(phases_in_order),
    },
    Clause {
        id: "DRAIN-11",
        says: "quiet and unquiet are nothing in a drain",
        holds: Holds::Step(|scene| {
            let asked = matches!(scene.input(), Some(Input::Quiet | Input::Unquiet));
            !asked || !scene.was().leaves() || (scene.unmoved && scene.outputs.is_empty())
        }),
    },
    Clause {
        id: "DRAIN-11",
        says: "nothing is accepted while quiet",
        holds: Holds::Step(|scene| scene.was().wanted != Phase::Quiet || !accepts(scene)),
    },
];

fn accepts(scene: &Scene<'_>) -> bool {
    scene.wrote().iter().any(|frame| matches!(frame, ToServer::Answer(_, Answer::Accept)))
}

fn is_full(status: Status) -> bool {
    !status.available && status.draining
}

fn drains_from_every_state(scene: &Scene<'_>) -> bool {
    if !scene.is().leaves() || scene.exited() {
        return true;
    }
    let drains = matches!(scene.worker.phase(), Phase::Draining | Phase::Drained);
    drains && (!scene.connected() || scene.advertised().is_some_and(is_full))
}

fn drain_is_bounded(scene: &Scene<'_>) -> bool {
    if !scene.is().leaves() || scene.exited() {
        return true;
    }
    match scene.worker.phase() {
        Phase::Drained => scene.armed(&Timer::Flush),
        Phase::Serving | Phase::Quiet | Phase::Draining => {
            [Timer::DrainTell, Timer::DrainCancel, Timer::DrainKill].iter().any(|timer| scene.armed(timer))
        }
    }
}

fn full_is_first(scene: &Scene<'_>) -> bool {
    match scene.wrote() {
        [] => true,
        _ if !scene.was().line.full_due => true,
        [ToServer::Register, ToServer::Status(status), ..] | [ToServer::Status(status), ..] => {
            is_full(*status)
        }
        _ => false,
    }
}

fn nothing_accepted(scene: &Scene<'_>) -> bool {
    !scene.was().leaves() || !accepts(scene)
}

fn offers_are_declined(scene: &Scene<'_>) -> bool {
    let terminated = scene.wrote().iter().any(|frame| {
        let ToServer::Answer(job, Answer::Terminate) = frame else { return false };
        scene.was().life(job).is_none_or(|life| !life.user_ends)
    });
    if !scene.is().leaves() || scene.exited() || !scene.is().line.confirmed {
        return !terminated;
    }
    let answers = |job: &JobId| {
        let of_job = |frame: &&ToServer| matches!(frame, ToServer::Answer(of, _) if of == job);
        scene.pending_frames().filter(of_job).count()
    };
    !terminated && scene.is().lives.iter().all(|(job, life)| answers(job) == usize::from(life.open))
}

fn accepted_jobs_run(scene: &Scene<'_>) -> bool {
    let Some(FromServer::Assignment(job)) = scene.received() else { return true };
    match scene.was().life(job).map(|life| life.acceptance) {
        Some(Acceptance::Sent) => scene.does(&Output::Launch(job.clone())),
        Some(Acceptance::No | Acceptance::Decided | Acceptance::Overdue) | None => true,
    }
}

fn acceptances_are_awaited(scene: &Scene<'_>) -> bool {
    let exits = scene.exited() && scene.was().exit.is_none();
    !exits || !scene.was().line.confirmed || scene.is().accepted(Acceptance::Sent).next().is_none()
}

fn jobs_are_awaited(scene: &Scene<'_>) -> bool {
    match &scene.is().exit {
        None => true,
        Some(Outcome::Refused) => true,
        Some(Outcome::Finished | Outcome::CutOff(_) | Outcome::Forced(_)) => {
            scene.is().leaves() && scene.is().running().next().is_none()
        }
    }
}

fn leaves_at_once(scene: &Scene<'_>) -> bool {
    let record = scene.is();
    if !record.leaves() || scene.exited() {
        return true;
    }
    let owed = record.running().next().is_some() || record.accepted(Acceptance::Sent).next().is_some();
    let unwritten = scene.after.wire.as_ref().is_some_and(|wire| wire.unflushed) || !scene.pending.is_empty();
    match scene.worker.phase() {
        Phase::Drained => !owed && scene.connected() && unwritten,
        Phase::Serving | Phase::Quiet | Phase::Draining => owed,
    }
}

fn ladder_in_order(scene: &Scene<'_>) -> bool {
    let forced = matches!(scene.input(), Some(Input::Force));
    let was = |job: &JobId| scene.was().run(job).cloned().unwrap_or_default();
    let earlier = |at: usize, output: &Output| scene.outputs[..at].contains(output);
    let told = |at: usize, job: &JobId, run: &Run| {
        run.told.is_some() || earlier(at, &Output::Tell(job.clone(), StopReason::DrainDeadline))
    };
    scene.outputs.iter().enumerate().all(|(at, output)| match output {
        Output::Tell(job, _) => was(job).told.is_none() && !was(job).cancelled,
        Output::Cancel(job) => !was(job).cancelled && told(at, job, &was(job)),
        Output::Kill(job) => forced || was(job).finishing || (was(job).cancelled && told(at, job, &was(job))),
        Output::Dial
        | Output::HangUp
        | Output::Arm(_)
        | Output::Disarm(_)
        | Output::Ask(_)
        | Output::Forget(_)
        | Output::Probe
        | Output::Launch(_)
        | Output::Notify(_)
        | Output::Release(_)
        | Output::Event(_)
        | Output::Exit(_) => true,
    })
}

fn ladder_is_bounded(scene: &Scene<'_>) -> bool {
    scene.exited()
        || scene.is().running().all(|(job, run)| {
            if run.cancelled || run.finishing {
                scene.armed(&Timer::Kill(job.clone()))
            } else if run.told.is_some() {
                scene.armed(&Timer::Cancel(job.clone())) || scene.armed(&Timer::DrainCancel)
            } else {
                true
            }
        })
}

fn jobs_see_it_coming(scene: &Scene<'_>) -> bool {
    let record = scene.is();
    let mut fresh = scene.jobs(|output| if let Output::Notify(job) = output { Some(job) } else { None });
    let mut seen = BTreeSet::new();
    let once = fresh.all(|job| seen.insert(job) && !scene.was().run(job).is_some_and(|run| run.notified));
    let due = record.leaves() && !record.forced;
    let all = !due || record.running().all(|(_, run)| run.notified);
    let in_order = record.running().all(|(_, run)| run.told != Some(Told::ByDrain) || run.notified);
    once && all && in_order
}

fn outcome_is_true(scene: &Scene<'_>) -> bool {
    let Some(outcome) = &scene.is().exit else { return true };
    let cut = &scene.is().cut;
    let lists = |jobs: &Vec<JobId>| jobs.len() == cut.len() && jobs.iter().all(|job| cut.contains(job));
    match outcome {
        Outcome::Finished | Outcome::Refused => cut.is_empty(),
        Outcome::CutOff(jobs) => !scene.is().forced && !jobs.is_empty() && lists(jobs),
        Outcome::Forced(jobs) => scene.is().forced && lists(jobs),
    }
}

fn force_leaves(scene: &Scene<'_>) -> bool {
    if !scene.is().forced || scene.exited() {
        return true;
    }
    scene.is().running().next().is_none()
        && scene.worker.phase() == Phase::Drained
        && scene.armed(&Timer::Flush)
}

fn phases_in_order(scene: &Scene<'_>) -> bool {
    let asked = match scene.is().wanted {
        Phase::Serving => scene.worker.phase() == Phase::Serving,
        Phase::Quiet => scene.worker.phase() == Phase::Quiet,
        Phase::Draining | Phase::Drained => matches!(scene.worker.phase(), Phase::Draining | Phase::Drained),
    };
    asked && (scene.before.record.exit.is_none() || scene.exited())
}
