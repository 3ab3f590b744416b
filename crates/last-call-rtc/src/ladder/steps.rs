//! The steps that the ladder's reactions are made of. Refuses to choose among them: `ladder.rs` does.

use super::{Ended, Generation, Ladder, News, Output, State, Step, Timer, numbers};

impl Ladder {
    pub(super) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn awaits(&self, generation: Generation, step: Step) -> bool {
        generation == self.generation && self.step == step && self.state != State::Connected
    }

    pub(super) fn joins(&self) -> bool {
        matches!(self.state, State::Connecting(_) | State::Rejoining(_))
    }

    pub(super) fn join_state(&self) -> fn(u8) -> State {
        if self.ever { State::Rejoining } else { State::Connecting }
    }

    /// Out of `Connected`. The first attempt after a steady time is made at once; a server that accepts and drops in
    /// turn meets the back-off.
    pub(super) fn lose(&mut self, next: fn(u8) -> State, roll: u32) {
        self.say(Output::Tell(News::Reconnecting));
        self.say(Output::Arm(Timer::Budget, numbers::BUDGET));
        self.state = next(self.attempt);
        if self.attempt == 0 {
            self.attempt_now();
        } else {
            self.retry(next, roll);
        }
    }

    /// A room that is deleted closes its peers a moment before `Leave` is read: a resume then would find no session, and
    /// the join that follows would make the room anew.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
        self.say(Output::Arm(Timer::Step, numbers::DOUBT));
    }

    pub(super) fn retry(&mut self, next: fn(u8) -> State, roll: u32) {
        self.attempt = (self.attempt + 1).min(numbers::ATTEMPT_TOP);
        self.state = next(self.attempt);
        self.step = Step::Backoff;
        self.say(Output::Arm(Timer::Step, numbers::backoff(self.attempt, roll)));
    }

    pub(super) fn rejoin_now(&mut self) {
        self.state = (self.join_state())(self.attempt);
        self.attempt_now();
    }

    pub(super) fn attempt_now(&mut self) {
        self.generation += 1;
        let generation = self.generation;
        if self.joins() {
            self.session = generation;
            self.mute = 0;
            self.say(Output::Join { generation });
        } else {
            self.say(Output::Resume { generation });
        }
        self.step = Step::Signal;
        self.say(Output::Arm(Timer::Step, numbers::SIGNAL_LIMIT));
    }

    pub(super) fn await_media(&mut self) {
        self.step = Step::Media;
        self.say(Output::Arm(Timer::Step, numbers::MEDIA_LIMIT));
    }

    /// Takes back the join or resume that has no answer yet.
    pub(super) fn abandon(&mut self) {
        if self.state != State::Connected && self.step == Step::Signal {
            self.say(Output::Abandon { generation: self.generation });
        }
    }

    pub(super) fn end(&mut self, ended: Ended) {
        self.abandon();
        self.say(Output::Disarm(Timer::Step));
        self.say(Output::Disarm(Timer::Budget));
        self.say(Output::Tell(News::Disconnected(ended)));
        self.state = State::Closed(ended);
    }
}
