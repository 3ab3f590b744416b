//! The pool of job processes over every state that a few processes and jobs can bring it into.
//!
//! Owns the properties. Refuses real processes, which are in the black-box tests.

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use last_call_proto::{JobId, Pool, PoolInput, PoolLimits, PoolOutput, ProcessId};

use crate::fingerprint::fingerprint;

/// A pool beside what a driver knows: which processes are in which state, which jobs are where.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    pool: Pool,
    starting: BTreeSet<ProcessId>,
    warm: BTreeSet<ProcessId>,
    working: BTreeSet<ProcessId>,
    retired: BTreeSet<ProcessId>,
    /// Jobs that wait, and how many processes died meanwhile that were starting.
    waiting: BTreeMap<JobId, u8>,
    launched: u8,
    deaths: u8,
    armed: bool,
    filling: bool,
}

const LIMITS: PoolLimits = PoolLimits { idle: 2, refills: 1, starting: 2 };
const JOBS: u8 = 3;
const DEATHS: u8 = 3;

impl World {
    fn new() -> Self {
        Self {
            pool: Pool::new(LIMITS),
            starting: BTreeSet::new(),
            warm: BTreeSet::new(),
            working: BTreeSet::new(),
            retired: BTreeSet::new(),
            waiting: BTreeMap::new(),
            launched: 0,
            deaths: 0,
            armed: false,
            filling: false,
        }
    }

    fn inputs(&self) -> Vec<PoolInput> {
        let mut inputs = vec![if self.filling { PoolInput::Drain } else { PoolInput::Start }];
        if self.launched < JOBS {
            inputs.push(PoolInput::Launch(JobId::from(format!("AJ_{}", self.launched).as_str())));
        }
        // One that works is given back where its job had ended before.
        let back = self.starting.iter().chain(&self.working);
        inputs.extend(back.copied().map(PoolInput::Warm));
        if self.deaths < DEATHS {
            let all = self.starting.iter().chain(&self.warm);
            inputs.extend(all.copied().map(PoolInput::Gone));
        }
        inputs.extend(self.working.iter().copied().map(PoolInput::Gone));
        inputs.extend(self.retired.iter().copied().map(PoolInput::Gone));
        inputs.extend(self.waiting.keys().cloned().map(PoolInput::Forget));
        if self.armed {
            inputs.push(PoolInput::Due);
        }
        inputs
    }

    /// Does what comes out of one input, and checks that each output makes sense.
    fn step(&mut self, input: &PoolInput) {
        match input {
            PoolInput::Start => self.filling = true,
            PoolInput::Drain => self.filling = false,
            PoolInput::Launch(job) => {
                self.launched += 1;
                self.waiting.insert(job.clone(), 0);
            }
            PoolInput::Warm(process) => {
                self.starting.remove(process);
                self.working.remove(process);
                self.warm.insert(*process);
            }
            PoolInput::Forget(job) => {
                self.waiting.remove(job);
            }
            PoolInput::Gone(process) => {
                let used = self.working.remove(process) | self.retired.remove(process);
                self.deaths += u8::from(!used);
                if self.starting.remove(process) {
                    self.waiting.values_mut().for_each(|died| *died += 1);
                }
                self.warm.remove(process);
            }
            PoolInput::Due => self.armed = false,
        }
        self.pool.handle(input.clone());
        while let Some(output) = self.pool.poll_output() {
            match output {
                PoolOutput::Spawn(process) => assert!(self.starting.insert(process), "{process:?} twice"),
                PoolOutput::Assign(process, job) => {
                    assert!(self.warm.remove(&process), "{job} to {process:?}, which is not warm");
                    assert!(self.waiting.remove(&job).is_some(), "{job} does not wait");
                    self.working.insert(process);
                }
                PoolOutput::Retire(process) => {
                    assert!(self.warm.remove(&process), "{process:?} is not warm");
                    self.retired.insert(process);
                }
                PoolOutput::Fail(job) => {
                    assert!(matches!(input, PoolInput::Gone(_)), "{job} fails after {input:?}");
                    let died = self.waiting.remove(&job).expect("it waits");
                    assert!(died > 1, "{job} fails with its first process");
                }
                PoolOutput::Arm(failures) => {
                    assert!(!self.armed && failures > 0, "armed twice");
                    self.armed = true;
                }
            }
        }
    }

