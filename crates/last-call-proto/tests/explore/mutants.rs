//! Workers with one bug each, and the clause that finds it.
//!
//! Owns the proof that the clauses bite. Refuses to touch the core: every bug is put on from outside, on
//! what goes in, comes out, or is written.

mod bugs;

use std::collections::VecDeque;

use last_call_proto::{Answer, Decision, Input, JobId, Limits, Output, Phase, ToServer, Worker};

use self::bugs::BUGS;
use crate::clauses::{self, Clause};
use crate::explorer::{Counterexample, Explored, conversation, explore};
use crate::scope::Scope;
use crate::scopes::DRAIN;
use crate::subject::Subject;

/// States looked at before a bug counts as not caught; every one is caught in far fewer.
const MOST: usize = 20_000;

/// A worker with one bug.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mutant {
    /// Its place in [`BUGS`].
    bug: usize,
    worker: Worker,
    outputs: VecDeque<Output>,
    /// What [`Bug::LostUnquiet`] waits to lose.
    armed: bool,
    /// What [`Bug::LateYes`] is about to send.
    late: Vec<JobId>,
}

/// What a bug can get its hands on; each does one thing.
#[derive(Clone, Copy)]
enum Bug {
    /// On the limits it starts with.
    Limits(fn(&mut Limits)),
    /// On an input, before the core hears it; `None` keeps it from the core.
    Input(fn(&Worker, Input) -> Option<Input>),
    /// On the outputs of an input, with the core as it was before.
    Outputs(fn(&Worker, &Input, &mut Vec<Output>)),
    /// On the frames of one write.
    Frames(fn(&Worker, &mut Vec<ToServer>)),
    /// A decision that came too late is sent after all.
    LateYes,
    /// The first status after [`Input::Unquiet`] is lost.
    LostUnquiet,
}

/// One seeded bug.
struct Seeded {
    name: &'static str,
    clause: &'static str,
    scope: &'static Scope,
    bug: Bug,
}

impl Mutant {
    fn new(bug: usize, mut limits: Limits) -> Self {
        if let Bug::Limits(change) = BUGS[bug].bug {
            change(&mut limits);
        }
        Self { bug, worker: Worker::new(limits), outputs: VecDeque::new(), armed: false, late: Vec::new() }
    }
}

impl Subject for Mutant {
    fn handle(&mut self, input: Input) {
        let input = match BUGS[self.bug].bug {
            Bug::Input(change) => change(&self.worker, input),
            Bug::Limits(_) | Bug::Outputs(_) | Bug::Frames(_) | Bug::LateYes | Bug::LostUnquiet => {
                Some(input)
            }
        };
        let Some(input) = input else { return };
        let before = self.worker.clone();
        self.worker.handle(input.clone());
        let mut outputs = std::iter::from_fn(|| self.worker.poll_output()).collect();
        match (BUGS[self.bug].bug, &input) {
            (Bug::Outputs(change), _) => change(&before, &input, &mut outputs),
            (Bug::LateYes, Input::Decided(job, Decision::Accept)) if before.jobs().get(job).is_none() => {
                self.late.push(job.clone());
            }
            (Bug::LostUnquiet, Input::Unquiet) => self.armed = before.phase() == Phase::Quiet,
            _ => {}
        }
        self.outputs.extend(outputs);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_transmit(&mut self) -> Option<Vec<ToServer>> {
        let mut frames = self.worker.poll_transmit().unwrap_or_default();
        match BUGS[self.bug].bug {
            Bug::Frames(change) => change(&self.worker, &mut frames),
            Bug::LateYes => {
                frames.extend(self.late.drain(..).map(|job| ToServer::Answer(job, Answer::Accept)))
            }
            Bug::LostUnquiet if std::mem::take(&mut self.armed) => {
                frames.retain(|frame| !matches!(frame, ToServer::Status(_)));
            }
            Bug::LostUnquiet | Bug::Limits(_) | Bug::Input(_) | Bug::Outputs(_) => {}
        }
        (!frames.is_empty()).then_some(frames)
    }

    fn worker(&self) -> &Worker {
        &self.worker
    }
}

/// Every seeded bug: its name, the clause that must find it, and the worker that has it.
pub(crate) fn all(limits: Limits) -> impl Iterator<Item = (&'static str, &'static str, Mutant)> {
    BUGS.iter().enumerate().map(move |(at, seeded)| (seeded.name, seeded.clause, Mutant::new(at, limits)))
}

/// Explores the bug at `at` until one of `clauses` breaks.
fn hunt(at: usize, clauses: &[&'static Clause]) -> Explored {
    let scope = BUGS[at].scope;
    explore(Mutant::new(at, scope.limits), scope, clauses, MOST)
}

fn named(id: &str) -> Vec<&'static Clause> {
    clauses::all().filter(|clause| clause.id == id).collect()
}

#[test]
#[expect(clippy::disallowed_macros, reason = "the length of each counterexample is part of the result")]
fn every_seeded_bug_is_caught_by_its_clause() {
    let mut missed = Vec::new();
    for (at, Seeded { name, clause, .. }) in BUGS.iter().enumerate() {
        let Explored { states, counterexample, .. } = hunt(at, &named(clause));
        match counterexample {
            Some(Counterexample { path, .. }) => {
                println!("{clause:>8} in {:>2} steps, {states:>5} states: {name}", path.len());
            }
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_clause_catches_a_seeded_bug_alone() {
    let bites = |clause: &'static Clause| {
        let mut of_clause = (0..BUGS.len()).filter(|at| BUGS[*at].clause == clause.id);
        of_clause.any(|at| hunt(at, &[clause]).counterexample.is_some())
    };
    let idle = clauses::all().filter(|clause| !bites(clause)).map(|clause| (clause.id, clause.says));
    assert_eq!(idle.collect::<Vec<_>>(), []);
}

#[test]
fn a_counterexample_reads_as_a_conversation() {
    let at =
        BUGS.iter().position(|seeded| seeded.name == "forgets FULL over a reconnect").expect("it is listed");
    let found = hunt(at, &named("DRAIN-2")).counterexample.expect("it is caught");
    let told = conversation(Mutant::new(at, DRAIN.limits), &DRAIN, &found.path);
    assert!(told.contains("worker 0 hears Drain"), "{told}");
    assert!(told.trim_end().ends_with("sends [Register]"), "{told}");
}
