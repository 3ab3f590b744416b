//! The scopes that are explored to the end.
//!
//! Owns how much of everything happens at once: each scope is wide in one direction and narrow in the
//! others, since states multiply. Refuses anything but the core itself; mutants have a file of their own.

use last_call_proto::{Decision, FromServer, Limits, Timer, Worker};

use crate::clauses;
use crate::explorer::{conversation, explore};
use crate::scope::{Budget, Scope};

/// Nothing to count.
pub(crate) const NONE: Budget = Budget {
    jobs: 0,
    drops: 0,
    refusals: 0,
    drains: 0,
    forces: 0,
    quiets: 0,
    loads: 0,
    terminations: 0,
    stops: 0,
    finishes: 0,
    keepalives: 0,
    probes: 0,
    noise: 0,
};

/// States that a scope may have: about a gigabyte.
const MOST: usize = 600_000;

fn is_of_drain(timer: &Timer) -> bool {
    matches!(
        timer,
        Timer::DrainTell | Timer::DrainCancel | Timer::DrainKill | Timer::Cancel(_) | Timer::Kill(_)
    )
}

fn is_of_offer(timer: &Timer) -> bool {
    matches!(timer, Timer::Heartbeat(_) | Timer::Answer(_) | Timer::Assignment(_))
}

/// Two jobs, two broken connections, two SIGTERMs, in every order.
pub(crate) const DRAIN: Scope = Scope {
    timers: |timer| !is_of_drain(timer) && !is_of_offer(timer),
    ..Scope::new("drain", Budget { jobs: 2, drops: 2, drains: 2, ..NONE })
};

/// Two jobs that may not want to end, and an operator who may not want to wait.
pub(crate) const DEADLINE: Scope = Scope {
    fails: true,
    prompt: true,
    timers: |timer| is_of_drain(timer) || matches!(timer, Timer::Flush | Timer::Redial),
    ..Scope::new(
        "deadline",
        Budget { jobs: 2, drops: 1, drains: 1, forces: 1, stops: 1, finishes: 1, ..NONE },
    )
};

/// Offers that are answered late, assignments that come late, and connections that break meanwhile.
pub(crate) const OFFERS: Scope = Scope {
    late: true,
    hasty: true,
    decisions: &[Decision::Accept, Decision::Reject, Decision::Terminate, Decision::Fail],
    timers: |timer| is_of_offer(timer) || *timer == Timer::Redial || *timer == Timer::Flush,
    limits: Limits { max_jobs: Some(1), ..Scope::new("", NONE).limits },
    ..Scope::new("offers", Budget { jobs: 2, drops: 1, drains: 1, ..NONE })
};

/// Quiet and back, and a drain from either.
pub(crate) const QUIET: Scope = Scope {
    timers: |timer| matches!(timer, Timer::Redial | Timer::Assignment(_)),
    ..Scope::new("quiet", Budget { jobs: 1, drops: 1, quiets: 3, drains: 1, ..NONE })
};

/// Everything that the server has no reason to send.
pub(crate) const NOISE: Scope = Scope {
    prompt: true,
    noise: |job| {
        vec![
            None,
            Some(FromServer::Registered),
            Some(FromServer::Offer(job.clone())),
            Some(FromServer::Assignment(job.clone())),
            Some(FromServer::Termination(job)),
            Some(FromServer::GoAway),
            Some(FromServer::Other),
        ]
    },
    timers: |timer| matches!(timer, Timer::Assignment(_) | Timer::Flush),
    ..Scope::new("noise", Budget { jobs: 1, drains: 1, noise: 3, ..NONE })
};

/// Offers twice over, and jobs that the server ends in every state.
pub(crate) const COPIES: Scope = Scope {
    noise: |job| vec![Some(FromServer::Offer(job.clone())), Some(FromServer::Assignment(job))],
    timers: |timer| matches!(timer, Timer::Cancel(_) | Timer::Kill(_) | Timer::Flush),
    ..Scope::new("copies", Budget { jobs: 1, drains: 1, terminations: 1, noise: 2, ..NONE })
};

