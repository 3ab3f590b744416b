//! The client in conversation with turn-server-proto's server, on a clock of its own.

use super::endpoint::Endpoint;
use std::collections::BTreeSet;

use proptest::prelude::*;
use turn_client_proto::prelude::DelayedTransmitBuild;
use turn_client_proto::stun::Instant as TurnInstant;
use turn_client_proto::types::TransportType;
use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;

use super::*;

const CLIENT: &str = "192.0.2.1:40000";
const SERVER: &str = "192.0.2.2:3478";
const RELAY: &str = "192.0.2.2:50000";
const PEER: &str = "192.0.2.3:7882";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Client, server, and what came out of both.
struct Pair {
    turn: Turn,
    server: TurnServer,
    epoch: Instant,
    now: Instant,
    relayed: Vec<SocketAddr>,
    /// Payloads that left the relay for a peer.
    at_peer: Vec<(SocketAddr, Vec<u8>)>,
    received: Vec<(SocketAddr, Vec<u8>)>,
    failed: Vec<TurnFailure>,
    /// The first bytes of what the client wrote.
    kinds: BTreeSet<u8>,
}

impl Pair {
    fn new(transport: Transport, password: &str) -> Self {
        let now = Instant::now();
        let carrier = if transport == Transport::Udp { TransportType::Udp } else { TransportType::Tcp };
        let mut server = TurnServer::new(carrier, addr(SERVER), "realm".to_owned());
        server.add_user("user".to_owned(), "secret".to_owned());
        let turn = Turn::new(transport, addr(CLIENT), addr(SERVER), ("user", password), now).unwrap();
        let mut pair = Self {
            turn,
            server,
            epoch: now,
            now,
            relayed: Vec::new(),
            at_peer: Vec::new(),
            received: Vec::new(),
            failed: Vec::new(),
            kinds: BTreeSet::new(),
        };
        pair.settle();
        pair
    }

    fn at(&self) -> TurnInstant {
        TurnInstant::ZERO + self.now.saturating_duration_since(self.epoch)
    }

    /// Carries everything that stands until neither side has more for now.
    fn settle(&mut self) {
        for _ in 0..100 {
            let mut quiet = true;
            while let Some(output) = self.turn.poll_output() {
                quiet = false;
                self.take(output);
            }
            quiet &= self.serve();
            if quiet {
                return;
            }
        }
        panic!("the two never fall silent");
    }

    fn take(&mut self, output: TurnOutput) {
        match output {
            TurnOutput::Transmit(bytes) => {
                self.kinds.insert(bytes[0]);
                let transmit = Transmit::new(bytes, self.server.transport(), addr(CLIENT), addr(SERVER));
                let at = self.at();
                if let Some(out) = self.server.recv(transmit, at) {
                    let (to, bytes) = (out.to, out.data.build());
                    self.leave(to, bytes);
                }
            }
            TurnOutput::Relayed(relayed) => self.relayed.push(relayed),
            TurnOutput::Received { peer, payload } => self.received.push((peer, payload)),
            TurnOutput::Failed(failure) => self.failed.push(failure),
        }
    }

    fn serve(&mut self) -> bool {
        let at = self.at();
        let mut quiet = true;
        if let TurnServerPollRet::AllocateSocket {
            transport,
            listen_addr,
            client_addr,
            allocation_transport,
            family,
        } = self.server.poll(at)
        {
            let socket = Ok(addr(RELAY));
            self.server.allocated_socket(
                transport,
                listen_addr,
                client_addr,
                allocation_transport,
                family,
                socket,
                at,
            );
            quiet = false;
        }
        while let Some(transmit) = self.server.poll_transmit(at) {
            quiet = false;
            self.leave(transmit.to, transmit.data);
        }
        quiet
    }

    /// What the server wrote goes to the client, or to a peer.
    fn leave(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if to == addr(CLIENT) {
            self.turn.receive(&bytes, self.now);
        } else {
            self.at_peer.push((to, bytes));
        }
    }

    fn send(&mut self, payload: &[u8]) {
        self.turn.send(addr(PEER), payload, self.now);
        self.settle();
    }

    fn peer_sends(&mut self, payload: &[u8]) {
        let transmit = Transmit::new(payload.to_vec(), TransportType::Udp, addr(PEER), addr(RELAY));
        let at = self.at();
        if let Some(out) = self.server.recv(transmit, at) {
            let (to, bytes) = (out.to, out.data.build());
            self.leave(to, bytes);
        }
        self.settle();
    }

    /// Follows the client's own timeouts.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.turn.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now + Duration::from_millis(1));
            self.turn.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }
}

#[test]
fn a_payload_goes_through_the_relay_and_one_comes_back() {
    for transport in [Transport::Udp, Transport::Tls] {
        let mut pair = Pair::new(transport, "secret");
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.relayed, [addr(RELAY)], "{transport:?}");
        pair.send(b"first");
        pair.pass(Duration::from_secs(1));
        assert_eq!(
            pair.at_peer,
            [(addr(PEER), b"first".to_vec())],
            "it waited for its permission: {transport:?}"
        );
        pair.peer_sends(b"answer");
        assert_eq!(pair.received, [(addr(PEER), b"answer".to_vec())], "{transport:?}");
        assert_eq!(pair.failed, []);
    }
}

