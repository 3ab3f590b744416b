//! The worker's registrations: a link to the server for each.
//!
//! Owns which connection of the worker belongs to which link, and what operators see of all links together. Refuses to
//! keep a link whose worker is gone and has no calls: one left half a minute ago is not coming back. And to leave for a
//! registration that is refused, where the server has taken another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use last_call_proto::{Limits, Outcome, Phase, Policy};
use livekit_protocol as livekit;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio_tungstenite::tungstenite::Message;

use super::connection::Arrival;
use super::guarded::{Attached, FromWorker, Guarded, Surroundings};
use crate::http::Beat;
use crate::link::{Connection, Control, Dial, Keep, Link, Report, Runner, Source, Watched};
use crate::load::CurrentLoad;
use crate::metrics::Metrics;
use crate::observe::{DrainProgress, Snapshot};
use crate::runner::FromUser;
use crate::socket::Dialler;
use crate::timers::Timers;
use crate::token::Keys;

/// A worker that reconnects does so within seconds.
const GONE_FOR_GOOD: Duration = Duration::from_secs(30);

/// What every link is made of.
pub(super) struct Parts {
    pub(super) dialler: Dialler,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) policy: Policy,
    pub(super) load: Option<Arc<CurrentLoad>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) beat: Arc<Beat>,
    pub(super) surroundings: Surroundings,
}

/// All of them.
pub(super) struct Registrations {
    parts: Parts,
    shown: Shown,
    phase: Phase,
    slots: BTreeMap<u64, Slot>,
    links: JoinSet<(u64, Report)>,
    made: u64,
    /// A link that has left had registered.
    accepted: bool,
    /// A link has panicked.
    fault: bool,
    /// Connections of the worker whose link has left: the worker is told to end before they close, or it would take that
    /// for a fault and connect anew.
    left_open: Vec<mpsc::UnboundedSender<Message>>,
}

/// One registration of the worker, by what it said at it.
struct Slot {
    register: Bytes,
    query: String,
    control: mpsc::UnboundedSender<Control>,
    link: mpsc::UnboundedSender<FromUser>,
    /// Closed, when the worker's connection is over.
    connection: mpsc::UnboundedSender<Message>,
    snapshot: watch::Receiver<Snapshot>,
    alone_since: Option<Instant>,
    /// The process that registered is gone.
    outlives: bool,
    /// Nobody may come back to it: it was let go.
    leaving: bool,
    task: task::Id,
}

impl Slot {
    fn is_attached(&self) -> bool {
        !self.connection.is_closed()
    }

    fn is(&self, register: &Bytes, query: &str) -> bool {
        self.register == *register && self.query == query
    }

    /// Whether the server has ever taken it.
    fn was_accepted(&self) -> bool {
        let seen = self.snapshot.borrow();
        seen.registered || seen.worker_id.is_some()
    }

    fn attach(&mut self, connection: Attached) {
        self.connection = connection.to.clone();
        self.alone_since = None;
        self.outlives = false;
        self.tell(FromWorker::Attached(connection));
    }

    fn tell(&self, said: FromWorker) {
        // A link that has left is taken out soon.
        let _ = self.link.send(FromUser::Worker(said));
    }
}

impl Registrations {
    pub(super) fn new(parts: Parts, shown: watch::Sender<Snapshot>) -> Self {
        Self {
            parts,
            shown: Shown::new(shown),
            phase: Phase::Serving,
            slots: BTreeMap::new(),
            links: JoinSet::new(),
            made: 0,
            accepted: false,
            fault: false,
            left_open: Vec::new(),
        }
    }

