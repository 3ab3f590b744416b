//! The worker: registers, advertises, answers offers, runs jobs, drains.
//!
//! Owns what a worker does about everything that can happen to it. Refuses to know how: the driver holds
//! sockets, clocks and user code.

mod drain;
mod event;
mod jobs;
mod link;
mod offers;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

pub use drain::{Outcome, Phase};
pub use event::{Declined, Event};
pub use jobs::{End, StopReason};
pub use link::{Link, Loss};
pub use offers::Decision;

use crate::job::JobTable;
use crate::message::{FromServer, JobId, Load, Status, ToServer};
use crate::outbox::Outbox;
use crate::policy::{effective_load, reported_load};
use crate::timer::Timer;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The driver is ready: dial.
    Start,
    /// The connection asked for by [`Output::Dial`] is open.
    Connected,
    /// The connection, or the attempt at one, is gone.
    Lost(Loss),
    /// A frame arrived.
    Received(FromServer),
    /// Bytes arrived that were no frame the protocol allows; the connection still stands.
    Garbage,
    /// A timer is due.
    Fired(Timer),
    /// User code answered the heartbeat sent beside this offer.
    Heartbeat(JobId),
    /// User code answered the probe.
    ProbeAnswered,
    /// User code decided on an offer.
    Decided(JobId, Decision),
    /// The entrypoint is over; shutdown callbacks run.
    Finishing(JobId),
    /// The job is over, callbacks and all.
    Ended(JobId, End),
    /// User code asks for its own job to stop.
    StopRequested(JobId),
    /// The worker's load as measured, before scaling.
    Load(Load),
    /// SIGTERM, SIGINT or `POST /drain`. Said again it changes nothing.
    Drain,
    /// Stop taking jobs, reversibly.
    Quiet,
    /// Take jobs again. Nothing in a drain.
    Unquiet,
    /// SIGQUIT, or a second SIGINT from a terminal: leave now, whatever runs.
    Force,
    /// Every frame taken from [`Worker::poll_transmit`] was written out.
    Flushed,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Open a connection.
    Dial,
    /// Drop the connection, or the attempt at one. No [`Input::Lost`] is owed for it.
    HangUp,
    /// Arm this timer for [`crate::Policy::wait`]; if it is armed, begin anew.
    Arm(Timer),
    /// Disarm this timer, if it is armed.
    Disarm(Timer),
    /// Send user code a heartbeat, and ask it about this offer.
    Ask(JobId),
    /// User code need not decide on this offer any more, or its yes has come to nothing.
    Forget(JobId),
    /// Send wedged user code a heartbeat.
    Probe,
    /// Start the entrypoint of this job.
    Launch(JobId),
    /// Let this job know that the worker drains, and until when.
    Notify(JobId),
    /// Tell this job to stop.
    Tell(JobId, StopReason),
    /// Cancel this job's entrypoint; its shutdown callbacks may still run.
    Cancel(JobId),
    /// End this job now, callbacks and all. No [`Input::Ended`] is owed for it.
    Kill(JobId),
    /// This job's last report is on its way: its agent may leave the room.
    Release(JobId),
    /// Something to log and count.
    Event(Event),
    /// Leave the process. Always the last output.
    Exit(Outcome),
}

/// How much a worker takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Slots, running and accepted jobs together (JOB-2); `None` is as many as the load allows.
    pub max_jobs: Option<u32>,
    /// The load at which the worker is full; `None` is never. Default 0.7.
    pub threshold: Option<Load>,
    /// The server's `agents.target_load`. Default 0.7.
    pub server_target: Load,
    /// What decides on offers is a worker itself: its load has its accepted jobs in it, and after its yes it holds a
    /// place until an assignment comes. So no yes of its is to be wasted: an offer takes a slot when it is asked about.
    /// Default no.
    pub counts_itself: bool,
}

impl Default for Limits {
    fn default() -> Self {
        let usual = Load::from_thousandths(700);
        Self { max_jobs: None, threshold: Some(usual), server_target: usual, counts_itself: false }
    }
}

/// The worker's state machine. See the crate's contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    limits: Limits,
    phase: Phase,
    link: link::State,
    wedged: Option<offers::Probes>,
    load: Load,
    jobs: JobTable,
    ending: drain::Ending,
    outbox: Outbox,
    outputs: VecDeque<Output>,
}

