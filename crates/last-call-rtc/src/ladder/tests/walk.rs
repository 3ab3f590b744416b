//! Every state that can be reached, with every input in each: what never happens.
//!
//! Generations only are compared, so a state is known by their order alone, and the walk ends.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    Join,
    Resume,
}

/// The ladder, and what an observer of its outputs knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    ladder: Ladder,
    /// A join or resume without an answer.
    outstanding: Option<Asked>,
    armed: BTreeSet<Timer>,
    news: Option<News>,
    /// `SyncState`s since the last answered resume; `None` where no resume was answered since the last news.
    synced: Option<u8>,
    ever: bool,
}

/// Replaces generations by their order: session 1, newest socket 1 or 2.
fn canonical(mut world: World) -> World {
    let ladder = &mut world.ladder;
    ladder.generation = if ladder.generation == ladder.session { 1 } else { 2 };
    ladder.session = 1;
    world
}

fn inputs(ladder: &Ladder, armed: &BTreeSet<Timer>) -> Vec<Input> {
    let mut all = vec![Input::NetworkChanged, Input::Close];
    all.extend(armed.iter().copied().map(Input::Fired));
    let reason = DisconnectReason::DuplicateIdentity;
    for generation in BTreeSet::from([ladder.session - 1, ladder.session, ladder.generation]) {
        all.extend([
            Input::Joined { generation },
            Input::JoinFailed { generation, permanent: true },
            Input::JoinFailed { generation, permanent: false },
            Input::SignalClosed { generation },
            Input::SignalResumed { generation },
            Input::ResumeRefused { generation },
            Input::PeerConnected { generation },
            Input::PeerFailed { generation },
            Input::Leave { generation, action: LeaveAction::Disconnect, reason },
            Input::Leave { generation, action: LeaveAction::Resume, reason },
            Input::Leave { generation, action: LeaveAction::Reconnect, reason },
        ]);
    }
    all
}

impl World {
    fn new() -> Self {
        let ladder = Ladder::new();
        let armed = BTreeSet::new();
        let mut world = Self { ladder, outstanding: None, armed, news: None, synced: None, ever: false };
        world.observe();
        world
    }

    /// The driver's share: an answer to the attempt under way ends its being outstanding.
    fn step(&mut self, input: Input) {
        let newest = self.ladder.generation;
        match input {
            Input::Joined { generation } | Input::JoinFailed { generation, .. }
                if generation == newest && self.outstanding == Some(Asked::Join) =>
            {
                self.outstanding = None;
            }
            Input::SignalResumed { generation }
                if generation == newest && self.outstanding == Some(Asked::Resume) =>
            {
                self.synced = Some(0);
                self.outstanding = None;
            }
            Input::ResumeRefused { generation }
                if generation == newest && self.outstanding == Some(Asked::Resume) =>
            {
                self.outstanding = None;
            }
            Input::SignalClosed { generation } if generation == newest => self.outstanding = None,
            Input::Fired(timer) => drop(self.armed.remove(&timer)),
            Input::Joined { .. }
            | Input::JoinFailed { .. }
            | Input::SignalClosed { .. }
            | Input::SignalResumed { .. }
            | Input::ResumeRefused { .. }
            | Input::PeerConnected { .. }
            | Input::PeerFailed { .. }
            | Input::Leave { .. }
            | Input::NetworkChanged
            | Input::Close => {}
        }
        self.ladder.handle(input, 0);
        self.observe();
    }

