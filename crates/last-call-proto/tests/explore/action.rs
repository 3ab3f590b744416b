//! The single things that can happen in a world, and which of them can happen now.
//!
//! Owns the adversary: the network, the clock, user code, the operator and the server's whims. Refuses to
//! carry anything out.

use std::fmt;

use last_call_proto::{ConnId, Decision, DispatcherTimer, End, FromServer, Input, JobId, Load, Timer};

use crate::scope::Scope;
use crate::subject::Subject;
use crate::world::{Body, User, World};

/// Something that happens; workers by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The driver, user code or the operator says something to the core.
    Say(usize, Input),
    /// The connection asked for opens.
    Opens(usize),
    /// The socket takes bytes: one write.
    Write(usize),
    /// All that was taken is written.
    Flush(usize),
    /// The next write reaches the server.
    Up(usize),
    /// The next frame reaches the worker.
    Down(usize),
    /// The connection breaks, and the worker notices.
    Drop(usize),
    /// The connection breaks, and the worker does not notice yet.
    Cut(usize),
    /// The server notices that a connection is gone.
    Notice(ConnId),
    Fire(usize, Timer),
    /// The server sends what it has no reason to send.
    Noise(usize, FromServer),
    Dispatch,
    Draw(JobId, ConnId),
    Terminate(JobId),
    ServerFire(DispatcherTimer),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(worker, input) => write!(f, "worker {worker} hears {input:?}"),
            Self::Opens(worker) => write!(f, "worker {worker}'s connection opens"),
            Self::Write(worker) => write!(f, "worker {worker}'s socket takes bytes"),
            Self::Flush(worker) => write!(f, "worker {worker}'s bytes are written"),
            Self::Up(worker) => write!(f, "a write of worker {worker} reaches the server"),
            Self::Down(worker) => write!(f, "a frame reaches worker {worker}"),
            Self::Drop(worker) => write!(f, "worker {worker}'s connection breaks"),
            Self::Cut(worker) => write!(f, "worker {worker}'s connection breaks in silence"),
            Self::Notice(conn) => write!(f, "the server notices that connection {} is gone", conn.0),
            Self::Fire(worker, timer) => write!(f, "worker {worker}'s timer {timer:?} is due"),
            Self::Noise(worker, frame) => {
                write!(f, "the server sends worker {worker} {frame:?} for no reason")
            }
            Self::Dispatch => write!(f, "a room wants an agent"),
            Self::Draw(job, conn) => write!(f, "the server picks connection {} for job {job}", conn.0),
            Self::Terminate(job) => write!(f, "the server ends job {job}"),
            Self::ServerFire(timer) => write!(f, "the server's timer {timer:?} is due"),
        }
    }
}

