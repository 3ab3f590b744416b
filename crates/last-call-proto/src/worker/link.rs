//! The connection: dialling, registering, keepalive, reconnecting, leaving when asked.
//!
//! Owns where the connection stands. Refuses sockets.

use super::{Event, Outcome, Output, Worker};
use crate::job::JobState;
use crate::timer::Timer;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Link {
    /// Nothing was dialled yet.
    #[default]
    Idle,
    /// A connection is being opened.
    Dialling,
    /// Open; the registration is not confirmed yet.
    Registering,
    /// Open and registered.
    Registered,
    /// Gone; [`Timer::Redial`] is armed.
    Waiting,
}

/// How a connection, or an attempt at one, went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The server answered and refused: wrong key, wrong path. Ends a worker that never registered, unless another of its
    /// process has ([`Worker::accepted_before`]) (REG-3).
    Refused,
    /// Everything else: no name, no route, closed, reset, broken. Tried again for ever.
    Broken,
}

/// Past this attempt the backoff has long met its cap.
const ATTEMPTS_COUNTED: u8 = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    link: Link,
    attempt: u8,
    /// The server has taken a registration with these keys.
    accepted: bool,
    leaving: bool,
    /// The registration outlived a refresh.
    lasted: bool,
    /// A ping left, and nothing came since.
    unheard: bool,
}

impl State {
    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn attempt(&self) -> u8 {
        self.attempt
    }

    /// The server said `GoAway` on this connection.
    pub(super) fn leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) fn was_accepted(&self) -> bool {
        self.accepted
    }

    /// The server showed life.
    pub(super) fn heard(&mut self) {
        self.unheard = false;
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Registering | Link::Registered)
    }
}

impl Worker {
    pub(super) fn dial(&mut self) {
        if !matches!(self.link.link, Link::Idle | Link::Waiting) {
            return;
        }
        self.link.link = Link::Dialling;
        self.outputs.push_back(Output::Dial);
        self.arm(Timer::Dial);
    }

    pub(super) fn connected(&mut self) {
        if self.link.link != Link::Dialling {
            return self.emit(Event::OutOfOrder);
        }
        self.link.link = Link::Registering;
        self.outbox.connect(self.status());
        self.disarm(Timer::Dial);
        self.arm(Timer::Register);
        self.arm(Timer::Ping);
    }

    pub(super) fn registered(&mut self) {
        if self.link.link != Link::Registering {
            return self.emit(Event::OutOfOrder);
        }
        self.link.link = Link::Registered;
        self.link.accepted = true;
        self.disarm(Timer::Register);
        self.arm(Timer::Refresh);
        let running = self.jobs.select(|state| matches!(state, JobState::Running(_)));
        if !running.is_empty() {
            self.outbox.migrate(running);
        }
        self.outbox.open();
        self.emit(Event::Registered);
    }

    /// The connection is gone and no one needs to hang up.
    pub(super) fn lost(&mut self, loss: Loss) {
        if !self.link.is_connected() && self.link.link != Link::Dialling {
            return;
        }
        if loss == Loss::Refused && !self.link.accepted {
            self.disarm(Timer::Dial);
            return self.exit(Outcome::Refused);
        }
        self.let_go();
        self.back_off();
    }

    fn back_off(&mut self) {
        self.arm(Timer::Redial);
        self.link.attempt = (self.link.attempt + 1).min(ATTEMPTS_COUNTED);
    }

    /// The connection shows no life: drop it.
    pub(super) fn gave_up(&mut self) {
        if self.link.is_connected() || self.link.link == Link::Dialling {
            self.outputs.push_back(Output::HangUp);
            self.lost(Loss::Broken);
        }
    }

    /// Forgets everything that only means something on the connection that is gone.
    fn let_go(&mut self) {
        for timer in [Timer::Dial, Timer::Register, Timer::Ping, Timer::Pong, Timer::Refresh] {
            self.disarm(timer);
        }
        self.link.link = Link::Waiting;
        self.link.leaving = false;
        self.link.lasted = false;
        self.link.unheard = false;
        self.outbox.disconnect();
        self.gone();
        self.emit(Event::Disconnected);
        for job in self.jobs.select(|state| matches!(state, JobState::Offered { .. })) {
            self.forget_offer(&job);
            self.emit(Event::OfferLost(job));
        }
        // The server forgets an acceptance with its connection: no assignment can come any more.
        for job in self.jobs.select(|state| matches!(state, JobState::Accepted | JobState::Overdue)) {
            if self.jobs.remove(&job) == Some(JobState::Accepted) {
                self.disarm(Timer::Assignment(job.clone()));
                self.missed(&job);
            }
        }
    }

    pub(super) fn ping(&mut self) {
        if self.link.is_connected() {
            self.outbox.ping();
            self.arm(Timer::Ping);
            // Begun anew with every ping, the wait would never end.
            if !core::mem::replace(&mut self.link.unheard, true) {
                self.arm(Timer::Pong);
            }
        }
    }

    pub(super) fn refresh(&mut self) {
        if self.link.link == Link::Registered {
            // A registration that lasts this long is no longer part of a row of failures.
            self.link.attempt = 0;
            self.link.lasted = true;
            self.advertise();
            self.arm(Timer::Refresh);
        }
    }

    pub(super) fn go_away(&mut self) {
        if self.link.link != Link::Registered {
            return self.emit(Event::OutOfOrder);
        }
        if !self.link.leaving {
            self.link.leaving = true;
            self.advertise();
            self.emit(Event::GoAway);
        }
        self.move_on_if_free();
    }

    /// Leaves a connection that the server wants left, once no acceptance on it awaits its assignment.
    pub(super) fn move_on_if_free(&mut self) {
        let waits = |state| matches!(state, JobState::Offered { .. } | JobState::Accepted);
        let written = self.outbox.is_empty() && !self.ending.in_flight();
        if self.link.leaving && written && self.jobs.select(waits).is_empty() {
            let lasted = self.link.lasted;
            self.outputs.push_back(Output::HangUp);
            self.let_go();
            if lasted {
                self.dial();
            } else {
                // A server that sends everyone on at once must not be dialled in a loop.
                self.back_off();
            }
        }
    }
}