/// User code that misses heartbeats and recovers, beside a worker that is well.
pub(crate) const WEDGE: Scope = Scope {
    healthy: true,
    late: true,
    timers: |timer| is_of_offer(timer) || *timer == Timer::Probe || *timer == Timer::Redial,
    ..Scope::new("wedge", Budget { jobs: 2, drains: 1, probes: 3, ..NONE })
};

/// Broken, half-open, pinged and asked to leave: the connection's own life.
pub(crate) const LINK: Scope = Scope {
    half_open: true,
    noise: |_| vec![Some(FromServer::GoAway)],
    timers: |timer| !is_of_drain(timer) && !is_of_offer(timer),
    ..Scope::new("link", Budget { jobs: 1, drops: 1, drains: 1, keepalives: 1, noise: 1, ..NONE })
};

/// A server that refuses, before and after it did not.
pub(crate) const REFUSED: Scope =
    Scope::new("refused", Budget { jobs: 1, drops: 1, refusals: 2, drains: 1, ..NONE });

/// A load that comes and goes, with slots that weigh more than they measure.
pub(crate) const LOAD: Scope = Scope {
    prompt: true,
    loads: &[0, 400, 900],
    limits: Limits { max_jobs: None, ..Scope::new("", NONE).limits },
    timers: |timer| matches!(timer, Timer::Refresh | Timer::Assignment(_)),
    ..Scope::new("load", Budget { jobs: 2, drains: 1, loads: 2, keepalives: 1, ..NONE })
};

/// Two workers under test that drain one after the other, beside one that is well.
pub(crate) const FLEET: Scope = Scope {
    workers: 2,
    prompt: true,
    healthy: true,
    timers: |timer| matches!(timer, Timer::Heartbeat(_) | Timer::Redial),
    ..Scope::new("fleet", Budget { jobs: 1, drops: 1, drains: 2, ..NONE })
};

#[expect(
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "the size of what was explored is part of the result"
)]
fn holds_everywhere(scope: &Scope) {
    let explored = explore(Worker::new(scope.limits), scope, &clauses::all().collect::<Vec<_>>(), MOST);
    println!("{}: {} states in {:.1?}", scope.name, explored.states, explored.took);
    if let Some(found) = explored.counterexample {
        let told = conversation(Worker::new(scope.limits), scope, &found.path);
        panic!("{}: {}, but:\n{told}", found.clause.id, found.clause.says);
    }
    assert!(explored.states < MOST, "{} is too wide to be explored to the end", scope.name);
    // A scope that explores next to nothing proves nothing.
    assert!(explored.states > 1_000, "{} has {} states only", scope.name, explored.states);
}

#[test]
fn every_clause_holds_in_drains_over_broken_connections() {
    holds_everywhere(&DRAIN);
}

#[test]
fn every_clause_holds_up_to_the_drain_deadline() {
    holds_everywhere(&DEADLINE);
}

#[test]
fn every_clause_holds_for_offers_answered_late() {
    holds_everywhere(&OFFERS);
}

#[test]
fn every_clause_holds_in_quiet_and_back() {
    holds_everywhere(&QUIET);
}

#[test]
fn every_clause_holds_under_noise() {
    holds_everywhere(&NOISE);
}

#[test]
fn every_clause_holds_for_copies_and_terminations() {
    holds_everywhere(&COPIES);
}

#[test]
fn every_clause_holds_while_user_code_is_wedged() {
    holds_everywhere(&WEDGE);
}

#[test]
fn every_clause_holds_for_a_connection_in_trouble() {
    holds_everywhere(&LINK);
}

#[test]
fn every_clause_holds_for_a_worker_that_is_refused() {
    holds_everywhere(&REFUSED);
}

#[test]
fn every_clause_holds_as_the_load_comes_and_goes() {
    holds_everywhere(&LOAD);
}

#[test]
fn every_clause_holds_in_a_fleet() {
    holds_everywhere(&FLEET);
}
