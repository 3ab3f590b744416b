//! The link: the worker core's driver. Socket, timers, signals and user code's answers go in as inputs;
//! what the core decides comes out and is done.
//!
//! Owns the connection and everything that is kept beside the core's bare ids. Refuses to decide, and to
//! run user code: its thread must answer at once whatever that does.

mod keep;
mod perform;
mod report;
mod solo;
#[cfg(test)]
mod tests;
mod watched;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use futures_util::FutureExt;
use last_call_proto::{Input, JobId, Link as LinkState, Loss, Policy, Timer, Worker};
use livekit_protocol as livekit;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval};

use crate::error::DialError;
use crate::guard::{FromWorker, Guarded};
use crate::http::Beat;
use crate::load::CurrentLoad;
use crate::metrics::{Metrics, Rejected, Stage};
use crate::observe::{Snapshot, Verb};
use crate::offer::Reply;
use crate::rescue::Rescues;
use crate::runner::{FromUser, TaskRunner};
use crate::signal::ToLink;
use crate::socket::{Socket, SocketEvent};
use crate::start::RESCUES_WITHIN;
use crate::systemd::Systemd;
use crate::timers::every;
use crate::wire;

pub(crate) use keep::Keep;
pub(crate) use perform::{CLOSE_WITHIN, agent_identity};
pub(crate) use report::Report;
pub(crate) use solo::Solo;
pub(crate) use watched::Watched;

/// How often an idle link shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// What the rest of the process may say to a link at any moment.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// Prewarming is done: register.
    Start,
    /// SIGTERM and its like, with the moment at which the link read it.
    Drain(std::time::Instant),
    Quiet,
    Unquiet,
    Force,
}

impl From<Verb> for Control {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Drain => Self::Drain(std::time::Instant::now()),
            Verb::Quiet => Self::Quiet,
            Verb::Unquiet => Self::Unquiet,
        }
    }
}

/// Where jobs come from.
pub(crate) enum Source {
    /// A server: its URL, and how a connection to it is opened.
    Server { url: String, dial: Dial },
    /// One job, made here.
    Solo(Solo),
}

/// Who decides on offers and runs jobs.
pub(crate) enum Runner {
    /// User code.
    Code(Box<TaskRunner>),
    /// A worker that guard stands in front of.
    Guarded(Box<Guarded>),
}

/// A connection that is being opened.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Socket, DialError>> + Send>>;
/// Opens a connection.
pub(crate) type Dial = Box<dyn Fn() -> Dialling + Send>;

/// Everything that a link is made of.
pub(crate) struct Link {
    pub(crate) core: Worker,
    pub(crate) policy: Policy,
    pub(crate) source: Source,
    pub(crate) registration: livekit::RegisterWorkerRequest,
    pub(crate) runner: Runner,
    /// The process's, where they are the worker's to take.
    pub(crate) signals: Option<ToLink>,
    pub(crate) control: mpsc::UnboundedReceiver<Control>,
    pub(crate) verbs: mpsc::UnboundedReceiver<Verb>,
    pub(crate) from_user: mpsc::UnboundedReceiver<FromUser>,
    pub(crate) load: Option<Arc<CurrentLoad>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) snapshot: watch::Sender<Snapshot>,
    /// systemd, if it wants to know how the worker is.
    pub(crate) systemd: Option<Systemd>,
    pub(crate) watched: Watched,
    pub(crate) beat: Arc<Beat>,
    pub(crate) keep: Keep,
    /// Where calls whose agent died are rescued. Behind guard its own loop has it.
    pub(crate) rescues: Option<Rescues>,
    pub(crate) connection: Connection,
    pub(crate) timers: crate::timers::Timers,
}

/// The connection, as far as it is.
#[derive(Default)]
pub(crate) enum Connection {
    #[default]
    None,
    Opening(Dialling),
    Open(Box<Socket>),
}

/// What the link waits for.
enum Happened {
    Beat,
    Control(Control),
    Due,
    User(FromUser),
    Dialled(Result<Socket, DialError>),
    Socket(SocketEvent),
}

impl Link {
    /// Drives the core until it leaves.
    pub(crate) async fn run(self) -> Report {
        self.run_out().await.0
    }

