//! The worker behind guard, in the place of user code, for one link.
//!
//! Owns the frames of both sides as they came, for as long as somebody needs them, and does what the core wants of the
//! worker. Refuses to decide: [`Downstream`] does, and the link's own core.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use last_call_proto::{
    Answer, Downstream, DownstreamInput, DownstreamOutput, End, FromDownstream, Input, JobId, Load, Output,
    Report, ToDownstream, ToServer, Worker,
};
use livekit_protocol as livekit;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::connection::Sdk;
use super::frames::{self, Said};
use crate::jobs::Jobs;
use crate::wire::{self, Incoming};

/// Frames of the worker that wait for a registration; each is of a kind that guard does not know.
const PASSED_AT_MOST: usize = 64;

/// What the worker does, as its link hears of it.
#[derive(Debug)]
pub(crate) enum FromWorker {
    /// It has registered on this connection.
    Attached(Attached),
    /// A frame came on this connection, in protobuf.
    Frame(u64, Bytes),
    /// A pong with this number.
    Pong(u64, u32),
    /// This connection is over.
    Gone(u64),
    /// Its process is gone, and whatever that started.
    Died,
    /// A job's process is gone; how it ended.
    JobDied(JobId, End),
    /// The report of a job's end, which came on another registration's connection.
    Report(Bytes, Sdk),
    /// The server ends a job of another registration, whose connection is over.
    Termination(Bytes),
}

/// A connection on which the worker has registered. The connection closes when all clones of `to` are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(super) number: u64,
    pub(super) to: mpsc::UnboundedSender<Message>,
    /// It speaks JSON.
    pub(super) json: bool,
    pub(super) sdk: Sdk,
}

impl Attached {
    fn send(&self, frame: Bytes) {
        let message =
            if self.json { frames::to_json(frame).map(Message::from) } else { Some(Message::Binary(frame)) };
        // A connection that is over says so itself.
        let _ = message.map(|message| self.to.send(message));
    }
}

/// What a link needs to know of the whole guard.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The server as agents must reach it.
    pub(super) url: String,
    /// Those that run, for operators.
    pub(super) jobs: Jobs,
    /// Hears what becomes of calls.
    pub(super) calls: mpsc::UnboundedSender<Call>,
}

/// What becomes of a call, for whoever rescues it and knows its process.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// It runs from now on.
    Began {
        job: Box<livekit::Job>,
        /// The agent's identity.
        agent: String,
        /// The worker will say how it ends.
        reported: bool,
    },
    /// It had its end.
    Ended(JobId),
    /// It has no agent any more, or soon will not.
    Orphaned(JobId),
    /// Ask its process to end.
    Terminate(JobId),
    /// End its process.
    Kill(JobId),
    /// The report of the end of a job that another link has: a worker that came back on a new connection makes it there.
    Strayed(Bytes, Sdk),
    /// The server ends it, and the connection that it came on is over: the worker may have come back on another.
    Unheard(Bytes),
}

/// The worker behind guard.
pub(crate) struct Guarded {
    core: Downstream,
    surroundings: Surroundings,
    /// As the worker sent it.
    registration: Bytes,
    /// As the server answered it.
    registered: Option<Bytes>,
    connection: Option<Attached>,
    jobs: HashMap<JobId, Known>,
    /// The worker's frame that came last, while the core is asked about it.
    latest: Bytes,
    /// The server's last word that a job is over.
    terminated: Option<(JobId, Bytes)>,
    inputs: VecDeque<Input>,
    passed: VecDeque<Bytes>,
}

/// What is known of a job from its offer to its end.
struct Known {
    offer: Bytes,
    /// The worker's answer, until it is sent.
    answer: Option<Bytes>,
    /// How the worker says that it ended, until that is sent.
    report: Option<Bytes>,
    identity: String,
    assignment: Option<Bytes>,
}

impl Guarded {
    pub(super) fn new(registration: Bytes, surroundings: Surroundings) -> Self {
        let mut guarded = Self {
            core: Downstream::new(),
            surroundings,
            registration,
            registered: None,
            connection: None,
            jobs: HashMap::new(),
            latest: Bytes::new(),
            terminated: None,
            inputs: VecDeque::new(),
            passed: VecDeque::new(),
        };
        guarded.settle();
        guarded
    }

