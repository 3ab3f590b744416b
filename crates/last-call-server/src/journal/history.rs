//! What a page that opens now must be told, to show the same as one that was open all along.
//!
//! Owns a log of events with numbers, from which goes what a later event makes needless, and the oldest of what is
//! over. Refuses time and sockets: the same events give the same log.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::event::{Event, Reply, What};

/// How much is kept of what is over. What goes on is kept whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls that ended or were lost.
    pub(crate) ended: usize,
    /// Workers that are gone.
    pub(crate) gone: usize,
    /// Offers and answers.
    pub(crate) offers: usize,
    /// Remarks.
    pub(crate) notes: usize,
}

impl Limits {
    /// A server's, which runs for long.
    pub(crate) const SERVED: Self = Self { ended: 200, gone: 50, offers: 1_000, notes: 100 };
    /// A report's, which shows what it is given.
    pub(crate) const NONE: Self =
        Self { ended: usize::MAX, gone: usize::MAX, offers: usize::MAX, notes: usize::MAX };
}

/// Everything counted since the start, whether or not it is still kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Connected now.
    pub(crate) workers: usize,
    /// Ever registered.
    pub(crate) registered: usize,
    /// Calls that run now.
    pub(crate) running: usize,
    pub(crate) assigned: usize,
    pub(crate) finished: usize,
    pub(crate) failed: usize,
    pub(crate) orphaned: usize,
    pub(crate) offers: usize,
    pub(crate) accepted: usize,
    pub(crate) declined: usize,
    pub(crate) terminated: usize,
    pub(crate) unserved: usize,
    pub(crate) unanswered: usize,
}

/// What a follower has not seen.
#[derive(Debug)]
pub(crate) struct Batch {
    /// It starts from nothing: what the follower knew may be out of date.
    pub(crate) fresh: bool,
    /// In their order, with their numbers.
    pub(crate) events: Vec<(u64, Arc<Event>)>,
    /// The number to go on from.
    pub(crate) latest: u64,
    pub(crate) tally: Tally,
}

/// A connected worker, by the numbers of its events.
#[derive(Debug)]
struct Worker {
    registered: u64,
    phase: Phase,
    /// When its phase changed last.
    turn: Option<u64>,
    /// Its latest status, where its phase has not changed with it.
    status: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Available,
    Full,
    Draining,
}

/// The log.
#[derive(Debug)]
pub(crate) struct History {
    limits: Limits,
    log: BTreeMap<u64, Arc<Event>>,
    latest: u64,
    /// A follower that has not seen this number would never learn of an end.
    horizon: u64,
    tally: Tally,
    workers: HashMap<String, Worker>,
    /// A worker without an agent name has been here: only then a room without an agent is a loss.
    unnamed: bool,
    /// Dispatches that no worker has taken yet.
    wishes: HashMap<String, u64>,
    /// Dispatches by their jobs, while workers are asked.
    asked: HashMap<String, String>,
    /// Assignments of the jobs that run.
    running: HashMap<String, u64>,
    ended: VecDeque<Vec<u64>>,
    gone: VecDeque<Vec<u64>>,
    offers: VecDeque<u64>,
    notes: VecDeque<u64>,
}

