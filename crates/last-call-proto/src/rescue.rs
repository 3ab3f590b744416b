//! The rescue: a call whose agent died gets one agent of its lineage again (CALL-1, CALL-2).
//!
//! Owns whether, when and how often a call is dispatched again. Refuses payloads and the API: the driver lists, removes
//! and dispatches, and says what came of it. Refuses jobs for participants: a dispatch offers those to everybody in the
//! room.
//!
//! One call goes through: its turn, a look at its room, the removal of the dead agent with the dispatch, and a look
//! whether a worker has taken it. A dispatch whose outcome is unknown may have been made, as CreateDispatch has no
//! idempotency: the next thing is a look again.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use crate::message::JobId;
use crate::policy::backoff;

/// The longest first wait before a call is tried once more; each later one is twice as long.
const AGAIN_BASE: Duration = Duration::from_millis(250);
/// No wait of one call is longer.
const AGAIN_CAP: Duration = Duration::from_secs(4);
/// What a server is given to be done with a dispatch whose answer never came, before a look tells whether it was made.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// By then a dispatch has a job, or never gets one: livekit-server 1.13.5 asks workers for 3 s, and its list is up to 5 s
/// behind.
const TAKEN_WITHIN: Duration = Duration::from_secs(9);
/// How long no call is tried after too many have failed.
const PAUSE: Duration = Duration::from_secs(30);

/// A call by the id of its first dispatch, which every later one carries in an attribute.
pub type Lineage = JobId;

/// How much is rescued, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RescueLimits {
    /// Agents that a call may lose before it is given up. Default 2: a call that kills whatever answers it must not
    /// take the fleet.
    pub attempts: u8,
    /// Calls that are looked at or dispatched at the same time. Default 4.
    pub at_once: usize,
    /// Looks and dispatches of one rescue that may fail in all, or be taken by nobody. Default 30: with the waits between them about two minutes,
    /// in which a caller who does not wait any more ends the rescue by having left.
    pub tries: u8,
    /// Rescues that failed in a row, of whichever calls, after which none is tried for a while. Default 5.
    pub failures: u8,
}