    /// What the link's core is to hear next.
    pub(crate) fn poll_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    /// The link's core asks something of user code.
    pub(crate) fn asked(&mut self, asked: Output) {
        if let Output::Launch(job) = &asked {
            self.launched(job);
        } else if let Output::Kill(job) = &asked {
            self.surroundings.jobs.end(job);
        } else if let Output::Release(job) = &asked {
            self.surroundings.jobs.end(job);
            self.jobs.remove(job);
            self.say(Call::Ended(job.clone()));
        }
        self.handle(DownstreamInput::Asked(asked));
    }

    /// guard's own measure of the load.
    pub(crate) fn measured(&mut self, load: Load) {
        self.handle(DownstreamInput::Measured(load));
    }

    /// A frame of the server, before the link's core hears of it.
    pub(crate) fn received(&mut self, incoming: &Incoming, frame: Bytes) {
        match incoming {
            Incoming::Registered { .. } => {
                // The worker hears of the first alone: for it there is one connection.
                if self.registered.replace(frame.clone()).is_none() {
                    self.send(frame);
                }
            }
            Incoming::Offer(job) => {
                let known = || Known {
                    offer: frame,
                    answer: None,
                    report: None,
                    identity: String::new(),
                    assignment: None,
                };
                self.jobs.entry(job.id.as_str().into()).or_insert_with(known);
            }
            Incoming::Assignment { job, url, .. } => {
                let filled = match url {
                    Some(_) => None,
                    None => frames::with_url(&frame, &self.surroundings.url),
                };
                if let Some(known) = self.jobs.get_mut(&JobId::from(job.id.as_str())) {
                    known.assignment = Some(filled.unwrap_or(frame));
                }
            }
            Incoming::Termination(job) => self.terminated = Some((job.clone(), frame)),
            Incoming::Pong | Incoming::Unknown => self.send(frame),
            // guard registers anew by itself.
            Incoming::GoAway => {}
        }
    }

    /// The worker did something.
    pub(crate) fn heard(&mut self, said: FromWorker) {
        match said {
            FromWorker::Attached(connection) => {
                if let Some(registered) = &self.registered {
                    connection.send(registered.clone());
                }
                self.connection = Some(connection);
                self.handle(DownstreamInput::Heard(FromDownstream::Register));
            }
            FromWorker::Frame(number, frame) if self.is_current(number) => self.frame(frame),
            FromWorker::Pong(number, ping) if self.is_current(number) => {
                self.handle(DownstreamInput::Heard(FromDownstream::Pong(ping)));
            }
            FromWorker::Gone(number) if self.is_current(number) => {
                self.connection = None;
                tracing::warn!("the worker's connection is over; full until it registers again");
                self.handle(DownstreamInput::Hangup);
            }
            FromWorker::Frame(..) | FromWorker::Pong(..) | FromWorker::Gone(_) => {}
            FromWorker::Died => {
                self.connection = None;
                self.handle(DownstreamInput::Died);
            }
            FromWorker::JobDied(job, end) => self.handle(DownstreamInput::JobDied(job, end)),
            FromWorker::Termination(frame) => self.send(frame),
            FromWorker::Report(frame, sdk) => {
                if let Some(Said::Heeded(report @ FromDownstream::Report(..))) = frames::read(&frame) {
                    self.heed(report, frame, sdk);
                }
            }
        }
    }

    /// Whether the worker has registered on a connection that stands.
    pub(crate) fn is_attached(&self) -> bool {
        self.core.is_registered()
    }

    /// The bytes of a frame that the worker wrote itself.
    pub(crate) fn original(&mut self, frame: &ToServer) -> Option<Message> {
        let bytes = match frame {
            ToServer::Register => Some(self.registration.clone()),
            ToServer::Answer(job, Answer::Accept | Answer::Terminate) => {
                self.jobs.get_mut(job).and_then(|known| known.answer.take())
            }
            ToServer::Report(job, Report::Success | Report::Failed(_)) => {
                self.jobs.get_mut(job).and_then(|known| known.report.take())
            }
            ToServer::Answer(_, Answer::Decline)
            | ToServer::Report(_, Report::Running)
            | ToServer::Status(_)
            | ToServer::Migrate(_)
            | ToServer::Ping => None,
        };
        bytes.map(Message::Binary)
    }

    /// Frames of the worker that go to the server as they are.
    pub(crate) fn passed(&mut self) -> impl Iterator<Item = Message> {
        self.passed.drain(..).map(Message::Binary)
    }

