//! Owns the conversation between the signalling and the peer connections: one connection for everything (`/rtc/v1`), or
//! one to publish and one to subscribe (`/rtc`), and which track goes through which section. Refuses to know who
//! publishes a track, and when to reconnect.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{MediaSectionsRequirement, SessionDescription, SignalTarget, TrickleRequest};
use str0m::Candidate;
use str0m::media::Mid;
use str0m::net::{Protocol, TcpType, Transmit};

use crate::peer::{Label, MediaPacket, Outgoing, Peer, PeerOutput};
use crate::video::VideoCodec;

/// Which of the connections: a datagram belongs to one, since the server has one port for all (rtc.md, G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// The only one, where there is one.
    Publisher,
    Subscriber,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once: a box would be one more allocation for each packet"
)]
pub(crate) enum SessionOutput {
    Signal(Request),
    /// Everything that a participant needs is connected.
    Connected,
    Lost,
    /// A track's packets come from now on.
    Bound(Arc<str>),
    Unbound(Arc<str>),
    Media(Arc<str>, MediaPacket),
    /// Whoever watches the track of this cid needs a key frame.
    KeyframeWanted(String),
    /// The channel takes data.
    Open,
    Data(Label, Vec<u8>),
    Writable,
    /// The server takes connections of TCP there.
    Passive(Which, SocketAddr),
}

pub(crate) struct Session {
    publisher: Peer,
    subscriber: Option<Peer>,
    /// The tracks' ids, by the section of the receiving connection.
    bound: BTreeMap<Mid, Arc<str>>,
    outputs: VecDeque<SessionOutput>,
    transmits: VecDeque<(Which, Transmit)>,
    connected: bool,
    deadlines: (Instant, Instant),
}

impl Session {
    /// A session that has not said anything yet; its first offer goes with the join (one connection), or follows it.
    pub(crate) fn new(now: Instant, red: bool, single: bool) -> Self {
        let mut publisher = Peer::new(now, red);
        publisher.want_channels();
        if single {
            publisher.want_receiving(1, 0);
        }
        Self {
            publisher,
            subscriber: (!single).then(|| Peer::new(now, red)),
            bound: BTreeMap::new(),
            outputs: VecDeque::new(),
            transmits: VecDeque::new(),
            connected: false,
            deadlines: (now, now),
        }
    }

    pub(crate) fn is_single(&self) -> bool {
        self.subscriber.is_none()
    }

