//! The rescue over every state that a few calls, deaths and answers of the server can bring it into.
//!
//! Owns the properties. Refuses the API and its real outcomes, which are in the black-box tests.

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use last_call_proto::{
    JobId, Lineage, Rescue, RescueInput, RescueLimits, RescueOutput, RescueTimer, Room, Verdict,
};

use crate::fingerprint::fingerprint;

const LIMITS: RescueLimits = RescueLimits { attempts: 2, at_once: 1, tries: 3, failures: 2 };
const CALLS: [&str; 2] = ["one", "two"];
/// Deaths of agents of one call.
const DEATHS: u8 = 3;

/// A call as the server has it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Truth {
    /// The attempt of the agent that is there, if one is.
    agent: Option<u8>,
    /// The attempt of a dispatch that is there without an agent, and whether a worker may still take it.
    asked: Option<(u8, bool)>,
    deaths: u8,
    rescues: u8,
    hung_up: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    rescue: Rescue,
    calls: BTreeMap<Lineage, Truth>,
    looking: BTreeSet<Lineage>,
    dispatching: BTreeMap<Lineage, u8>,
    timers: BTreeSet<RescueTimer>,
    open: BTreeSet<Lineage>,
    given_up: BTreeSet<Lineage>,
    /// The attempt of the agent that died last.
    died: BTreeMap<Lineage, u8>,
}

/// Something that may happen next.
#[derive(Clone)]
enum Happens {
    Dies(Lineage),
    HangsUp(Lineage),
    IsTaken(Lineage),
    /// The worker itself says that it has the call.
    IsTakenHere(Lineage),
    IsGivenUp(Lineage),
    Looks(Lineage, bool),
    Dispatches(Lineage, Outcome),
    Fires(RescueTimer),
}

#[derive(Clone, Copy)]
enum Outcome {
    Made,
    MadeUnknown,
    NotMadeUnknown,
    Refused,
}

impl World {
    fn new() -> Self {
        let truth = Truth { agent: Some(0), ..Truth::default() };
        Self {
            rescue: Rescue::new(LIMITS),
            calls: CALLS.into_iter().map(|call| (JobId::from(call), truth)).collect(),
            looking: BTreeSet::new(),
            dispatching: BTreeMap::new(),
            timers: BTreeSet::new(),
            open: BTreeSet::new(),
            given_up: BTreeSet::new(),
            died: BTreeMap::new(),
        }
    }

    fn possible(&self) -> Vec<Happens> {
        let mut all = Vec::new();
        for (call, truth) in &self.calls {
            // Who does the rescue is told of a death once, and of the next only when it is over.
            if truth.agent.is_some() && truth.deaths < DEATHS && !self.open.contains(call) {
                all.push(Happens::Dies(call.clone()));
            }
            if let Some((_, true)) = truth.asked {
                all.extend([
                    Happens::IsTaken(call.clone()),
                    Happens::IsTakenHere(call.clone()),
                    Happens::IsGivenUp(call.clone()),
                ]);
            }
            if !truth.hung_up {
                all.push(Happens::HangsUp(call.clone()));
            }
        }
        for call in &self.looking {
            all.extend([true, false].map(|seen| Happens::Looks(call.clone(), seen)));
        }
        for call in self.dispatching.keys() {
            let outcomes = [Outcome::Made, Outcome::MadeUnknown, Outcome::NotMadeUnknown, Outcome::Refused];
            all.extend(outcomes.map(|outcome| Happens::Dispatches(call.clone(), outcome)));
        }
        // When that one is due, the server has given the dispatch up or away.
        let open = |timer: &&RescueTimer| match timer {
            RescueTimer::Taken(call) => !matches!(self.calls[call].asked, Some((_, true))),
            RescueTimer::Again(_) | RescueTimer::Pause => true,
        };
        all.extend(self.timers.iter().filter(open).cloned().map(Happens::Fires));
        all
    }

