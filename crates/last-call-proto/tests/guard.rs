//! guard between a server and a downstream, over many random courses of events.
//!
//! Owns what must hold for each side whatever the other does. Refuses the promises of the worker within, which are
//! explored by themselves.

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet};

use last_call_proto::{
    Answer, Downstream, DownstreamInput, DownstreamOutput, End, FromDownstream, FromServer, Input, JobId,
    JobState, Limits, Load, Loss, Output, Report, Timer, ToDownstream, ToServer, Worker,
};
use proptest::prelude::*;

use crate::fingerprint::fingerprint;

const JOBS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum There {
    Asked,
    Took,
    Runs,
}

/// A guard, what its server knows, and a downstream that does what it likes.
#[derive(Clone, Debug, Hash)]
struct World {
    worker: Worker,
    guarded: Downstream,
    dialling: bool,
    connected: bool,
    armed: BTreeSet<Timer>,
    /// Offers of this connection that are not answered.
    offered: BTreeSet<JobId>,
    accepted: BTreeSet<JobId>,
    /// Everything that was ever accepted.
    given: BTreeSet<JobId>,
    available: bool,
    draining: bool,
    downstream: BTreeMap<JobId, There>,
    registered: bool,
    pinged: u32,
    ended: BTreeSet<JobId>,
    /// Told to end.
    over: BTreeSet<JobId>,
    orphans: BTreeSet<JobId>,
    failed: BTreeSet<JobId>,
    left: bool,
}

impl World {
    fn new() -> Self {
        Self {
            worker: Worker::new(Limits {
                max_jobs: Some(2),
                threshold: Some(Load::WHOLE),
                counts_itself: true,
                ..Limits::default()
            }),
            guarded: Downstream::new(),
            dialling: false,
            connected: false,
            armed: BTreeSet::new(),
            offered: BTreeSet::new(),
            accepted: BTreeSet::new(),
            given: BTreeSet::new(),
            available: false,
            draining: false,
            downstream: BTreeMap::new(),
            registered: false,
            pinged: 0,
            ended: BTreeSet::new(),
            over: BTreeSet::new(),
            orphans: BTreeSet::new(),
            failed: BTreeSet::new(),
            left: false,
        }
    }

    fn upstream(&mut self, input: Input) {
        self.worker.handle(input);
        self.settle();
    }

    fn downstream(&mut self, input: DownstreamInput) {
        self.guarded.handle(input);
        self.settle();
    }

    /// Does what both ask for, as the driver does.
    fn settle(&mut self) {
        loop {
            if let Some(output) = self.worker.poll_output() {
                self.perform(output);
            } else if let Some(output) = self.guarded.poll_output() {
                self.pass_on(output);
            } else if let Some(frames) = self.worker.poll_transmit() {
                for frame in frames {
                    self.sent(frame);
                }
                self.worker.handle(Input::Flushed);
            } else {
                break;
            }
        }
        let waits = |job| self.worker.jobs().get(job) == Some(JobState::Accepted);
        assert!(self.guarded.taken().all(waits), "a yes is kept that no assignment can follow");
        assert!(
            !self.available || (self.registered && !self.draining),
            "available without a downstream, or in a drain"
        );
    }

    fn perform(&mut self, output: Output) {
        assert!(!self.left, "{output:?} after the end");
        match output {
            Output::Dial => self.dialling = true,
            Output::HangUp => self.cut(),
            Output::Arm(timer) => drop(self.armed.insert(timer)),
            Output::Disarm(timer) => drop(self.armed.remove(&timer)),
            Output::Event(_) => {}
            Output::Exit(_) => self.left = true,
            asked @ (Output::Ask(_)
            | Output::Forget(_)
            | Output::Probe
            | Output::Launch(_)
            | Output::Notify(_)
            | Output::Tell(..)
            | Output::Cancel(_)
            | Output::Kill(_)
            | Output::Release(_)) => self.guarded.handle(DownstreamInput::Asked(asked)),
        }
    }

