//! Owns the failures that a server plays when it is asked to (LiveKit's `SimulateScenario`). Refuses to know what follows.

use livekit_protocol::SimulateScenario;
use livekit_protocol::simulate_scenario::Scenario;

/// A failure that the server plays, as the official SDKs' `simulate_scenario`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Simulation {
    /// The server's node is gone: the session with it.
    NodeFailure,
    /// The room moves to another node: signalling and media begin anew in the same session.
    Migration,
    /// The server says goodbye.
    ServerLeave,
    /// The signalling breaks again as soon as it is resumed.
    SignalCutOnResume,
    /// The same, before the server has said anything.
    SignalCutOnResumeSilently,
}

impl Simulation {
    pub(crate) fn request(self) -> SimulateScenario {
        let scenario = match self {
            Self::NodeFailure => Scenario::NodeFailure(true),
            Self::Migration => Scenario::Migration(true),
            Self::ServerLeave => Scenario::ServerLeave(true),
            Self::SignalCutOnResume => Scenario::DisconnectSignalOnResume(true),
            Self::SignalCutOnResumeSilently => Scenario::DisconnectSignalOnResumeNoMessages(true),
        };
        SimulateScenario { scenario: Some(scenario) }
    }
}