    fn step(&mut self, what: &Happens) {
        let input = match what {
            Happens::HangsUp(call) => {
                self.calls.get_mut(call).expect("a call").hung_up = true;
                return;
            }
            Happens::IsTaken(call) => return self.take(call),
            Happens::IsTakenHere(call) => {
                self.take(call);
                RescueInput::Served(call.clone())
            }
            Happens::IsGivenUp(call) => {
                let asked = &mut self.calls.get_mut(call).expect("a call").asked;
                *asked = asked.map(|(attempt, _)| (attempt, false));
                return;
            }
            Happens::Dies(call) => {
                let truth = self.calls.get_mut(call).expect("a call");
                let attempt = truth.agent.take().expect("an agent");
                self.died.insert(call.clone(), attempt);
                truth.deaths += 1;
                self.open.insert(call.clone());
                let suspect = call.as_str() == "one";
                RescueInput::Died { call: call.clone(), attempt, targeted: false, suspect }
            }
            Happens::Looks(call, seen) => {
                self.looking.remove(call);
                let truth = self.calls[call];
                let room = match truth {
                    Truth { hung_up: true, .. } => Room::Empty,
                    Truth { agent: Some(attempt), .. } if attempt > self.died[call] => Room::Served,
                    Truth { asked: Some(_), .. } => Room::Asked,
                    Truth { .. } => Room::Waiting,
                };
                if *seen { RescueInput::Seen(call.clone(), room) } else { RescueInput::NotSeen(call.clone()) }
            }
            Happens::Dispatches(call, outcome) => {
                let attempt = self.dispatching.remove(call).expect("a dispatch");
                if matches!(outcome, Outcome::Made | Outcome::MadeUnknown) {
                    let truth = self.calls.get_mut(call).expect("a call");
                    assert!(truth.agent.is_none(), "{call} has two agents");
                    assert!(!matches!(truth.asked, Some((_, true))), "{call} may get two agents");
                    truth.asked = Some((attempt, true));
                }
                match outcome {
                    Outcome::Made => RescueInput::Dispatched(call.clone()),
                    Outcome::MadeUnknown | Outcome::NotMadeUnknown => RescueInput::Unknown(call.clone()),
                    Outcome::Refused => RescueInput::Refused(call.clone()),
                }
            }
            Happens::Fires(timer) => {
                self.timers.remove(timer);
                RescueInput::Fired(timer.clone())
            }
        };
        self.rescue.handle(input);
        self.perform();
    }

    /// Does what the rescue wants, and says what it may not want.
    fn perform(&mut self) {
        while let Some(output) = self.rescue.poll_output() {
            match output {
                RescueOutput::Look(call) => {
                    assert!(!self.rescue.paused() || self.calls[&call].deaths > 0);
                    assert!(
                        self.looking.insert(call.clone()) || !self.open.contains(&call),
                        "{call} is looked at twice"
                    );
                }
                RescueOutput::Dispatch(call, attempt) => {
                    // The one that nobody took is deleted.
                    let asked = self.calls.get_mut(&call).expect("a call").asked.take();
                    assert!(!matches!(asked, Some((_, true))), "{call}: somebody could still take it");
                    assert!(attempt <= LIMITS.attempts, "{call} is dispatched too often");
                    self.dispatching.insert(call, attempt);
                }
                RescueOutput::Arm(timer) => drop(self.timers.insert(timer)),
                RescueOutput::Done(call, verdict) => {
                    assert!(self.open.remove(&call), "{call} is done twice");
                    if matches!(verdict, Verdict::TooOften | Verdict::Failed) {
                        self.given_up.insert(call);
                    }
                }
            }
        }
    }

    /// A worker takes the dispatch.
    fn take(&mut self, call: &Lineage) {
        let truth = self.calls.get_mut(call).expect("a call");
        let (attempt, _) = truth.asked.take().expect("a dispatch");
        assert!(truth.agent.is_none(), "{call} has two agents");
        truth.agent = Some(attempt);
        truth.rescues += 1;
    }

    /// What holds whenever the rescue has been polled to the end.
    fn check(&self) {
        for (call, truth) in &self.calls {
            // CALL-1: rescues ≤ 2 × crashes, and no more than a call may have.
            assert!(truth.rescues <= truth.deaths.min(LIMITS.attempts), "{call} was rescued too often");
        }
        assert!(self.rescue.pending() <= self.open.len());
        let under_way = self.looking.len() + self.dispatching.len();
        let waits = self.open.iter().any(|call| {
            let busy = self.looking.contains(call) || self.dispatching.contains_key(call);
            !busy
                && ![RescueTimer::Again(call.clone()), RescueTimer::Taken(call.clone())]
                    .iter()
                    .any(|timer| self.timers.contains(timer))
        });
        // Nothing is forgotten: a call that waits waits for another, or for the pause to end.
        let pause = self.timers.contains(&RescueTimer::Pause);
        let again = self
            .timers
            .iter()
            .any(|timer| matches!(timer, RescueTimer::Again(call) if self.open.contains(call)));
        assert!(!waits || under_way > 0 || pause || again, "a call is forgotten");
        assert!(!self.rescue.paused() || pause, "a pause without an end");
    }
}

