//! Owns the ways to the server beside plain UDP — ICE over TCP (RFC 6544), and relays (TURN) —: when they are tried, what
//! goes through each, and which are given up. Refuses sockets, and to pick the way that is used: ICE does.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use livekit_protocol::IceServer;
use str0m::Candidate;
use str0m::net::{Protocol, Transmit};

use crate::session::Which;
use crate::turn::{Endpoint, Transport, Turn, TurnOutput};
use crate::wire::{Framer, frame};

/// The time that plain UDP has for itself. What needs longer is behind a firewall, or so far away that a second way costs
/// nothing.
const ALONE: Duration = Duration::from_secs(1);
/// How long after the connection stands the ways that it does not use are given up.
const SETTLE: Duration = Duration::from_secs(5);
/// Addresses and relays of a server that are tried at most, of each.
const MOST: usize = 8;

pub(crate) type RouteId = u32;

/// What becomes of a way, as its socket tells.
#[derive(Debug)]
pub(crate) enum RouteNews {
    Opened {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A datagram, or the next bytes of a stream.
    Received(Vec<u8>),
    Closed,
}

/// What is to be done with the socket of a way.
#[derive(Debug, PartialEq)]
pub(crate) enum SocketAction {
    Open(Endpoint),
    Write(Vec<u8>),
    /// After everything that was written.
    Close,
}

#[derive(Debug)]
pub(crate) enum RouteOutput {
    Socket(RouteId, SocketAction),
    /// The connection can be reached here too.
    Candidate(Which, Candidate),
    /// It can't any more.
    Gone(Which, Candidate),
    Packet {
        which: Which,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        payload: Vec<u8>,
    },
}

/// A server of relays, and how to ask it.
#[derive(Clone)]
struct Relay {
    endpoint: Endpoint,
    user: String,
    password: String,
}

struct Route {
    which: Which,
    endpoint: Endpoint,
    kind: Kind,
    /// What ICE knows of it, once it is open.
    candidate: Option<Candidate>,
    /// More than ICE's checks went out by it since the connection stands.
    used: bool,
}

enum Kind {
    /// RFC 4571 frames, to the server itself.
    Framed {
        remote: SocketAddr,
        framer: Framer,
    },
    Relayed {
        user: String,
        password: String,
        turn: Option<Box<Turn>>,
    },
}

#[derive(Default)]
pub(crate) struct Routes {
    /// No way but relays.
    relay_only: bool,
    peers: Vec<Which>,
    relays: Vec<Relay>,
    /// Where the server takes connections of TCP.
    passive: Vec<(Which, SocketAddr)>,
    seek_at: Option<Instant>,
    seeking: bool,
    settle_at: Option<Instant>,
    routes: BTreeMap<RouteId, Route>,
    last: RouteId,
    outputs: VecDeque<RouteOutput>,
}

impl Routes {
    pub(crate) fn new(relay_only: bool) -> Self {
        Self { relay_only, ..Self::default() }
    }

    /// The relays that the server names, instead of those that it named before.
    pub(crate) fn set_relays(&mut self, servers: &[IceServer]) {
        let relays = servers.iter().flat_map(|server| server.urls.iter().map(move |url| (server, url)));
        let relay = |(server, url): (&IceServer, &String)| match Endpoint::parse(url) {
            Ok(endpoint) => {
                Some(Relay { endpoint, user: server.username.clone(), password: server.credential.clone() })
            }
            Err(error) => {
                tracing::debug!(%error, "a server that ICE has no use for here");
                None
            }
        };
        self.relays = relays.filter_map(relay).take(MOST).collect();
    }

    /// These connections are to be made.
    pub(crate) fn begin(&mut self, now: Instant, peers: impl Iterator<Item = Which>) {
        self.end(now);
        self.peers = peers.collect();
        self.passive.clear();
        self.seek(now);
    }

    /// The connection does not stand.
    pub(crate) fn seek(&mut self, now: Instant) {
        if self.seeking || self.peers.is_empty() {
            return;
        }
        self.settle_at = None;
        self.seek_at.get_or_insert(if self.relay_only { now } else { now + ALONE });
    }

    /// The connection stands.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.seek_at = None;
        self.seeking = false;
        self.settle_at = (!self.routes.is_empty()).then(|| now + SETTLE);
        self.routes.values_mut().for_each(|route| route.used = false);
    }

