//! Owns the ladder of a connection: join, resume what broke, join anew where nothing can be resumed, give up. Refuses
//! IO, the clock and all that a session is made of: it says what to do, and hears what came of it.
//!
//! A resume comes first, always: the server keeps a participant for 20 s after its signalling broke (departure timeout of
//! livekit-server, measured), and a participant that joins a second time under the same identity is a duplicate: the
//! server removes the first one and ends the agent's own job (livekit/livekit#4887). So a second join is made only once
//! the server has said that there is nothing to resume, or three resumes brought no media.

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol::leave_request::Action;

use crate::event::DisconnectReason;

/// For how long a broken connection is mended before it is given up: longer than half a minute without any network, and
/// than all that the server waits for.
const MEND_WITHIN: Duration = Duration::from_secs(90);
/// How long ICE and DTLS may take once the signalling is up; the official SDKs wait as long.
const MEDIA_WITHIN: Duration = Duration::from_secs(15);
/// Resumes that brought the signalling back, and no media.
const FRUITLESS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// When to try again.
    Retry,
    /// When media is late.
    Media,
    /// When to give up.
    GiveUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Start,
    Joined,
    JoinFailed { permanent: bool },
    SignalClosed,
    Resumed,
    /// `refused`: there is no such session any more.
    ResumeFailed { refused: bool },
    /// All peer connections are up.
    PeerConnected,
    PeerFailed,
    Leave { action: Action, reason: DisconnectReason },
    /// The user leaves.
    Close,
    Timer(Timer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// Join with new peer connections; a session that was there is gone.
    Join,
    /// A new signalling socket for the same session.
    Resume,
    /// Tell the server what this side has, and restart ICE.
    Sync,
    /// The join is done.
    Connected,
    Reconnecting,
    /// Back in the same session: send again what the server has not had.
    Resumed,
    /// Back in a new session: publish again.
    Rejoined,
    /// Tell the server that this side leaves.
    Goodbye,
    Over(DisconnectReason),
    Arm(Timer, Duration),
    Disarm(Timer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    New,
    /// `up`: the signalling is; media is awaited. `first`: nobody was in before.
    Joining { first: bool, attempt: u32, up: bool },
    /// Between two attempts to join.
    Pausing { first: bool, attempt: u32 },
    In,
    Resuming { attempt: u32, fruitless: u32, up: bool },
    /// Between two attempts to resume.
    Waiting { attempt: u32, fruitless: u32 },
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ladder {
    state: State,
    outputs: VecDeque<Output>,
    /// For the first join.
    connect_within: Duration,
}

impl Ladder {
    pub(crate) fn new(connect_within: Duration) -> Self {
        Self { state: State::New, outputs: VecDeque::new(), connect_within }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether a failure of the signalling is one of a resume.
    pub(crate) fn is_resuming(&self) -> bool {
        matches!(self.state, State::Resuming { .. } | State::Waiting { .. })
    }

    /// Whether this participant has been in the room.
    pub(crate) fn has_been_in(&self) -> bool {
        matches!(
            self.state,
            State::In
                | State::Resuming { .. }
                | State::Waiting { .. }
                | State::Joining { first: false, .. }
                | State::Pausing { first: false, .. }
        )
    }

    pub(crate) fn input(&mut self, input: Input) {
        match (self.state, input) {
            (State::Over, _) => {}
            (state, Input::Close) => {
                if !matches!(state, State::New) {
                    self.say(Output::Goodbye);
                }
                self.end(DisconnectReason::ClientInitiated);
            }
            (State::New, Input::Start) => {
                self.say(Output::Arm(Timer::GiveUp, self.connect_within));
                self.join(true, 1);
            }
            (State::New, _) => {}
            (_, Input::Leave { action: Action::Disconnect, reason }) => self.end(reason),
            (State::In, Input::Leave { action: Action::Reconnect, .. }) => {
                self.broken();
                self.join(false, 1);
            }
            (state @ (State::Resuming { .. } | State::Waiting { .. }), Input::Leave { action: Action::Reconnect, .. })
            | (state @ State::Resuming { .. }, Input::ResumeFailed { refused: true }) => {
                self.settle(state);
                self.join(false, 1);
            }
            (_, Input::Timer(Timer::GiveUp)) => self.end(match self.state {
                State::Joining { first: true, .. } | State::Pausing { first: true, .. } => DisconnectReason::JoinFailure,
                _ => DisconnectReason::SignalClose,
            }),
            (State::Joining { .. } | State::Pausing { .. }, input) => self.while_joining(&input),
            (State::Resuming { .. } | State::Waiting { .. }, input) => self.while_resuming(&input),
            (State::In, Input::SignalClosed | Input::PeerFailed | Input::Leave { action: Action::Resume, .. }) => {
                self.broken();
                self.resume(1, 0);
            }
            (State::In, _) => {}
        }
    }

    fn while_joining(&mut self, input: &Input) {
        match (self.state, input) {
            (State::Joining { first, attempt, up: false }, Input::Joined) => {
                self.state = State::Joining { first, attempt, up: true };
                self.say(Output::Arm(Timer::Media, MEDIA_WITHIN));
            }
            (State::Joining { first, up: true, .. }, Input::PeerConnected) => {
                self.state = State::In;
                self.say(Output::Disarm(Timer::Media));
                self.say(Output::Disarm(Timer::GiveUp));
                self.say(if first { Output::Connected } else { Output::Rejoined });
            }
            (State::Joining { up: false, .. }, Input::JoinFailed { permanent: true }) => {
                self.end(DisconnectReason::JoinFailure);
            }
            (State::Joining { first, attempt, up: false }, Input::JoinFailed { permanent: false }) => {
                self.pause(first, attempt);
            }
            (
                State::Joining { first, attempt, up: true },
                Input::SignalClosed | Input::PeerFailed | Input::Leave { .. } | Input::Timer(Timer::Media),
            ) => {
                self.say(Output::Disarm(Timer::Media));
                self.pause(first, attempt);
            }
            (State::Pausing { first, attempt }, Input::Timer(Timer::Retry)) => self.join(first, attempt + 1),
            _ => {}
        }
    }

    fn while_resuming(&mut self, input: &Input) {
        match (self.state, input) {
            (State::Resuming { attempt, fruitless, up: false }, Input::Resumed) => {
                self.state = State::Resuming { attempt, fruitless, up: true };
                self.say(Output::Arm(Timer::Media, MEDIA_WITHIN));
                self.say(Output::Sync);
            }
            (State::Resuming { up: true, .. }, Input::PeerConnected) => {
                self.state = State::In;
                self.say(Output::Disarm(Timer::Media));
                self.say(Output::Disarm(Timer::GiveUp));
                self.say(Output::Resumed);
            }
            (State::Resuming { attempt, fruitless, up: false }, Input::ResumeFailed { refused: false }) => {
                self.wait(attempt, fruitless);
            }
            (State::Resuming { attempt, fruitless, up: true }, Input::SignalClosed | Input::Leave { .. }) => {
                self.say(Output::Disarm(Timer::Media));
                self.wait(attempt, fruitless);
            }
            (State::Resuming { attempt, fruitless, up: true }, Input::Timer(Timer::Media)) => {
                if fruitless + 1 < FRUITLESS {
                    self.wait(attempt, fruitless + 1);
                } else {
                    self.join(false, 1);
                }
            }
            (State::Waiting { attempt, fruitless }, Input::Timer(Timer::Retry)) => self.resume(attempt + 1, fruitless),
            _ => {}
        }
    }

    fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// What was up is not.
    fn broken(&mut self) {
        self.say(Output::Reconnecting);
        self.say(Output::Arm(Timer::GiveUp, MEND_WITHIN));
    }

    /// No timer of the state is left behind.
    fn settle(&mut self, state: State) {
        match state {
            State::Joining { up: true, .. } | State::Resuming { up: true, .. } => self.say(Output::Disarm(Timer::Media)),
            State::Pausing { .. } | State::Waiting { .. } => self.say(Output::Disarm(Timer::Retry)),
            State::New | State::Joining { .. } | State::In | State::Resuming { .. } | State::Over => {}
        }
    }

    fn join(&mut self, first: bool, attempt: u32) {
        self.state = State::Joining { first, attempt, up: false };
        self.say(Output::Join);
    }

    fn pause(&mut self, first: bool, attempt: u32) {
        self.state = State::Pausing { first, attempt };
        self.say(Output::Arm(Timer::Retry, backoff(attempt)));
    }

    fn resume(&mut self, attempt: u32, fruitless: u32) {
        self.state = State::Resuming { attempt, fruitless, up: false };
        self.say(Output::Resume);
    }

    fn wait(&mut self, attempt: u32, fruitless: u32) {
        self.state = State::Waiting { attempt, fruitless };
        self.say(Output::Arm(Timer::Retry, backoff(attempt)));
    }

    fn end(&mut self, reason: DisconnectReason) {
        self.settle(self.state);
        self.state = State::Over;
        self.say(Output::Disarm(Timer::GiveUp));
        self.say(Output::Over(reason));
    }
}

/// 0.3 s, then twice as long each time, up to 5 s: a resume must come within the server's 20 s.
fn backoff(attempt: u32) -> Duration {
    let doubled = 300_u64.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    Duration::from_millis(doubled.min(5_000))
}
