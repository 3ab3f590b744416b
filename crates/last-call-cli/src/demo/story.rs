//! What happened in a demo, and what it comes to.
//!
//! Owns every count and time that is shown. Refuses clocks and IO: each fact comes with its time, in microseconds
//! since 1970.

use std::collections::BTreeMap;

use last_call_server::{Event, Reply, What};

use super::tap::SeenWhat;

/// A worker of the demo, by its place in the cast.
pub(crate) type Who = usize;

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) workers: Vec<Member>,
    pub(crate) calls: Vec<Call>,
    /// Everything, in order, as a page shows it: the workers under their names.
    pub(crate) events: Vec<Event>,
    by_room: BTreeMap<String, usize>,
    by_job: BTreeMap<String, usize>,
    /// Offers that wait for an answer, with whether they came after the first signal.
    open: BTreeMap<(Who, String), bool>,
}

/// What a worker is in the demo for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another's, which is told to drain.
    Theirs,
    /// Ours, which is told to drain.
    Ours,
    /// Ours, of the next release, which stays.
    Relief,
}

impl Role {
    /// What it is called.
    pub(crate) fn name(self, beside_theirs: bool) -> &'static str {
        match self {
            Self::Theirs => "your worker",
            Self::Ours if beside_theirs => "our worker",
            Self::Ours => "old worker",
            Self::Relief => "new worker",
        }
    }
}

/// One worker, from its start to its exit.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The worker on the page; a reconnection does not change it.
    pub(crate) key: String,
    pub(crate) started_us: u64,
    pub(crate) agent_name: String,
    version: String,
    pub(crate) registered_us: Option<u64>,
    /// When it was sent SIGTERM.
    pub(crate) signals_us: Vec<u64>,
    /// Since when it says that it is full; none while it is available.
    full_since_us: Option<u64>,
    /// When it first was full after the first signal.
    pub(crate) full_us: Option<u64>,
    pub(crate) before: Offers,
    pub(crate) after: Offers,
    /// Jobs taken after the server was told that nothing more is.
    pub(crate) taken_when_full: u32,
    /// When its process ended, and how.
    pub(crate) left: Option<(u64, Left)>,
    /// What it wrote last.
    pub(crate) last_words: String,
    /// What it said of the first job of its that failed.
    pub(crate) first_error: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// With an exit code.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
    /// It did not: the demo ended it.
    Stayed,
}

/// Offers to a worker and its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(crate) made: u32,
    pub(crate) accepted: u32,
    pub(crate) declined: u32,
}

/// One call, from its dispatch to the caller's hanging up.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) worker: Option<Who>,
    pub(crate) assigned_us: Option<u64>,
    pub(crate) hung_up_us: Option<u64>,
    /// When the worker said that its job is over, and whether well.
    ended: Option<(u64, bool)>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The caller hung up, or the agent was done.
    Finished,
    /// The agent failed before the caller hung up.
    Failed,
    /// Its worker's process ended before the caller hung up, or the worker gave it up once it was told to drain.
    CutOff,
    /// No worker took it.
    NoAgent,
}

impl Story {
    /// A process was started.
    pub(crate) fn started(&mut self, role: Role, at_us: u64) -> Who {
        let name = role.name(self.workers.iter().any(|member| member.role == Role::Theirs));
        self.workers.push(Member {
            name,
            role,
            key: name.to_owned(),
            started_us: at_us,
            agent_name: String::new(),
            version: String::new(),
            registered_us: None,
            signals_us: Vec::new(),
            full_since_us: None,
            full_us: None,
            before: Offers::default(),
            after: Offers::default(),
            taken_when_full: 0,
            left: None,
            last_words: String::new(),
            first_error: None,
        });
        self.workers.len() - 1
    }

    /// A caller waits in `room`.
    pub(crate) fn called(&mut self, room: &str, at_us: u64) {
        self.by_room.insert(room.to_owned(), self.calls.len());
        self.calls.push(Call { worker: None, assigned_us: None, hung_up_us: None, ended: None });
        self.events.push(Event { at_us, what: What::RoomStarted { room: room.to_owned() } });
    }

    /// The caller has hung up.
    pub(crate) fn hung_up(&mut self, room: &str, at_us: u64) {
        let Some(call) = self.by_room.get(room).and_then(|place| self.calls.get_mut(*place)) else { return };
        call.hung_up_us = Some(at_us);
        let what = if call.worker.is_some() {
            What::RoomFinished { room: room.to_owned() }
        } else {
            let (job, dispatch) = (format!("{room}, never taken"), room.to_owned());
            What::Unserved { job, dispatch, room: room.to_owned() }
        };
        self.events.push(Event { at_us, what });
    }

