//! Workers, their server and everything between them, as one value that can be copied and compared.
//!
//! Owns what an action does: links are first in, first out and lose all that is on them when they break;
//! time is the set of armed timers. Refuses to judge; that is for the clauses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use last_call_proto::{
    Answer, ConnId, Dispatcher, DispatcherEvent, DispatcherInput, DispatcherOutput, DispatcherTimer,
    FromServer, Input, JobId, Load, Loss, Output, Timer, ToServer,
};

use crate::action::Action;
use crate::record::Record;
use crate::scope::{Budget, Scope};
use crate::subject::Subject;

/// The connection of the one worker that is always there, takes every offer, and is not under test.
const HEALTHY: ConnId = ConnId(0);

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World<S> {
    pub(crate) seats: Vec<Seat<S>>,
    dispatcher: Dispatcher,
    pub(crate) server_timers: BTreeSet<DispatcherTimer>,
    /// Draws that the server has yet to make.
    pub(crate) draws: BTreeMap<JobId, Vec<ConnId>>,
    /// Connections that only the server believes in.
    pub(crate) stale: BTreeSet<ConnId>,
    pub(crate) left: Budget,
    conns: u32,
    jobs: u8,
}

/// A worker under test, and its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat<S> {
    pub(crate) subject: S,
    pub(crate) body: Body,
}

/// What a driver holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) started: bool,
    pub(crate) dialling: bool,
    pub(crate) wire: Option<Wire>,
    pub(crate) timers: BTreeSet<Timer>,
    pub(crate) user: BTreeMap<JobId, User>,
    /// A probe awaits its answer.
    pub(crate) probed: bool,
    /// The socket would be given something if it took bytes.
    pub(crate) has_pending: bool,
    pub(crate) record: Record,
}

/// An open connection, as its worker believes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wire {
    pub(crate) conn: ConnId,
    /// It is dead, and the worker does not know.
    pub(crate) cut: bool,
    /// Writes on their way to the server.
    pub(crate) up: VecDeque<Vec<ToServer>>,
    /// Frames on their way to the worker.
    pub(crate) down: VecDeque<FromServer>,
    /// Frames were taken from the core and are not yet written.
    pub(crate) unflushed: bool,
}

/// What user code is at with a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum User {
    Asked {
        alive: bool,
    },
    /// It was asked, and told not to bother.
    Forgotten,
    Runs {
        finishing: bool,
    },
    /// It was ended, and its end is not yet reaped.
    Killed,
}

/// What one action did.
#[derive(Default)]
pub(crate) struct Effects {
    /// The worker that it happened to, and what.
    pub(crate) to: Option<(usize, Cause)>,
    pub(crate) outputs: Vec<Output>,
    /// What the server found.
    pub(crate) found: Vec<DispatcherEvent>,
    /// The server closed a connection because of what the worker sent.
    pub(crate) rejected: bool,
}

/// What happened to a worker's core.
pub(crate) enum Cause {
    Heard(Input),
    Wrote(Vec<ToServer>),
}

impl<S: Subject> World<S> {
    pub(crate) fn new(subject: S, scope: &Scope) -> Self {
        let seat = Seat { subject, body: Body::default() };
        let mut world = Self {
            seats: vec![seat; scope.workers],
            dispatcher: Dispatcher::new(scope.limits.server_target),
            server_timers: BTreeSet::new(),
            draws: BTreeMap::new(),
            stale: BTreeSet::new(),
            left: scope.budget,
            conns: 0,
            jobs: 0,
        };
        if scope.healthy {
            let mut effects = Effects::default();
            world.server(DispatcherInput::Connected(HEALTHY), &mut effects);
            world.server(DispatcherInput::Received(HEALTHY, ToServer::Register), &mut effects);
        }
        world
    }

    /// The jobs that were dispatched so far.
    pub(crate) fn job_names(&self) -> Vec<JobId> {
        (0..self.jobs).map(|job| char::from(b'A' + job).to_string().as_str().into()).collect()
    }

    /// Lets one thing happen.
    pub(crate) fn apply(&mut self, action: &Action, scope: &Scope) -> Effects {
        let mut effects = Effects::default();
        match action {
            Action::Say(worker, input) => self.said(*worker, input, scope, &mut effects),
            Action::Opens(worker) => self.open(*worker, scope, &mut effects),
            Action::Write(worker) => self.write(*worker, &mut effects),
            Action::Flush(worker) => {
                self.wire(*worker).unflushed = false;
                self.hear(*worker, Input::Flushed, scope, &mut effects);
            }
            Action::Up(worker) => {
                let conn = self.wire(*worker).conn;
                for frame in self.wire(*worker).up.pop_front().expect("a write is on its way") {
                    self.server(DispatcherInput::Received(conn, frame), &mut effects);
                }
            }
            Action::Down(worker) => {
                let frame = self.wire(*worker).down.pop_front().expect("a frame is on its way");
                self.hear(*worker, Input::Received(frame), scope, &mut effects);
            }
            Action::Drop(worker) => {
                self.left.drops -= 1;
                self.part(*worker, scope, &mut effects);
                self.hear(*worker, Input::Lost(Loss::Broken), scope, &mut effects);
            }
            Action::Cut(worker) => self.cut(*worker),
            Action::Fire(worker, timer) => {
                self.pay_for(timer);
                self.seats[*worker].body.timers.remove(timer);
                self.hear(*worker, Input::Fired(timer.clone()), scope, &mut effects);
            }
            Action::Noise(worker, frame) => {
                self.left.noise -= 1;
                self.hear(*worker, Input::Received(frame.clone()), scope, &mut effects);
            }
            Action::Notice(_)
            | Action::Dispatch
            | Action::Draw(..)
            | Action::Terminate(_)
            | Action::ServerFire(_) => self.of_server_alone(action, &mut effects),
        }
        effects
    }