impl<S: Subject> World<S> {
    /// Everything that can happen now.
    pub(crate) fn actions(&self, scope: &Scope) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.seats.iter().all(|seat| seat.body.record.exit.is_some()) {
            return actions;
        }
        if scope.prompt
            && let Some(action) = self.of_upstream()
        {
            return vec![action];
        }
        for (worker, seat) in self.seats.iter().enumerate() {
            if seat.body.record.exit.is_none() {
                self.of_network(worker, &seat.body, scope, &mut actions);
                self.of_clock(worker, &seat.body, scope, &mut actions);
                self.of_user(worker, &seat.body, scope, &mut actions);
                self.of_operator(worker, &seat.body, scope, &mut actions);
                self.of_noise(worker, &seat.body, scope, &mut actions);
            }
        }
        self.of_server(scope, &mut actions);
        actions
    }

    /// What moves a worker's words on to the server.
    fn of_upstream(&self) -> Option<Action> {
        self.seats.iter().enumerate().find_map(|(worker, seat)| {
            let wire = seat.body.wire.as_ref()?;
            if seat.body.has_pending {
                Some(Action::Write(worker))
            } else if wire.unflushed {
                Some(Action::Flush(worker))
            } else {
                (!wire.up.is_empty()).then_some(Action::Up(worker))
            }
        })
    }

    fn of_network(&self, worker: usize, body: &Body, scope: &Scope, actions: &mut Vec<Action>) {
        use last_call_proto::Loss::{Broken, Refused};
        if !body.started {
            actions.push(Action::Say(worker, Input::Start));
        }
        if body.dialling {
            actions.push(Action::Opens(worker));
            if self.left.drops > 0 {
                actions.push(Action::Say(worker, Input::Lost(Broken)));
            }
            if self.left.refusals > 0 {
                actions.push(Action::Say(worker, Input::Lost(Refused)));
            }
        }
        let Some(wire) = &body.wire else { return };
        if body.has_pending {
            actions.push(Action::Write(worker));
        }
        if wire.unflushed {
            actions.push(Action::Flush(worker));
        }
        if !wire.up.is_empty() {
            actions.push(Action::Up(worker));
        }
        if !wire.down.is_empty() {
            actions.push(Action::Down(worker));
        }
        if wire.cut {
            actions.push(Action::Say(worker, Input::Lost(Broken)));
        } else if self.left.drops > 0 {
            actions.push(Action::Drop(worker));
            if scope.half_open {
                actions.push(Action::Cut(worker));
            }
        }
    }

    fn of_clock(&self, worker: usize, body: &Body, scope: &Scope, actions: &mut Vec<Action>) {
        let allowed = |timer: &&Timer| {
            (scope.timers)(timer)
                && match timer {
                    Timer::Dial | Timer::Register | Timer::Pong => self.left.drops > 0,
                    Timer::Ping | Timer::Refresh => self.left.keepalives > 0,
                    Timer::Probe => self.left.probes > 0,
                    Timer::Redial
                    | Timer::Heartbeat(_)
                    | Timer::Answer(_)
                    | Timer::Assignment(_)
                    | Timer::Cancel(_)
                    | Timer::Kill(_)
                    | Timer::DrainTell
                    | Timer::DrainCancel
                    | Timer::DrainKill
                    | Timer::Flush => true,
                }
        };
        actions.extend(body.timers.iter().filter(allowed).map(|timer| Action::Fire(worker, timer.clone())));
    }

    fn of_user(&self, worker: usize, body: &Body, scope: &Scope, actions: &mut Vec<Action>) {
        let mut say = |input| actions.push(Action::Say(worker, input));
        for (job, user) in &body.user {
            match user {
                User::Asked { alive } => {
                    if !alive && (scope.timers)(&Timer::Heartbeat(job.clone())) {
                        say(Input::Heartbeat(job.clone()));
                    }
                    for decision in scope.decisions {
                        say(Input::Decided(job.clone(), *decision));
                    }
                }
                User::Forgotten => say(Input::Decided(job.clone(), Decision::Accept)),
                User::Runs { finishing } => {
                    say(Input::Ended(job.clone(), End::Success));
                    if scope.fails {
                        say(Input::Ended(job.clone(), End::Failed("user code failed".into())));
                    }
                    if !finishing && self.left.finishes > 0 {
                        say(Input::Finishing(job.clone()));
                    }
                    if self.left.stops > 0 {
                        say(Input::StopRequested(job.clone()));
                    }
                }
                User::Killed => say(Input::Ended(job.clone(), End::Success)),
            }
        }
        if body.probed {
            say(Input::ProbeAnswered);
        }
    }

    fn of_operator(&self, worker: usize, body: &Body, scope: &Scope, actions: &mut Vec<Action>) {
        let mut say = |input| actions.push(Action::Say(worker, input));
        if self.left.drains > 0 {
            say(Input::Drain);
        }
        if self.left.forces > 0 {
            say(Input::Force);
        }
        if self.left.quiets > 0 {
            say(Input::Quiet);
            say(Input::Unquiet);
        }
        if self.left.loads > 0 {
            let loads = scope.loads.iter().map(|load| Load::from_thousandths(*load));
            loads.filter(|load| *load != body.record.load).for_each(|load| say(Input::Load(load)));
        }
    }

    fn of_noise(&self, worker: usize, body: &Body, scope: &Scope, actions: &mut Vec<Action>) {
        if self.left.noise == 0 || body.wire.as_ref().is_none_or(|wire| wire.cut) {
            return;
        }
        for job in self.job_names().into_iter().chain([JobId::from("unknown")]) {
            for noise in (scope.noise)(job) {
                let action = match noise {
                    Some(frame) => Action::Noise(worker, frame),
                    None => Action::Say(worker, Input::Garbage),
                };
                if !actions.contains(&action) {
                    actions.push(action);
                }
            }
        }
    }

    fn of_server(&self, scope: &Scope, actions: &mut Vec<Action>) {
        if self.left.jobs > 0 {
            actions.push(Action::Dispatch);
        }
        for (job, conns) in &self.draws {
            actions.extend(conns.iter().map(|conn| Action::Draw(job.clone(), *conn)));
        }
        actions.extend(self.stale.iter().map(|conn| Action::Notice(*conn)));
        if self.left.terminations > 0 {
            actions.extend(self.job_names().into_iter().map(Action::Terminate));
        }
        let due = self.server_timers.iter().filter(|timer| match timer {
            DispatcherTimer::Register(_) => scope.hasty && self.left.drops > 0,
            DispatcherTimer::Budget(job) => scope.hasty || self.is_still(job),
        });
        actions.extend(due.map(|timer| Action::ServerFire(timer.clone())));
    }

    /// Whether nothing is on its way or about to happen that could settle this offer.
    fn is_still(&self, job: &JobId) -> bool {
        let busy = |body: &Body| {
            let waits = [Timer::Heartbeat(job.clone()), Timer::Answer(job.clone())];
            let moves = body.wire.as_ref().is_some_and(|wire| !wire.up.is_empty() || !wire.down.is_empty());
            moves || body.has_pending || waits.iter().any(|timer| body.timers.contains(timer))
        };
        self.stale.is_empty()
            && self.draws.is_empty()
            && !self.seats.iter().any(|seat| seat.body.record.exit.is_none() && busy(&seat.body))
    }
}
