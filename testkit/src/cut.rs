//! Owns the two ways a connection can end from the other side. Refuses the polite third, a WebSocket close, which is a frame like any other.

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The socket is closed without a WebSocket close, as by a peer that died. Bytes left unread by a freeze make it a reset.
    Fin,
    /// The socket is reset.
    Rst,
}