    /// Forgets the jobs that the link's core does not know.
    pub(crate) fn prune(&mut self, core: &Worker) {
        self.jobs.retain(|job, _| core.jobs().get(job).is_some());
    }

    fn frame(&mut self, frame: Bytes) {
        let Some(said) = frames::read(&frame) else {
            return tracing::warn!(bytes = frame.len(), "a frame of the worker cannot be read; dropped");
        };
        let Said::Heeded(heeded) = said else { return };
        let Some(Attached { sdk, .. }) = self.connection else { return };
        if let FromDownstream::Report(job, Report::Success | Report::Failed(_)) = &heeded
            && !self.core.runs(job)
        {
            return self.say(Call::Strayed(frame, sdk));
        }
        self.heed(heeded, frame, sdk);
    }

    fn heed(&mut self, heeded: FromDownstream, frame: Bytes, sdk: Sdk) {
        self.latest = frame;
        // What comes later is not what the server is told.
        if let FromDownstream::Answer(job, Answer::Accept | Answer::Terminate) = &heeded
            && self.core.is_asked(job)
            && let Some(known) = self.jobs.get_mut(job)
        {
            known.identity = frames::identity(&self.latest, job);
            known.answer = Some(self.latest.clone());
        }
        if let FromDownstream::Report(job, Report::Success | Report::Failed(_)) = &heeded
            && self.core.runs(job)
            && let Some(known) = self.jobs.get_mut(job)
        {
            known.report = Some(self.latest.clone());
        }
        if let (FromDownstream::Report(job, Report::Failed(text)), true) =
            (&heeded, sdk.says_failed_of_the_dead())
        {
            let empty = "its process failed, or was killed";
            let text = if text.is_empty() { empty.into() } else { text.clone() };
            self.handle(DownstreamInput::JobDied(job.clone(), End::Failed(text)));
        } else {
            self.handle(DownstreamInput::Heard(heeded));
        }
    }

    fn launched(&mut self, job: &JobId) {
        self.surroundings.jobs.begin(job);
        if let Some(known) = self.jobs.get(job)
            && let Some(Incoming::Offer(offered)) = wire::decode(&known.offer)
        {
            let reported = self.connection.as_ref().is_none_or(|connection| connection.sdk.reports());
            let began = Call::Began { job: Box::new(offered), agent: known.identity.clone(), reported };
            self.say(began);
        }
    }

    fn handle(&mut self, input: DownstreamInput) {
        self.core.handle(input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                DownstreamOutput::Worker(input) => self.inputs.push_back(input),
                DownstreamOutput::Send(frame) => self.send_core(frame),
                DownstreamOutput::Pass => {
                    if self.passed.len() < PASSED_AT_MOST {
                        self.passed.push_back(self.latest.clone());
                    }
                }
                DownstreamOutput::Terminate(job) => self.say(Call::Terminate(job)),
                DownstreamOutput::Kill(job) => self.say(Call::Kill(job)),
                DownstreamOutput::Orphan(job) => self.say(Call::Orphaned(job)),
            }
        }
    }

    fn send_core(&mut self, frame: ToDownstream) {
        let bytes = match frame {
            ToDownstream::Offer(job) => self.jobs.get(&job).map(|known| known.offer.clone()),
            ToDownstream::Assignment(job) => {
                self.jobs.get_mut(&job).and_then(|known| known.assignment.take())
            }
            ToDownstream::Termination(job) => {
                let frame = self.termination(&job);
                if self.connection.is_none() {
                    return self.say(Call::Unheard(frame));
                }
                Some(frame)
            }
            ToDownstream::Ping(number) => {
                let ping = Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes()));
                // As with every frame: a connection that is over says so itself.
                let _ = self.connection.as_ref().map(|connection| connection.to.send(ping));
                None
            }
        };
        if let Some(bytes) = bytes {
            self.send(bytes);
        }
    }

    /// The server's own frame, where it is the latest.
    fn termination(&self, job: &JobId) -> Bytes {
        match &self.terminated {
            Some((ended, frame)) if ended == job => frame.clone(),
            Some(_) | None => frames::termination(job),
        }
    }

    fn send(&self, frame: Bytes) {
        if let Some(connection) = &self.connection {
            connection.send(frame);
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.number == number)
    }

    fn say(&self, call: Call) {
        // Who listens is gone only when guard leaves.
        let _ = self.surroundings.calls.send(call);
    }
}
