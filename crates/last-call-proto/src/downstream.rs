//! guard's downstream: a worker that is not ours, in the place of user code.
//!
//! Towards the server guard is a [`Worker`](crate::Worker), and that decides everything that a worker decides. What it
//! asks of user code goes to the [`Downstream`], which asks the worker that guard stands in front of, and says what the
//! answer means.
//!
//! Owns what that worker is asked and what it has taken. Refuses payloads: which bytes a frame has, and that they stay
//! as they are, is the driver's.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::message::{Answer, JobId, Load, Report};
use crate::worker::{Decision, End, Input, Output, StopReason};

/// One frame from the downstream, as far as guard heeds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromDownstream {
    /// `RegisterWorkerRequest`.
    Register,
    /// `UpdateWorkerStatus`: whether it takes jobs, and how busy it is.
    Status {
        /// `WS_AVAILABLE`, or the worker gave no status.
        available: bool,
        /// As it measures itself.
        load: Load,
    },
    /// `AvailabilityResponse`.
    Answer(JobId, Answer),
    /// `UpdateJobStatus`.
    Report(JobId, Report),
    /// A WebSocket pong, with the number of the ping.
    Pong(u32),
    /// Anything else: it goes to the server as it is.
    Other,
}

/// One frame to the downstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToDownstream {
    /// `AvailabilityRequest`, as it came.
    Offer(JobId),
    /// `JobAssignment`, with the server's URL where it has none.
    Assignment(JobId),
    /// `JobTermination`.
    Termination(JobId),
    /// A WebSocket ping with this number.
    Ping(u32),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DownstreamInput {
    /// What the worker towards the server wants of user code, from [`Output::Ask`] to [`Output::Release`]; its other
    /// outputs change nothing here.
    Asked(Output),
    /// A frame of the downstream.
    Heard(FromDownstream),
    /// guard measures by itself, and this is the load: what the downstream says of its own counts no more.
    Measured(Load),
    /// The downstream's connection is gone; its process may live, and its jobs too.
    Hangup,
    /// The downstream's process is gone, and every job process with it.
    Died,
    /// The process of this job is gone, and nothing was said of its end: how it ended.
    JobDied(JobId, End),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DownstreamOutput {
    /// Give this to the worker towards the server.
    Worker(Input),
    /// Write this frame to the downstream.
    Send(ToDownstream),
    /// The frame that was given last goes to the server as it is.
    Pass,
    /// Ask this job's process to end (SIGTERM).
    Terminate(JobId),
    /// End this job's process at once (SIGKILL).
    Kill(JobId),
    /// This job's call has no agent any more, or soon will not: it may be rescued. Said once of a job.
    Orphan(JobId),
}

/// The worker that guard stands in front of. Give it one input, then poll until nothing is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Downstream {
    registered: bool,
    full: bool,
    load: Load,
    measured: Option<Load>,
    pings: u32,
    /// Offers put to it, with the ping that went along.
    asked: BTreeMap<JobId, u32>,
    /// Jobs that it took, and that are not assigned yet.
    taken: BTreeSet<JobId>,
    /// The ping that asks whether it has recovered.
    probe: Option<u32>,
    /// Jobs that it was assigned and that have not ended, each with whether its call may be rescued.
    jobs: BTreeMap<JobId, bool>,
    outputs: VecDeque<DownstreamOutput>,
}

/// Why a job failed whose worker is gone.
const WORKER_DIED: &str = "its worker died";
/// Why a job failed that nobody was there for.
const NOBODY_THERE: &str = "its worker was gone, or waited no more, when it was assigned";

impl Downstream {
    /// One that has not registered: it takes nothing, which counts as the whole load. So the worker towards the server
    /// needs a threshold, [`Load::WHOLE`] where there is no other.
    #[must_use]
    pub fn new() -> Self {
        let mut downstream = Self::default();
        downstream.weigh();
        downstream
    }

    /// Takes one input.
    pub fn handle(&mut self, input: DownstreamInput) {
        match input {
            DownstreamInput::Asked(output) => self.asked(output),
            DownstreamInput::Heard(frame) => self.heard(frame),
            DownstreamInput::Measured(load) => {
                self.measured = Some(load);
                self.weigh();
            }
            DownstreamInput::Hangup => self.gone(),
            DownstreamInput::Died => self.died(),
            DownstreamInput::JobDied(job, end) => self.job_died(job, end),
        }
    }

    /// The next thing to do; `None` when everything is done until the next input.
    pub fn poll_output(&mut self) -> Option<DownstreamOutput> {
        self.outputs.pop_front()
    }

    /// Whether it has registered on a connection that stands.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// Whether it has yet to say what it makes of this offer.
    #[must_use]
    pub fn is_asked(&self, job: &JobId) -> bool {
        self.asked.contains_key(job)
    }

    /// Whether this job runs downstream.
    #[must_use]
    pub fn runs(&self, job: &JobId) -> bool {
        self.jobs.contains_key(job)
    }

    /// Jobs that it took, and that are yet to be assigned.
    pub fn taken(&self) -> impl Iterator<Item = &JobId> {
        self.taken.iter()
    }

