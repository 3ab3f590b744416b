//! The reconnect ladder: what is tried, in which order and for how long, when signalling or media is lost.
//!
//! Owns every decision about joining, resuming, joining anew and giving up, as a pure state machine: one input, then
//! poll until no output is left. Refuses clocks (timers are names, [`Timer`]), IO and randomness (each input comes with
//! a number drawn by the driver); whoever drives it never decides.
//!
//! **Resume first, join anew only without a session.** An agent's identity is fixed by its job. A second join with it
//! makes the server remove the first participant as `DUPLICATE_IDENTITY`, which counts as the agent leaving, and the
//! server sends `JobTermination` for the job that is just reconnecting (livekit/livekit#4887). So once `JoinResponse`
//! has come, even when media never did, what follows a failure is a resume; a join follows only
//!
//! - `ResumeRefused`, or `Leave` with `Reconnect`: the server holds no session (the participant departed, its node is
//!   gone). The job's termination was sent when the server removed the participant, whatever this side does; a job
//!   that outlives it, by another server or a worker that lets it, goes on with `Reconnected`, new sids, and tracks
//!   published again;
//! - [`MUTE_TRIES`](numbers::MUTE_TRIES) resumes that signalling answered and media did not: the session is of no use,
//!   and the job may be terminated for its replacement;
//! - a join whose answer never came: without its sid nothing can be resumed. If the server did seat the participant,
//!   the job may be terminated here too.
//!
//! Media that is lost alone also resumes the signalling, unless the server says within [`DOUBT`](numbers::DOUBT) that
//! the session is over: both usually share the network that failed.

mod message;
mod numbers;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use livekit_protocol::DisconnectReason;

pub(crate) use message::{Ended, Generation, Input, LeaveAction, News, Output, Timer};

/// Where the session stands. Attempts count from 0, since the connection was last steady, and stop at
/// [`ATTEMPT_TOP`](numbers::ATTEMPT_TOP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// Joining, for the first time.
    Connecting(u8),
    /// Signalling and media stand.
    Connected,
    /// Taking the same session up again.
    Resuming(u8),
    /// Joining anew.
    Rejoining(u8),
    /// Over; nothing follows.
    Closed(Ended),
}

/// What an attempt waits for; of no meaning while connected or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Backoff,
    Signal,
    Media,
}

/// The machine. See the module's documentation for its rules and [`numbers`] for its times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ladder {
    state: State,
    step: Step,
    /// The newest socket.
    generation: Generation,
    /// The socket whose join made the newest session.
    session: Generation,
    /// Attempts since the connection was last steady.
    attempt: u8,
    /// Resumes and joins of this session that signalling answered and media did not.
    mute: u8,
    /// Media has stood once.
    ever: bool,
    /// The session is another one than when media last stood.
    anew: bool,
    /// Media is lost while signalling stands: the server may be about to say why.
    doubted: bool,
    outputs: VecDeque<Output>,
}

impl Ladder {
    /// A ladder whose first outputs are those of the first join.
    pub(crate) fn new() -> Self {
        let mut ladder = Self {
            state: State::Connecting(0),
            step: Step::Backoff,
            generation: 0,
            session: 0,
            attempt: 0,
            mute: 0,
            ever: false,
            anew: false,
            doubted: false,
            outputs: VecDeque::new(),
        };
        ladder.say(Output::Arm(Timer::Budget, numbers::BUDGET));
        ladder.attempt_now();
        ladder
    }

    /// Where it stands.
    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The next output; to be polled until `None` after [`Ladder::new`] and after each input.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes one input. `roll` is a fresh uniform random number: it scatters the back-off.
    pub(crate) fn handle(&mut self, input: Input, roll: u32) {
        if matches!(self.state, State::Closed(_)) {
            return;
        }
        match input {
            Input::Joined { generation } if self.awaits(generation, Step::Signal) && self.joins() => {
                self.joined()
            }
            Input::JoinFailed { generation, permanent }
                if self.awaits(generation, Step::Signal) && self.joins() =>
            {
                self.join_failed(permanent, roll);
            }
            Input::SignalResumed { generation } if self.awaits(generation, Step::Signal) && !self.joins() => {
                self.say(Output::SyncState);
                self.say(Output::RestartIce { generation });
                self.await_media();
            }
            Input::ResumeRefused { generation } if self.awaits(generation, Step::Signal) && !self.joins() => {
                self.rejoin_now();
            }
            Input::PeerConnected { generation } if self.awaits(generation, Step::Media) => self.connected(),
            Input::PeerConnected { generation } if generation == self.generation && self.doubted => {
                self.doubted = false;
                self.say(Output::Arm(Timer::Step, numbers::STEADY));
            }
            Input::PeerFailed { generation }
                if generation == self.generation && self.state == State::Connected =>
            {
                self.doubt();
            }
            Input::SignalClosed { generation } if generation == self.generation => self.signal_lost(roll),
            Input::Leave { generation, action, reason } if generation >= self.session => {
                self.asked_to_leave(generation, action, reason, roll);
            }
            Input::NetworkChanged => self.network_changed(roll),
            Input::Close => self.close(),
            Input::Fired(Timer::Step) => self.step_ended(roll),
            Input::Fired(Timer::Budget) if self.state != State::Connected => self.end(Ended::GaveUp),
            // Of an older socket, or no answer to what is under way. While media is awaited a failure of the peers
            // is the old path's: the limit decides.
            Input::Joined { .. }
            | Input::JoinFailed { .. }
            | Input::SignalClosed { .. }
            | Input::SignalResumed { .. }
            | Input::ResumeRefused { .. }
            | Input::PeerConnected { .. }
            | Input::PeerFailed { .. }
            | Input::Leave { .. }
            | Input::Fired(Timer::Budget) => {}
        }
    }