impl Default for RescueLimits {
    fn default() -> Self {
        Self { attempts: 2, at_once: 4, tries: 30, failures: 5 }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RescueInput {
    /// The agent of this call died without an end of its own. Of a call whose rescue is under way it is told when that
    /// is [over](RescueOutput::Done), if that agent was another.
    Died {
        /// Which call.
        call: Lineage,
        /// How often it was dispatched again before.
        attempt: u8,
        /// Its job was for a participant.
        targeted: bool,
        /// It may be what killed the agent: it goes last.
        suspect: bool,
    },
    /// An agent of this call runs, that is another than the dead one.
    Served(Lineage),
    /// What the look at a call's room showed.
    Seen(Lineage, Room),
    /// The look failed.
    NotSeen(Lineage),
    /// The dispatch was made.
    Dispatched(Lineage),
    /// Whether the dispatch was made is not known.
    Unknown(Lineage),
    /// The server refused the dispatch.
    Refused(Lineage),
    /// [`RescueOutput::Arm`] is due.
    Fired(RescueTimer),
}

/// A call's room, as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Room {
    /// It is gone, or nobody is in it but agents.
    Empty,
    /// Somebody waits, and no dispatch of the lineage is there that is newer than the dead agent.
    Waiting,
    /// A newer dispatch of the lineage is there, and no worker has taken it.
    Asked,
    /// A newer dispatch of the lineage is there, and has a job.
    Served,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RescueOutput {
    /// Look at the room: its participants, its dispatches.
    Look(Lineage),
    /// Remove the dead agent from the room, which the server shows as active for 20 s, delete the dispatch that nobody took
    /// if there is one, and then dispatch the call again, as this attempt. Not the other way round: the new agent may
    /// have the identity of the dead.
    Dispatch(Lineage, u8),
    /// Wait as long as [`Rescue::wait`] says, and say that it is due.
    Arm(RescueTimer),
    /// A call's rescue is over.
    Done(Lineage, Verdict),
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was dispatched again, and a worker took it.
    Rescued,
    /// There was nothing to do: the room is empty, or served by somebody else's rescue.
    NotNeeded,
    /// It has lost as many agents as a call may.
    TooOften,
    /// Its job was for a participant: a dispatch would send one more agent to every other.
    Targeted,
    /// The server refused, or could not be asked.
    Failed,
}

/// The waits of a rescue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RescueTimer {
    /// When to try a call once more.
    Again(Lineage),
    /// When a dispatch of a call has been taken, or never is.
    Taken(Lineage),
    /// When to try any call at all, after too many have failed.
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Queued,
    Looking,
    Dispatching,
    Resting,
    /// A dispatch is there that a worker may take.
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Call {
    attempt: u8,
    step: Step,
    /// A dispatch was tried.
    perhaps: bool,
    /// There was time enough to take it.
    due: bool,
    failed: u8,
}

/// The rescue of all calls of one worker. Give it one input, then poll until nothing is left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rescue {
    limits: RescueLimits,
    calls: BTreeMap<Lineage, Call>,
    /// Calls whose turn comes; suspects are at the back.
    queue: VecDeque<Lineage>,
    suspects: VecDeque<Lineage>,
    failures: u8,
    paused: bool,
    outputs: VecDeque<RescueOutput>,
}

impl Rescue {
    /// Nothing to rescue yet.
    #[must_use]
    pub fn new(limits: RescueLimits) -> Self {
        Self {
            limits,
            calls: BTreeMap::new(),
            queue: VecDeque::new(),
            suspects: VecDeque::new(),
            failures: 0,
            paused: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, input: RescueInput) {
        match input {
            RescueInput::Died { call, attempt, targeted, suspect } => {
                self.died(call, attempt, targeted, suspect);
            }
            RescueInput::Served(call) => self.served(&call),
            RescueInput::Seen(call, room) => self.seen(&call, room),
            RescueInput::NotSeen(call) => self.try_again(&call, Step::Looking),
            RescueInput::Dispatched(call) => self.dispatched(&call),
            RescueInput::Unknown(call) => self.try_again(&call, Step::Dispatching),
            RescueInput::Refused(call) => self.refused(&call),
            RescueInput::Fired(RescueTimer::Again(call)) => self.again(&call),
            RescueInput::Fired(RescueTimer::Taken(call)) => self.taken(&call),
            RescueInput::Fired(RescueTimer::Pause) => self.paused = false,
        }
        self.proceed();
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<RescueOutput> {
        self.outputs.pop_front()
    }

    /// How long `timer`, which is armed, waits. `random` is uniform over its type.
    #[must_use]
    pub fn wait(&self, timer: &RescueTimer, random: u32) -> Duration {
        match timer {
            RescueTimer::Pause => PAUSE,
            RescueTimer::Taken(_) => TAKEN_WITHIN,
            RescueTimer::Again(call) => {
                let known = self.calls.get(call);
                let doubled = known.map_or(0, |known| known.failed.saturating_sub(1)).min(16);
                let half = AGAIN_BASE.saturating_mul(1 << doubled).min(AGAIN_CAP) / 2;
                let wait = half + backoff(half, half, 0, random);
                if known.is_some_and(|known| known.perhaps) { wait.max(SETTLED_AFTER) } else { wait }
            }
        }
    }

    /// Calls that are neither dispatched again nor given up yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.calls.values().filter(|call| call.step != Step::Asked).count()
    }

    /// Whether too many rescues have failed in a row.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.paused
    }

    fn died(&mut self, call: Lineage, attempt: u8, targeted: bool, suspect: bool) {
        if self.calls.contains_key(&call) {
            return;
        }
        if targeted {
            self.outputs.push_back(RescueOutput::Done(call, Verdict::Targeted));
            return;
        }
        if attempt >= self.limits.attempts {
            self.outputs.push_back(RescueOutput::Done(call, Verdict::TooOften));
            return;
        }
        self.calls.insert(
            call.clone(),
            Call { attempt, step: Step::Queued, perhaps: false, due: false, failed: 0 },
        );
        if suspect { self.suspects.push_back(call) } else { self.queue.push_back(call) }
    }

    fn served(&mut self, call: &Lineage) {
        // An answer that is still to come must find its call: taken for another's it would be a second agent.
        if [Step::Queued, Step::Resting, Step::Asked].iter().any(|step| self.at(call, *step).is_some()) {
            self.rescued(call);
        }
    }

    fn taken(&mut self, call: &Lineage) {
        let Some(known) = self.at(call, Step::Asked) else { return };
        self.calls.insert(call.clone(), Call { due: true, ..known });
        self.queue_again(call);
    }