    /// A worker was sent SIGTERM.
    pub(crate) fn signalled(&mut self, who: Who, at_us: u64) {
        let member = &mut self.workers[who];
        if member.signals_us.is_empty() && member.full_since_us.is_some() {
            member.full_us = Some(at_us);
        }
        member.signals_us.push(at_us);
        let worker = Some(member.key.clone());
        self.events.push(Event { at_us, what: What::Noted { worker, text: "SIGTERM".to_owned() } });
    }

    /// A worker's process has ended.
    pub(crate) fn left(&mut self, who: Who, at_us: u64, left: Left) {
        let member = &mut self.workers[who];
        member.left = Some((at_us, left));
        let worker = Some(member.key.clone());
        self.events.push(Event { at_us, what: What::Noted { worker, text: left.to_string() } });
    }

    /// A worker's conversation with the server went on.
    pub(crate) fn saw(&mut self, who: Who, at_us: u64, what: SeenWhat) {
        let member = &mut self.workers[who];
        let worker = member.key.clone();
        let what = match what {
            SeenWhat::Registering { agent_name, version } => {
                member.agent_name = agent_name;
                member.version = version;
                return;
            }
            SeenWhat::Registered { .. } => {
                member.registered_us.get_or_insert(at_us);
                member.full_since_us = None;
                let (agent_name, version) = (member.name.to_owned(), member.version.clone());
                What::WorkerRegistered { worker, agent_name, version }
            }
            SeenWhat::Status { available, draining, load, jobs } => {
                member.full_since_us = (!available).then(|| member.full_since_us.unwrap_or(at_us));
                if available {
                    // What it was full of was its load.
                    member.full_us = None;
                } else if !member.signals_us.is_empty() {
                    member.full_us.get_or_insert(at_us);
                }
                What::WorkerStatus { worker, available, draining, load, jobs }
            }
            SeenWhat::Offered { job, dispatch, room } => {
                self.offered(who, &job, &room);
                What::Offered { job, dispatch, room, worker }
            }
            SeenWhat::Answered { job, reply } => {
                self.answered(who, &job, reply);
                What::Answered { job, worker, reply }
            }
            SeenWhat::Assigned { job, dispatch, room } => {
                if let Some(call) = call_of(&self.by_job, &mut self.calls, &job) {
                    call.worker = Some(who);
                    call.assigned_us = Some(at_us);
                }
                What::Assigned { job, dispatch, room, worker, identity: String::new() }
            }
            SeenWhat::Running { job } => What::JobRunning { job, worker },
            SeenWhat::Ended { job, success, error } => {
                if let Some(call) = call_of(&self.by_job, &mut self.calls, &job) {
                    call.ended.get_or_insert((at_us, success));
                }
                if !success {
                    member.first_error.get_or_insert_with(|| error.clone());
                }
                What::JobEnded { job, worker, success, error }
            }
            SeenWhat::Gone => What::WorkerGone { worker },
            SeenWhat::Connected
            | SeenWhat::Terminated { .. }
            | SeenWhat::Trouble { .. }
            | SeenWhat::Unread { .. } => return,
        };
        self.events.push(Event { at_us, what });
    }

    fn offered(&mut self, who: Who, job: &str, room: &str) {
        let member = &mut self.workers[who];
        let after = !member.signals_us.is_empty();
        member.offers(after).made += 1;
        self.open.insert((who, job.to_owned()), after);
        if let Some(place) = self.by_room.get(room) {
            self.by_job.insert(job.to_owned(), *place);
        }
    }

    fn answered(&mut self, who: Who, job: &str, reply: Reply) {
        let member = &mut self.workers[who];
        if let Some(after) = self.open.remove(&(who, job.to_owned())) {
            match reply {
                Reply::Accepted => member.offers(after).accepted += 1,
                Reply::Declined | Reply::Terminated => member.offers(after).declined += 1,
            }
        }
        if reply == Reply::Accepted && member.full_us.is_some() && member.full_since_us.is_some() {
            member.taken_when_full += 1;
        }
    }

