//! What the ladder hears and says. Owns the names; refuses to decide anything.

use std::time::Duration;

use livekit_protocol::DisconnectReason;

/// Numbers the signalling sockets: each [`Output::Join`] and [`Output::Resume`] opens the next one. What the driver
/// hears from a socket, or from the peers as that socket last (re)started them, it hands in with its number, so that
/// the end of an older socket, which arrives after a resume has succeeded (rtc.md G11), changes nothing.
pub(crate) type Generation = u64;

/// A timer that the driver arms, and hands back as [`Input::Fired`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// The end of the step that is under way: a back-off, the wait for an answer or for media, or, while connected,
    /// the time after which the connection counts as steady.
    Step,
    /// The end of all attempts.
    Budget,
}

/// What the server asks for with `LeaveRequest.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LeaveAction {
    /// The session is over: room deleted, participant removed, identity taken, user rejected.
    Disconnect,
    /// Open the signalling socket again.
    Resume,
    /// The session is gone: join anew.
    Reconnect,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// `JoinResponse` came.
    Joined { generation: Generation },
    /// The join came to nothing; `permanent` where trying again cannot help: HTTP 401, 403, 404.
    JoinFailed { generation: Generation, permanent: bool },
    /// The socket ended, or a resume could not open it.
    SignalClosed { generation: Generation },
    /// `ReconnectResponse` came.
    SignalResumed { generation: Generation },
    /// The server knows no such session: `LeaveRequest` or an HTTP status in place of `ReconnectResponse`.
    ResumeRefused { generation: Generation },
    /// ICE and DTLS stand: after a join for the first time, after [`Output::RestartIce`] on the new credentials.
    PeerConnected { generation: Generation },
    /// ICE or DTLS is lost.
    PeerFailed { generation: Generation },
    /// `LeaveRequest` came.
    Leave { generation: Generation, action: LeaveAction, reason: DisconnectReason },
    /// The machine's addresses or routes are others now.
    NetworkChanged,
    /// The user leaves.
    Close,
    /// A timer is due.
    Fired(Timer),
}

/// What the driver does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// Make the peers anew and join, with the newest token (the server refreshes it) and the same identity.
    Join { generation: Generation },
    /// Open the signalling socket again (`reconnect=1&sid=…`, `restart` of livekit-signaling); the peers stay.
    Resume { generation: Generation },
    /// Stop waiting for the answer to this join or resume, and close its socket.
    Abandon { generation: Generation },
    /// Tell the server what this side believes: `SyncState`.
    SyncState,
    /// Offer with new ICE credentials.
    RestartIce { generation: Generation },
    /// Send again the reliable packets above the `last_message_seq` of `ReconnectResponse`.
    ReplayReliable,
    /// Publish again what was published: the session is another one and knows nothing.
    Republish,
    /// Send `LeaveRequest`: the socket stands.
    SendLeave,
    /// Start this timer, or start it over.
    Arm(Timer, Duration),
    /// Stop this timer.
    Disarm(Timer),
    /// An event for the user.
    Tell(News),
}

/// What the user hears. `Reconnecting` is followed by exactly one of `Resumed`, `Reconnected` and `Disconnected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum News {
    /// Joined, and media stands, for the first time.
    Connected,
    /// Signalling or media is lost.
    Reconnecting,
    /// The same session goes on: nobody in the room saw it go.
    Resumed,
    /// Another session with the same identity: the others saw it leave and join, sids are new.
    Reconnected,
    /// It is over.
    Disconnected(Ended),
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ended {
    /// The user left.
    Left,
    /// The server said so.
    ByServer(DisconnectReason),
    /// The first join was refused for good.
    JoinRefused,
    /// [`BUDGET`](super::numbers::BUDGET) passed without success.
    GaveUp,
}
