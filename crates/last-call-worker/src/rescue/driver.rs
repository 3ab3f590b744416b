//! The thread `last-call-rescue`: what it is told, what the core wants, and what the server answers.
//!
//! Owns every call that runs here and every rescue that is under way. Refuses to decide: the core does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use last_call_proto::{JobId, Lineage, Rescue, RescueInput, RescueOutput, RescueTimer, Room, Verdict};
use livekit_protocol as livekit;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::call::{Call, Made, Mark};
use super::journal::Journal;
use super::look::{self, Listed};
use crate::api::{Api, ApiError};
use crate::metrics::{Metrics, Rescued};
use crate::timers::until;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Assigned(Box<Call>),
    Ended(JobId),
    Orphaned(JobId, bool),
    /// What is lost from now on counts.
    Draining,
    /// Say whose calls are left without an agent: when no rescue is under way, or at this time.
    Settle(Instant, oneshot::Sender<Vec<JobId>>),
}

/// What came of something that the core wanted.
enum Done {
    Looked(Lineage, Result<Listed, ApiError>),
    Dispatched(Lineage, Mark, Result<livekit::AgentDispatch, ApiError>),
    Due(RescueTimer),
}

/// A call whose rescue is under way.
struct Dying {
    call: Call,
    /// The dispatch to be made again.
    like: Option<livekit::AgentDispatch>,
    /// The one that no worker has taken.
    untaken: Option<String>,
    /// The dispatches that were there at the last look.
    listed: BTreeSet<String>,
    /// Those that were there before a dispatch whose outcome is unknown.
    before: Option<BTreeSet<String>>,
    /// It has been dispatched again.
    asked: bool,
    /// What is to be said of its end.
    why: String,
}

/// Everything that the thread has.
pub(super) struct Driver {
    core: Rescue,
    api: Api,
    journal: Option<Journal>,
    metrics: Arc<Metrics>,
    running: HashMap<JobId, Call>,
    dying: HashMap<Lineage, Dying>,
    /// Deaths of other agents of calls whose rescue is under way.
    later: Vec<(Call, bool)>,
    made: Made,
    tasks: JoinSet<Done>,
    settling: Vec<(Instant, oneshot::Sender<Vec<JobId>>)>,
    draining: bool,
    /// Jobs whose calls were given up in the drain.
    lost: Vec<JobId>,
}

impl Driver {
    pub(super) fn new(core: Rescue, api: Api, journal: Option<Journal>, metrics: Arc<Metrics>) -> Self {
        Self {
            core,
            api,
            journal,
            metrics,
            running: HashMap::new(),
            dying: HashMap::new(),
            later: Vec::new(),
            made: Made::default(),
            tasks: JoinSet::new(),
            settling: Vec::new(),
            draining: false,
            lost: Vec::new(),
        }
    }

