//! The pool of job processes: when one is started, which job it gets, when one is replaced.
//!
//! Owns these decisions. Refuses processes, clocks and texts: the driver says what became of each process and
//! does what comes out.

use alloc::collections::{BTreeMap, VecDeque};

use crate::message::JobId;

/// A job process, by a number that no other ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// How many processes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolLimits {
    /// Processes kept warm for jobs to come.
    pub idle: usize,
    /// Processes that start for jobs to come at the same time, so that a refill leaves the machine to the calls.
    pub refills: usize,
    /// Processes that start at the same time in all: more of them would only make each other late.
    pub starting: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolInput {
    /// The worker begins: fill the pool.
    Start,
    /// A job needs a process.
    Launch(JobId),
    /// A job needs none any more.
    Forget(JobId),
    /// A process is initialised; or it was given to a job that had ended before, and saw nothing of it.
    Warm(ProcessId),
    /// A process is gone. Where it was starting, it did not become warm.
    Gone(ProcessId),
    /// [`PoolOutput::Arm`] is due.
    Due,
    /// The worker drains: keep what is there, refill nothing.
    Drain,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolOutput {
    /// Start a process.
    Spawn(ProcessId),
    /// Give this job to this process, which is warm.
    Assign(ProcessId, JobId),
    /// End this process, which is warm: there are more than are to be kept.
    Retire(ProcessId),
    /// This job gets no process: two that were started for it are gone. Comes right after the second.
    Fail(JobId),
    /// Wait before the next refill; so many failed in a row.
    Arm(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Starting,
    Warm,
    Working,
}

/// A job that waits for a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    job: JobId,
    /// The process that was started for it is gone. None of its own code has run: it gets another one, but only
    /// one, because a program that dies at each start would have it wait for ever.
    again: bool,
}

/// The pool. Give it one input, then poll until nothing is left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    limits: PoolLimits,
    /// Refills are wanted: between the start and the drain.
    filling: bool,
    processes: BTreeMap<ProcessId, State>,
    waiting: VecDeque<Waiting>,
    next: u64,
    /// Processes that died unused since the last one that got a job.
    failures: u8,
    resting: bool,
    outputs: VecDeque<PoolOutput>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            filling: false,
            processes: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            failures: 0,
            resting: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, input: PoolInput) {
        match input {
            PoolInput::Start => self.filling = true,
            PoolInput::Drain => self.filling = false,
            PoolInput::Launch(job) => self.waiting.push_back(Waiting { job, again: false }),
            PoolInput::Forget(job) => self.waiting.retain(|waiting| waiting.job != job),
            PoolInput::Warm(process) => {
                if let Some(state) = self.processes.get_mut(&process) {
                    *state = State::Warm;
                }
            }
            PoolInput::Gone(process) => self.gone(process),
            PoolInput::Due => self.resting = false,
        }
        self.assign();
        self.retire();
        self.fill();
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<PoolOutput> {
        self.outputs.pop_front()
    }

    /// Processes that are warm and have no job.
    #[must_use]
    pub fn warm(&self) -> usize {
        self.count(State::Warm)
    }

    /// Processes that are not warm yet.
    #[must_use]
    pub fn starting(&self) -> usize {
        self.count(State::Starting)
    }

    /// Jobs that wait for a process.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn gone(&mut self, process: ProcessId) {
        match self.processes.remove(&process) {
            None | Some(State::Working) => {}
            Some(State::Warm) => self.failed(),
            Some(State::Starting) => {
                self.failed();
                // It was some job's last hope if there are fewer than jobs that wait.
                if self.waiting.len() > self.starting() {
                    self.bereave();
                }
            }
        }
    }

    /// The job that waits longest gets another process; of those that had one, the oldest gets none.
    fn bereave(&mut self) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| !waiting.again) {
            waiting.again = true;
        } else {
            let oldest = self.waiting.pop_front();
            self.outputs.extend(oldest.map(|oldest| PoolOutput::Fail(oldest.job)));
        }
    }

    /// A process died before any job had it: the next refill waits, and longer each time.
    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.filling && !self.resting {
            self.resting = true;
            self.outputs.push_back(PoolOutput::Arm(self.failures));
        }
    }

    /// The oldest warm process to the job that waits longest.
    fn assign(&mut self) {
        while let Some(process) = self.first_warm()
            && let Some(Waiting { job, .. }) = self.waiting.pop_front()
        {
            self.processes.insert(process, State::Working);
            self.failures = 0;
            self.outputs.push_back(PoolOutput::Assign(process, job));
        }
    }

    /// Those that were started for jobs which needed none in the end.
    fn retire(&mut self) {
        while self.warm() > self.limits.idle
            && let Some(process) = self.first_warm()
        {
            self.processes.remove(&process);
            self.outputs.push_back(PoolOutput::Retire(process));
        }
    }

    /// A process for every job that waits, as far as they can start at once; then for jobs to come, a few at a time.
    fn fill(&mut self) {
        while self.starting() < self.waiting.len().min(self.limits.starting) {
            self.spawn();
        }
        let refills = self.filling && !self.resting;
        while refills
            && self.starting() < self.limits.starting
            && self.refilling() < self.limits.refills
            && self.for_jobs_to_come() < self.limits.idle
        {
            self.spawn();
        }
    }

    fn spawn(&mut self) {
        let process = ProcessId(self.next);
        self.next += 1;
        self.processes.insert(process, State::Starting);
        self.outputs.push_back(PoolOutput::Spawn(process));
    }

    /// Processes that start without a job that waits.
    fn refilling(&self) -> usize {
        self.starting().saturating_sub(self.waiting.len())
    }

    fn for_jobs_to_come(&self) -> usize {
        self.warm() + self.refilling()
    }

    fn first_warm(&self) -> Option<ProcessId> {
        self.processes.iter().find(|(_, state)| **state == State::Warm).map(|(process, _)| *process)
    }

    fn count(&self, wanted: State) -> usize {
        self.processes.values().filter(|state| **state == wanted).count()
    }
}
