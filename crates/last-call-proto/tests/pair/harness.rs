//! A worker, its server, the connection between them and a fake clock.
//!
//! Owns the driver's part: frames are carried at once, timers fire when their wait is over. Refuses
//! judgement and user code: tests say what users do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use last_call_proto::{
    Answer, ConnId, Decision, Dispatcher, DispatcherEvent, DispatcherInput, DispatcherOutput, End,
    FromServer, Input, JobId, Limits, Load, Loss, Outcome, Output, Policy, Timer, ToServer, Worker,
};

/// Both ends and what is between them.
pub(crate) struct Pair {
    pub(crate) worker: Worker,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) policy: Policy,
    /// Time since the start.
    pub(crate) now: Duration,
    armed: BTreeMap<Timer, Duration>,
    conn: Option<ConnId>,
    conns: u32,
    dialling: bool,
    to_worker: VecDeque<FromServer>,
    unflushed: bool,
    /// A dial finds the server.
    pub(crate) reachable: bool,
    /// The connection carries nothing, either way.
    pub(crate) dead: bool,
    /// The socket takes no bytes.
    pub(crate) stuck: bool,
    writes: Vec<Vec<ToServer>>,
    done: Vec<(Duration, Output)>,
    found: Vec<DispatcherEvent>,
}

pub(crate) fn job(id: &str) -> JobId {
    id.into()
}

/// Limits of `slots` jobs at once.
pub(crate) fn slots(slots: u32) -> Limits {
    Limits { max_jobs: Some(slots), ..Limits::default() }
}