    /// Works until nobody can tell it anything any more. `left` are calls of a process before this one.
    pub(super) async fn run(mut self, left: Vec<Call>, mut orders: mpsc::UnboundedReceiver<Order>) {
        for call in left {
            self.died(call, false);
        }
        loop {
            self.perform();
            let due = self.settling.iter().map(|(at, _)| *at).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.told(order),
                    None => return,
                },
                Some(Ok(done)) = self.tasks.join_next() => self.done(done),
                () = until(due) => self.overdue(),
            }
            // Whoever died there was there.
            for (call, _) in &self.later {
                self.core.handle(RescueInput::Served(call.lineage()));
            }
        }
    }

    fn told(&mut self, order: Order) {
        match order {
            Order::Assigned(mut call) => {
                if let Some(mark) = self.made.mark(&call.dispatch) {
                    call.mark = mark.clone();
                }
                if let Some(journal) = &mut self.journal {
                    journal.began(&call);
                }
                let lineage = call.lineage();
                if self.dying.get(&lineage).is_some_and(|dying| dying.call.mark.attempt < call.mark.attempt) {
                    self.core.handle(RescueInput::Served(lineage));
                }
                self.running.insert(JobId::from(call.job.as_str()), *call);
            }
            // The end of a job whose agent died is no end of its call.
            Order::Ended(job) => {
                if self.running.remove(&job).is_some() {
                    self.forget(job.as_str());
                }
            }
            Order::Orphaned(job, suspect) => match self.running.remove(&job) {
                Some(call) => self.died(call, suspect),
                None => tracing::debug!(%job, "an agent died whose call is not known here, or is over"),
            },
            Order::Draining => self.draining = true,
            Order::Settle(at, done) => self.settling.push((at, done)),
        }
    }

    fn died(&mut self, call: Call, suspect: bool) {
        let lineage = call.lineage();
        if self.dying.contains_key(&lineage) {
            return self.later.push((call, suspect));
        }
        let (attempt, targeted) = (call.mark.attempt, call.targeted);
        tracing::warn!(job = call.job, room = call.room, agent = call.agent, attempt, "a call's agent died");
        let dying = Dying {
            call,
            like: None,
            untaken: None,
            listed: BTreeSet::new(),
            before: None,
            asked: false,
            why: String::new(),
        };
        self.dying.insert(lineage.clone(), dying);
        self.core.handle(RescueInput::Died { call: lineage, attempt, targeted, suspect });
    }

    /// Does what the core wants.
    fn perform(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                RescueOutput::Look(call) => self.look(call),
                RescueOutput::Dispatch(call, attempt) => self.dispatch(call, attempt),
                RescueOutput::Arm(timer) => {
                    let wait = self.core.wait(&timer, fastrand::u32(..));
                    if timer == RescueTimer::Pause {
                        tracing::warn!(
                            ?wait,
                            "too many rescues have failed in a row: none is tried for a while"
                        );
                    }
                    self.tasks.spawn(async move {
                        tokio::time::sleep(wait).await;
                        Done::Due(timer)
                    });
                }
                RescueOutput::Done(call, verdict) => self.over(&call, verdict),
            }
        }
        let pending = self.pending();
        self.metrics.rescues_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        if pending == 0 {
            for (_, done) in self.settling.drain(..) {
                // Who asked may wait no more.
                let _ = done.send(self.lost.clone());
            }
        }
    }

    fn look(&mut self, call: Lineage) {
        let Some(dying) = self.dying.get(&call) else { return };
        let (api, room) = (self.api.clone(), dying.call.room.clone());
        self.tasks.spawn(async move { Done::Looked(call, look::look(&api, &room).await) });
    }

    fn dispatch(&mut self, call: Lineage, attempt: u8) {
        let Some(dying) = self.dying.get_mut(&call) else { return };
        let Some(like) = dying.like.take() else { return };
        let untaken = dying.untaken.take();
        dying.before = Some(std::mem::take(&mut dying.listed));
        let (api, agent, mark) = (self.api.clone(), dying.call.agent.clone(), dying.call.next(attempt));
        let request = look::request(like, &mark);
        self.tasks.spawn(async move {
            if let Err(error) = api.remove_participant(&request.room, &agent).await {
                // Mostly it has gone by itself. One that stays leaves when the server finds out.
                tracing::debug!(room = request.room, agent, %error, "the dead agent was not removed");
            }
            if let Some(untaken) = untaken {
                tracing::warn!(
                    room = request.room,
                    dispatch = untaken,
                    "no worker has taken the call: once more"
                );
                // One that stays takes nothing any more.
                let _ = api.delete_dispatch(&request.room, &untaken).await;
            }
            Done::Dispatched(call, mark, api.create_dispatch(&request).await)
        });
    }

    fn done(&mut self, done: Done) {
        let input = match done {
            Done::Due(timer) => RescueInput::Fired(timer),
            Done::Looked(call, Ok(listed)) => self.seen(call, listed),
            Done::Looked(call, Err(error)) => {
                self.failed(&call, &error);
                RescueInput::NotSeen(call)
            }
            Done::Dispatched(call, mark, Ok(dispatch)) => {
                self.made(&call, dispatch.id, mark);
                RescueInput::Dispatched(call)
            }
            Done::Dispatched(call, _, Err(error)) => {
                self.failed(&call, &error);
                if error.is_refusal() { RescueInput::Refused(call) } else { RescueInput::Unknown(call) }
            }
        };
        self.core.handle(input);
    }

    fn seen(&mut self, lineage: Lineage, listed: Listed) -> RescueInput {
        let Some(dying) = self.dying.get_mut(&lineage) else {
            return RescueInput::Seen(lineage, Room::Empty);
        };
        let running = self.running.values().filter(|other| other.room == dying.call.room);
        let others = running.filter(|other| other.mark.first != dying.call.mark.first);
        let others = others.map(|other| other.agent.clone()).collect();
        let seen = look::judge(&dying.call, listed, &self.made, dying.before.as_ref(), &others);
        (dying.like, dying.listed, dying.why) = (seen.like, seen.dispatches, seen.why.to_owned());
        dying.untaken = seen.newer.clone().filter(|_| seen.room == Room::Asked);
        if let Some(newer) = seen.newer
            && dying.before.is_some()
            && self.made.mark(&newer).is_none()
        {
            let mark = dying.call.next(dying.call.mark.attempt.saturating_add(1));
            self.made(&lineage, newer, mark);
        }
        RescueInput::Seen(lineage, seen.room)
    }

    /// This dispatch is the call's.
    fn made(&mut self, lineage: &Lineage, dispatch: String, mark: Mark) {
        if let Some(Dying { call, asked, .. }) = self.dying.get_mut(lineage) {
            *asked = true;
            let (room, first, attempt) = (&call.room, &mark.first, mark.attempt);
            tracing::info!(room, first, attempt, dispatch, "call dispatched again");
        }
        self.made.add(dispatch, mark);
    }

    fn failed(&mut self, lineage: &Lineage, error: &ApiError) {
        let Some(dying) = self.dying.get_mut(lineage) else { return };
        dying.why = error.to_string();
        tracing::debug!(room = dying.call.room, %error, "a step of a rescue failed");
    }

    fn over(&mut self, lineage: &Lineage, verdict: Verdict) {
        let Some(Dying { call, why, .. }) = self.dying.remove(lineage) else { return };
        self.forget(&call.job);
        let (job, room, first, attempt) = (&call.job, &call.room, &call.mark.first, call.mark.attempt);
        // Each agent's own end is a line of its own.
        let dead = call.dead().join(", ");
        let label = match verdict {
            Verdict::Rescued => {
                tracing::info!(job, room, first, dead, "call has an agent again");
                Rescued::Again
            }
            Verdict::NotNeeded => {
                tracing::info!(job, room, first, dead, why, "call not dispatched again");
                Rescued::NotNeeded
            }
            Verdict::TooOften => {
                let why = "it has lost as many agents as a call may (--rescue-attempts)";
                tracing::error!(job, room, first, attempt, dead, why, "call lost");
                Rescued::TooOften
            }
            Verdict::Targeted => {
                let why =
                    "its job was for a participant: a dispatch would send one more agent to every other";
                tracing::error!(job, room, first, dead, why, "call lost");
                Rescued::Targeted
            }
            Verdict::Failed => {
                tracing::error!(job, room, first, attempt, dead, why, "call lost");
                Rescued::Failed
            }
        };
        self.metrics.rescues.of(label).inc();
        if self.draining && matches!(label, Rescued::TooOften | Rescued::Targeted | Rescued::Failed) {
            self.lost.push(JobId::from(call.job.as_str()));
        }
        if let Some(next) = self.later.iter().position(|(call, _)| call.lineage() == *lineage) {
            let (call, suspect) = self.later.remove(next);
            self.died(call, suspect);
        }
    }

    fn overdue(&mut self) {
        let mut lost = self.lost.clone();
        // What the journal has, the next process does.
        if self.journal.is_none() {
            let waiting = self.dying.values().filter(|dying| !dying.asked).map(|dying| &dying.call);
            let waiting = waiting.chain(self.later.iter().map(|(call, _)| call));
            lost.extend(waiting.map(|call| JobId::from(call.job.as_str())));
        }
        for Dying { call, why, .. } in self.dying.values() {
            let dead = call.dead().join(", ");
            tracing::error!(job = call.job, room = call.room, dead, why, "rescue not finished at the exit");
        }
        let now = Instant::now();
        for (_, done) in self.settling.extract_if(.., |(at, _)| *at <= now) {
            let _ = done.send(lost.clone());
        }
    }

    fn pending(&self) -> usize {
        self.core.pending() + self.later.len()
    }

    fn forget(&mut self, job: &str) {
        if let Some(journal) = &mut self.journal {
            journal.ended(job);
        }
    }
}
