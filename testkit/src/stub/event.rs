//! Owns what the stub saw, as values to assert on. Refuses to print a token: an upgrade shows its header names only.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use livekit_protocol::{server_message, worker_message};

/// Something that happened on one connection.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was read, or handed to the socket.
    pub at: Instant,
    /// Connections are numbered from 1 in the order of their arrival, those that were refused too.
    pub connection: u64,
    /// What it was.
    pub what: What,
}

/// What happened. `read` is the index, on its connection, of the socket read that brought the last byte of the frame: frames of one read
/// were there at once, as those of one write are. Over TLS a read is one of decrypted bytes.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a message, so boxing saves nothing")]
#[derive(Clone, Debug)]
pub enum What {
    /// The worker's upgrade was accepted.
    Connected(Upgrade),
    /// The worker's upgrade was refused with this HTTP status.
    Refused(Upgrade, u16),
    /// The worker's upgrade is left without an answer.
    Hung(Upgrade),
    /// A message from the worker.
    Message {
        /// The message.
        message: worker_message::Message,
        /// Bytes of its frame on the wire.
        size: usize,
        /// The socket read that completed it.
        read: u64,
    },
    /// A text frame from the worker.
    Text {
        /// Its text; bytes that are not UTF-8 are replaced.
        text: String,
        /// The socket read that completed it.
        read: u64,
    },
    /// A frame from the worker that is no message, and why.
    Garbled {
        /// Its bytes.
        bytes: Bytes,
        /// What is wrong with them.
        error: String,
    },
    /// A WebSocket ping from the worker.
    Ping {
        /// Its payload.
        payload: Bytes,
        /// The socket read that completed it.
        read: u64,
    },
    /// A WebSocket pong from the worker.
    Pong {
        /// Its payload.
        payload: Bytes,
        /// The socket read that completed it.
        read: u64,
    },
    /// A WebSocket close from the worker, with its code.
    Close(Option<u16>),
    /// A message to the worker, from the script or from the test.
    Sent(server_message::Message),
    /// The connection is over, and why.
    Ended(String),
}

impl Event {
    /// The worker's message, if it is one.
    pub fn message(&self) -> Option<&worker_message::Message> {
        if let What::Message { message, .. } = &self.what { Some(message) } else { None }
    }
}

/// The worker's request for a WebSocket.
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values, in the order of arrival.
    pub headers: Vec<(String, String)>,
}

impl Upgrade {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The bearer token of the Authorization header.
    pub fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Upgrade").field("target", &self.target).field("headers", &names).finish()
    }
}