    /// The connections that need a socket each.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Which> + use<> {
        [Some(Which::Publisher), self.subscriber.as_ref().map(|_| Which::Subscriber)].into_iter().flatten()
    }

    pub(crate) fn peer(&mut self, which: Which) -> Option<&mut Peer> {
        match which {
            Which::Publisher => Some(&mut self.publisher),
            Which::Subscriber => self.subscriber.as_mut(),
        }
    }

    /// The first offer, for the join request of a single connection.
    pub(crate) fn first_offer(&mut self) -> Option<SessionDescription> {
        if self.is_single() { self.publisher.offer() } else { None }
    }

    /// Makes the offers that are wanted. After every input but a datagram.
    pub(crate) fn negotiate(&mut self) {
        if let Some(offer) = self.publisher.offer() {
            self.outputs.push_back(SessionOutput::Signal(Request::Offer(offer)));
        }
    }

    /// The connection that publishes, for what only it does; [`Session::negotiate`] after it.
    pub(crate) fn publisher(&mut self) -> &mut Peer {
        &mut self.publisher
    }

    pub(crate) fn on_answer(&mut self, answer: &SessionDescription) {
        match self.publisher.answer(answer) {
            Ok(()) => {
                self.find_passive(Which::Publisher, &answer.sdp);
                if self.is_single() {
                    self.bind(&answer.mid_to_track_id);
                }
            }
            Err(error) => tracing::debug!(%error, "an answer of the server's is left out"),
        }
        self.negotiate();
    }

    /// An offer of the server's, for the connection that subscribes.
    pub(crate) fn on_offer(&mut self, offer: &SessionDescription) {
        let Some(subscriber) = self.subscriber.as_mut() else {
            tracing::debug!("an offer of the server's on a single connection: left out");
            return;
        };
        match subscriber.accept(offer) {
            Ok(answer) => {
                self.outputs.push_back(SessionOutput::Signal(Request::Answer(answer)));
                self.find_passive(Which::Subscriber, &offer.sdp);
                self.bind(&offer.mid_to_track_id);
            }
            Err(error) => tracing::warn!(%error, "an offer of the server's is left out"),
        }
    }

    pub(crate) fn on_trickle(&mut self, trickle: &TrickleRequest) {
        let Some(candidate) = candidate_of(&trickle.candidate_init) else { return };
        let subscriber = trickle.target == SignalTarget::Subscriber as i32;
        let which = if subscriber && !self.is_single() { Which::Subscriber } else { Which::Publisher };
        if let Some(peer) = self.peer(which) {
            peer.add_remote_candidate(&candidate);
        }
        self.find_passive(which, &candidate);
    }

    /// Tells of the candidates in a description, or of the only one, that wait for a connection of TCP.
    fn find_passive(&mut self, which: Which, text: &str) {
        let candidate = |line: &str| Candidate::from_sdp_string(line.strip_prefix("a=").unwrap_or(line)).ok();
        let candidates = text.lines().filter(|line| line.contains("candidate:")).filter_map(candidate);
        let passive = candidates.filter(|candidate| candidate.tcptype() == Some(TcpType::Passive));
        self.outputs.extend(passive.map(|candidate| SessionOutput::Passive(which, candidate.addr())));
    }

    /// The server needs more sections to send with, or only an offer to answer (rtc.md, G1).
    pub(crate) fn on_sections(&mut self, wanted: MediaSectionsRequirement) {
        // Far above the tracks of any room: what a server asks for is not taken at its word.
        const MOST: u32 = 256;
        self.publisher.want_receiving(wanted.num_audios.min(MOST), wanted.num_videos.min(MOST));
        self.negotiate();
    }

    /// The network changed, or the signalling was resumed: new ICE credentials, on the connection that we offer on. (The
    /// server does it for the other.) An offer whose answer was lost is made again.
    pub(crate) fn restart_ice(&mut self) {
        self.publisher.forget_offer();
        self.publisher.want_ice_restart();
        self.connected = false;
        self.negotiate();
    }

    fn bind(&mut self, tracks: &std::collections::HashMap<String, String>) {
        let now: BTreeMap<Mid, Arc<str>> =
            tracks.iter().map(|(mid, sid)| (Mid::from(mid.as_str()), Arc::from(sid.as_str()))).collect();
        let before = std::mem::replace(&mut self.bound, now);
        let gone = before.iter().filter(|(mid, sid)| self.bound.get(*mid) != Some(sid));
        let come = self.bound.iter().filter(|(mid, sid)| before.get(*mid) != Some(sid));
        self.outputs.extend(gone.map(|(_, sid)| SessionOutput::Unbound(sid.clone())));
        self.outputs.extend(come.map(|(_, sid)| SessionOutput::Bound(sid.clone())));
    }

    /// A datagram for one of the connections.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        which: Which,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        datagram: &[u8],
    ) {
        let Some(peer) = self.peer(which) else { return };
        if let Err(error) = peer.receive(now, proto, source, destination, datagram) {
            tracing::trace!(%error, "a datagram is left out");
        }
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        for which in self.peers() {
            let due = match which {
                Which::Publisher => self.deadlines.0 <= now,
                Which::Subscriber => self.deadlines.1 <= now,
            };
            let Some(peer) = self.peer(which).filter(|_| due) else { continue };
            if let Err(error) = peer.timeout(now) {
                tracing::debug!(%error, "a peer connection's timeout");
            }
        }
    }

    pub(crate) fn write_media(&mut self, now: Instant, cid: &str, packet: Outgoing) -> bool {
        let written = self.publisher.write_media(now, cid, packet);
        self.drain(Which::Publisher);
        written
    }

    /// What the server takes this codec of the track `cid` as; `None` while it can't be sent.
    pub(crate) fn payload_type(&self, cid: &str, codec: VideoCodec) -> Option<u8> {
        self.publisher.payload_type(cid, codec)
    }

    /// Asks whoever publishes the track `sid` for a key frame.
    pub(crate) fn ask_keyframe(&mut self, sid: &str) {
        let Some(mid) = self.bound.iter().find(|(_, bound)| &***bound == sid).map(|(mid, _)| *mid) else {
            return;
        };
        let which = if self.is_single() { Which::Publisher } else { Which::Subscriber };
        if let Some(peer) = self.peer(which) {
            peer.ask_keyframe(mid);
        }
        self.drain(which);
    }

    /// False if the channel is not open or full.
    pub(crate) fn write_data(&mut self, label: Label, message: &[u8]) -> bool {
        let written = self.publisher.write_data(label, message).unwrap_or_else(|error| {
            tracing::debug!(%error, "a message can't be written");
            false
        });
        self.drain(Which::Publisher);
        written
    }

    pub(crate) fn close(&mut self) {
        self.publisher.close();
        if let Some(subscriber) = self.subscriber.as_mut() {
            subscriber.close();
        }
    }

    /// What follows from the last input, but for datagrams; to be called until there is nothing.
    pub(crate) fn poll_told(&mut self) -> Option<SessionOutput> {
        if self.outputs.is_empty() {
            self.peers().for_each(|which| self.drain(which));
        }
        self.outputs.pop_front()
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Which, Transmit)> {
        if self.transmits.is_empty() {
            self.peers().for_each(|which| self.drain(which));
        }
        self.transmits.pop_front()
    }

    /// When [`Session::timeout`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadlines.0.min(self.deadlines.1)
    }

    /// Takes everything that a connection has to say: it must be empty before it changes again (rtc.md, G4).
    fn drain(&mut self, which: Which) {
        while let Some(peer) = self.peer(which) {
            match peer.poll() {
                Ok(PeerOutput::Timeout(at)) => {
                    match which {
                        Which::Publisher if self.is_single() => self.deadlines = (at, at),
                        Which::Publisher => self.deadlines.0 = at,
                        Which::Subscriber => self.deadlines.1 = at,
                    }
                    return;
                }
                Ok(PeerOutput::Transmit(transmit)) => self.transmits.push_back((which, transmit)),
                Ok(output) => self.on_peer(which, output),
                Err(error) => {
                    tracing::warn!(%error, "a peer connection is broken");
                    self.lost();
                    return;
                }
            }
        }
    }

    fn on_peer(&mut self, which: Which, output: PeerOutput) {
        match output {
            PeerOutput::Connected | PeerOutput::Restored => {
                if !self.connected && self.all_connected() {
                    self.connected = true;
                    self.outputs.push_back(SessionOutput::Connected);
                }
            }
            PeerOutput::Lost | PeerOutput::Closed => self.lost(),
            PeerOutput::Media(packet) => {
                // What is not bound (yet) is nobody's.
                if let Some(sid) = self.bound.get(&packet.mid) {
                    self.outputs.push_back(SessionOutput::Media(sid.clone(), packet));
                }
            }
            PeerOutput::KeyframeWanted(cid) => self.outputs.push_back(SessionOutput::KeyframeWanted(cid)),
            PeerOutput::Open if which == Which::Publisher => self.outputs.push_back(SessionOutput::Open),
            PeerOutput::Open | PeerOutput::Timeout(_) | PeerOutput::Transmit(_) => {}
            PeerOutput::Data(label, data) => self.outputs.push_back(SessionOutput::Data(label, data)),
            PeerOutput::Writable => self.outputs.push_back(SessionOutput::Writable),
        }
    }

    fn lost(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.outputs.push_back(SessionOutput::Lost);
        }
    }

    /// Whether media and data can flow.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    fn all_connected(&self) -> bool {
        self.publisher.is_connected() && self.subscriber.as_ref().is_none_or(Peer::is_connected)
    }

    /// A free cid that begins so, to publish with again.
    pub(crate) fn spare(&self, prefix: &str) -> Option<String> {
        self.publisher.spare(prefix).map(str::to_owned)
    }
}

/// The candidate in a trickled `RTCIceCandidateInit`, which is JSON; `None` at the end of candidates.
fn candidate_of(init: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Init {
        candidate: String,
    }
    let Init { candidate } = serde_json::from_str(init).ok()?;
    (!candidate.is_empty()).then_some(candidate)
}

#[cfg(test)]
mod tests;