impl History {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            log: BTreeMap::new(),
            latest: 0,
            horizon: 0,
            tally: Tally::default(),
            workers: HashMap::new(),
            unnamed: false,
            wishes: HashMap::new(),
            asked: HashMap::new(),
            running: HashMap::new(),
            ended: VecDeque::new(),
            gone: VecDeque::new(),
            offers: VecDeque::new(),
            notes: VecDeque::new(),
        }
    }

    /// What happened after the event of this number; from the start where it is 0, or too old, or not ours.
    pub(crate) fn after(&self, number: u64) -> Batch {
        let fresh = number == 0 || number < self.horizon || number > self.latest;
        let from = if fresh { 0 } else { number };
        let events = self.log.range(from + 1..).map(|(number, event)| (*number, Arc::clone(event)));
        Batch { fresh, events: events.collect(), latest: self.latest, tally: self.tally }
    }

    /// Takes an event into the log, if the page shows it.
    pub(crate) fn record(&mut self, event: &Arc<Event>) {
        match &event.what {
            What::WorkerRegistered { worker, agent_name, .. } => self.registered(worker, agent_name, event),
            What::WorkerStatus { worker, available, draining, .. } => {
                self.status(worker, Phase::of(*available, *draining), event);
            }
            What::WorkerGone { worker } => self.worker_gone(worker, event),
            What::DispatchCreated { dispatch, agent_name, .. } => {
                if self.unnamed || !agent_name.is_empty() {
                    let number = self.keep(event);
                    self.wishes.insert(dispatch.clone(), number);
                }
            }
            What::Offered { job, dispatch, .. } => {
                self.asked.insert(job.clone(), dispatch.clone());
                self.tally.offers += 1;
                self.keep_offer(event);
            }
            What::Answered { job, reply, .. } => self.answered(job, *reply, event),
            What::Assigned { job, dispatch, .. } => self.assigned(job, dispatch, event),
            What::Unserved { job, dispatch, .. } => {
                self.tally.unserved += usize::from(self.lost(job, dispatch, event));
            }
            What::Unanswered { job, dispatch, .. } => {
                self.tally.unanswered += usize::from(self.lost(job, dispatch, event));
            }
            What::JobEnded { job, success: true, .. } => {
                self.tally.finished += usize::from(self.ended(job, event));
            }
            What::JobEnded { job, success: false, .. } => {
                self.tally.failed += usize::from(self.ended(job, event));
            }
            What::JobOrphaned { job, .. } => self.tally.orphaned += usize::from(self.ended(job, event)),
            What::Noted { .. } => {
                let number = self.keep(event);
                self.notes.push_back(number);
                if self.notes.len() > self.limits.notes {
                    let oldest = self.notes.pop_front();
                    self.strike(oldest);
                }
            }
            What::RoomStarted { .. } | What::RoomFinished { .. } | What::JobRunning { .. } => {}
        }
    }

    fn registered(&mut self, worker: &str, agent_name: &str, event: &Arc<Event>) {
        self.unnamed |= agent_name.is_empty();
        self.tally.registered += 1;
        let registered = self.keep(event);
        let worker = self.workers.insert(worker.to_owned(), Worker::new(registered));
        debug_assert!(worker.is_none(), "an id is never given twice");
        self.tally.workers = self.workers.len();
    }

    fn status(&mut self, worker: &str, phase: Phase, event: &Arc<Event>) {
        // One that has not registered may say how it fares, too.
        let Some(worker) = self.workers.get_mut(worker) else { return };
        let number = self.latest + 1;
        let status = worker.status.take();
        let turn = if worker.phase == phase {
            worker.status = Some(number);
            None
        } else {
            worker.phase = phase;
            worker.turn.replace(number)
        };
        self.strike(status);
        self.strike(turn);
        self.keep(event);
    }

    fn worker_gone(&mut self, worker: &str, event: &Arc<Event>) {
        let Some(worker) = self.workers.remove(worker) else { return };
        self.tally.workers = self.workers.len();
        let gone = self.keep(event);
        let of_it = [Some(worker.registered), worker.turn, worker.status, Some(gone)];
        self.gone.push_back(of_it.into_iter().flatten().collect());
        if self.gone.len() > self.limits.gone {
            let oldest = self.gone.pop_front();
            self.bury(oldest);
        }
    }

    fn answered(&mut self, job: &str, reply: Reply, event: &Arc<Event>) {
        // A worker may answer late, or what it was never asked.
        if !self.asked.contains_key(job) {
            return;
        }
        match reply {
            Reply::Accepted => self.tally.accepted += 1,
            Reply::Declined => self.tally.declined += 1,
            Reply::Terminated => {
                self.tally.terminated += 1;
                if let Some(dispatch) = self.asked.remove(job) {
                    self.fulfil(&dispatch);
                }
            }
        }
        self.keep_offer(event);
    }

    fn assigned(&mut self, job: &str, dispatch: &str, event: &Arc<Event>) {
        self.asked.remove(job);
        self.fulfil(dispatch);
        let number = self.keep(event);
        self.running.insert(job.to_owned(), number);
        self.tally.assigned += 1;
        self.tally.running = self.running.len();
    }

    /// A call that got no agent; false where nobody wished for one.
    fn lost(&mut self, job: &str, dispatch: &str, event: &Arc<Event>) -> bool {
        self.asked.remove(job);
        let Some(wish) = self.wishes.remove(dispatch) else { return false };
        let number = self.keep(event);
        self.close(vec![wish, number]);
        true
    }

    /// A job that is over; false where it was not assigned.
    fn ended(&mut self, job: &str, event: &Arc<Event>) -> bool {
        let Some(assigned) = self.running.remove(job) else {
            // Its worker took it, but no token could be made for the agent.
            if let Some(dispatch) = self.asked.remove(job) {
                self.fulfil(&dispatch);
            }
            return false;
        };
        self.tally.running = self.running.len();
        let number = self.keep(event);
        self.close(vec![assigned, number]);
        true
    }

    fn close(&mut self, call: Vec<u64>) {
        self.ended.push_back(call);
        if self.ended.len() > self.limits.ended {
            let oldest = self.ended.pop_front();
            self.bury(oldest);
        }
    }

    /// Once it is known what became of a dispatch, its beginning tells nothing more.
    fn fulfil(&mut self, dispatch: &str) {
        let wish = self.wishes.remove(dispatch);
        self.strike(wish);
    }

    fn keep_offer(&mut self, event: &Arc<Event>) {
        let number = self.keep(event);
        self.offers.push_back(number);
        if self.offers.len() > self.limits.offers {
            let oldest = self.offers.pop_front();
            self.strike(oldest);
        }
    }

    fn keep(&mut self, event: &Arc<Event>) -> u64 {
        self.latest += 1;
        self.log.insert(self.latest, Arc::clone(event));
        self.latest
    }

    /// Drops an event without which the rest says the same.
    fn strike(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.log.remove(&number);
        }
    }

    /// Drops all of something that is over.
    fn bury(&mut self, numbers: Option<Vec<u64>>) {
        for number in numbers.into_iter().flatten() {
            self.log.remove(&number);
            self.horizon = self.horizon.max(number);
        }
    }
}

impl Worker {
    fn new(registered: u64) -> Self {
        Self { registered, phase: Phase::Available, turn: None, status: None }
    }
}

impl Phase {
    fn of(available: bool, draining: bool) -> Self {
        match (available, draining) {
            (_, true) => Self::Draining,
            (true, false) => Self::Available,
            (false, false) => Self::Full,
        }
    }
}