    /// Whether nothing new is taken any more, for good.
    pub(super) fn draining(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Drained)
    }

    /// Whether no link is left.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The first link that leaves, and how its life went; never, while there is none. Cancel safe.
    pub(super) async fn left(&mut self) -> Option<Report> {
        let (number, report) = match self.links.join_next().await {
            Some(Ok(left)) => left,
            Some(Err(fault)) => {
                self.broke(&fault);
                return None;
            }
            None => return std::future::pending().await,
        };
        let slot = self.take(number);
        self.accepted |= slot.as_ref().is_some_and(Slot::was_accepted);
        if report.outcome == Outcome::Refused && self.was_accepted() {
            // Its connection closes, and the worker makes it anew: by then these keys are known to be good.
            return None;
        }
        if self.draining() {
            self.left_open.extend(slot.map(|slot| slot.connection));
        }
        Some(report)
    }

    /// A link panicked. Its calls go on in the worker, whose connection closes with it, so that the worker registers anew.
    fn broke(&mut self, fault: &JoinError) {
        self.fault = true;
        let broken = self.slots.iter().find(|(_, slot)| slot.task == fault.id()).map(|(number, _)| *number);
        if let Some(slot) = broken.and_then(|number| self.take(number)) {
            let calls = slot.snapshot.borrow().jobs_held();
            tracing::error!(
                calls,
                "a fault in guard has ended a registration: its calls go on, and guard follows them no more"
            );
        }
    }

    /// Takes out a link that is over.
    fn take(&mut self, number: u64) -> Option<Slot> {
        self.shown.change(|seen| seen.forget(number));
        self.slots.remove(&number)
    }

    /// Whether a link has panicked: nobody knows what became of its calls.
    pub(super) fn fault(&self) -> bool {
        self.fault
    }

    /// Whether the server has ever taken a registration.
    fn was_accepted(&self) -> bool {
        self.accepted || self.slots.values().any(Slot::was_accepted)
    }

    /// A worker registers: by the link that it had, where that is free, else by a new one. Refused in a drain, but for
    /// one that comes back to its calls.
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        let Arrival { register, request, query, connection, link } = arrival;
        let free = |slot: &Slot| !slot.is_attached() && !slot.leaving && !slot.link.is_closed();
        let known = self.slots.iter().find(|(_, slot)| slot.is(&register, &query) && free(slot));
        let number = match known {
            Some((number, _)) => *number,
            None if self.draining() => return,
            None => self.open(register.clone(), &request, query.clone()),
        };
        if let Some(slot) = self.slots.get_mut(&number)
            && link.send(slot.link.clone()).is_ok()
        {
            slot.attach(connection);
        }
        let replaced = |slot: &Slot| slot.outlives || slot.is(&register, &query);
        let others = self.slots.iter().filter(|(other, slot)| **other != number && replaced(slot));
        let replaced: Vec<_> = others.map(|(other, _)| *other).collect();
        self.shown.change(|seen| {
            seen.replaced.extend(replaced);
            seen.replaced.remove(&number);
        });
    }

    /// What every link is told.
    pub(super) fn control(&mut self, control: &Control) {
        self.phase = match (control, self.phase) {
            (Control::Drain(_) | Control::Force, _) => Phase::Draining,
            (Control::Quiet, Phase::Serving) => Phase::Quiet,
            (Control::Unquiet, Phase::Quiet) => Phase::Serving,
            (_, phase) => phase,
        };
        for slot in self.slots.values() {
            let _ = slot.control.send(control.clone());
        }
        self.shown.change(|seen| seen.phase = self.phase);
    }

    /// The worker's process is gone.
    pub(super) fn died(&mut self) {
        self.left_open.clear();
        for slot in self.slots.values_mut() {
            slot.outlives = true;
            slot.tell(FromWorker::Died);
        }
    }

    /// Every link hears of it, and the one whose job it is heeds it.
    pub(super) fn tell(&self, said: impl Fn() -> FromWorker) {
        self.slots.values().for_each(|slot| slot.tell(said()));
    }

    /// Lets links go whose worker is gone for good.
    pub(super) fn let_go(&mut self, now: Instant) {
        for slot in self.slots.values_mut() {
            let held = slot.snapshot.borrow().jobs_held() > 0;
            if slot.is_attached() || held {
                slot.alone_since = None;
            } else if now.duration_since(*slot.alone_since.get_or_insert(now)) > GONE_FOR_GOOD {
                slot.leaving = true;
                let _ = slot.control.send(Control::Drain(now));
            }
        }
    }

    fn open(&mut self, register: Bytes, request: &livekit::RegisterWorkerRequest, query: String) -> u64 {
        let number = self.made;
        self.made += 1;
        let (control, orders) = mpsc::unbounded_channel();
        let (link, from_user) = mpsc::unbounded_channel();
        let (snapshot, seen) = watch::channel(Snapshot { phase: self.phase, ..Snapshot::default() });
        let made = self.link(&register, request, &query, Ends { orders, from_user, snapshot });
        let task = self.links.spawn(async move { (number, made.run().await) }).id();
        tokio::spawn(self.shown.clone().follow(number, seen.clone()));
        match self.phase {
            Phase::Quiet => drop(control.send(Control::Quiet)),
            Phase::Draining | Phase::Drained => drop(control.send(Control::Drain(Instant::now()))),
            Phase::Serving => {}
        }
        tracing::info!(
            agent_name = request.agent_name,
            sdk_version = request.version,
            "the worker registers through guard"
        );
        let (connection, _) = mpsc::unbounded_channel();
        let slot = Slot {
            register,
            query,
            control,
            link,
            connection,
            snapshot: seen,
            alone_since: None,
            outlives: false,
            leaving: false,
            task,
        };
        self.slots.insert(number, slot);
        number
    }

    fn link(
        &self,
        register: &Bytes,
        request: &livekit::RegisterWorkerRequest,
        query: &str,
        ends: Ends,
    ) -> Link {
        let Parts { dialler, keys, limits, policy, load, metrics, beat, surroundings } = &self.parts;
        let mut core = last_call_proto::Worker::new(*limits);
        if self.was_accepted() {
            core = core.accepted_before();
        }
        let mut guarded = Guarded::new(register.clone(), surroundings.clone());
        while let Some(input) = guarded.poll_input() {
            core.handle(input);
        }
        let server = dialler.endpoint().authority();
        Link {
            core,
            policy: *policy,
            source: Source::Server {
                url: dialler.endpoint().as_str().to_owned(),
                dial: dial(dialler.clone(), keys.clone(), query.to_owned()),
            },
            registration: request.clone(),
            runner: Runner::Guarded(Box::new(guarded)),
            signals: None,
            control: ends.orders,
            verbs: mpsc::unbounded_channel().1,
            from_user: ends.from_user,
            load: load.clone(),
            metrics: metrics.clone(),
            snapshot: ends.snapshot,
            systemd: None,
            watched: Watched::new(server),
            beat: beat.clone(),
            keep: Keep::default(),
            rescues: None,
            connection: Connection::default(),
            timers: Timers::default(),
        }
    }
}