    /// ICE begins anew. A stream belongs to the credentials that it began with; a relay does not.
    pub(crate) fn restarted(&mut self, now: Instant) {
        self.give_up(now, |route| matches!(route.kind, Kind::Framed { .. }));
        self.passive.clear();
        self.seeking = false;
        self.seek(now);
    }

    /// Gives everything up.
    pub(crate) fn end(&mut self, now: Instant) {
        self.give_up(now, |_| true);
        (self.seek_at, self.settle_at, self.seeking) = (None, None, false);
    }

    /// The server takes connections of TCP at `address`.
    pub(crate) fn passive(&mut self, which: Which, address: SocketAddr) {
        if self.relay_only || self.passive.len() == MOST || self.passive.contains(&(which, address)) {
            return;
        }
        self.passive.push((which, address));
        if self.seeking {
            self.open_framed(which, address);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let turns = self.routes.values().filter_map(|route| match &route.kind {
            Kind::Relayed { turn: Some(turn), .. } => turn.poll_timeout(),
            Kind::Relayed { .. } | Kind::Framed { .. } => None,
        });
        turns.chain(self.seek_at).chain(self.settle_at).min()
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.seek_at.take_if(|at| *at <= now).is_some() {
            self.seeking = true;
            self.open_all();
        }
        if self.settle_at.take_if(|at| *at <= now).is_some() {
            self.give_up(now, |route| !route.used);
        }
        for id in self.routes.keys().copied().collect::<Vec<_>>() {
            self.turn(id, |turn| {
                if turn.poll_timeout().is_some_and(|due| due <= now) {
                    turn.handle_timeout(now);
                }
            });
        }
    }

    pub(crate) fn news(&mut self, now: Instant, id: RouteId, news: RouteNews) {
        match news {
            RouteNews::Opened { local, remote } => self.opened(now, id, local, remote),
            RouteNews::Received(bytes) => self.received(now, id, &bytes),
            RouteNews::Closed => self.closed(id),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<RouteOutput> {
        self.outputs.pop_front()
    }

    /// Sends by the way that it is for; false where that is plain UDP.
    pub(crate) fn send(&mut self, now: Instant, which: Which, transmit: &Transmit) -> bool {
        if transmit.proto == Protocol::Udp && self.routes.is_empty() {
            return false;
        }
        let Some((id, route)) = self.routes.iter_mut().find(|(_, route)| route.carries(which, transmit))
        else {
            return transmit.proto != Protocol::Udp;
        };
        // STUN's first byte (RFC 7983); the rest goes by the pair that ICE picked.
        route.used |= transmit.contents.first().is_some_and(|byte| *byte > 3);
        let id = *id;
        if let Kind::Framed { .. } = &route.kind {
            let mut bytes = Vec::new();
            match frame(&transmit.contents, &mut bytes) {
                Ok(()) => self.outputs.push_back(RouteOutput::Socket(id, SocketAction::Write(bytes))),
                Err(error) => tracing::debug!(%error, "a packet is lost"),
            }
        } else {
            self.turn(id, |turn| turn.send(transmit.destination, &transmit.contents, now));
        }
        true
    }
}

impl Route {
    /// Whether the packet goes this way.
    fn carries(&self, which: Which, transmit: &Transmit) -> bool {
        let Some(candidate) = self.candidate.as_ref().filter(|_| self.which == which) else { return false };
        let towards = match self.kind {
            Kind::Framed { remote, .. } => remote == transmit.destination,
            Kind::Relayed { .. } => true,
        };
        towards && candidate.proto() == transmit.proto && candidate.addr() == transmit.source
    }
}

impl Routes {
    fn open_all(&mut self) {
        for (which, address) in self.passive.clone() {
            self.open_framed(which, address);
        }
        for which in self.peers.clone() {
            for Relay { endpoint, user, password } in self.relays.clone() {
                self.open(which, endpoint, Kind::Relayed { user, password, turn: None });
            }
        }
    }

    fn open_framed(&mut self, which: Which, remote: SocketAddr) {
        let endpoint =
            Endpoint { host: remote.ip().to_string(), port: remote.port(), transport: Transport::Tcp };
        self.open(which, endpoint, Kind::Framed { remote, framer: Framer::new() });
    }

    fn open(&mut self, which: Which, endpoint: Endpoint, kind: Kind) {
        if self.routes.values().any(|route| route.which == which && route.endpoint == endpoint) {
            return;
        }
        self.last = self.last.wrapping_add(1);
        self.outputs.push_back(RouteOutput::Socket(self.last, SocketAction::Open(endpoint.clone())));
        self.routes.insert(self.last, Route { which, endpoint, kind, candidate: None, used: false });
    }

    fn opened(&mut self, now: Instant, id: RouteId, local: SocketAddr, remote: SocketAddr) {
        let Some(route) = self.routes.get_mut(&id) else { return };
        match &mut route.kind {
            Kind::Framed { .. } => self.reachable(id, Candidate::host(local, Protocol::Tcp).ok()),
            Kind::Relayed { user, password, turn } => {
                let credentials = (user.as_str(), password.as_str());
                match Turn::new(route.endpoint.transport, local, remote, credentials, now) {
                    Ok(new) => {
                        *turn = Some(Box::new(new));
                        self.turn(id, |_| {});
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a relay can't be used");
                        self.closed(id);
                    }
                }
            }
        }
    }

    fn reachable(&mut self, id: RouteId, candidate: Option<Candidate>) {
        let (Some(route), Some(candidate)) = (self.routes.get_mut(&id), candidate) else { return };
        route.candidate = Some(candidate.clone());
        self.outputs.push_back(RouteOutput::Candidate(route.which, candidate));
    }

    fn received(&mut self, now: Instant, id: RouteId, bytes: &[u8]) {
        let Some(Route { which, kind, candidate, .. }) = self.routes.get_mut(&id) else { return };
        let Kind::Framed { remote, framer } = kind else {
            return self.turn(id, |turn| turn.receive(bytes, now));
        };
        let Some(destination) = candidate.as_ref().map(Candidate::addr) else { return };
        framer.push(bytes);
        while let Some(payload) = framer.next() {
            let payload = payload.to_vec();
            let (which, proto, source) = (*which, Protocol::Tcp, *remote);
            self.outputs.push_back(RouteOutput::Packet { which, proto, source, destination, payload });
        }
    }

    /// Its socket is gone, or is to go.
    fn closed(&mut self, id: RouteId) {
        let Some(Route { which, candidate, endpoint, .. }) = self.routes.remove(&id) else { return };
        self.outputs.push_back(RouteOutput::Socket(id, SocketAction::Close));
        tracing::debug!(host = endpoint.host, port = endpoint.port, "a way to the server is closed");
        if let Some(candidate) = candidate {
            self.outputs.push_back(RouteOutput::Gone(which, candidate));
        }
    }

    fn give_up(&mut self, now: Instant, which: impl Fn(&Route) -> bool) {
        let given_up = |(id, route): (&RouteId, &Route)| which(route).then_some(*id);
        for id in self.routes.iter().filter_map(given_up).collect::<Vec<_>>() {
            self.turn(id, |turn| turn.close(now));
            self.closed(id);
        }
    }

    /// Does `what` with a relay, and what follows from it.
    fn turn(&mut self, id: RouteId, what: impl FnOnce(&mut Turn)) {
        let Some(Route { which, kind: Kind::Relayed { turn: Some(turn), .. }, candidate, .. }) =
            self.routes.get_mut(&id)
        else {
            return;
        };
        what(turn);
        let (which, own) = (*which, candidate.as_ref().map(Candidate::addr));
        let (mut relayed, mut failed) = (None, None);
        while let Some(output) = turn.poll_output() {
            match output {
                TurnOutput::Transmit(bytes) => {
                    self.outputs.push_back(RouteOutput::Socket(id, SocketAction::Write(bytes)))
                }
                TurnOutput::Relayed(address) => relayed = Some(address),
                TurnOutput::Received { peer: source, payload } => {
                    let Some(destination) = own else { continue };
                    let proto = Protocol::Udp;
                    self.outputs.push_back(RouteOutput::Packet {
                        which,
                        proto,
                        source,
                        destination,
                        payload,
                    });
                }
                TurnOutput::Failed(failure) => failed = Some(failure),
            }
        }
        if let Some(address) = relayed {
            self.reachable(id, Candidate::relayed(address, address, Protocol::Udp).ok());
        }
        if let Some(failure) = failed {
            tracing::debug!(%failure, "a relay is over");
            self.closed(id);
        }
    }
}

#[cfg(test)]
mod tests;