impl Pair {
    /// Both ends, before anything has happened.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            worker: Worker::new(limits),
            dispatcher: Dispatcher::new(Load::from_thousandths(700)),
            policy: Policy::default(),
            now: Duration::ZERO,
            armed: BTreeMap::new(),
            conn: None,
            conns: 0,
            dialling: false,
            to_worker: VecDeque::new(),
            unflushed: false,
            reachable: true,
            dead: false,
            stuck: false,
            writes: Vec::new(),
            done: Vec::new(),
            found: Vec::new(),
        }
    }

    /// A worker that is registered, and that nothing else has happened to.
    pub(crate) fn registered(limits: Limits) -> Self {
        let mut pair = Self::new(limits);
        pair.say(Input::Start);
        pair.drive();
        pair.forget();
        pair
    }

    /// A registered worker that runs these jobs.
    pub(crate) fn running<const N: usize>(jobs: [&str; N]) -> Self {
        let mut pair = Self::registered(slots(8));
        for job in jobs {
            pair.offer(job);
            pair.accept(job);
            pair.drive();
        }
        pair.forget();
        pair
    }

    /// Gives the worker one input and does what comes out; frames stay where they are.
    pub(crate) fn say(&mut self, input: Input) {
        self.worker.handle(input);
        while let Some(output) = self.worker.poll_output() {
            match &output {
                Output::Dial => self.dialling = true,
                Output::HangUp => self.close(),
                Output::Arm(timer) => {
                    let wait = self.policy.wait(timer, self.worker.attempt(), u32::MAX);
                    self.armed.insert(timer.clone(), self.now + wait);
                }
                Output::Disarm(timer) => drop(self.armed.remove(timer)),
                Output::Exit(_) => {
                    self.close();
                    self.armed.clear();
                }
                Output::Ask(_)
                | Output::Forget(_)
                | Output::Probe
                | Output::Launch(_)
                | Output::Notify(_)
                | Output::Tell(..)
                | Output::Cancel(_)
                | Output::Kill(_)
                | Output::Release(_)
                | Output::Event(_) => {}
            }
            self.done.push((self.now, output));
        }
    }

    /// Carries one thing over, if there is one: a dial, a write, the end of a write, or a frame.
    pub(crate) fn step(&mut self) -> bool {
        if self.dialling && self.reachable {
            self.dialling = false;
            self.conns += 1;
            self.conn = Some(ConnId(self.conns));
            self.server(DispatcherInput::Connected(ConnId(self.conns)));
            self.say(Input::Connected);
            return true;
        }
        let Some(conn) = self.conn else { return false };
        if !self.stuck
            && let Some(frames) = self.worker.poll_transmit()
        {
            self.writes.push(frames.clone());
            self.unflushed = true;
            for frame in frames {
                if !self.dead {
                    self.server(DispatcherInput::Received(conn, frame));
                }
            }
            return true;
        }
        if !self.stuck && std::mem::take(&mut self.unflushed) {
            self.say(Input::Flushed);
            return true;
        }
        let Some(frame) = self.to_worker.pop_front() else { return false };
        self.say(Input::Received(frame));
        true
    }

    /// Carries everything over that can be carried.
    pub(crate) fn drive(&mut self) {
        while self.step() {}
    }

    /// Lets time pass, and every timer fire that comes due in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.drive();
        let until = self.now + time;
        let due = |armed: &BTreeMap<Timer, Duration>| {
            let next = armed.iter().min_by_key(|(_, due)| **due)?;
            (*next.1 <= until).then(|| (next.0.clone(), *next.1))
        };
        while let Some((timer, at)) = due(&self.armed) {
            self.now = at;
            self.armed.remove(&timer);
            self.say(Input::Fired(timer));
            self.drive();
        }
        self.now = until;
    }

    /// Fires one armed timer out of its turn, and moves no clock.
    pub(crate) fn fire(&mut self, timer: Timer) {
        assert!(self.armed.remove(&timer).is_some(), "{timer:?} is not armed");
        self.say(Input::Fired(timer));
    }

    /// The connection breaks, with all that is on it; both ends notice.
    pub(crate) fn break_off(&mut self) {
        self.close();
        self.say(Input::Lost(Loss::Broken));
    }

    fn close(&mut self) {
        self.dialling = false;
        self.unflushed = false;
        self.to_worker.clear();
        if let Some(conn) = self.conn.take() {
            self.server(DispatcherInput::Closed(conn));
        }
    }

    fn server(&mut self, input: DispatcherInput) {
        self.dispatcher.handle(input);
        while let Some(output) = self.dispatcher.poll_output() {
            match output {
                DispatcherOutput::Send(conn, frame) if self.conn == Some(conn) && !self.dead => {
                    self.to_worker.push_back(frame);
                }
                DispatcherOutput::Choose(job, candidates) => {
                    self.dispatcher.handle(DispatcherInput::Chosen(job, candidates[0].0));
                }
                DispatcherOutput::Event(event) => self.found.push(event),
                DispatcherOutput::Close(conn) => panic!("the server closes connection {}", conn.0),
                DispatcherOutput::Send(..) | DispatcherOutput::Arm(_) | DispatcherOutput::Disarm(_) => {}
            }
        }
    }

    /// A room wants an agent; the offer, if there is one, is on its way.
    pub(crate) fn dispatch(&mut self, id: &str) {
        self.server(DispatcherInput::Dispatch(job(id)));
    }

    /// A room wants an agent, and the offer has arrived.
    pub(crate) fn offer(&mut self, id: &str) {
        self.dispatch(id);
        self.drive();
    }

    /// The server ends a job.
    pub(crate) fn terminate(&mut self, id: &str) {
        self.server(DispatcherInput::Terminate(job(id)));
    }

    /// User code says yes.
    pub(crate) fn accept(&mut self, id: &str) {
        self.say(Input::Decided(job(id), Decision::Accept));
    }

    /// User code returns without an error.
    pub(crate) fn succeed(&mut self, id: &str) {
        self.say(Input::Ended(job(id), End::Success));
    }

    /// Forgets what was seen so far.
    pub(crate) fn forget(&mut self) {
        self.writes.clear();
        self.done.clear();
        self.found.clear();
    }

    /// The writes since the last look.
    pub(crate) fn writes(&mut self) -> Vec<Vec<ToServer>> {
        std::mem::take(&mut self.writes)
    }

    /// The answers since the last look.
    pub(crate) fn answers(&mut self) -> Vec<(JobId, Answer)> {
        let answer =
            |frame| if let ToServer::Answer(job, answer) = frame { Some((job, answer)) } else { None };
        self.writes().into_iter().flatten().filter_map(answer).collect()
    }

    /// What the server found since the last look.
    pub(crate) fn found(&mut self) -> Vec<DispatcherEvent> {
        std::mem::take(&mut self.found)
    }

    /// Whether the worker did this since the last [`Pair::forget`].
    pub(crate) fn did(&self, output: &Output) -> bool {
        self.times(output) > 0
    }

    /// How often the worker did this since the last [`Pair::forget`].
    pub(crate) fn times(&self, output: &Output) -> usize {
        self.done.iter().filter(|(_, done)| done == output).count()
    }

    /// When the worker first did this.
    pub(crate) fn when(&self, output: &Output) -> Option<Duration> {
        self.done.iter().find(|(_, done)| done == output).map(|(at, _)| *at)
    }

    /// When the worker left, and how.
    pub(crate) fn left(&self) -> Option<(Duration, Outcome)> {
        self.done.iter().find_map(|(at, done)| {
            if let Output::Exit(outcome) = done { Some((*at, outcome.clone())) } else { None }
        })
    }

    /// How the worker left, if it did.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.left().map(|(_, outcome)| outcome)
    }

    /// Whether a dispatch that came now would be put to the worker.
    pub(crate) fn would_be_drawn(&self) -> bool {
        self.conn.is_some_and(|conn| self.dispatcher.would_offer_to(conn))
    }
}
