//! Owns what can go wrong with a room, in words for people. Refuses to hold a token or a key.

use crate::event::DisconnectReason;

/// Why a room was not joined.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server does not let this participant in: a wrong or expired token, a room that does not exist.
    #[error(
        "the server refuses to let this participant in: {0}; is the token valid, for this server and this room?"
    )]
    Refused(String),
    /// Nothing answered, for all of the time that a join may take.
    #[error("no connection to the server: {0}")]
    Unreachable(String),
    /// No thread, no socket.
    #[error("this machine can't run a room: {0}")]
    Local(String),
    /// The server ended the session before it was up.
    #[error("the server ended the session while it was being joined: {0}")]
    Left(DisconnectReason),
}

/// Why something that was asked of a room was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The room is over for this participant.
    #[error("this participant is not in the room any more")]
    Closed,
    /// The server said no.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The server said nothing.
    #[error("the server has not answered within {0:?}")]
    Timeout(std::time::Duration),
    /// Nobody of that name is here, or no such track.
    #[error("there is no {what} \"{name}\" in the room")]
    Unknown {
        /// "participant" or "track".
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// More than one message may hold.
    #[error("{size} bytes are more than a packet may hold ({most}): what is large goes as a stream")]
    TooLarge {
        /// What was to be sent, in bytes.
        size: usize,
        /// The most that a packet holds, in bytes.
        most: usize,
    },
    /// More is waiting to be sent than this room keeps.
    #[error("{0} bytes wait to be sent already: the connection does not keep up")]
    Full(usize),
    /// A stream that its readers can't have whole any more.
    #[error("the stream is broken: an earlier part was not sent, or the connection was made anew since")]
    BrokenStream,
    /// No key to encrypt with.
    #[error("what is to be sent can't be encrypted: {0}")]
    Unencrypted(String),
    /// A codec, a sample rate, a count of channels that audio can't have.
    #[error("{0}")]
    Audio(String),
    /// A codec that video can't be published in.
    #[error("{0}")]
    Video(String),
}