/// ChannelData begins with 0x40 to 0x4f; a stream would need the padding that turn-types leaves out.
#[test]
fn channels_are_bound_over_udp_alone() {
    for (transport, bound) in [(Transport::Udp, true), (Transport::Tcp, false)] {
        let mut pair = Pair::new(transport, "secret");
        pair.pass(Duration::from_secs(1));
        pair.send(b"one");
        pair.pass(Duration::from_secs(1));
        pair.send(b"seven b");
        pair.peer_sends(b"odd");
        assert_eq!(pair.kinds.contains(&0x40), bound, "{transport:?}: {:x?}", pair.kinds);
        assert_eq!(pair.at_peer.len(), 2, "{transport:?}");
        assert_eq!(pair.received.len(), 1, "{transport:?}");
    }
}

#[test]
fn an_hour_is_outlived_by_refreshes() {
    let mut pair = Pair::new(Transport::Udp, "secret");
    pair.pass(Duration::from_secs(1));
    pair.send(b"before");
    pair.pass(Duration::from_secs(3600));
    pair.send(b"after");
    pair.peer_sends(b"answer");
    assert_eq!(pair.at_peer.len(), 2);
    assert_eq!(pair.received.len(), 1);
    assert_eq!(pair.failed, []);
}

#[test]
fn a_wrong_password_is_told_once() {
    let mut pair = Pair::new(Transport::Udp, "wrong");
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.failed, [TurnFailure::Refused]);
    assert_eq!(pair.turn.poll_timeout(), None);
}

#[test]
fn a_server_that_never_answers_is_told_of() {
    let now = Instant::now();
    let mut turn = Turn::new(Transport::Udp, addr(CLIENT), addr(SERVER), ("user", "secret"), now).unwrap();
    let mut failed = Vec::new();
    for _ in 0..200 {
        while let Some(output) = turn.poll_output() {
            if let TurnOutput::Failed(failure) = output {
                failed.push(failure);
            }
        }
        let Some(due) = turn.poll_timeout() else { break };
        assert!(due < now + Duration::from_secs(120));
        turn.handle_timeout(due);
    }
    assert_eq!(failed, [TurnFailure::Refused]);
}

#[test]
fn the_allocation_is_given_back() {
    let mut pair = Pair::new(Transport::Udp, "secret");
    pair.pass(Duration::from_secs(1));
    pair.turn.close(pair.now);
    let mut last = Vec::new();
    while let Some(output) = pair.turn.poll_output() {
        last.push(output);
    }
    // A Refresh request, then the end.
    assert!(matches!(&last[0], TurnOutput::Transmit(bytes) if bytes[..2] == [0, 4]), "{last:?}");
    assert_eq!(last[1..], [TurnOutput::Failed(TurnFailure::Ended)]);
}

#[test]
fn what_waits_is_bounded() {
    let mut pair = Pair::new(Transport::Udp, "secret");
    pair.pass(Duration::from_secs(1));
    for port in 1..500u16 {
        pair.turn.send(SocketAddr::new(addr(PEER).ip(), port), &[0; 10], pair.now);
    }
    assert_eq!(pair.turn.waiting.len(), MAX_WAITING);
    assert_eq!(pair.turn.peers.len(), MAX_PEERS);
}

#[test]
fn long_credentials_are_refused() {
    let long = "x".repeat(MAX_CREDENTIAL + 1);
    let made = Turn::new(Transport::Udp, addr(CLIENT), addr(SERVER), (&long, "secret"), Instant::now());
    assert_eq!(made.err(), Some(TurnFailure::Credentials));
}

#[test]
fn urls_of_relays() {
    let read = |url: &str| Endpoint::parse(url).map(|url| (url.host, url.port, url.transport));
    let host = || "relay.example.org".to_owned();
    assert_eq!(read("turn:relay.example.org"), Ok((host(), 3478, Transport::Udp)));
    assert_eq!(read("turn:relay.example.org:443?transport=udp"), Ok((host(), 443, Transport::Udp)));
    assert_eq!(read("turn:relay.example.org?transport=tcp"), Ok((host(), 3478, Transport::Tcp)));
    assert_eq!(read("turns:relay.example.org?transport=tcp"), Ok((host(), 5349, Transport::Tls)));
    assert_eq!(read("TURNS:relay.example.org:443"), Ok((host(), 443, Transport::Tls)));
    assert_eq!(read("turn:[2001:db8::1]:99"), Ok(("2001:db8::1".to_owned(), 99, Transport::Udp)));
}

#[test]
fn urls_that_are_none_say_why() {
    let error = |url: &str| Endpoint::parse(url).unwrap_err().to_string();
    assert!(error("stun:stun.example.org").contains("starts with turn:"));
    assert!(error("nonsense").contains("starts with turn:"));
    for none in
        ["turn:", "turn:?transport=udp", "turn:user@host", "turn:[::1", "turn:[::1]3478", "turn://host"]
    {
        assert!(error(none).contains("names no host"), "{none}");
    }
    for port in
        ["turn:host:", "turn:host:0", "turn:host:65536", "turn:host:+1", "turn:host:1:2", "turn:[::1]:"]
    {
        assert!(error(port).contains("no valid port"), "{port}");
    }
    for transport in ["turn:host?transport=sctp", "turns:host?transport=udp", "turn:host?ttl=1"] {
        assert!(error(transport).contains("not supported"), "{transport}");
    }
}

proptest! {
    #[test]
    fn no_url_panics(url in "\\PC{0,40}", tail in "(turns?:)?[\\[\\]a-z0-9:.?=@]{0,30}") {
        let _ = Endpoint::parse(&url);
        let _ = Endpoint::parse(&tail);
    }

    #[test]
    fn no_bytes_panic(
        stream in any::<bool>(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let mut pair = Pair::new(if stream { Transport::Tcp } else { Transport::Udp }, "secret");
        pair.pass(Duration::from_secs(1));
        for chunk in &chunks {
            pair.turn.receive(chunk, pair.now);
        }
    }
}
