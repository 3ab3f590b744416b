//! The promises about offers and jobs: JOB-1 to JOB-5.

use last_call_proto::{Decision, DispatcherEvent, Event, Input, JobState, Output, Report, Timer, ToServer};

use super::{Clause, Holds, Scene};
use crate::record::{Acceptance, Reported};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "JOB-1",
        says: "an offer without an answer has a timer to one",
        holds: Holds::Step(offers_are_timed),
    },
    Clause {
        id: "JOB-1",
        says: "an offer gets one answer, and what no one asked gets none",
        holds: Holds::Step(one_answer),
    },
    Clause {
        id: "JOB-1",
        says: "a decision that comes late sends nothing",
        holds: Holds::Step(late_is_dropped),
    },
    Clause {
        id: "JOB-1",
        says: "no call goes without an agent while one healthy worker is registered",
        holds: Holds::Server(|effects, scope| {
            let lost = |found: &DispatcherEvent| {
                matches!(found, DispatcherEvent::Unserved(_) | DispatcherEvent::Unanswered(_))
            };
            !scope.healthy || scope.hasty || !effects.found.iter().any(lost)
        }),
    },
    Clause {
        id: "JOB-2",
        says: "slots are never over-committed, but by an assignment that comes after its slot was given up",
        holds: Holds::Step(slots_are_hard),
    },
    Clause {
        id: "JOB-3",
        says: "an agent leaves its room when its job's last report is written",
        holds: Holds::Step(reported_before_released),
    },
    Clause {
        id: "JOB-3",
        says: "a job has one last report, and it is true",
        holds: Holds::Step(one_true_report),
    },
    Clause {
        id: "JOB-5",
        says: "an acceptance is waited for within a bound, and then its slot is free",
        holds: Holds::Step(acceptances_are_bounded),
    },
];

fn offers_are_timed(scene: &Scene<'_>) -> bool {
    // An answer decided before the registration is confirmed stands behind it and cannot be seen.
    if scene.exited() || !scene.is().line.confirmed {
        return true;
    }
    let answered =
        |job| scene.pending_frames().any(|frame| matches!(frame, ToServer::Answer(of, _) if of == job));
    scene.is().lives.iter().filter(|(_, life)| life.open > 0).all(|(job, _)| {
        let asked = match scene.worker.jobs().get(job) {
            Some(JobState::Offered { alive }) => {
                scene.armed(&Timer::Answer(job.clone()))
                    && (alive || scene.armed(&Timer::Heartbeat(job.clone())))
            }
            Some(JobState::Accepted | JobState::Overdue | JobState::Running(_)) | None => false,
        };
        asked || answered(job)
    })
}

fn one_answer(scene: &Scene<'_>) -> bool {
    let open = |job| scene.was().life(job).map_or(0, |life| usize::from(life.open));
    let answers = |job| {
        let of_job = |frame: &&ToServer| matches!(frame, ToServer::Answer(of, _) if of == job);
        scene.wrote().iter().filter(of_job).count()
    };
    scene.wrote().iter().all(|frame| {
        let ToServer::Answer(job, _) = frame else { return true };
        answers(job) <= open(job)
    })
}

fn late_is_dropped(scene: &Scene<'_>) -> bool {
    let Some(Input::Decided(job, Decision::Accept)) = scene.input() else { return true };
    // Armed for as long as the offer waits for user code.
    let in_time = scene.before.timers.contains(&Timer::Answer(job.clone()));
    let silent = |output: &Output| matches!(output, Output::Event(Event::LateDecision(_)));
    in_time || (scene.unmoved && scene.outputs.iter().all(silent))
}

fn slots_are_hard(scene: &Scene<'_>) -> bool {
    let late = scene.is().running().filter(|(_, run)| run.overdue).count();
    let late = u32::try_from(late).expect("a handful of jobs");
    scene.scope.limits.max_jobs.is_none_or(|max| scene.is().slots() <= max + late)
}

fn reported_before_released(scene: &Scene<'_>) -> bool {
    let Some(wire) = &scene.before.wire else { return true };
    let gone = !scene.connected() && !scene.exited();
    // The last wait for a stuck socket is over, or the connection does not carry reports yet.
    let excused = scene.fired(&Timer::Flush) || (scene.exited() && !scene.was().line.confirmed);
    let lost = matches!(scene.input(), Some(Input::Lost(_))) || scene.does(&Output::HangUp);
    let written = |job| {
        let ending = scene.was().life(job).and_then(|life| life.end.as_ref());
        let flushed = matches!(scene.input(), Some(Input::Flushed)) && wire.unflushed;
        ending.is_some_and(|end| {
            end.report == Reported::Written || (flushed && end.report == Reported::Taken) || end.released
        })
    };
    let mut released = scene.jobs(|output| if let Output::Release(job) = output { Some(job) } else { None });
    gone || excused || lost || released.all(written)
}

fn one_true_report(scene: &Scene<'_>) -> bool {
    let waits = |job, success| {
        let ending = scene.was().life(job).and_then(|life| life.end.as_ref());
        ending.is_some_and(|end| end.report == Reported::Waits && end.success == success)
    };
    let mut seen = Vec::new();
    scene.wrote().iter().all(|frame| {
        let ToServer::Report(job, report @ (Report::Success | Report::Failed(_))) = frame else {
            return true;
        };
        let twice = seen.contains(&job);
        seen.push(job);
        !twice && waits(job, *report == Report::Success)
    })
}

fn acceptances_are_bounded(scene: &Scene<'_>) -> bool {
    if scene.exited() {
        return true;
    }
    let waits = [Acceptance::Decided, Acceptance::Sent];
    let mut waiting = waits.iter().flat_map(|which| scene.is().accepted(*which));
    waiting.all(|job| scene.armed(&Timer::Assignment(job.clone())))
        && scene.worker.jobs().slots() == scene.is().slots()
}
