//! guard: a worker that is not ours, kept to the promises of ours.
//!
//! Towards the server it is a [`Worker`], and that decides everything that a worker decides. Where ours asks user code,
//! guard asks the downstream: the worker that it stands in front of.
//!
//! Owns what each side hears of the other. Refuses payloads: which bytes a frame has, and that they stay as they are, is
//! the driver's.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::message::{Answer, JobId, Load, Report, ToServer};
use crate::worker::{Decision, End, Input, Limits, Outcome, Output, Worker};

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
pub enum GuardInput {
    /// To the worker that guard is for the server: its link, its timers, its operators.
    Upstream(Input),
    /// A frame of the downstream.
    Downstream(FromDownstream),
    /// The downstream's connection is gone; its process may live, and its jobs too.
    Hangup,
    /// The downstream's process is gone, and every job process with it.
    Died,
    /// The process of this job is gone, and nothing was said of its end: how, for people.
    JobDied(JobId, End),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GuardOutput {
    /// What the worker towards the server wants: [`Output::Dial`], [`Output::HangUp`], timers and events. Nothing else.
    Upstream(Output),
    /// Write this frame to the downstream.
    Send(ToDownstream),
    /// The frame that was given last goes to the server as it is.
    Pass,
    /// Ask this job's process to end (SIGTERM).
    Terminate(JobId),
    /// End this job's process at once (SIGKILL).
    Kill(JobId),
    /// This job's agent died without an end of its own: its call may be rescued.
    Orphan(JobId),
    /// Every call has ended, or the budget has: end the downstream, and leave. Always the last.
    Leave(Outcome),
}

/// What is known of the downstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Downstream {
    registered: bool,
    full: bool,
    load: Load,
    pings: u32,
    /// Offers put to it, with the ping that went along.
    asked: BTreeMap<JobId, u32>,
    /// Jobs that it took, and that are not assigned yet.
    taken: BTreeSet<JobId>,
    /// The ping that asks whether it has recovered.
    probe: Option<u32>,
    /// Jobs that it was assigned and that have not ended.
    jobs: BTreeSet<JobId>,
}

/// The guard's state machine: the contract of [`Worker`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    worker: Worker,
    downstream: Downstream,
    outputs: VecDeque<GuardOutput>,
}

/// Why a job failed whose worker is gone.
const WORKER_DIED: &str = "its worker died";
/// Why a job failed that nobody was there for.
const NOBODY_THERE: &str = "its worker was gone when it was assigned";