    fn pass_on(&mut self, output: DownstreamOutput) {
        match output {
            DownstreamOutput::Worker(input) => self.worker.handle(input),
            DownstreamOutput::Pass | DownstreamOutput::Terminate(_) => {}
            DownstreamOutput::Send(ToDownstream::Ping(ping)) => self.pinged = ping,
            DownstreamOutput::Send(ToDownstream::Offer(job)) => {
                assert!(self.registered, "an offer to nobody");
                assert!(!self.draining, "{job} is offered in a drain");
                self.downstream.insert(job, There::Asked);
            }
            DownstreamOutput::Send(ToDownstream::Assignment(job)) => {
                let before = self.downstream.insert(job.clone(), There::Runs);
                assert_eq!(before, Some(There::Took), "{job} is assigned");
            }
            DownstreamOutput::Send(ToDownstream::Termination(job)) => {
                assert!(!self.ended.contains(&job), "{job} is ended twice");
                self.over.insert(job);
            }
            DownstreamOutput::Kill(job) => {
                self.downstream.remove(&job);
                assert!(self.ended.insert(job), "it was ended before");
            }
            DownstreamOutput::Orphan(job) => {
                assert!(self.orphans.insert(job), "an orphan twice");
            }
        }
    }

    fn sent(&mut self, frame: ToServer) {
        match frame {
            ToServer::Register => {}
            ToServer::Status(status) => self.available = status.available,
            ToServer::Answer(job, answer) => {
                assert!(self.offered.remove(&job), "{job} is answered twice, or unasked");
                if answer == Answer::Accept {
                    assert!(!self.draining, "{job} is accepted in a drain");
                    assert_eq!(self.downstream.get(&job), Some(&There::Took), "{job} is accepted by nobody");
                    self.given.insert(job.clone());
                    self.accepted.insert(job);
                }
            }
            ToServer::Report(job, Report::Failed(_)) => drop(self.failed.insert(job)),
            ToServer::Report(..) | ToServer::Migrate(_) | ToServer::Ping => {}
        }
    }

    fn cut(&mut self) {
        self.dialling = false;
        self.connected = false;
        self.available = false;
        self.offered.clear();
    }

    fn server(&mut self, frame: FromServer) {
        self.upstream(Input::Received(frame));
    }

    /// The first of what may happen now, from `what` on.
    fn happens(&mut self, what: u8, which: usize) {
        for offset in 0..16 {
            if self.happened((what % 16 + 7 * offset) % 16, which) {
                return;
            }
        }
    }

    fn happened(&mut self, what: u8, which: usize) -> bool {
        let job = JobId::from(JOBS[which % JOBS.len()]);
        match what {
            0 if self.dialling => {
                self.dialling = false;
                self.connected = true;
                self.upstream(Input::Connected);
                self.server(FromServer::Registered);
            }
            1 if self.connected && which < 8 => {
                self.cut();
                self.upstream(Input::Lost(Loss::Broken));
            }
            // A server never offers a job again that it has given away.
            2 if self.connected
                && self.available
                && !self.given.contains(&job)
                && !self.downstream.contains_key(&job)
                && !self.offered.contains(&job) =>
            {
                self.offered.insert(job.clone());
                self.server(FromServer::Offer(job));
            }
            3 if self.connected && self.accepted.remove(&job) => self.server(FromServer::Assignment(job)),
            4 if self.connected && which < 8 => self.server(FromServer::Termination(job)),
            5..14 => return self.downstream_happened(what, which, job),
            14 if which < 2 => {
                self.draining = true;
                self.available = false;
                self.upstream(Input::Drain);
            }
            15 => {
                let timer = self.armed.iter().nth(which % self.armed.len().max(1)).cloned();
                if let Some(timer) = timer {
                    self.armed.remove(&timer);
                    self.upstream(Input::Fired(timer));
                }
            }
            _ => return false,
        }
        true
    }