    /// Jobs that run downstream.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.keys()
    }

    fn asked(&mut self, output: Output) {
        match output {
            Output::Ask(job) => {
                let ping = self.ping();
                self.asked.insert(job.clone(), ping);
                self.send(ToDownstream::Offer(job));
            }
            // What it answers later is dropped, and a place that it holds it gives up by itself.
            Output::Forget(job) => {
                self.asked.remove(&job);
                self.taken.remove(&job);
            }
            Output::Probe => self.probe = Some(self.ping()),
            Output::Launch(job) => {
                let taken = self.taken.remove(&job);
                self.jobs.insert(job.clone(), true);
                if taken {
                    self.send(ToDownstream::Assignment(job));
                } else {
                    self.job_died(job, End::Failed(NOBODY_THERE.into()));
                }
            }
            Output::Tell(job, reason) => self.told(job, reason),
            Output::Cancel(job) => self.outputs.push_back(DownstreamOutput::Terminate(job)),
            Output::Kill(job) => {
                self.jobs.remove(&job);
                self.outputs.push_back(DownstreamOutput::Kill(job));
            }
            // It does not hear of a drain before that can do no harm, and its agents leave as they like.
            Output::Notify(_) | Output::Release(_) => {}
            Output::Dial
            | Output::HangUp
            | Output::Arm(_)
            | Output::Disarm(_)
            | Output::Event(_)
            | Output::Exit(_) => {}
        }
    }

    fn told(&mut self, job: JobId, reason: StopReason) {
        if reason == StopReason::DrainDeadline {
            // The call goes on, and so another agent comes before this one goes (DRAIN-6).
            self.orphaned(&job);
        } else if let Some(may_be_rescued) = self.jobs.get_mut(&job) {
            // Its agent has left, or was ended by somebody: whatever its process dies of now (CALL-2).
            *may_be_rescued = false;
        }
        self.send(ToDownstream::Termination(job));
    }

    fn heard(&mut self, frame: FromDownstream) {
        match frame {
            FromDownstream::Register => {
                self.registered = true;
                self.full = false;
                self.weigh();
                // What the connection before was asked, nobody answers any more.
                if self.probe.is_some() {
                    self.probe = Some(self.ping());
                }
                // The first time only: from then on the worker dials by itself.
                self.tell(Input::Start);
            }
            FromDownstream::Status { available, load } => {
                self.full = !available;
                self.load = load;
                self.weigh();
            }
            FromDownstream::Answer(job, answer) => {
                let asked = self.asked.remove(&job).is_some();
                if asked && answer == Answer::Accept {
                    self.taken.insert(job.clone());
                }
                self.tell(Input::Decided(
                    job,
                    match answer {
                        Answer::Accept => Decision::Accept,
                        Answer::Decline => Decision::Reject,
                        Answer::Terminate => Decision::Terminate,
                    },
                ));
            }
            FromDownstream::Report(job, report) => self.reported(job, report),
            FromDownstream::Pong(ping) => self.ponged(ping),
            FromDownstream::Other => self.outputs.push_back(DownstreamOutput::Pass),
        }
    }

    fn reported(&mut self, job: JobId, report: Report) {
        let end = match report {
            // The worker towards the server has said so at the assignment.
            Report::Running => return,
            Report::Success => End::Success,
            Report::Failed(text) => End::Failed(text),
        };
        if self.jobs.remove(&job).is_some() {
            self.tell(Input::Ended(job, end));
        }
    }

    /// A pong answers every ping up to its own (RFC 6455, 5.5.3).
    fn ponged(&mut self, ping: u32) {
        let answered: Vec<JobId> =
            self.asked.iter().filter(|(_, with)| **with <= ping).map(|(job, _)| job.clone()).collect();
        for job in answered {
            self.tell(Input::Heartbeat(job));
        }
        if self.probe.is_some_and(|probe| probe <= ping) {
            self.probe = None;
            self.tell(Input::ProbeAnswered);
        }
    }

    /// Whoever does not listen takes no jobs; what was put to it is for others.
    fn gone(&mut self) {
        self.registered = false;
        // One that comes back does not know them.
        self.taken.clear();
        self.weigh();
        for (job, _) in core::mem::take(&mut self.asked) {
            self.tell(Input::Decided(job, Decision::Reject));
        }
    }

    fn died(&mut self) {
        self.gone();
        let jobs: Vec<JobId> = self.jobs.keys().cloned().collect();
        for job in jobs {
            self.job_died(job, End::Failed(WORKER_DIED.into()));
        }
    }

    /// First the rescue, then the report: nothing may lie between a crash and what is done about it.
    fn job_died(&mut self, job: JobId, end: End) {
        if self.jobs.contains_key(&job) {
            if end != End::Success {
                self.orphaned(&job);
            }
            self.jobs.remove(&job);
            self.tell(Input::Ended(job, end));
        }
    }

    fn orphaned(&mut self, job: &JobId) {
        if self.jobs.get_mut(job).is_some_and(core::mem::take) {
            self.outputs.push_back(DownstreamOutput::Orphan(job.clone()));
        }
    }

    fn weigh(&mut self) {
        let load = match self.measured {
            _ if !self.registered => Load::WHOLE,
            Some(measured) => measured,
            None if self.full => Load::WHOLE,
            None => self.load,
        };
        self.tell(Input::Load(load));
    }

    fn ping(&mut self) -> u32 {
        self.pings = self.pings.wrapping_add(1);
        self.send(ToDownstream::Ping(self.pings));
        self.pings
    }

    fn send(&mut self, frame: ToDownstream) {
        self.outputs.push_back(DownstreamOutput::Send(frame));
    }

    fn tell(&mut self, input: Input) {
        self.outputs.push_back(DownstreamOutput::Worker(input));
    }
}