impl Guard {
    /// A guard whose downstream has not registered.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // A downstream that takes nothing counts as the whole load, which must count.
        let threshold = limits.threshold.or(Some(Load::WHOLE));
        let mut worker = Worker::new(Limits { threshold, ..limits });
        worker.handle(Input::Load(Load::WHOLE));
        while worker.poll_output().is_some() {}
        Self { worker, downstream: Downstream::default(), outputs: VecDeque::new() }
    }

    /// Takes one input. Poll afterwards until nothing is left.
    pub fn handle(&mut self, input: GuardInput) {
        match input {
            // How busy the downstream is, it says itself.
            GuardInput::Upstream(Input::Load(_) | Input::Start) => {}
            GuardInput::Upstream(input) => self.tell(input),
            GuardInput::Downstream(frame) => self.heard(frame),
            GuardInput::Hangup => self.gone(),
            GuardInput::Died => self.died(),
            GuardInput::JobDied(job, end) => self.job_died(&job, end),
        }
    }

    /// The next thing to do; `None` when everything is done until the next input.
    pub fn poll_output(&mut self) -> Option<GuardOutput> {
        self.outputs.pop_front()
    }

    /// The frames to write to the server next, as [`Worker::poll_transmit`].
    pub fn poll_transmit(&mut self) -> Option<Vec<ToServer>> {
        self.worker.poll_transmit()
    }

    /// The worker that guard is for the server.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Whether the downstream has registered on a connection that stands.
    #[must_use]
    pub fn is_guarding(&self) -> bool {
        self.downstream.registered
    }

    /// Jobs that run downstream.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.downstream.jobs.iter()
    }

    fn heard(&mut self, frame: FromDownstream) {
        match frame {
            FromDownstream::Register => {
                self.downstream.registered = true;
                self.downstream.full = false;
                self.measure();
                // The first time only: from then on the worker dials by itself.
                self.tell(Input::Start);
            }
            FromDownstream::Status { available, load } => {
                self.downstream.full = !available;
                self.downstream.load = load;
                self.measure();
            }
            FromDownstream::Answer(job, answer) => {
                let asked = self.downstream.asked.remove(&job).is_some();
                if asked && answer == Answer::Accept {
                    self.downstream.taken.insert(job.clone());
                }
                let decision = match answer {
                    Answer::Accept => Decision::Accept,
                    Answer::Decline => Decision::Reject,
                    Answer::Terminate => Decision::Terminate,
                };
                self.tell(Input::Decided(job, decision));
            }
            FromDownstream::Report(job, report) => self.reported(&job, report),
            FromDownstream::Pong(ping) => self.ponged(ping),
            FromDownstream::Other => self.outputs.push_back(GuardOutput::Pass),
        }
    }

    fn reported(&mut self, job: &JobId, report: Report) {
        let end = match report {
            // The worker towards the server has said so at the assignment.
            Report::Running => return,
            Report::Success => End::Success,
            Report::Failed(text) => End::Failed(text),
        };
        if self.downstream.jobs.remove(job) {
            self.tell(Input::Ended(job.clone(), end));
        }
    }

    /// A pong answers every ping up to its own (RFC 6455, 5.5.3).
    fn ponged(&mut self, ping: u32) {
        let alive = |asked: &BTreeMap<JobId, u32>| {
            asked.iter().filter(|(_, with)| **with <= ping).map(|(job, _)| job.clone()).collect::<Vec<_>>()
        };
        for job in alive(&self.downstream.asked) {
            self.tell(Input::Heartbeat(job));
        }
        if self.downstream.probe.is_some_and(|probe| probe <= ping) {
            self.downstream.probe = None;
            self.tell(Input::ProbeAnswered);
        }
    }

    /// Whoever does not listen takes no jobs; what was put to it is for others.
    fn gone(&mut self) {
        self.downstream.registered = false;
        self.downstream.probe = None;
        // One that comes back does not know them.
        self.downstream.taken.clear();
        self.measure();
        for (job, _) in core::mem::take(&mut self.downstream.asked) {
            self.tell(Input::Decided(job, Decision::Reject));
        }
    }

    fn died(&mut self) {
        self.gone();
        for job in core::mem::take(&mut self.downstream.jobs) {
            self.orphaned(job, End::Failed(WORKER_DIED.into()));
        }
    }

    fn job_died(&mut self, job: &JobId, end: End) {
        if self.downstream.jobs.remove(job) {
            match end {
                End::Success => self.tell(Input::Ended(job.clone(), end)),
                End::Failed(_) => self.orphaned(job.clone(), end),
            }
        }
    }

    /// First the rescue, then the report: nothing may lie between a crash and what is done about it.
    fn orphaned(&mut self, job: JobId, end: End) {
        self.outputs.push_back(GuardOutput::Orphan(job.clone()));
        self.tell(Input::Ended(job, end));
    }

    fn measure(&mut self) {
        let Downstream { registered, full, load, .. } = self.downstream;
        let load = if registered && !full { load } else { Load::WHOLE };
        self.tell(Input::Load(load));
    }

    /// Gives the worker towards the server one input, and does what it asks of user code with the downstream.
    fn tell(&mut self, input: Input) {
        self.worker.handle(input);
        let mut undeliverable = Vec::new();
        while let Some(output) = self.worker.poll_output() {
            match output {
                Output::Ask(job) => {
                    let ping = self.ping();
                    self.downstream.asked.insert(job.clone(), ping);
                    self.outputs.push_back(GuardOutput::Send(ToDownstream::Offer(job)));
                }
                // What it answers later is dropped.
                Output::Forget(job) => drop(self.downstream.asked.remove(&job)),
                Output::Probe => self.downstream.probe = Some(self.ping()),
                Output::Launch(job) if self.downstream.taken.remove(&job) => {
                    self.downstream.jobs.insert(job.clone());
                    self.outputs.push_back(GuardOutput::Send(ToDownstream::Assignment(job)));
                }
                Output::Launch(job) => undeliverable.push(job),
                Output::Tell(job, _) => {
                    self.outputs.push_back(GuardOutput::Send(ToDownstream::Termination(job)));
                }
                Output::Cancel(job) => self.outputs.push_back(GuardOutput::Terminate(job)),
                Output::Kill(job) => {
                    self.downstream.jobs.remove(&job);
                    self.outputs.push_back(GuardOutput::Kill(job));
                }
                // The downstream does not hear of a drain before it can do no harm; its agents leave as they like.
                Output::Notify(_) | Output::Release(_) => {}
                Output::Exit(outcome) => self.outputs.push_back(GuardOutput::Leave(outcome)),
                Output::Dial | Output::HangUp | Output::Arm(_) | Output::Disarm(_) | Output::Event(_) => {
                    self.outputs.push_back(GuardOutput::Upstream(output))
                }
            }
        }
        for job in undeliverable {
            self.orphaned(job, End::Failed(NOBODY_THERE.into()));
        }
    }

    fn ping(&mut self) -> u32 {
        self.downstream.pings = self.downstream.pings.wrapping_add(1);
        self.outputs.push_back(GuardOutput::Send(ToDownstream::Ping(self.downstream.pings)));
        self.downstream.pings
    }
}