    /// What holds whenever the pool has been polled to the end.
    fn check(&self) {
        let (starting, warm, waiting) = (self.starting.len(), self.warm.len(), self.waiting.len());
        assert_eq!((self.pool.starting(), self.pool.warm(), self.pool.waiting()), (starting, warm, waiting));
        assert!(warm == 0 || waiting == 0, "a job waits beside a warm process");
        assert!(warm <= LIMITS.idle, "{warm} are kept");
        assert!(starting >= waiting.min(LIMITS.starting), "a job waits for nothing");
        assert!(starting <= LIMITS.starting, "{starting} start at once");
        let refilling = starting.saturating_sub(waiting);
        let busy = starting >= LIMITS.starting;
        if self.filling && !self.armed && !busy && refilling < LIMITS.refills {
            assert!(warm + refilling >= LIMITS.idle, "{warm} warm, {refilling} on the way");
        }
    }
}

#[test]
fn every_state_of_the_pool() {
    let mut seen = BTreeSet::from([fingerprint(&World::new())]);
    let mut frontier = VecDeque::from([World::new()]);
    while let Some(world) = frontier.pop_front() {
        for input in world.inputs() {
            let mut next = world.clone();
            let before = (next.starting.len(), next.filling && !next.armed);
            let launched = matches!(input, PoolInput::Launch(_));
            next.step(&input);
            next.check();
            // A drain refills nothing; nor does a pool at rest.
            if !next.filling || (next.armed && !before.1) {
                let more = next.starting.len().saturating_sub(before.0);
                assert!(more <= usize::from(launched), "refilled");
            }
            if seen.insert(fingerprint(&next)) {
                frontier.push_back(next);
            }
        }
    }
    assert!(seen.len() > 1_000, "only {} states", seen.len());
}

/// Every process comes up: no job is left.
#[test]
fn a_burst_gets_a_process_each_as_many_at_once_as_may_start() {
    let mut world = World::new();
    world.step(&PoolInput::Start);
    for _ in 0..JOBS {
        world.step(&world.inputs()[1].clone());
    }
    assert_eq!(world.starting.len(), LIMITS.starting, "they start side by side");
    while let Some(process) = world.starting.first().copied() {
        world.step(&PoolInput::Warm(process));
    }
    assert!(world.waiting.is_empty());
    assert_eq!((world.working.len(), world.warm.len()), (usize::from(JOBS), LIMITS.idle));
}

/// A burst in which every process is killed at once costs no job.
#[test]
fn a_job_whose_process_dies_before_it_is_warm_gets_another_one() {
    let mut pool = Pool::new(PoolLimits { idle: 0, refills: 1, starting: 8 });
    let jobs: Vec<JobId> = (0..4).map(|job| JobId::from(format!("AJ_{job}").as_str())).collect();
    jobs.iter().cloned().for_each(|job| pool.handle(PoolInput::Launch(job)));
    (0..4).for_each(|process| pool.handle(PoolInput::Gone(ProcessId(process))));
    (4..8).for_each(|process| pool.handle(PoolInput::Warm(ProcessId(process))));
    let outputs: Vec<_> = std::iter::from_fn(|| pool.poll_output()).collect();
    let spawned = (0..8).map(|process| PoolOutput::Spawn(ProcessId(process)));
    let assigned = (4..8).zip(jobs).map(|(process, job)| PoolOutput::Assign(ProcessId(process), job));
    assert_eq!(outputs, spawned.chain(assigned).collect::<Vec<_>>());
}

#[test]
fn a_program_that_dies_at_every_start_is_started_twice_for_each_job() {
    let mut world = World::new();
    for _ in 0..JOBS {
        world.step(&world.inputs()[1].clone());
    }
    let mut died = 0;
    while let Some(process) = world.starting.first().copied() {
        world.step(&PoolInput::Gone(process));
        died += 1;
    }
    assert_eq!((died, world.waiting.len()), (2 * JOBS, 0));
}

#[test]
fn processes_that_die_unused_are_replaced_slower_each_time() {
    let mut pool = Pool::new(PoolLimits { idle: 1, refills: 1, starting: 1 });
    pool.handle(PoolInput::Start);
    for failure in 1..=300_u64 {
        assert_eq!(pool.poll_output(), Some(PoolOutput::Spawn(ProcessId(failure - 1))));
        pool.handle(PoolInput::Warm(ProcessId(failure - 1)));
        pool.handle(PoolInput::Gone(ProcessId(failure - 1)));
        let failures = u8::try_from(failure).unwrap_or(u8::MAX);
        assert_eq!((pool.poll_output(), pool.poll_output()), (Some(PoolOutput::Arm(failures)), None));
        pool.handle(PoolInput::Due);
    }
}
