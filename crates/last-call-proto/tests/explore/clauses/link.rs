//! The promises about the connection and the wire: REG-1 to REG-3, WIRE-1, WIRE-2, and the contract.

use last_call_proto::{Event, FromServer, Input, JobId, JobState, Outcome, Output, Phase, Timer, ToServer};

use super::{Clause, Holds, Scene};
use crate::record::Acceptance;
use crate::world::weighed;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "REG-1",
        says: "there is a connection, or a timer to the next attempt at one",
        holds: Holds::Step(never_gives_up),
    },
    Clause {
        id: "REG-1",
        says: "never available while quiet, leaving, wedged or full",
        holds: Holds::Step(|scene| {
            scene.advertised().is_none_or(|status| !status.available || may_take(scene))
        }),
    },
    Clause {
        id: "DRAIN-11",
        says: "available again as soon as nothing stands against it",
        holds: Holds::Step(|scene| {
            scene.exited() || scene.advertised().is_none_or(|status| status.available || !may_take(scene))
        }),
    },
    Clause {
        id: "REG-2",
        says: "a connection is pinged, and a ping's answer is waited for, from the first unheard one on",
        holds: Holds::Step(half_open_is_found),
    },
    Clause {
        id: "REG-3",
        says: "a refusal ends the worker before its first registration, and never after",
        holds: Holds::Step(refusal_ends_only_a_newcomer),
    },
    Clause {
        id: "WIRE-1",
        says: "bytes that are no frame, and frames without a meaning, change nothing",
        holds: Holds::Step(nonsense_changes_nothing),
    },
    Clause {
        id: "WIRE-1",
        says: "a job is launched by one assignment of one acceptance",
        holds: Holds::Step(launched_once),
    },
    Clause {
        id: "WIRE-2",
        says: "Register is first on a connection, once; only Status and Ping come before its reply",
        holds: Holds::Step(registers_first),
    },
    Clause {
        id: "WIRE-2",
        says: "the server closes no connection for what it was sent",
        holds: Holds::Server(|effects, _| !effects.rejected),
    },
    Clause { id: "CORE", says: "every timer has an owner", holds: Holds::Step(timers_have_owners) },
    Clause {
        id: "CORE",
        says: "Exit is the last output, and nothing moves after it",
        holds: Holds::Step(exit_is_last),
    },
];

/// Whether an offer that came now might be taken, as the inputs and outputs so far say.
fn may_take(scene: &Scene<'_>) -> bool {
    let record = scene.is();
    let limits = scene.scope.limits;
    let reserved = record.accepted(Acceptance::Sent).count() + record.accepted(Acceptance::Decided).count();
    let load = weighed(record.load, record.running().count(), reserved);
    record.wanted == Phase::Serving
        && !record.wedged
        && !record.line.leaving
        && limits.max_jobs.is_none_or(|max| record.slots() < max)
        && limits.threshold.is_none_or(|threshold| load < threshold)
}

fn never_gives_up(scene: &Scene<'_>) -> bool {
    let tries = scene.after.dialling && scene.armed(&Timer::Dial);
    let fails = scene.after.wire.is_some() && scene.after.dialling;
    let waits = scene.armed(&Timer::Redial);
    scene.exited() || !scene.after.started || (!fails && (scene.connected() || tries || waits))
}

fn half_open_is_found(scene: &Scene<'_>) -> bool {
    // A wait that begins anew with every ping would never end, since pings come faster.
    let anew = scene.before.timers.contains(&Timer::Pong) && scene.does(&Output::Arm(Timer::Pong));
    let waits = !scene.is().line.unheard || scene.armed(&Timer::Pong);
    !anew && (scene.exited() || !scene.connected() || (scene.armed(&Timer::Ping) && waits))
}

fn refusal_ends_only_a_newcomer(scene: &Scene<'_>) -> bool {
    let refused = matches!(scene.input(), Some(Input::Lost(last_call_proto::Loss::Refused)));
    let newcomer = !scene.was().ever_registered;
    if refused && newcomer {
        return scene.exited();
    }
    scene.is().exit != Some(Outcome::Refused)
}

fn nonsense_changes_nothing(scene: &Scene<'_>) -> bool {
    let events = || scene.outputs.iter().all(|output| matches!(output, Output::Event(_)));
    let quiet = || {
        let silent = |output: &Output| matches!(output, Output::Event(_) | Output::Disarm(Timer::Pong));
        scene.outputs.iter().all(silent)
    };
    let known = |job| scene.was().life(job).is_some_and(|life| life.acceptance != Acceptance::No);
    match (scene.input(), scene.received()) {
        (Some(Input::Garbage), _) => scene.unmoved && events(),
        (_, Some(FromServer::Assignment(job))) if !known(job) => {
            quiet() && scene.before.record.lives == scene.after.record.lives
        }
        (_, Some(FromServer::Registered)) if scene.was().line.confirmed => quiet(),
        (_, Some(FromServer::Other)) => quiet(),
        _ => true,
    }
}

fn launched_once(scene: &Scene<'_>) -> bool {
    let launches = scene.outputs.iter().filter(|output| matches!(output, Output::Launch(_))).count();
    let answers = |output: &Output| {
        let Output::Launch(job) = output else { return true };
        matches!(scene.received(), Some(FromServer::Assignment(of)) if of == job)
            && scene.was().life(job).is_some_and(|life| life.acceptance != Acceptance::No)
    };
    launches <= 1 && scene.outputs.iter().all(answers)
}

fn registers_first(scene: &Scene<'_>) -> bool {
    let line = &scene.was().line;
    scene.wrote().iter().enumerate().all(|(at, frame)| match frame {
        ToServer::Register => at == 0 && !line.registered,
        ToServer::Status(_) | ToServer::Ping => at > 0 || line.registered,
        ToServer::Answer(..) | ToServer::Report(..) | ToServer::Migrate(_) => line.confirmed,
    })
}

fn timers_have_owners(scene: &Scene<'_>) -> bool {
    let state = |job: &JobId| scene.worker.jobs().get(job);
    let owned = |timer: &Timer| match timer {
        Timer::Dial => scene.after.dialling,
        Timer::Register | Timer::Ping | Timer::Pong | Timer::Refresh => scene.connected(),
        Timer::Heartbeat(job) => state(job) == Some(JobState::Offered { alive: false }),
        Timer::Answer(job) => matches!(state(job), Some(JobState::Offered { .. })),
        Timer::Assignment(job) => state(job) == Some(JobState::Accepted),
        Timer::Cancel(job) | Timer::Kill(job) => matches!(state(job), Some(JobState::Running(_))),
        Timer::Probe => scene.worker.wedged(),
        Timer::Redial => !scene.connected(),
        Timer::DrainTell | Timer::DrainCancel | Timer::DrainKill | Timer::Flush => scene.is().leaves(),
    };
    scene.exited() || scene.after.timers.iter().all(owned)
}

fn exit_is_last(scene: &Scene<'_>) -> bool {
    let at = scene.outputs.iter().position(|output| matches!(output, Output::Exit(_)));
    let phase_after = |at: usize| {
        let phase = |output: &Output| matches!(output, Output::Event(Event::Phase(_)));
        scene.outputs[at..].iter().any(phase)
    };
    at.is_none_or(|at| at + 1 == scene.outputs.len() && !phase_after(at)) && scene.dead
}
