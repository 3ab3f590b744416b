//! The server's side of dispatch, as livekit-server 1.13 does it: one group of workers that share agent
//! name, job type and deployment.
//!
//! Owns registration, choice, the budget of an offer and what is forgotten with a connection. Refuses
//! rooms, tokens and randomness: the driver draws where [`DispatcherOutput::Choose`] asks. Sources:
//! `pkg/agent/worker.go`, `pkg/service/agentservice.go` of livekit-server 1.13.5, and measurements.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::message::{Answer, FromServer, JobId, Load, Report, ToServer};

/// One worker's connection, numbered by the driver and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// When the dispatcher would wake although nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DispatcherTimer {
    /// When to close a connection that did not register. The server waits 10 s.
    Register(ConnId),
    /// When to give up a dispatch that no worker took. The server waits 3 s, over all workers it asks.
    Budget(JobId),
}

impl DispatcherTimer {
    /// How long after it was armed the timer is due.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        match self {
            Self::Register(_) => Duration::from_secs(10),
            Self::Budget(_) => Duration::from_secs(3),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DispatcherInput {
    /// A worker connected.
    Connected(ConnId),
    /// A worker's connection is gone.
    Closed(ConnId),
    /// A frame arrived.
    Received(ConnId, ToServer),
    /// A room wants an agent.
    Dispatch(JobId),
    /// The draw that [`DispatcherOutput::Choose`] asked for.
    Chosen(JobId, ConnId),
    /// The dispatch was deleted, or its agent left the room.
    Terminate(JobId),
    /// A timer is due.
    Fired(DispatcherTimer),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DispatcherOutput {
    /// Write this frame.
    Send(ConnId, FromServer),
    /// Close this connection.
    Close(ConnId),
    /// Draw one of these, each with its weight.
    Choose(JobId, Vec<(ConnId, u16)>),
    /// Arm this timer.
    Arm(DispatcherTimer),
    /// Disarm this timer, if it is armed.
    Disarm(DispatcherTimer),
    /// Something to log and count.
    Event(DispatcherEvent),
}

/// What became of a dispatch or a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DispatcherEvent {
    /// The job went to this worker.
    Assigned(JobId, ConnId),
    /// A worker ended the dispatch without an agent.
    Terminated(JobId),
    /// No worker was there, or left, to ask: the call has no agent.
    Unserved(JobId),
    /// No worker answered within the budget: the call has no agent, and nobody is asked again.
    Unanswered(JobId),
    /// The job's worker reported.
    Reported(JobId, Report),
    /// The connection of the job's worker is gone. The job is forgotten, not offered again.
    Orphaned(JobId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Registered {
    available: bool,
    load: Load,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    /// A draw is asked for.
    Choosing {
        asked: BTreeSet<ConnId>,
    },
    /// This worker was asked last.
    Offered {
        to: ConnId,
        asked: BTreeSet<ConnId>,
    },
    Running(ConnId),
}

/// The dispatcher's state machine. The same contract as [`crate::Worker`]; every output of `Send` is
/// written in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatcher {
    target: Load,
    /// `None` until the connection registered.
    workers: BTreeMap<ConnId, Option<Registered>>,
    jobs: BTreeMap<JobId, Job>,
    outputs: VecDeque<DispatcherOutput>,
}

impl Dispatcher {
    /// A dispatcher without workers, with the server's `agents.target_load`.
    #[must_use]
    pub fn new(target: Load) -> Self {
        Self { target, workers: BTreeMap::new(), jobs: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// Takes one input. Poll afterwards until nothing is left.
    pub fn handle(&mut self, input: DispatcherInput) {
        match input {
            DispatcherInput::Connected(conn) => {
                self.workers.insert(conn, None);
                self.outputs.push_back(DispatcherOutput::Arm(DispatcherTimer::Register(conn)));
            }
            DispatcherInput::Closed(conn) => self.closed(conn),
            DispatcherInput::Received(conn, frame) => self.received(conn, frame),
            DispatcherInput::Dispatch(job) => {
                self.outputs.push_back(DispatcherOutput::Arm(DispatcherTimer::Budget(job.clone())));
                if self.has_room() {
                    self.choose(job, BTreeSet::new());
                } else {
                    self.unserved(job);
                }
            }
            DispatcherInput::Chosen(job, conn) => self.chosen(job, conn),
            DispatcherInput::Terminate(job) => self.terminate(&job),
            DispatcherInput::Fired(DispatcherTimer::Register(conn)) => {
                if self.workers.get(&conn) == Some(&None) {
                    self.reject(conn);
                }
            }
            DispatcherInput::Fired(DispatcherTimer::Budget(job)) => {
                if matches!(self.jobs.get(&job), Some(Job::Choosing { .. } | Job::Offered { .. })) {
                    self.jobs.remove(&job);
                    self.emit(DispatcherEvent::Unanswered(job));
                }
            }
        }
    }

    /// The next thing to do; `None` when everything is done until the next input.
    pub fn poll_output(&mut self) -> Option<DispatcherOutput> {
        self.outputs.pop_front()
    }

    /// Whether it has no connection and no job, so that nothing is forgotten with it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.jobs.is_empty()
    }

    /// Whether this connection would be drawn for a dispatch that came now.
    #[must_use]
    pub fn would_offer_to(&self, conn: ConnId) -> bool {
        self.has_room() && self.candidates(&BTreeSet::new()).iter().any(|(candidate, _)| *candidate == conn)
    }

    fn received(&mut self, conn: ConnId, frame: ToServer) {
        let Some(worker) = self.workers.get_mut(&conn) else { return };
        match (worker, frame) {
            (_, ToServer::Ping) => self.send(conn, FromServer::Other),
            (unregistered @ None, ToServer::Register) => {
                // A registration is available at load 0: nothing of an earlier connection is remembered.
                *unregistered = Some(Registered { available: true, load: Load::IDLE });
                self.outputs.push_back(DispatcherOutput::Disarm(DispatcherTimer::Register(conn)));
                self.send(conn, FromServer::Registered);
            }
            (Some(worker), ToServer::Status(status)) => {
                *worker = Registered { available: status.available, load: status.load };
            }
            (Some(_), ToServer::Answer(job, answer)) => self.answered(conn, job, answer),
            (Some(_), ToServer::Report(job, report)) => {
                if self.jobs.get(&job) == Some(&Job::Running(conn)) {
                    if report != Report::Running {
                        self.jobs.remove(&job);
                    }
                    self.emit(DispatcherEvent::Reported(job, report));
                }
            }
            (Some(_), ToServer::Migrate(_)) => {}
            (Some(_), ToServer::Register)
            | (
                None,
                ToServer::Status(_) | ToServer::Answer(..) | ToServer::Report(..) | ToServer::Migrate(_),
            ) => {
                self.reject(conn);
            }
        }
    }

    fn answered(&mut self, conn: ConnId, job: JobId, answer: Answer) {
        let Some(Job::Offered { to, asked }) = self.jobs.get(&job) else { return };
        if *to != conn {
            return;
        }
        let asked = asked.clone();
        match answer {
            Answer::Decline => self.choose(job, asked),
            Answer::Accept => {
                self.settle(&job);
                self.jobs.insert(job.clone(), Job::Running(conn));
                self.send(conn, FromServer::Assignment(job.clone()));
                self.emit(DispatcherEvent::Assigned(job, conn));
            }
            Answer::Terminate => {
                self.settle(&job);
                self.jobs.remove(&job);
                self.emit(DispatcherEvent::Terminated(job));
            }
        }
    }

    /// Whether the group takes a dispatch at all: the server's affinity, which is nothing where everyone is
    /// at or over its target load. It is asked once for each dispatch, not before each offer.
    fn has_room(&self) -> bool {
        self.workers.values().flatten().any(|worker| worker.available && worker.load < self.target)
    }

    /// Workers that can be drawn: a group with room draws among all that are available, by what each has left,
    /// those over the target load too.
    fn candidates(&self, asked: &BTreeSet<ConnId>) -> Vec<(ConnId, u16)> {
        let open = |(conn, worker): (&ConnId, &Option<Registered>)| {
            let worker = worker.as_ref().filter(|worker| worker.available && worker.load < Load::WHOLE)?;
            (!asked.contains(conn)).then(|| (*conn, Load::WHOLE.thousandths() - worker.load.thousandths()))
        };
        self.workers.iter().filter_map(open).collect()
    }

    fn choose(&mut self, job: JobId, asked: BTreeSet<ConnId>) {
        let candidates = self.candidates(&asked);
        if candidates.is_empty() {
            return self.unserved(job);
        }
        self.jobs.insert(job.clone(), Job::Choosing { asked });
        self.outputs.push_back(DispatcherOutput::Choose(job, candidates));
    }

    fn unserved(&mut self, job: JobId) {
        self.settle(&job);
        self.jobs.remove(&job);
        self.emit(DispatcherEvent::Unserved(job));
    }

    fn chosen(&mut self, job: JobId, conn: ConnId) {
        let Some(Job::Choosing { asked }) = self.jobs.get(&job) else { return };
        let mut asked = asked.clone();
        asked.insert(conn);
        if self.workers.contains_key(&conn) {
            self.jobs.insert(job.clone(), Job::Offered { to: conn, asked });
            self.send(conn, FromServer::Offer(job));
        } else {
            self.choose(job, asked);
        }
    }

    fn terminate(&mut self, job: &JobId) {
        if let Some(Job::Running(conn)) = self.jobs.remove(job) {
            self.send(conn, FromServer::Termination(job.clone()));
        }
        self.settle(job);
    }

    fn reject(&mut self, conn: ConnId) {
        self.outputs.push_back(DispatcherOutput::Close(conn));
        self.closed(conn);
    }

    fn closed(&mut self, conn: ConnId) {
        self.outputs.push_back(DispatcherOutput::Disarm(DispatcherTimer::Register(conn)));
        if self.workers.remove(&conn).is_none() {
            return;
        }
        let of_conn = self.jobs.iter().filter_map(|(job, state)| match state {
            Job::Offered { to, asked } if *to == conn => Some((job.clone(), Some(asked.clone()))),
            Job::Running(on) if *on == conn => Some((job.clone(), None)),
            Job::Choosing { .. } | Job::Offered { .. } | Job::Running(_) => None,
        });
        for (job, asked) in of_conn.collect::<Vec<_>>() {
            if let Some(asked) = asked {
                self.choose(job, asked);
            } else {
                self.jobs.remove(&job);
                self.emit(DispatcherEvent::Orphaned(job));
            }
        }
    }

    fn settle(&mut self, job: &JobId) {
        self.outputs.push_back(DispatcherOutput::Disarm(DispatcherTimer::Budget(job.clone())));
    }

    fn send(&mut self, conn: ConnId, frame: FromServer) {
        self.outputs.push_back(DispatcherOutput::Send(conn, frame));
    }

    fn emit(&mut self, event: DispatcherEvent) {
        self.outputs.push_back(DispatcherOutput::Event(event));
    }
}