    /// What came of a call, once the demo is over. That it was assigned is taken for an agent: not every SDK says
    /// that a job runs, or that it ended.
    pub(crate) fn outcome(&self, call: &Call) -> Outcome {
        let Some(who) = call.worker else { return Outcome::NoAgent };
        let member = &self.workers[who];
        let over = call.hung_up_us.unwrap_or(u64::MAX);
        let told = member.signals_us.first().copied().unwrap_or(u64::MAX);
        match call.ended {
            Some((at_us, false)) if at_us < over => Outcome::Failed,
            Some((at_us, true)) if at_us < over && at_us > told => Outcome::CutOff,
            Some((at_us, true)) if at_us < over => Outcome::Finished,
            _ if member.left.is_some_and(|(at_us, _)| at_us < over) => Outcome::CutOff,
            _ => Outcome::Finished,
        }
    }

    /// The calls of one worker.
    pub(crate) fn calls_of(&self, who: Who) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.worker == Some(who))
    }

    /// When a call's agent was there, up to the first of its ends.
    pub(crate) fn span(&self, call: &Call) -> Option<(u64, u64)> {
        let member = &self.workers[call.worker?];
        let ends = [call.hung_up_us, call.ended.map(|(at_us, _)| at_us), member.left.map(|(at_us, _)| at_us)];
        let assigned = call.assigned_us?;
        Some((assigned, ends.into_iter().flatten().min().unwrap_or(u64::MAX)))
    }

    /// A worker's calls at a time.
    pub(crate) fn running(&self, who: Who, at_us: u64) -> usize {
        let spans = self.calls_of(who).filter_map(|call| self.span(call));
        spans.filter(|(from, to)| (*from..*to).contains(&at_us)).count()
    }

    /// From the worker's last call's end to its exit; none where it left amid calls, or had none.
    pub(crate) fn lingered_us(&self, who: Who) -> Option<u64> {
        let (left, _) = self.workers[who].left?;
        let end = |call: &Call| call.ended.map(|(at_us, _)| at_us).or(call.hung_up_us);
        let ends = self.calls_of(who).map(end).collect::<Option<Vec<_>>>()?;
        left.checked_sub(ends.into_iter().max()?)
    }

    /// Whether a worker that was told to drain kept every promise.
    pub(crate) fn kept(&self, who: Who) -> bool {
        let member = &self.workers[who];
        self.lost(who) == 0 && member.left_well() && member.full_us.is_some() && member.taken_when_full == 0
    }

    /// Calls that a worker had and lost.
    pub(crate) fn lost(&self, who: Who) -> usize {
        self.count(Some(who), Outcome::CutOff) + self.count(Some(who), Outcome::Failed)
    }

    /// Whether all workers of ours did what they promise, and, where they were alone, every caller got an agent.
    pub(crate) fn shown(&self) -> bool {
        let good = |(who, member): (Who, &Member)| match member.role {
            Role::Theirs => true,
            Role::Ours => self.kept(who),
            Role::Relief => self.lost(who) == 0 && member.left_well(),
        };
        let ours_alone = self.workers.iter().all(|member| member.role != Role::Theirs);
        let roles = [Role::Ours, Role::Relief];
        roles.iter().all(|role| self.workers.iter().any(|member| member.role == *role))
            && self.workers.iter().enumerate().all(good)
            && (!ours_alone || self.count(None, Outcome::NoAgent) == 0)
    }

    /// How many calls came to this.
    pub(crate) fn count(&self, who: Option<Who>, outcome: Outcome) -> usize {
        let calls = self.calls.iter().filter(|call| call.worker == who);
        calls.filter(|call| self.outcome(call) == outcome).count()
    }
}

fn call_of<'c>(by_job: &BTreeMap<String, usize>, calls: &'c mut [Call], job: &str) -> Option<&'c mut Call> {
    by_job.get(job).and_then(|place| calls.get_mut(*place))
}

impl Member {
    /// Those from before the first signal, or after it.
    fn offers(&mut self, after: bool) -> &mut Offers {
        if after { &mut self.after } else { &mut self.before }
    }

    fn left_well(&self) -> bool {
        matches!(self.left, Some((_, Left::Code(0))))
    }

    /// What was wrong with its drain, where that cost no call.
    pub(crate) fn trouble(&self) -> String {
        match (self.full_us, self.taken_when_full, self.left) {
            (None, ..) => "it never told the server that it is full".to_owned(),
            (Some(_), taken @ 1.., _) => format!("it took {taken} calls after it had said that it is full"),
            (Some(_), 0, Some((_, left))) => format!("it left badly: {left}"),
            (Some(_), 0, None) => "it did not leave".to_owned(),
        }
    }

    /// From the signal to the server's being told.
    pub(crate) fn full_after_us(&self) -> Option<u64> {
        Some(self.full_us?.saturating_sub(*self.signals_us.first()?))
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Stayed => f.write_str("did not leave: ended by the demo"),
        }
    }
}