    fn joined(&mut self) {
        self.anew = true;
        if self.ever {
            self.say(Output::Republish);
        }
        self.await_media();
    }

    /// Only the first connect takes a refusal for final: later a 404 may be the proxy's, whose server restarts.
    fn join_failed(&mut self, permanent: bool, roll: u32) {
        if permanent && !self.ever {
            // The answer has come: there is nothing to abandon.
            self.step = Step::Backoff;
            self.end(Ended::JoinRefused);
        } else {
            self.retry(self.join_state(), roll);
        }
    }

    fn connected(&mut self) {
        if self.ever && !self.anew {
            self.say(Output::ReplayReliable);
        }
        let news = match (self.ever, self.anew) {
            (false, _) => News::Connected,
            (true, true) => News::Reconnected,
            (true, false) => News::Resumed,
        };
        // Until it is steady, a connection that was taken up again counts as one more attempt: the next may wait.
        self.attempt = if self.ever { (self.attempt + 1).min(numbers::ATTEMPT_TOP) } else { 0 };
        (self.ever, self.anew, self.mute) = (true, false, 0);
        self.state = State::Connected;
        self.say(Output::Disarm(Timer::Budget));
        self.say(Output::Arm(Timer::Step, numbers::STEADY));
        self.say(Output::Tell(news));
    }

    fn signal_lost(&mut self, roll: u32) {
        match (self.state, self.step) {
            (State::Connected, _) => self.lose(State::Resuming, roll),
            (_, Step::Media) => self.retry(State::Resuming, roll),
            (_, Step::Signal) if self.joins() => self.retry(self.join_state(), roll),
            (_, Step::Signal) => self.retry(State::Resuming, roll),
            (_, Step::Backoff) => {}
        }
    }

    fn asked_to_leave(
        &mut self,
        generation: Generation,
        action: LeaveAction,
        reason: DisconnectReason,
        roll: u32,
    ) {
        match action {
            LeaveAction::Disconnect => self.end(Ended::ByServer(reason)),
            LeaveAction::Resume if generation == self.generation => {
                self.abandon();
                self.signal_lost(roll);
            }
            LeaveAction::Resume => {}
            LeaveAction::Reconnect => self.session_gone(roll),
        }
    }

    fn session_gone(&mut self, roll: u32) {
        match (self.state, self.step) {
            (State::Connected, _) => self.lose(self.join_state(), roll),
            (_, Step::Signal) if !self.joins() => {
                self.abandon();
                self.rejoin_now();
            }
            (_, Step::Signal | Step::Media) => {
                self.abandon();
                self.retry(self.join_state(), roll);
            }
            (_, Step::Backoff) => self.state = (self.join_state())(self.attempt),
        }
    }

    fn network_changed(&mut self, roll: u32) {
        match (self.state, self.step) {
            (State::Connected, _) => self.lose(State::Resuming, roll),
            (_, Step::Backoff) => self.attempt_now(),
            (_, Step::Signal | Step::Media) => {}
        }
    }

    fn close(&mut self) {
        if self.state == State::Connected || self.step == Step::Media {
            self.say(Output::SendLeave);
        }
        self.end(Ended::Left);
    }

    fn step_ended(&mut self, roll: u32) {
        match (self.state, self.step) {
            (State::Connected, _) if self.doubted => self.lose(State::Resuming, roll),
            (State::Connected, _) => self.attempt = 0,
            (_, Step::Backoff) => self.attempt_now(),
            (_, Step::Signal) => {
                self.abandon();
                let next = if self.joins() { self.join_state() } else { State::Resuming };
                self.retry(next, roll);
            }
            (_, Step::Media) => {
                self.mute += 1;
                let next = if self.mute < numbers::MUTE_TRIES { State::Resuming } else { self.join_state() };
                self.retry(next, roll);
            }
        }
    }
}