    /// Lets the server do one thing by itself.
    fn of_server_alone(&mut self, action: &Action, effects: &mut Effects) {
        let input = match action {
            Action::Notice(conn) => {
                self.stale.remove(conn);
                DispatcherInput::Closed(*conn)
            }
            Action::Dispatch => {
                self.left.jobs -= 1;
                self.jobs += 1;
                let job = self.job_names().pop().expect("one more job");
                DispatcherInput::Dispatch(job)
            }
            Action::Draw(job, conn) => {
                self.draws.remove(job);
                DispatcherInput::Chosen(job.clone(), *conn)
            }
            Action::Terminate(job) => {
                self.left.terminations -= 1;
                self.draws.remove(job);
                DispatcherInput::Terminate(job.clone())
            }
            Action::ServerFire(timer) => {
                self.server_timers.remove(timer);
                if let DispatcherTimer::Budget(job) = timer {
                    self.draws.remove(job);
                } else {
                    self.left.drops -= 1;
                }
                DispatcherInput::Fired(timer.clone())
            }
            Action::Say(..)
            | Action::Opens(_)
            | Action::Write(_)
            | Action::Flush(_)
            | Action::Up(_)
            | Action::Down(_)
            | Action::Drop(_)
            | Action::Cut(_)
            | Action::Fire(..)
            | Action::Noise(..) => unreachable!("{action} is a worker's"),
        };
        self.server(input, effects);
    }