    /// Drives the core until it leaves. What comes with the report disconnects when every job has said goodbye.
    pub(crate) async fn run_out(mut self) -> (Report, Option<std_mpsc::Receiver<()>>) {
        let look_every = self.systemd.as_ref().and_then(Systemd::look_every);
        let mut beat = every(look_every.unwrap_or(BEAT_EVERY).min(BEAT_EVERY));
        loop {
            self.beat.beat();
            if let Some(outcome) = self.settle().await {
                let mut report = self.watched.report(outcome);
                let Self { runner, rescues, mut signals, mut control, .. } = self;
                let goodbyes = match runner {
                    Runner::Code(runner) => Some(runner.leave()),
                    Runner::Guarded(_) => None,
                };
                if let Some(rescues) = rescues {
                    let (lost, forced) = tokio::select! {
                        lost = rescues.settle(RESCUES_WITHIN) => (lost, false),
                        () = forced(&mut signals, &mut control) => (rescues.settle(Duration::ZERO).await, true),
                    };
                    report.lost(lost, forced);
                }
                return (report, goodbyes);
            }
            match self.happens(&mut beat).await {
                Happened::Beat => self.measure(),
                Happened::Control(control) => self.controlled(&control),
                Happened::Due => self.fire_due(),
                Happened::User(event) => self.user_said(event),
                Happened::Dialled(Ok(socket)) => {
                    self.connection = Connection::Open(Box::new(socket));
                    self.core.handle(Input::Connected);
                }
                Happened::Dialled(Err(error)) => self.dial_failed(&error),
                Happened::Socket(event) => self.socket_did(event),
            }
        }
    }

    /// Waits for the next thing, signals first.
    async fn happens(&mut self, beat: &mut Interval) -> Happened {
        let connection = async {
            match &mut self.connection {
                Connection::None => std::future::pending().await,
                Connection::Opening(dialling) => Happened::Dialled(dialling.await),
                Connection::Open(socket) => Happened::Socket(socket.event().await),
            }
        };
        tokio::select! {
            biased;
            control = signalled(&mut self.signals) => Happened::Control(control),
            Some(control) = self.control.recv() => Happened::Control(control),
            Some(verb) = self.verbs.recv() => Happened::Control(verb.into()),
            // Before the timers: an answer that is here already is not late.
            Some(event) = self.from_user.recv() => Happened::User(event),
            () = self.timers.next() => Happened::Due,
            happened = connection => happened,
            _ = beat.tick() => Happened::Beat,
        }
    }

    fn controlled(&mut self, control: &Control) {
        match control {
            Control::Start => match &self.source {
                Source::Server { .. } => self.core.handle(Input::Start),
                Source::Solo(solo) => solo.clone().begin(self),
            },
            Control::Quiet => self.core.handle(Input::Quiet),
            Control::Unquiet => self.core.handle(Input::Unquiet),
            Control::Force => {
                self.rescues.iter().for_each(Rescues::draining);
                self.core.handle(Input::Force);
            }
            Control::Drain(seen) => {
                self.rescues.iter().for_each(Rescues::draining);
                self.watched.drain_asked(*seen);
                self.core.handle(Input::Drain);
            }
        }
    }

    fn fire_due(&mut self) {
        // One at a time: what the core does about it may disarm the next.
        let Some(timer) = self.timers.pop_due(Instant::now()) else { return };
        if timer == Timer::Pong && self.heard_meanwhile() {
            return;
        }
        if timer == Timer::Refresh {
            self.prune();
            self.refresh_load();
            self.measure();
        }
        self.core.handle(Input::Fired(timer));
    }

    /// Whether the connection shows life that was not read yet, as after this thread itself stood still.
    fn heard_meanwhile(&mut self) -> bool {
        let Connection::Open(socket) = &mut self.connection else { return false };
        let Some(event) = socket.event().now_or_never() else { return false };
        let alive = matches!(event, SocketEvent::Frame(_) | SocketEvent::Text | SocketEvent::Alive);
        self.socket_did(event);
        alive
    }

    /// Tells the core the load as it is now.
    fn measure(&mut self) {
        let Some(load) = self.load.as_ref().map(|load| load.get()) else { return };
        match &mut self.runner {
            Runner::Code(_) => self.core.handle(Input::Load(load)),
            Runner::Guarded(guarded) => guarded.measured(load),
        }
        self.hear_of_guarded();
    }

    /// Forgets the payloads of jobs that the core does not know any more.
    fn prune(&mut self) {
        self.keep.prune(&self.core);
        if let Runner::Guarded(guarded) = &mut self.runner {
            guarded.prune(&self.core);
        }
    }

    /// Asks the user's own load function, if there is one.
    fn refresh_load(&self) {
        if let Runner::Code(runner) = &self.runner {
            runner.refresh_load();
        }
    }

    /// Gives the core what the worker behind guard made of the latest thing.
    fn hear_of_guarded(&mut self) {
        if let Runner::Guarded(guarded) = &mut self.runner {
            while let Some(input) = guarded.poll_input() {
                self.core.handle(input);
            }
        }
    }

