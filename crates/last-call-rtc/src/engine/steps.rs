//! Owns what the steps of the ladder mean for a room. Refuses to decide which step comes next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{LeaveRequest, ReconnectReason, SyncState};

use super::{Due, Engine, Failure, Heard};
use crate::error::ConnectError;
use crate::event::{DisconnectReason, RoomEvent};
use crate::ladder::{Ended, Generation, Input, Ladder, LeaveAction, News, Output, Timer};
use crate::session::Session;

pub(super) struct Steps {
    ladder: Ladder,
    timers: BTreeMap<Timer, Instant>,
    /// Of the newest signalling socket.
    generation: Generation,
    /// Until when the first join may take; `None` once it is done.
    join_until: Option<Instant>,
    /// What the last attempt died of.
    failure: String,
    /// The last reliable message of ours that the server has had.
    heard: u32,
}

impl Steps {
    pub(super) fn new(now: Instant, connect_within: Duration) -> Self {
        Self {
            ladder: Ladder::new(),
            timers: BTreeMap::new(),
            generation: 0,
            join_until: Some(now + connect_within),
            failure: String::new(),
            heard: 0,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.values().copied().chain(self.join_until).min()
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Input> {
        if self.join_until.take_if(|until| *until <= now).is_some() {
            return vec![Input::Close];
        }
        let due =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| Input::Fired(*timer)).collect();
        self.timers.retain(|_, at| *at > now);
        due
    }
}

impl Engine {
    pub(super) fn step(&mut self, input: Input) {
        self.steps.ladder.handle(input, fastrand::u32(..));
        self.climb();
    }

    /// Does what the ladder says.
    pub(super) fn climb(&mut self) {
        while let Some(output) = self.steps.ladder.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Join { generation } => {
                self.steps.generation = generation;
                self.routes.end(self.now);
                self.session = Session::new(self.now, self.options.red, self.dial.single);
                self.due.extend([Due::Bind, Due::Join(generation)]);
            }
            Output::Resume { generation } => {
                self.steps.generation = generation;
                self.due.push_back(Due::Resume(generation, ReconnectReason::RrSignalDisconnected));
            }
            Output::Abandon { .. } => self.due.push_back(Due::Abandon),
            Output::SyncState => {
                let state = SyncState {
                    subscription: Some(self.people.sync_subscription()),
                    publish_tracks: self.media.published(),
                    datachannel_receive_states: self.data.inbox.states(),
                    ..SyncState::default()
                };
                self.signal(Request::SyncState(state));
            }
            Output::RestartIce { .. } => {
                self.session.restart_ice();
                self.routes.restarted(self.now);
            }
            Output::ReplayReliable => self.replay_data(self.steps.heard),
            Output::Republish => self.publish_again(),
            Output::SendLeave => self.goodbye(),
            Output::Tell(news) => self.on_news(news),
            Output::Arm(timer, after) => {
                self.steps.timers.insert(timer, self.now + after);
            }
            Output::Disarm(timer) => {
                self.steps.timers.remove(&timer);
            }
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Connected => {
                self.steps.join_until = None;
                self.shared.keep(&self.people);
                self.shared.joined(Ok(()));
            }
            News::Reconnecting => {
                self.hold_data(true);
                self.shared.tell(&RoomEvent::Reconnecting);
            }
            News::Resumed => {
                self.due.push_back(Due::Resumed);
                self.mended();
            }
            News::Reconnected => self.mended(),
            News::Disconnected(ended) => self.over(ended),
        }
    }

    fn mended(&mut self) {
        self.hold_data(false);
        self.shared.tell(&RoomEvent::Reconnected);
    }

    fn over(&mut self, ended: Ended) {
        if self.shared.is_joining() {
            let failure = std::mem::take(&mut self.steps.failure);
            self.shared.joined(Err(match ended {
                Ended::JoinRefused => ConnectError::Refused(failure),
                Ended::ByServer(reason) => ConnectError::Left(DisconnectReason::from(reason as i32)),
                Ended::GaveUp | Ended::Left if failure.is_empty() => {
                    ConnectError::Unreachable(format!("no media within {:?}", self.options.connect_within))
                }
                Ended::GaveUp | Ended::Left => ConnectError::Unreachable(failure),
            }));
        }
        let reason = match ended {
            Ended::Left => DisconnectReason::ClientInitiated,
            Ended::ByServer(reason) => DisconnectReason::from(reason as i32),
            Ended::JoinRefused => DisconnectReason::JoinFailure,
            Ended::GaveUp => DisconnectReason::SignalClose,
        };
        self.shared.tell(&RoomEvent::Disconnected { reason });
        self.media.end();
        self.routes.end(self.now);
        self.drain_routes();
        self.due.push_back(Due::Finished);
    }

    pub(super) fn on_heard(&mut self, generation: Generation, heard: Heard) {
        match heard {
            Heard::Message(_) if generation != self.steps.generation => {}
            Heard::Message(message) => self.on_signal(*message),
            Heard::Joined { join, single } => {
                if generation == self.steps.generation {
                    self.on_joined(&join, single);
                }
                self.step(Input::Joined { generation });
            }
            Heard::Resumed(response) => {
                self.steps.heard = response.last_message_seq;
                self.routes.set_relays(&response.ice_servers);
                self.step(Input::SignalResumed { generation });
            }
            Heard::Failed { failure, error } => self.on_failed(generation, failure, error),
            Heard::Closed(reason) => {
                tracing::debug!(reason, "the signalling is closed");
                self.step(Input::SignalClosed { generation });
            }
        }
    }

    /// Which of the two it was, the ladder knows: it takes the one that is under way.
    fn on_failed(&mut self, generation: Generation, failure: Failure, error: String) {
        tracing::debug!(%error, "the signalling failed");
        self.steps.failure = error;
        self.step(Input::JoinFailed { generation, permanent: failure == Failure::Permanent });
        self.step(match failure {
            Failure::Passing => Input::SignalClosed { generation },
            Failure::Permanent | Failure::Gone => Input::ResumeRefused { generation },
        });
    }

    pub(super) fn on_leave(&mut self, leave: &LeaveRequest) {
        let reason = leave.reason();
        tracing::debug!(
            reason = reason.as_str_name(),
            action = leave.action().as_str_name(),
            "the server says goodbye"
        );
        let action = match leave.action() {
            Action::Disconnect => LeaveAction::Disconnect,
            Action::Resume => LeaveAction::Resume,
            Action::Reconnect => LeaveAction::Reconnect,
        };
        self.step(Input::Leave { generation: self.steps.generation, action, reason });
    }
}