    fn downstream_happened(&mut self, what: u8, which: usize, job: JobId) -> bool {
        match what {
            5 if !self.registered => {
                self.registered = true;
                self.downstream(DownstreamInput::Heard(FromDownstream::Register));
            }
            6 if self.registered => {
                let status = FromDownstream::Status { available: which.is_multiple_of(2), load: Load::IDLE };
                self.downstream(DownstreamInput::Heard(status));
            }
            7 | 8 if self.registered && self.downstream.get(&job) == Some(&There::Asked) => {
                let answer = if what == 7 { Answer::Accept } else { Answer::Decline };
                match answer {
                    Answer::Accept => drop(self.downstream.insert(job.clone(), There::Took)),
                    Answer::Decline | Answer::Terminate => drop(self.downstream.remove(&job)),
                }
                let awaited = self.offered.contains(&job);
                let available = self.available;
                self.downstream(DownstreamInput::Heard(FromDownstream::Answer(job.clone(), answer)));
                let wasted = awaited && answer == Answer::Accept && !self.accepted.contains(&job);
                assert!(!wasted || !available, "the yes to {job} is wasted: its place is held for nothing");
            }
            9 if self.downstream.get(&job) == Some(&There::Runs) && self.registered => {
                self.downstream.remove(&job);
                self.downstream(DownstreamInput::Heard(FromDownstream::Report(job, Report::Success)));
            }
            10 if self.registered => {
                self.downstream(DownstreamInput::Heard(FromDownstream::Pong(self.pinged)));
            }
            11 if self.registered && which < 8 => {
                self.registered = false;
                self.available = false;
                self.downstream.retain(|_, there| *there == There::Runs);
                self.downstream(DownstreamInput::Hangup);
                assert!(self.offered.is_empty(), "an offer waits for nobody");
            }
            12 if which < 8 => {
                self.registered = false;
                self.available = false;
                self.downstream.clear();
                self.downstream(DownstreamInput::Died);
                assert!(self.offered.is_empty(), "an offer waits for nobody");
                assert_eq!(self.guarded.jobs().count(), 0, "a job of a dead worker runs");
            }
            13 if self.downstream.get(&job) == Some(&There::Runs) => {
                self.downstream.remove(&job);
                self.downstream(DownstreamInput::JobDied(job, End::Failed("killed".into())));
            }
            _ => return false,
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn neither_side_hears_what_it_may_not(course in prop::collection::vec((any::<u8>(), 0_usize..64), 0..120)) {
        let mut world = World::new();
        for (what, which) in course {
            if world.left {
                break;
            }
            world.happens(what, which);
        }
    }
}

/// How often each thing may happen in an exploration.
type Scope = [u8; 16];

/// Every course of events of two jobs within a scope: connections come and go on both sides, the worker dies, timers fire
/// in any order.
#[test]
fn every_course_of_two_jobs() {
    //  dial lost offer assign terminate | register status yes no report pong hangup died job-died | drain timer
    let scopes: [Scope; 4] = [
        [1, 0, 3, 2, 1, 1, 1, 2, 1, 1, 1, 0, 0, 1, 1, 4],
        [2, 1, 2, 2, 0, 2, 1, 2, 1, 1, 1, 1, 1, 1, 0, 2],
        [1, 0, 2, 2, 0, 2, 1, 2, 0, 1, 1, 1, 1, 1, 1, 2],
        [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2],
    ];
    for scope in scopes {
        let mut seen = BTreeSet::new();
        let mut open = vec![(World::new(), scope)];
        while let Some((world, may)) = open.pop() {
            for what in 0..16_u8 {
                let most = if what == 15 { world.armed.len() } else { 2 };
                let Some(left) = may[usize::from(what)].checked_sub(1) else { continue };
                for which in 0..most {
                    let mut next = world.clone();
                    if !next.happened(what, which) || next.left {
                        continue;
                    }
                    let mut may = may;
                    may[usize::from(what)] = left;
                    if seen.insert(fingerprint(&(&next, may))) {
                        open.push((next, may));
                    }
                }
            }
        }
        assert!(seen.len() > 10_000, "{scope:?} ended early: {} states", seen.len());
    }
}

/// A world in which job `a` runs.
fn with_a_job() -> (World, JobId) {
    let mut world = World::new();
    // Registered, dialled, offered, taken, assigned.
    for what in [5, 0, 2, 7, 3] {
        assert!(world.happened(what, 0), "step {what}");
    }
    let job = JobId::from(JOBS[0]);
    assert_eq!(world.downstream.get(&job), Some(&There::Runs));
    (world, job)
}

fn orphans_after(happens: impl FnOnce(&mut World, JobId)) -> usize {
    let (mut world, job) = with_a_job();
    happens(&mut world, job);
    world.orphans.len()
}

#[test]
fn call_2_only_a_job_that_died_without_an_end_is_an_orphan() {
    let died = || End::Failed("killed".into());
    let report = |report| {
        move |world: &mut World, job| {
            world.downstream(DownstreamInput::Heard(FromDownstream::Report(job, report)));
        }
    };
    assert_eq!(orphans_after(report(Report::Success)), 0, "it returned");
    assert_eq!(orphans_after(report(Report::Failed("it raised".into()))), 0, "it failed by itself");
    assert_eq!(orphans_after(|world, job| world.downstream(DownstreamInput::JobDied(job, End::Success))), 0);
    assert_eq!(orphans_after(|world, job| world.downstream(DownstreamInput::JobDied(job, died()))), 1);
    assert_eq!(orphans_after(|world, _| world.downstream(DownstreamInput::Died)), 1, "its worker died");
    let left_its_room_and_died = |world: &mut World, job: JobId| {
        world.server(FromServer::Termination(job.clone()));
        world.downstream(DownstreamInput::JobDied(job, died()));
    };
    assert_eq!(orphans_after(left_its_room_and_died), 0, "it crashed on its way out, or was killed on it");
    let ended_by_the_server = |world: &mut World, job: JobId| {
        world.server(FromServer::Termination(job.clone()));
        world.downstream(DownstreamInput::Heard(FromDownstream::Report(job, Report::Success)));
    };
    assert_eq!(orphans_after(ended_by_the_server), 0, "the server ended it");
    let hung_up = |world: &mut World, _| world.downstream(DownstreamInput::Hangup);
    assert_eq!(orphans_after(hung_up), 0, "its worker may come back");
}

#[test]
fn drain_6_at_the_deadline_a_call_is_rescued_before_its_agent_is_told_and_once() {
    let (mut world, job) = with_a_job();
    world.upstream(Input::Drain);
    world.upstream(Input::Fired(Timer::DrainTell));
    assert_eq!(world.orphans, BTreeSet::from([job.clone()]));
    assert!(world.over.contains(&job), "it was not told");
    world.downstream(DownstreamInput::Died);
    assert_eq!(world.orphans.len(), 1);
}

/// A worker holds a place for its yes for less long than guard waits, and then knows the job no more.
#[test]
fn job_5_an_assignment_after_its_time_goes_to_nobody_and_the_call_to_another_worker() {
    let mut world = World::new();
    for what in [5, 0, 2, 7] {
        assert!(world.happened(what, 0), "step {what}");
    }
    let job = JobId::from(JOBS[0]);
    world.upstream(Input::Fired(Timer::Assignment(job.clone())));
    world.server(FromServer::Assignment(job.clone()));
    assert_eq!(world.downstream.get(&job), Some(&There::Took), "it is assigned");
    assert_eq!(world.orphans, BTreeSet::from([job.clone()]));
    assert_eq!(world.failed, BTreeSet::from([job.clone()]));
    assert_eq!(world.worker.jobs().get(&job), None);
}

#[test]
fn job_1_a_wedged_worker_whose_connection_breaks_recovers_on_its_next_one() {
    let mut world = World::new();
    // Registered, dialled, offered; the ping stays without an answer.
    for what in [5, 0, 2] {
        assert!(world.happened(what, 0), "step {what}");
    }
    world.upstream(Input::Fired(Timer::Heartbeat(JobId::from(JOBS[0]))));
    assert!(world.worker.wedged() && !world.available);
    assert!(world.happened(11, 0) && world.happened(5, 0), "it comes back");
    for _ in 0..3 {
        assert!(!world.available);
        assert!(world.happened(10, 0), "it answers the ping");
        world.upstream(Input::Fired(Timer::Probe));
    }
    assert!(world.available);
}