    fn observe(&mut self) {
        while let Some(output) = self.ladder.poll_output() {
            match output {
                Output::Join { .. } => self.ask(Asked::Join),
                Output::Resume { .. } => self.ask(Asked::Resume),
                Output::Abandon { .. } => {
                    assert!(self.outstanding.take().is_some(), "nothing to abandon: {self:?}")
                }
                Output::SyncState => self.synced = Some(self.synced.unwrap() + 1),
                Output::Arm(timer, _) => drop(self.armed.insert(timer)),
                Output::Disarm(timer) => drop(self.armed.remove(&timer)),
                Output::Tell(news) => self.hear(news),
                Output::RestartIce { .. }
                | Output::ReplayReliable
                | Output::Republish
                | Output::SendLeave => {}
            }
        }
        if let State::Closed(_) = self.ladder.state() {
            assert!(self.outstanding.is_none() && self.armed.is_empty(), "something goes on: {self:?}");
        } else if self.ladder.state() != State::Connected {
            assert_eq!(self.armed.len(), 2, "it would wait for ever: {self:?}");
        }
    }

    fn ask(&mut self, asked: Asked) {
        assert!(self.outstanding.is_none(), "two at once: {self:?}");
        self.outstanding = Some(asked);
        self.synced = None;
    }

    fn hear(&mut self, news: News) {
        let reconnecting = self.news == Some(News::Reconnecting);
        match news {
            News::Connected => assert!(self.news.is_none()),
            News::Reconnecting => assert!(self.ever && !reconnecting, "{self:?}"),
            News::Resumed => assert!(reconnecting && self.synced == Some(1), "{self:?}"),
            News::Reconnected => assert!(reconnecting && matches!(self.synced, None | Some(1)), "{self:?}"),
            News::Disconnected(_) => assert!(!matches!(self.news, Some(News::Disconnected(_)))),
        }
        self.ever = true;
        self.synced = None;
        self.news = Some(news);
    }
}

#[test]
fn every_state_keeps_the_rules() {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([canonical(World::new())]);
    while let Some(world) = queue.pop_front() {
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(seen.len() < 100_000, "the walk does not end");
        for input in inputs(&world.ladder, &world.armed) {
            let mut next = world.clone();
            next.step(input);
            if matches!(world.ladder.state(), State::Closed(_)) {
                assert_eq!(next.ladder, world.ladder, "closed, then {input:?}");
            } else if next != world {
                queue.push_back(canonical(next));
            }
        }
    }
    for state in [State::Connecting(5), State::Connected, State::Resuming(5), State::Rejoining(5)] {
        assert!(seen.iter().any(|world| world.ladder.state() == state), "{state:?} is never reached");
    }
    only_timers_end_it(&seen);
}

/// From every state, timers alone lead to `Closed`, or it stands in `Connected`.
fn only_timers_end_it(seen: &HashSet<World>) {
    for world in seen {
        let mut world = world.clone();
        for _ in 0..3 {
            // The budget last: every step must also end by itself.
            if world.armed.contains(&Timer::Step) && world.ladder.state() != State::Connected {
                let (state, step) = (world.ladder.state(), world.ladder.step);
                world.step(Input::Fired(Timer::Step));
                assert_ne!((state, step), (world.ladder.state(), world.ladder.step), "a step without an end");
            }
        }
        if world.armed.contains(&Timer::Budget) {
            world.step(Input::Fired(Timer::Budget));
        }
        assert!(matches!(world.ladder.state(), State::Connected | State::Closed(_)), "{world:?}");
    }
}

#[test]
fn a_join_follows_an_answered_one_only_when_the_session_is_lost() {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([canonical(World::new())]);
    while let Some(world) = queue.pop_front() {
        if !seen.insert(world.clone()) || matches!(world.ladder.state(), State::Closed(_)) {
            continue;
        }
        for input in inputs(&world.ladder, &world.armed) {
            let mut next = world.clone();
            next.step(input);
            let turned = !world.ladder.joins() && next.ladder.joins();
            let told = matches!(
                input,
                Input::ResumeRefused { .. } | Input::Leave { action: LeaveAction::Reconnect, .. }
            );
            let mute = world.ladder.mute + 1 == numbers::MUTE_TRIES;
            let timed_out = input == Input::Fired(Timer::Step) && mute;
            assert!(!turned || told || timed_out, "{input:?} in {world:?}");
            queue.push_back(canonical(next));
        }
    }
}