#[test]
fn call_1_every_state_of_the_rescue() {
    let mut seen = BTreeSet::from([fingerprint(&World::new())]);
    let mut frontier = VecDeque::from([World::new()]);
    while let Some(world) = frontier.pop_front() {
        let possible = world.possible();
        for what in &possible {
            let mut next = world.clone();
            next.step(what);
            next.check();
            if seen.insert(fingerprint(&next)) {
                frontier.push_back(next);
            }
        }
        if possible.iter().all(|what| matches!(what, Happens::Dies(_) | Happens::HangsUp(_))) {
            // At rest every call has its agent, has hung up, or was given up.
            for (call, truth) in &world.calls {
                assert!(
                    truth.agent.is_some() || truth.hung_up || world.given_up.contains(call),
                    "{call} was left alone"
                );
            }
        }
    }
    assert!(seen.len() > 200_000, "only {} states", seen.len());
}

#[test]
fn call_1_a_suspect_goes_last() {
    let mut rescue = Rescue::new(LIMITS);
    for (call, suspect) in [("first", false), ("poison", true), ("second", false)] {
        rescue.handle(RescueInput::Died { call: JobId::from(call), attempt: 0, targeted: false, suspect });
    }
    let mut order = Vec::new();
    while let Some(output) = rescue.poll_output() {
        if let RescueOutput::Look(call) = output {
            order.push(call.to_string());
            rescue.handle(RescueInput::Seen(call, Room::Empty));
        }
    }
    assert_eq!(order, ["first", "second", "poison"]);
}

#[test]
fn call_1_a_job_for_a_participant_is_not_dispatched_again() {
    let mut rescue = Rescue::new(LIMITS);
    let call = JobId::from("one");
    rescue.handle(RescueInput::Died { call: call.clone(), attempt: 0, targeted: true, suspect: false });
    assert_eq!(rescue.poll_output(), Some(RescueOutput::Done(call, Verdict::Targeted)));
    assert_eq!((rescue.poll_output(), rescue.pending()), (None, 0));
}

#[test]
fn call_1_waits_double_to_their_cap_and_a_dispatch_that_may_be_made_has_a_second() {
    let mut rescue = Rescue::new(RescueLimits { tries: 20, ..LIMITS });
    let call = JobId::from("one");
    let timer = RescueTimer::Again(call.clone());
    rescue.handle(RescueInput::Died { call: call.clone(), attempt: 0, targeted: false, suspect: false });
    let bounds = |rescue: &Rescue| [0, u32::MAX].map(|random| rescue.wait(&timer, random).as_millis());
    for longest in [250, 500, 1_000, 2_000, 4_000, 4_000] {
        rescue.handle(RescueInput::NotSeen(call.clone()));
        assert_eq!(bounds(&rescue), [longest / 2, longest]);
        rescue.handle(RescueInput::Fired(timer.clone()));
    }
    let mut rescue = Rescue::new(LIMITS);
    rescue.handle(RescueInput::Died { call: call.clone(), attempt: 0, targeted: false, suspect: false });
    rescue.handle(RescueInput::Seen(call.clone(), Room::Waiting));
    rescue.handle(RescueInput::Unknown(call));
    assert_eq!(bounds(&rescue), [1_000, 1_000]);
}

#[test]
fn call_1_a_dispatch_that_somebody_deleted_is_not_made_again() {
    let mut rescue = Rescue::new(LIMITS);
    let call = JobId::from("one");
    rescue.handle(RescueInput::Died { call: call.clone(), attempt: 0, targeted: false, suspect: false });
    rescue.handle(RescueInput::Seen(call.clone(), Room::Waiting));
    rescue.handle(RescueInput::Dispatched(call.clone()));
    assert_eq!(rescue.pending(), 0, "nothing is left to do but to wait for a worker");
    rescue.handle(RescueInput::Fired(RescueTimer::Taken(call.clone())));
    rescue.handle(RescueInput::Seen(call.clone(), Room::Waiting));
    let last = std::iter::from_fn(|| rescue.poll_output()).last();
    assert_eq!(last, Some(RescueOutput::Done(call, Verdict::NotNeeded)));
}
