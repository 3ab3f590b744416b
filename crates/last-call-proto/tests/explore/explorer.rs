//! Breadth-first exploration of everything that can happen in a scope.
//!
//! Owns the search: shortest counterexamples come first, states are told apart by 128 bits of hash.
//! Refuses to know what a state means.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use crate::action::Action;
use crate::clauses::{self, Clause};
use crate::fingerprint::fingerprint;
use crate::scope::Scope;
use crate::subject::Subject;
use crate::world::World;

/// What an exploration saw.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) took: Duration,
    pub(crate) counterexample: Option<Counterexample>,
}

/// A clause that does not hold, and the shortest way there.
pub(crate) struct Counterexample {
    pub(crate) clause: &'static Clause,
    pub(crate) path: Vec<Action>,
}

/// Explores all of `scope`, or up to the first step that breaks one of `clauses`, or up to `most` states.
pub(crate) fn explore<S: Subject>(
    subject: S,
    scope: &Scope,
    clauses: &[&'static Clause],
    most: usize,
) -> Explored {
    let watch = stopwatch();
    let start = World::new(subject, scope);
    let mut seen = BTreeSet::from([fingerprint(&start)]);
    let mut steps: Vec<(usize, Option<Action>)> = vec![(0, None)];
    let mut frontier = VecDeque::from([(start, 0)]);
    while let Some((world, at)) = frontier.pop_front().filter(|_| seen.len() < most) {
        for action in world.actions(scope) {
            let mut next = world.clone();
            let effects = next.apply(&action, scope);
            if let Some(clause) = clauses::broken(clauses, scope, &world, &next, &effects) {
                let counterexample = Some(Counterexample { clause, path: path(&steps, at, action) });
                return Explored { states: seen.len(), took: watch(), counterexample };
            }
            if seen.insert(fingerprint(&next)) {
                steps.push((at, Some(action)));
                frontier.push_back((next, steps.len() - 1));
            }
        }
    }
    Explored { states: seen.len(), took: watch(), counterexample: None }
}

/// The shortest counterexample as a conversation.
pub(crate) fn conversation<S: Subject>(subject: S, scope: &Scope, path: &[Action]) -> String {
    let mut world = World::new(subject, scope);
    let mut text = String::new();
    for (number, action) in path.iter().enumerate() {
        let effects = world.apply(action, scope);
        let _ = writeln!(text, "{:>3}. {action}", number + 1);
        if let Some((_, crate::world::Cause::Wrote(frames))) = &effects.to {
            let _ = writeln!(text, "       sends {frames:?}");
        }
        for output in &effects.outputs {
            let _ = writeln!(text, "       -> {output:?}");
        }
        for found in &effects.found {
            let _ = writeln!(text, "       server: {found:?}");
        }
    }
    text
}

/// How long it has been, for people to read; nothing depends on it.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core has no clock, its proof may"
)]
fn stopwatch() -> impl Fn() -> Duration {
    let began = std::time::Instant::now();
    move || began.elapsed()
}

fn path(steps: &[(usize, Option<Action>)], mut at: usize, last: Action) -> Vec<Action> {
    let mut path = vec![last];
    while let (before, Some(action)) = &steps[at] {
        path.push(action.clone());
        at = *before;
    }
    path.reverse();
    path
}