impl Worker {
    /// A worker that has not started.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Serving,
            link: link::State::default(),
            wedged: None,
            load: Load::IDLE,
            jobs: JobTable::default(),
            ending: drain::Ending::default(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
        }
    }

    /// One that backs off when it is refused, as after a registration of its own: another worker of this process has
    /// registered with the same keys, and what that one runs is not to end for this one's sake.
    #[must_use]
    pub fn accepted_before(mut self) -> Self {
        self.link.accept();
        self
    }

    /// Whether the server has taken a registration with these keys: from then on a refusal is tried again.
    #[must_use]
    pub fn was_accepted(&self) -> bool {
        self.link.was_accepted()
    }

    /// Takes one input. Poll afterwards until nothing is left.
    pub fn handle(&mut self, input: Input) {
        if self.ending.exited() {
            return;
        }
        match input {
            Input::Start => self.dial(),
            Input::Connected => self.connected(),
            Input::Lost(loss) => self.lost(loss),
            Input::Received(frame) => self.received(frame),
            Input::Garbage => self.emit(Event::Garbage),
            Input::Fired(timer) => self.fired(timer),
            Input::Heartbeat(job) => self.heartbeat(&job),
            Input::ProbeAnswered => self.probe_answered(),
            Input::Decided(job, decision) => self.decided(&job, decision),
            Input::Finishing(job) => self.finishing(&job),
            Input::Ended(job, end) => self.ended(&job, end),
            Input::StopRequested(job) => self.tell(&job, StopReason::Requested),
            Input::Load(load) => self.measured(load),
            Input::Drain => self.drain(),
            Input::Quiet => self.quiet(),
            Input::Unquiet => self.unquiet(),
            Input::Force => self.force(),
            Input::Flushed => self.flushed(),
        }
        self.leave_if_done();
    }

    /// The next thing to do; `None` when everything is done until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The frames to write next, all in one write; `None` when there are none for now. Ask whenever the
    /// socket takes bytes.
    pub fn poll_transmit(&mut self) -> Option<Vec<ToServer>> {
        let frames = if self.link.is_connected() { self.outbox.take() } else { None };
        if frames.is_some() {
            self.taken();
        }
        frames
    }

    /// Serving, quiet, draining or drained.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Where the connection stands.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.link()
    }

    /// Reconnects since the last registration that lasted, for [`crate::Policy::wait`].
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.link.attempt()
    }

    /// Whether user code missed a heartbeat and has not recovered.
    #[must_use]
    pub fn wedged(&self) -> bool {
        self.wedged.is_some()
    }

    /// The load as last measured, before scaling.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &JobTable {
        &self.jobs
    }

    /// What the worker would tell the server now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            available: self.why_not().is_none(),
            draining: matches!(self.phase, Phase::Draining | Phase::Drained),
            load: reported_load(self.weighed_load(), self.limits.threshold, self.limits.server_target),
            jobs: self.jobs.slots(),
        }
    }

    /// The one gate: why an offer that came now would be declined, or `None` if it would be put to user
    /// code. Status and answers both come from here, so that they cannot disagree.
    fn why_not(&self) -> Option<Declined> {
        match self.phase {
            Phase::Draining | Phase::Drained => return Some(Declined::Draining),
            Phase::Quiet => return Some(Declined::Quiet),
            Phase::Serving => {}
        }
        if self.wedged.is_some() {
            return Some(Declined::Wedged);
        }
        if self.link.leaving() {
            return Some(Declined::Leaving);
        }
        if self.limits.max_jobs.is_some_and(|max| self.jobs.slots() >= max) {
            return Some(Declined::Full);
        }
        let over = |threshold| self.weighed_load() >= threshold;
        self.limits.threshold.is_some_and(over).then_some(Declined::Load)
    }

    /// Why an offer is not even to be asked about, where a yes would have to be declined.
    fn asked_enough(&self) -> Option<Declined> {
        let slots = self.jobs.slots() + self.jobs.asked();
        let full = self.limits.max_jobs.is_some_and(|max| slots >= max);
        (self.limits.counts_itself && full).then_some(Declined::Full)
    }

    fn weighed_load(&self) -> Load {
        if self.limits.counts_itself {
            return self.load;
        }
        effective_load(self.load, self.jobs.running(), self.jobs.accepted())
    }

    fn received(&mut self, frame: FromServer) {
        if !self.link.is_connected() {
            return;
        }
        self.link.heard();
        self.outputs.push_back(Output::Disarm(Timer::Pong));
        match frame {
            FromServer::Registered => self.registered(),
            FromServer::Offer(job) => self.offered(job),
            FromServer::Assignment(job) => self.assigned(job),
            FromServer::Termination(job) => self.terminated(&job),
            FromServer::GoAway => self.go_away(),
            FromServer::Other => {}
        }
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Dial | Timer::Register | Timer::Pong => self.gave_up(),
            Timer::Redial => self.dial(),
            Timer::Ping => self.ping(),
            Timer::Refresh => self.refresh(),
            Timer::Heartbeat(job) => self.heartbeat_missed(&job),
            Timer::Answer(job) => self.answer_due(&job),
            Timer::Assignment(job) => self.assignment_missed(&job),
            Timer::Probe => self.probe(),
            Timer::Cancel(job) => self.cancel(&job),
            Timer::Kill(job) => self.kill(&job, jobs::OUT_OF_GRACE),
            Timer::DrainTell => self.drain_tell(),
            Timer::DrainCancel => self.drain_cancel(),
            Timer::DrainKill => self.drain_kill(),
            Timer::Flush => self.flush_due(),
        }
    }

    fn measured(&mut self, load: Load) {
        let before = self.why_not();
        self.load = load;
        if self.why_not() != before {
            self.advertise();
        }
    }

    /// Puts the current status at the head of what leaves next.
    fn advertise(&mut self) {
        if self.link.is_connected() {
            self.outbox.set_status(self.status());
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn arm(&mut self, timer: Timer) {
        self.outputs.push_back(Output::Arm(timer));
    }

    fn disarm(&mut self, timer: Timer) {
        self.outputs.push_back(Output::Disarm(timer));
    }

    fn disarm_all(&mut self, job: &JobId) {
        for timer in [Timer::Heartbeat, Timer::Answer, Timer::Assignment, Timer::Cancel, Timer::Kill] {
            self.disarm(timer(job.clone()));
        }
    }
}
