//! What must hold, clause by clause, in every state and across every step.
//!
//! Owns the promises of the core as predicates. Refuses times: every wait is a named timer that is armed
//! or not, and any armed timer may fire next.

mod calls;
mod drain;
mod link;

use last_call_proto::{FromServer, Input, JobId, Output, Status, Timer, ToServer, Worker};

use crate::record::Record;
use crate::scope::Scope;
use crate::subject::Subject;
use crate::world::{Body, Cause, Effects, World};

/// One promise.
pub(crate) struct Clause {
    /// The id that the protocol, `check` and this test share; `CORE` is the contract of the state machine.
    pub(crate) id: &'static str,
    pub(crate) says: &'static str,
    pub(crate) holds: Holds,
}

/// What a promise is about.
pub(crate) enum Holds {
    /// One step of one worker.
    Step(fn(&Scene<'_>) -> bool),
    /// What the server found in one step.
    Server(fn(&Effects, &Scope) -> bool),
}

/// One step of one worker, from both sides.
pub(crate) struct Scene<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) cause: &'a Cause,
    pub(crate) outputs: &'a [Output],
    pub(crate) before: &'a Body,
    pub(crate) after: &'a Body,
    /// The core afterwards, by its own account.
    pub(crate) worker: &'a Worker,
    /// The core afterwards is the core before.
    pub(crate) unmoved: bool,
    /// All that the core would write from here on, write by write.
    pub(crate) pending: Vec<Vec<ToServer>>,
    /// One more [`Input::Drain`] would change nothing and bring nothing out.
    pub(crate) drain_is_nothing: bool,
    /// Any input would change nothing and bring nothing out.
    pub(crate) dead: bool,
}

impl Scene<'_> {
    pub(crate) fn input(&self) -> Option<&Input> {
        match self.cause {
            Cause::Heard(input) => Some(input),
            Cause::Wrote(_) => None,
        }
    }

    pub(crate) fn wrote(&self) -> &[ToServer] {
        match self.cause {
            Cause::Heard(_) => &[],
            Cause::Wrote(frames) => frames,
        }
    }

    pub(crate) fn received(&self) -> Option<&FromServer> {
        if let Input::Received(frame) = self.input()? { Some(frame) } else { None }
    }

    pub(crate) fn fired(&self, timer: &Timer) -> bool {
        matches!(self.input(), Some(Input::Fired(fired)) if fired == timer)
    }

    /// The record before the step.
    pub(crate) fn was(&self) -> &Record {
        &self.before.record
    }

    /// The record after the step.
    pub(crate) fn is(&self) -> &Record {
        &self.after.record
    }

    pub(crate) fn exited(&self) -> bool {
        self.is().exit.is_some()
    }

    pub(crate) fn connected(&self) -> bool {
        self.after.wire.is_some()
    }

    pub(crate) fn armed(&self, timer: &Timer) -> bool {
        self.after.timers.contains(timer)
    }

    pub(crate) fn does(&self, output: &Output) -> bool {
        self.outputs.contains(output)
    }

    /// The jobs that `pick` finds among the outputs.
    pub(crate) fn jobs(&self, pick: fn(&Output) -> Option<&JobId>) -> impl Iterator<Item = &JobId> {
        self.outputs.iter().filter_map(pick)
    }

    pub(crate) fn pending_frames(&self) -> impl Iterator<Item = &ToServer> {
        self.pending.iter().flatten()
    }

    /// What the server will believe of the worker once all is written.
    pub(crate) fn advertised(&self) -> Option<Status> {
        let said = |frame: &ToServer| if let ToServer::Status(status) = frame { Some(*status) } else { None };
        self.pending_frames().filter_map(said).last().or(self.is().line.said)
    }
}

/// All clauses.
pub(crate) fn all() -> impl Iterator<Item = &'static Clause> {
    [drain::CLAUSES, link::CLAUSES, calls::CLAUSES].into_iter().flatten()
}

/// The first of `clauses` that a step breaks.
pub(crate) fn broken<S: Subject>(
    clauses: &[&'static Clause],
    scope: &Scope,
    before: &World<S>,
    after: &World<S>,
    effects: &Effects,
) -> Option<&'static Clause> {
    let scene = effects.to.as_ref().map(|(worker, cause)| {
        let (was, is) = (&before.seats[*worker], &after.seats[*worker]);
        Scene {
            scope,
            cause,
            outputs: &effects.outputs,
            before: &was.body,
            after: &is.body,
            worker: is.subject.worker(),
            unmoved: was.subject == is.subject,
            pending: pending(&is.subject),
            drain_is_nothing: is_nothing(&is.subject, [Input::Drain]),
            dead: is.body.record.exit.is_none()
                || is_nothing(&is.subject, [Input::Start, Input::Drain, Input::Force, Input::Flushed]),
        }
    });
    clauses.iter().copied().find(|clause| match clause.holds {
        Holds::Step(holds) => scene.as_ref().is_some_and(|scene| !holds(scene)),
        Holds::Server(holds) => !holds(effects, scope),
    })
}

fn pending<S: Subject>(subject: &S) -> Vec<Vec<ToServer>> {
    let mut subject = subject.clone();
    std::iter::from_fn(|| subject.poll_transmit()).collect()
}

fn is_nothing<S: Subject>(subject: &S, inputs: impl IntoIterator<Item = Input>) -> bool {
    let mut moved = subject.clone();
    inputs.into_iter().all(|input| {
        moved.handle(input);
        moved.poll_output().is_none()
    }) && moved == *subject
}