    fn seen(&mut self, call: &Lineage, room: Room) {
        let Some(known) = self.at(call, Step::Looking) else { return };
        match room {
            Room::Empty => self.done(call, Verdict::NotNeeded),
            // What an earlier try of ours made, or somebody else.
            Room::Served if known.perhaps => self.rescued(call),
            Room::Served => self.done(call, Verdict::NotNeeded),
            Room::Asked if !known.due => self.asked(call),
            Room::Asked if known.failed + 1 >= self.limits.tries => self.fail(call),
            Room::Asked => {
                self.calls.insert(call.clone(), Call { failed: known.failed + 1, due: false, ..known });
                self.dispatch(call, known.attempt + 1);
            }
            // Whoever deleted the dispatch that was there wants no agent.
            Room::Waiting if known.due => self.done(call, Verdict::NotNeeded),
            Room::Waiting => self.dispatch(call, known.attempt + 1),
        }
    }

    fn dispatch(&mut self, call: &Lineage, attempt: u8) {
        self.step(call, Step::Dispatching);
        self.outputs.push_back(RescueOutput::Dispatch(call.clone(), attempt));
    }

    fn dispatched(&mut self, call: &Lineage) {
        if let Some(known) = self.at(call, Step::Dispatching) {
            self.calls.insert(call.clone(), Call { perhaps: true, ..known });
            self.asked(call);
        }
    }

    fn asked(&mut self, call: &Lineage) {
        self.failures = 0;
        self.step(call, Step::Asked);
        self.outputs.push_back(RescueOutput::Arm(RescueTimer::Taken(call.clone())));
    }

    fn rescued(&mut self, call: &Lineage) {
        self.failures = 0;
        self.done(call, Verdict::Rescued);
    }

    fn refused(&mut self, call: &Lineage) {
        if self.at(call, Step::Dispatching).is_some() {
            self.fail(call);
        }
    }

    /// A look or a dispatch came to nothing, as far as is known.
    fn try_again(&mut self, call: &Lineage, at: Step) {
        let Some(known) = self.at(call, at) else { return };
        if known.failed + 1 >= self.limits.tries {
            self.fail(call);
            return;
        }
        let (failed, perhaps) = (known.failed + 1, known.perhaps || at == Step::Dispatching);
        self.calls.insert(call.clone(), Call { failed, perhaps, step: Step::Resting, ..known });
        self.outputs.push_back(RescueOutput::Arm(RescueTimer::Again(call.clone())));
    }

    fn again(&mut self, call: &Lineage) {
        if self.at(call, Step::Resting).is_some() {
            self.queue_again(call);
        }
    }

    /// Its turn comes like any other's: a server that answers nothing is not to be asked of all calls at once.
    fn queue_again(&mut self, call: &Lineage) {
        self.step(call, Step::Queued);
        self.queue.push_back(call.clone());
    }

    fn fail(&mut self, call: &Lineage) {
        self.done(call, Verdict::Failed);
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.limits.failures && !self.paused {
            self.paused = true;
            // The next one tells whether it is any better.
            self.failures = self.limits.failures.saturating_sub(1);
            self.outputs.push_back(RescueOutput::Arm(RescueTimer::Pause));
        }
    }

    /// Lets as many calls have their turn as may.
    fn proceed(&mut self) {
        while !self.paused && self.under_way() < self.limits.at_once {
            let Some(call) = self.queue.pop_front().or_else(|| self.suspects.pop_front()) else { return };
            self.look(&call);
        }
    }

    fn look(&mut self, call: &Lineage) {
        self.step(call, Step::Looking);
        self.outputs.push_back(RescueOutput::Look(call.clone()));
    }

    fn done(&mut self, call: &Lineage, verdict: Verdict) {
        self.calls.remove(call);
        self.queue.retain(|queued| queued != call);
        self.suspects.retain(|queued| queued != call);
        self.outputs.push_back(RescueOutput::Done(call.clone(), verdict));
    }

    fn at(&self, call: &Lineage, step: Step) -> Option<Call> {
        self.calls.get(call).copied().filter(|known| known.step == step)
    }

    fn step(&mut self, call: &Lineage, step: Step) {
        if let Some(known) = self.calls.get_mut(call) {
            known.step = step;
        }
    }

    fn under_way(&self) -> usize {
        self.calls.values().filter(|call| matches!(call.step, Step::Looking | Step::Dispatching)).count()
    }
}
