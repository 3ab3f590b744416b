//! Owns what the steps of the ladder mean for a room. Refuses to decide which step comes next.

use std::collections::BTreeMap;
use std::time::Instant;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{ReconnectReason, ReconnectResponse, SyncState};

use super::{Due, Engine};
use crate::error::ConnectError;
use crate::event::{DisconnectReason, RoomEvent};
use crate::ladder::{Input, Ladder, Output, Timer};
use crate::session::Session;

pub(super) struct Steps {
    ladder: Ladder,
    timers: BTreeMap<Timer, Instant>,
    /// What the last attempt to join died of.
    failure: String,
    refused: bool,
    /// The last reliable message of ours that the server has had.
    heard: u32,
}

impl Steps {
    pub(super) fn new(connect_within: std::time::Duration) -> Self {
        Self {
            ladder: Ladder::new(connect_within),
            timers: BTreeMap::new(),
            failure: String::new(),
            refused: false,
            heard: 0,
        }
    }

    pub(super) fn has_been_in(&self) -> bool {
        self.ladder.has_been_in()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.values().min().copied()
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Timer> {
        let due: Vec<Timer> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        self.timers.retain(|_, at| *at > now);
        due
    }
}

impl Engine {
    pub(super) fn step(&mut self, input: Input) {
        self.steps.ladder.input(input);
        while let Some(output) = self.steps.ladder.poll() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Join => {
                self.session = Session::new(self.now, self.options.red, self.dial.single);
                self.due.extend([Due::Bind, Due::Join]);
            }
            Output::Resume => self.due.push_back(Due::Resume(ReconnectReason::RrSignalDisconnected)),
            Output::Sync => {
                let state = SyncState {
                    subscription: Some(self.people.sync_subscription()),
                    publish_tracks: self.media.published(),
                    datachannel_receive_states: self.data.inbox.states(),
                    ..SyncState::default()
                };
                self.signal(Request::SyncState(state));
                self.session.restart_ice();
            }
            Output::Connected => {
                self.shared.keep(&self.people);
                self.shared.joined(Ok(()));
            }
            Output::Reconnecting => self.shared.tell(RoomEvent::Reconnecting),
            Output::Resumed => {
                self.due.push_back(Due::Resumed);
                self.replay_data(self.steps.heard);
                self.shared.tell(RoomEvent::Reconnected);
            }
            Output::Rejoined => {
                self.publish_again();
                self.shared.tell(RoomEvent::Reconnected);
            }
            Output::Goodbye => self.goodbye(),
            Output::Over(reason) => self.over(reason),
            Output::Arm(timer, after) => {
                self.steps.timers.insert(timer, self.now + after);
            }
            Output::Disarm(timer) => {
                self.steps.timers.remove(&timer);
            }
        }
    }

    fn over(&mut self, reason: DisconnectReason) {
        if self.shared.is_joining() {
            let failure = std::mem::take(&mut self.steps.failure);
            self.shared.joined(Err(match reason {
                DisconnectReason::JoinFailure if self.steps.refused => ConnectError::Refused(failure),
                DisconnectReason::JoinFailure if failure.is_empty() => {
                    let within = self.options.connect_within;
                    ConnectError::Unreachable(format!("no media within {within:?}"))
                }
                DisconnectReason::JoinFailure => ConnectError::Unreachable(failure),
                other => ConnectError::Left(other),
            }));
        }
        self.shared.tell(RoomEvent::Disconnected { reason });
        self.media.end();
        self.due.push_back(Due::Finished);
    }

    pub(super) fn on_join_failed(&mut self, permanent: bool, refused: bool, error: String) {
        tracing::debug!(%error, "the signalling");
        if self.steps.ladder.is_resuming() {
            self.step(Input::ResumeFailed { refused: permanent || refused });
            return;
        }
        self.steps.failure = error;
        self.steps.refused = permanent;
        self.step(Input::JoinFailed { permanent });
    }

    pub(super) fn on_resumed(&mut self, response: &ReconnectResponse) {
        self.steps.heard = response.last_message_seq;
        self.step(Input::Resumed);
    }

    pub(super) fn on_signal_closed(&mut self, reason: &str) {
        tracing::debug!(reason, "the signalling is closed");
        self.step(Input::SignalClosed);
    }
}