/// The link's ends of its channels.
struct Ends {
    orders: mpsc::UnboundedReceiver<Control>,
    from_user: mpsc::UnboundedReceiver<FromUser>,
    snapshot: watch::Sender<Snapshot>,
}

/// Opens a connection as the worker did: with its query, and a token of guard's own.
fn dial(dialler: Dialler, keys: Keys, query: String) -> Dial {
    Box::new(move || {
        let (dialler, token, query) = (dialler.clone(), keys.worker_token(), query.clone());
        Box::pin(async move { dialler.dial_as(&token?, &query).await })
    })
}

/// All links as one worker, for operators.
#[derive(Clone)]
struct Shown(Arc<Mutex<Seen>>);

struct Seen {
    phase: Phase,
    links: BTreeMap<u64, Snapshot>,
    /// Those in whose place the worker, or its next process, has registered anew. While their worker is away they wait for
    /// their calls, and say nothing of the worker.
    replaced: BTreeSet<u64>,
    shown: watch::Sender<Snapshot>,
}

impl Seen {
    fn forget(&mut self, number: u64) {
        self.links.remove(&number);
        self.replaced.remove(&number);
    }
}

impl Shown {
    fn new(shown: watch::Sender<Snapshot>) -> Self {
        Self(Arc::new(Mutex::new(Seen {
            phase: Phase::Serving,
            links: BTreeMap::new(),
            replaced: BTreeSet::new(),
            shown,
        })))
    }

    async fn follow(self, number: u64, mut link: watch::Receiver<Snapshot>) {
        loop {
            let snapshot = link.borrow_and_update().clone();
            self.change(|seen| drop(seen.links.insert(number, snapshot)));
            if link.changed().await.is_err() {
                return self.change(|seen| seen.forget(number));
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut seen);
        let all = whole(&seen);
        seen.shown.send_if_modified(|shown| {
            let changed = *shown != all;
            *shown = all;
            changed
        });
    }
}

/// Several links as one: registered when all are whose worker is not gone for good, and as loaded as the one with the most.
fn whole(seen: &Seen) -> Snapshot {
    let counts = |number: &u64, link: &Snapshot| !(link.away && seen.replaced.contains(number));
    let registered = seen.links.iter().any(|(number, link)| counts(number, link));
    let mut whole = Snapshot { phase: seen.phase, registered, ..Snapshot::default() };
    for (number, link) in &seen.links {
        if counts(number, link) {
            whole.registered &= link.registered;
            whole.away |= link.away;
            whole.wedged |= link.wedged;
        }
        whole.worker_id = whole.worker_id.or_else(|| link.worker_id.clone());
        whole.active_jobs += link.active_jobs;
        whole.accepted_jobs += link.accepted_jobs;
        whole.load = whole.load.max(link.load);
        if let Some(drain) = &link.drain {
            let sum = whole.drain.get_or_insert_with(|| DrainProgress {
                jobs_at_start: 0,
                jobs_finished: 0,
                declined: 0,
                ..drain.clone()
            });
            sum.jobs_at_start += drain.jobs_at_start;
            sum.jobs_finished += drain.jobs_finished;
            sum.declined += drain.declined;
        }
    }
    whole
}

#[cfg(test)]
mod tests;
