//! One allocation on one TURN server, sans-IO: bytes of the transport, payloads and time in; bytes, the relayed
//! address and payloads out.
//!
//! Owns the long-term credentials, the permission and channel of each peer, their refresh (all by turn-client-proto)
//! and the bounds on what waits for a permission. Refuses sockets, TLS (it sees the plaintext of a `turns:` stream),
//! name resolution and ICE: str0m makes the pairs of `Candidate::relayed`.
//!
//! After each input poll [`Turn::poll_output`] until `None`, then wait until [`Turn::poll_timeout`].
//!
//! Over a stream no channel is bound: ChannelData is padded to four bytes there (RFC 8656 §12.5), and turn-types
//! 0.7.3 neither writes nor skips the padding. Send and Data indications take their place, 32 bytes longer.

mod endpoint;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::api::{Transmit, TurnConfig, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::prelude::TurnClientApi;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::udp::TurnClientUdp;

pub(crate) use endpoint::{Endpoint, Transport};

/// Peers that permissions are asked for; payloads to further ones are dropped. A LiveKit server has a handful of
/// addresses.
const MAX_PEERS: usize = 64;

/// Payloads that wait for their permission, over all peers; the oldest is dropped for the next.
const MAX_WAITING: usize = 32;

/// The longest payload in bytes, so that an indication around it fits a datagram.
const MAX_PAYLOAD: usize = 65_000;

/// The longest user name in bytes (RFC 8489 §14.3), and the bound taken for the password.
const MAX_CREDENTIAL: usize = 508;

/// The longest wait for the relayed address. turn-client-proto goes on for 40 s without an answer, and a wrong
/// password is no end to it; after this long ICE has made do with what else it has.
const ALLOCATION_LIMIT: Duration = Duration::from_secs(10);

/// Steps that one input may cause: a server that answers each with another is not followed for ever.
const MAX_STEPS: usize = 256;

/// Why there is no allocation, or none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnFailure {
    /// The user name or the password does not fit a message.
    #[error("the TURN server's user name or password is longer than 508 bytes: use the ones the server gave")]
    Credentials,
    /// The server refused the allocation, or did not answer.
    #[error(
        "the TURN server gave no relayed address: check the user name and password, and that it is reachable"
    )]
    Refused,
    /// The allocation is gone: expired, deleted, or its transport ended.
    #[error("the allocation on the TURN server has ended")]
    Ended,
}

/// What the driver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TurnOutput {
    /// Write to the transport: a datagram, or the next bytes of the stream.
    Transmit(Vec<u8>),
    /// The server relays from this address: a `Candidate::relayed`.
    Relayed(SocketAddr),
    /// A peer sent this payload.
    Received { peer: SocketAddr, payload: Vec<u8> },
    /// It is over; nothing follows.
    Failed(TurnFailure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    Asked,
    Given,
}

/// One allocation. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Turn {
    client: TurnClient,
    /// Where this session's clock starts.
    epoch: Instant,
    due: Option<Instant>,
    relayed: Option<SocketAddr>,
    over: bool,
    peers: BTreeMap<SocketAddr, Permission>,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    outputs: VecDeque<TurnOutput>,
}

impl Turn {
    /// Asks `server` for an IPv4 UDP allocation; `local` is the transport's own address. The first bytes stand in
    /// [`Turn::poll_output`].
    pub(crate) fn new(
        transport: Transport,
        local: SocketAddr,
        server: SocketAddr,
        credentials: (&str, &str),
        now: Instant,
    ) -> Result<Self, TurnFailure> {
        let (user, password) = credentials;
        if user.len() > MAX_CREDENTIAL || password.len() > MAX_CREDENTIAL {
            return Err(TurnFailure::Credentials);
        }
        let config = TurnConfig::new(TurnCredentials::new(user, password));
        let client = match transport {
            Transport::Udp => TurnClientUdp::allocate(local, server, config).into(),
            Transport::Tcp | Transport::Tls => TurnClientTcp::allocate(local, server, config).into(),
        };
        let mut turn = Self {
            client,
            epoch: now,
            due: None,
            relayed: None,
            over: false,
            peers: BTreeMap::new(),
            waiting: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        turn.advance(now);
        Ok(turn)
    }

    /// When [`Turn::handle_timeout`] is to be called next; `None` when it is over.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The next output; to be polled until `None` after [`Turn::new`] and after each input.
    pub(crate) fn poll_output(&mut self) -> Option<TurnOutput> {
        self.outputs.pop_front()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Takes a datagram, or the next bytes of the stream in any cut. An empty slice is nothing.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.over || bytes.is_empty() {
            return;
        }
        let (from, to) = (self.client.remote_addr(), self.client.local_addr());
        let transmit = Transmit::new(bytes, self.client.transport(), from, to);
        let at = self.turn_time(now);
        match self.client.recv(transmit, at) {
            TurnRecvRet::PeerData(data) => self.deliver(&data),
            TurnRecvRet::Handled | TurnRecvRet::Ignored(_) | TurnRecvRet::PeerIcmp { .. } => {}
        }
        self.advance(now);
    }

    /// Sends `payload` to `peer` by the server. Asks for the permission first where it is missing; while there is no
    /// allocation, and beyond the bounds, the payload is dropped, as a network may.
    pub(crate) fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) {
        let reachable = self.relayed.is_some_and(|relayed| relayed.is_ipv4() == peer.is_ipv4());
        if self.over || !reachable || payload.len() > MAX_PAYLOAD {
            return;
        }
        match self.peers.get(&peer) {
            Some(Permission::Given) => self.relay(peer, payload, now),
            Some(Permission::Asked) => self.wait(peer, payload),
            None if self.peers.len() < MAX_PEERS => {
                self.wait(peer, payload);
                self.ask(peer, now);
            }
            None => {}
        }
        self.advance(now);
    }

    /// Gives the allocation back to the server; ends with [`TurnFailure::Ended`].
    pub(crate) fn close(&mut self, now: Instant) {
        if self.over {
            return;
        }
        let at = self.turn_time(now);
        // Without an allocation there is nothing to give back.
        let _ = self.client.delete(at);
        self.transmit_all(at);
        self.fail(TurnFailure::Ended);
    }
}