    fn user_said(&mut self, event: FromUser) {
        let input = match event {
            FromUser::Heartbeat(job) => Input::Heartbeat(job),
            FromUser::ProbeAnswered => Input::ProbeAnswered,
            FromUser::Load(load) => Input::Load(last_call_proto::Load::from_fraction(load)),
            FromUser::Decided(job, reply) => return self.decided(job, reply),
            FromUser::DecisionFailed(job, text) => {
                tracing::error!(job_id = %job, panic = text, "the request handler panicked; the offer is declined");
                self.answered(&job);
                Input::Decided(job, last_call_proto::Decision::Fail)
            }
            FromUser::StopRequested(job) => Input::StopRequested(job),
            FromUser::Started(after) => {
                let stage = self.metrics.dispatch_seconds.of(Stage::AssignedToStarted);
                return stage.observe(after.as_secs_f64());
            }
            FromUser::Finishing(job) => Input::Finishing(job),
            FromUser::Ended(job, end) => Input::Ended(job, end),
            FromUser::Died(job) => return self.orphaned(&job),
            FromUser::Worker(said) => return self.worker_said(said),
        };
        self.core.handle(input);
    }

    /// First the rescue, then the report of the job's end.
    fn orphaned(&self, job: &JobId) {
        if let Some(rescues) = &self.rescues
            && self.core.jobs().may_be_rescued(job)
        {
            rescues.orphaned(job, true);
        }
    }

    fn worker_said(&mut self, said: FromWorker) {
        if let Runner::Guarded(guarded) = &mut self.runner {
            guarded.heard(said);
        }
        self.hear_of_guarded();
    }

    fn answered(&mut self, job: &JobId) {
        if let Runner::Code(runner) = &mut self.runner {
            runner.answered(job);
        }
    }

    fn decided(&mut self, job: JobId, reply: Reply) {
        self.answered(&job);
        let decision = FromUser::decision(&reply);
        if let Reply::Accept(acceptance) = reply {
            self.keep.accept(&job, acceptance);
        }
        self.core.handle(Input::Decided(job, decision));
    }

    fn dial_failed(&mut self, error: &DialError) {
        self.connection = Connection::None;
        self.watched.dial_failed(error, self.core.was_accepted());
        let loss = if matches!(error, DialError::Refused { .. }) { Loss::Refused } else { Loss::Broken };
        self.core.handle(Input::Lost(loss));
    }

    fn socket_did(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Written => {
                self.watched.written(&self.metrics);
                self.core.handle(Input::Flushed);
            }
            SocketEvent::Frame(bytes) => self.frame(bytes),
            SocketEvent::Text => self.rejected(Rejected::Text),
            SocketEvent::Alive => self.core.handle(Input::Received(last_call_proto::FromServer::Other)),
            SocketEvent::Closed { reason, oversized } => {
                self.connection = Connection::None;
                if oversized {
                    self.rejected(Rejected::Oversized);
                }
                self.watched.lost(&reason);
                self.core.handle(Input::Lost(Loss::Broken));
            }
        }
    }

    fn frame(&mut self, bytes: bytes::Bytes) {
        let Some(incoming) = wire::decode(&bytes) else { return self.rejected(Rejected::Undecodable) };
        match &mut self.runner {
            // One that comes out of order says nothing of the registration.
            Runner::Guarded(_)
                if matches!(incoming, wire::Incoming::Registered { .. })
                    && self.core.link() != LinkState::Registering => {}
            Runner::Guarded(guarded) => guarded.received(&incoming, bytes),
            Runner::Code(_) if matches!(incoming, wire::Incoming::Unknown) => {
                self.watched.rejected(Rejected::Unknown, &self.metrics);
            }
            Runner::Code(_) => {}
        }
        self.incoming(incoming);
    }

    /// Keeps what the core has no use for, and tells it the rest.
    fn incoming(&mut self, incoming: wire::Incoming) {
        let message = incoming.message();
        match incoming {
            wire::Incoming::Registered { worker_id, server_version } => {
                if self.core.link() == LinkState::Registering {
                    self.watched.registered(worker_id, &server_version);
                }
            }
            wire::Incoming::Offer(job) => {
                self.metrics.offers.inc();
                self.keep.offer(&self.core, job);
                // An offer is judged by the load of this moment, not by that of the last report.
                self.measure();
            }
            wire::Incoming::Assignment { job, url, token } => self.keep.assign(job, url, token),
            wire::Incoming::Termination(_)
            | wire::Incoming::GoAway
            | wire::Incoming::Pong
            | wire::Incoming::Unknown => {}
        }
        self.core.handle(Input::Received(message));
    }

    fn rejected(&mut self, why: Rejected) {
        self.watched.rejected(why, &self.metrics);
        self.core.handle(Input::Garbage);
    }
}

/// What the next signal to the process says; never, where it is not the worker's.
async fn signalled(signals: &mut Option<ToLink>) -> Control {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for the word to leave at once.
async fn forced(signals: &mut Option<ToLink>, control: &mut mpsc::UnboundedReceiver<Control>) {
    loop {
        let next = tokio::select! {
            next = signalled(signals) => next,
            Some(next) = control.recv() => next,
        };
        if matches!(next, Control::Force) {
            return;
        }
    }
}