    fn open(&mut self, worker: usize, scope: &Scope, effects: &mut Effects) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.server(DispatcherInput::Connected(conn), effects);
        let body = &mut self.seats[worker].body;
        body.dialling = false;
        body.wire =
            Some(Wire { conn, cut: false, up: VecDeque::new(), down: VecDeque::new(), unflushed: false });
        self.hear(worker, Input::Connected, scope, effects);
    }

    fn cut(&mut self, worker: usize) {
        self.left.drops -= 1;
        let wire = self.wire(worker);
        wire.cut = true;
        wire.up.clear();
        wire.down.clear();
        let conn = wire.conn;
        self.stale.insert(conn);
    }

    fn pay_for(&mut self, timer: &Timer) {
        let left = &mut self.left;
        match timer {
            Timer::Dial | Timer::Register | Timer::Pong => left.drops -= 1,
            Timer::Ping | Timer::Refresh => left.keepalives -= 1,
            Timer::Probe => left.probes -= 1,
            Timer::Redial
            | Timer::Heartbeat(_)
            | Timer::Answer(_)
            | Timer::Assignment(_)
            | Timer::Cancel(_)
            | Timer::Kill(_)
            | Timer::DrainTell
            | Timer::DrainCancel
            | Timer::DrainKill
            | Timer::Flush => {}
        }
    }

    fn wire(&mut self, worker: usize) -> &mut Wire {
        self.seats[worker].body.wire.as_mut().expect("the connection is open")
    }

    /// Keeps account of what user code, the operator and the network say by themselves, and passes it on.
    fn said(&mut self, worker: usize, input: &Input, scope: &Scope, effects: &mut Effects) {
        let body = &mut self.seats[worker].body;
        let left = &mut self.left;
        match input {
            Input::Start => body.started = true,
            Input::Lost(loss) => {
                if !body.wire.as_ref().is_some_and(|wire| wire.cut) {
                    let spent = if *loss == Loss::Refused { &mut left.refusals } else { &mut left.drops };
                    *spent -= 1;
                }
                body.dialling = false;
                body.wire = None;
            }
            Input::Garbage => left.noise -= 1,
            Input::Heartbeat(job) => drop(body.user.insert(job.clone(), User::Asked { alive: true })),
            Input::ProbeAnswered => body.probed = false,
            Input::Decided(job, _) | Input::Ended(job, _) => drop(body.user.remove(job)),
            Input::Finishing(job) => {
                left.finishes -= 1;
                body.user.insert(job.clone(), User::Runs { finishing: true });
            }
            Input::StopRequested(_) => left.stops -= 1,
            Input::Load(_) => left.loads -= 1,
            Input::Drain => left.drains -= 1,
            Input::Force => left.forces -= 1,
            Input::Quiet | Input::Unquiet => left.quiets -= 1,
            Input::Connected | Input::Received(_) | Input::Fired(_) | Input::Flushed => {}
        }
        self.hear(worker, input.clone(), scope, effects);
    }

    /// Gives a core one input and does what comes out.
    pub(crate) fn hear(&mut self, worker: usize, input: Input, scope: &Scope, effects: &mut Effects) {
        let seat = &mut self.seats[worker];
        seat.subject.handle(input.clone());
        seat.body.record.heard(&input);
        while let Some(output) = self.seats[worker].subject.poll_output() {
            self.seats[worker].body.record.did(&output, &input);
            self.carry_out(worker, &output, scope, effects);
            effects.outputs.push(output);
        }
        self.seats[worker].body.record.tidy();
        self.refresh(worker);
        effects.to = Some((worker, Cause::Heard(input)));
    }

    fn write(&mut self, worker: usize, effects: &mut Effects) {
        let seat = &mut self.seats[worker];
        let frames = seat.subject.poll_transmit().unwrap_or_default();
        seat.body.record.wrote(&frames);
        seat.body.record.tidy();
        let wire = self.wire(worker);
        wire.unflushed = true;
        if !wire.cut {
            wire.up.push_back(frames.clone());
        }
        self.refresh(worker);
        effects.to = Some((worker, Cause::Wrote(frames)));
    }

    fn refresh(&mut self, worker: usize) {
        let seat = &mut self.seats[worker];
        seat.body.has_pending = seat.subject.clone().poll_transmit().is_some();
    }

    fn carry_out(&mut self, worker: usize, output: &Output, scope: &Scope, effects: &mut Effects) {
        let body = &mut self.seats[worker].body;
        match output {
            Output::Dial => body.dialling = true,
            Output::HangUp => {
                body.dialling = false;
                self.part(worker, scope, effects);
            }
            Output::Arm(timer) => drop(body.timers.insert(timer.clone())),
            Output::Disarm(timer) => drop(body.timers.remove(timer)),
            Output::Ask(job) => drop(body.user.insert(job.clone(), User::Asked { alive: false })),
            Output::Forget(job) => {
                if body.user.remove(job).is_some() && scope.late {
                    body.user.insert(job.clone(), User::Forgotten);
                }
            }
            Output::Probe => body.probed = true,
            Output::Launch(job) => drop(body.user.insert(job.clone(), User::Runs { finishing: false })),
            Output::Kill(job) => {
                body.user.remove(job);
                if scope.late {
                    body.user.insert(job.clone(), User::Killed);
                }
            }
            Output::Exit(_) => self.part(worker, scope, effects),
            Output::Notify(_)
            | Output::Tell(..)
            | Output::Cancel(_)
            | Output::Release(_)
            | Output::Event(_) => {}
        }
    }

    /// The connection is gone, with all that is on it.
    fn part(&mut self, worker: usize, scope: &Scope, effects: &mut Effects) {
        let Some(wire) = self.seats[worker].body.wire.take() else { return };
        if wire.cut {
            return;
        }
        if scope.half_open {
            self.stale.insert(wire.conn);
        } else {
            self.server(DispatcherInput::Closed(wire.conn), effects);
        }
    }

    /// Gives the server one input and does what comes out.
    fn server(&mut self, input: DispatcherInput, effects: &mut Effects) {
        let by_frame = matches!(input, DispatcherInput::Received(..));
        self.dispatcher.handle(input);
        while let Some(output) = self.dispatcher.poll_output() {
            match output {
                DispatcherOutput::Send(HEALTHY, FromServer::Offer(job)) => {
                    let takes = ToServer::Answer(job, Answer::Accept);
                    self.dispatcher.handle(DispatcherInput::Received(HEALTHY, takes));
                }
                DispatcherOutput::Send(conn, frame) => {
                    let mut wires = self.seats.iter_mut().filter_map(|seat| seat.body.wire.as_mut());
                    if let Some(wire) = wires.find(|wire| wire.conn == conn && !wire.cut) {
                        wire.down.push_back(frame);
                    }
                }
                DispatcherOutput::Close(conn) => {
                    effects.rejected |= by_frame;
                    let mut wires = self.seats.iter_mut().filter_map(|seat| seat.body.wire.as_mut());
                    if let Some(wire) = wires.find(|wire| wire.conn == conn) {
                        wire.cut = true;
                        wire.up.clear();
                        wire.down.clear();
                    }
                }
                DispatcherOutput::Choose(job, candidates) => {
                    let conns = candidates.into_iter().map(|(conn, _)| conn).collect::<Vec<_>>();
                    if let [only] = conns[..] {
                        self.dispatcher.handle(DispatcherInput::Chosen(job, only));
                    } else {
                        self.draws.insert(job, conns);
                    }
                }
                DispatcherOutput::Arm(timer) => drop(self.server_timers.insert(timer)),
                DispatcherOutput::Disarm(timer) => drop(self.server_timers.remove(&timer)),
                DispatcherOutput::Event(event) => effects.found.push(event),
            }
        }
    }
}

/// What the load would be taken for with these slots, as the numbers of the policy say.
pub(crate) fn weighed(load: Load, running: usize, reserved: usize) -> Load {
    let few = |count: usize| u32::try_from(count).expect("a handful of jobs");
    last_call_proto::policy::effective_load(load, few(running), few(reserved))
}
