//! The ward in every state that it can reach.
//!
//! Owns what must hold there. Refuses to drive a process.

mod fingerprint;

use std::collections::{BTreeSet, VecDeque};

use last_call_proto::{Forward, Leaving, Restart, Ward, WardInput, WardLimits, WardOutput, WardTimer};

use crate::fingerprint::fingerprint;

/// The ward, and what its driver has been told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    ward: Ward,
    limits: WardLimits,
    runs: bool,
    told: u8,
    armed: BTreeSet<WardTimer>,
    drained: bool,
    forced: bool,
    /// What the registrations of this process have told.
    drains_well: BTreeSet<bool>,
    registered: bool,
    gave_up: bool,
    calls: bool,
    idle: bool,
    /// The links were waited for.
    waited: bool,
    left: Option<Leaving>,
}

impl World {
    fn new(limits: WardLimits) -> Self {
        let mut world = Self {
            ward: Ward::new(limits),
            limits,
            runs: false,
            told: 0,
            armed: BTreeSet::new(),
            drained: false,
            forced: false,
            drains_well: BTreeSet::new(),
            registered: false,
            gave_up: false,
            calls: false,
            idle: false,
            waited: false,
            left: None,
        };
        world.say(WardInput::Begin);
        world
    }

    fn say(&mut self, input: WardInput) {
        self.ward.handle(input);
        while let Some(output) = self.ward.poll_output() {
            assert_eq!(self.left, None, "{output:?} after the end");
            match output {
                WardOutput::Start => {
                    assert!(!self.runs, "started twice");
                    assert!(!self.drained && !self.gave_up, "started in a drain");
                    self.runs = true;
                    self.told = 0;
                    self.drains_well.clear();
                }
                WardOutput::Terminate => {
                    assert!(self.runs, "told to end, and not there");
                    self.told += 1;
                    assert_eq!(self.told, 1, "a second SIGTERM");
                    assert!(self.drained || self.idle, "told to end for nothing");
                    assert!(self.forwards_now() || !self.calls, "told of the drain while calls run");
                }
                WardOutput::Kill => {
                    assert!(self.forced || !self.calls, "ended while calls run");
                    assert!(self.runs, "ended, and not there");
                }
                WardOutput::Arm(timer) => {
                    let new = self.armed.insert(timer);
                    assert!(timer != WardTimer::Links || new && !self.waited, "waits anew for links");
                    assert!(timer != WardTimer::Kill || new, "waits anew for the end");
                }
                WardOutput::Disarm(timer) => drop(self.armed.remove(&timer)),
                WardOutput::GiveUp => {
                    assert!(!self.drained, "given up in a drain, which goes on by itself");
                    self.gave_up = true;
                }
                WardOutput::Leave(leaving) => {
                    assert!(!self.runs, "left behind");
                    assert!(self.idle || self.waited, "left before it was known which calls were cut off");
                    assert_eq!(leaving == Leaving::WithIt, self.gave_up && !self.drained);
                    self.left = Some(leaving);
                }
            }
        }
    }

    fn forwards_now(&self) -> bool {
        let well = self.drains_well == BTreeSet::from([true]);
        self.limits.forward.map_or(well, |forward| forward == Forward::Now)
    }

    fn next(&self) -> Vec<(String, Self)> {
        let mut next = Vec::new();
        let mut may = |name: &str, change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            next.push((name.to_owned(), world));
        };
        if self.runs {
            for success in [true, false] {
                may("ends", &move |world| {
                    world.runs = false;
                    world.calls = false;
                    world.say(WardInput::Ended { success });
                });
            }
            for drains_well in [true, false] {
                may("registers", &move |world| {
                    world.registered = true;
                    world.drains_well.insert(drains_well);
                    world.say(WardInput::Registered { drains_well });
                });
            }
        }
        if self.runs && self.registered && !self.drained {
            may("takes a call", &|world| world.calls = true);
        }
        if self.calls {
            may("its calls end", &|world| world.calls = false);
        }
        may("drain", &|world| {
            world.drained = true;
            world.say(WardInput::Drain);
            let tells = world.runs && !world.forced && world.forwards_now();
            assert!(!tells || world.told > 0, "not told of the drain");
        });
        if (self.drained || self.gave_up) && (self.forced || !self.calls) {
            may("idle", &|world| {
                world.idle = true;
                world.say(WardInput::Idle);
            });
        }
        may("force", &|world| {
            world.forced = true;
            world.drained = true;
            world.say(WardInput::Force);
        });
        for timer in self.armed.clone() {
            may("timer", &move |world| {
                world.armed.remove(&timer);
                world.waited |= timer == WardTimer::Links;
                world.say(WardInput::Fired(timer));
            });
        }
        next
    }

    /// Nothing is owed any more, and still it has not left: something must be on its way that ends the wait.
    fn check(&self) {
        if self.left.is_some() {
            return;
        }
        let waits = self.idle && self.runs;
        let ends = self.told > 0 && self.armed.contains(&WardTimer::Kill) || self.forced;
        // A kill that was done is heard of by the process's end.
        let killed = waits && !self.armed.contains(&WardTimer::Kill);
        assert!(!waits || ends || killed, "waits for ever: {self:?}");
        let reports = self.idle || self.waited || self.armed.contains(&WardTimer::Links);
        assert!(!self.forced || reports, "waits for links for ever: {self:?}");
        assert!(!self.idle || self.runs, "idle, alone, and not gone: {self:?}");
        let absent = !self.runs && !self.drained && !self.gave_up;
        let comes_back = self.armed.iter().any(|timer| matches!(timer, WardTimer::Restart(_)));
        assert!(!absent || comes_back, "nobody starts it again: {self:?}");
    }
}

#[test]
fn every_state_is_left_and_no_call_is_cut_off() {
    let mut states = 0;
    for restart in [Restart::OnFailure, Restart::Always, Restart::Never] {
        for forward in [None, Some(Forward::Now), Some(Forward::WhenIdle)] {
            let first = World::new(WardLimits { restart, forward });
            let mut seen = BTreeSet::from([fingerprint(&first)]);
            let mut open = VecDeque::from([first]);
            while let Some(world) = open.pop_front() {
                world.check();
                for (_, next) in world.next() {
                    if world.left.is_none() && seen.insert(fingerprint(&next)) {
                        open.push_back(next);
                    }
                }
            }
            states += seen.len();
        }
    }
    assert!(states > 1000, "the walk ended early: {states}");
}

fn outputs(ward: &mut Ward, input: WardInput) -> Vec<WardOutput> {
    ward.handle(input);
    std::iter::from_fn(|| ward.poll_output()).collect()
}

#[test]
fn a_worker_that_never_registered_is_not_started_again_and_one_that_crashed_is() {
    let mut ward = Ward::new(WardLimits::default());
    outputs(&mut ward, WardInput::Begin);
    assert!(outputs(&mut ward.clone(), WardInput::Ended { success: false }).contains(&WardOutput::GiveUp));
    outputs(&mut ward, WardInput::Registered { drains_well: true });
    for row in 0..3 {
        let done = outputs(&mut ward, WardInput::Ended { success: false });
        assert!(done.contains(&WardOutput::Arm(WardTimer::Restart(row))), "{done:?}");
        let done = outputs(&mut ward, WardInput::Fired(WardTimer::Restart(row)));
        assert!(done.contains(&WardOutput::Start), "{done:?}");
    }
    outputs(&mut ward, WardInput::Fired(WardTimer::Steady));
    let done = outputs(&mut ward, WardInput::Ended { success: false });
    assert!(done.contains(&WardOutput::Arm(WardTimer::Restart(0))), "{done:?}");
}
