//! Owns one peer connection: the sections of its description, the offer that is under way, its data channels, and what
//! goes through str0m. Refuses to know what a track or a participant is, and does no IO: datagrams go in and out by
//! [`Peer::receive`] and [`Peer::poll`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::SessionDescription;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::error::{NetError, RtcError};
use str0m::format::Codec;
use str0m::ice::IceCreds;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

use crate::video::VideoCodec;

/// Opus as every LiveKit client offers it.
pub(crate) const OPUS: u8 = 111;
/// Redundant audio (RFC 2198) over Opus.
pub(crate) const RED: u8 = 63;
/// Above this much waiting to be sent, a channel takes no more: the caller queues (rtc.md, G13).
const CHANNEL_LOW: usize = 64 * 1024;
/// Candidates of a peer that never answers.
const MAX_CANDIDATES: usize = 64;

/// The three channels of every LiveKit connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Label {
    Reliable,
    Lossy,
    DataTrack,
}

impl Label {
    const ALL: [Self; 3] = [Self::Reliable, Self::Lossy, Self::DataTrack];

    const fn name(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
            Self::DataTrack => "_data_track",
        }
    }

    fn config(self) -> ChannelConfig {
        let label = self.name().to_owned();
        match self {
            Self::Reliable => ChannelConfig { label, ordered: true, ..ChannelConfig::default() },
            Self::Lossy | Self::DataTrack => ChannelConfig {
                label,
                ordered: false,
                reliability: Reliability::MaxRetransmits { retransmits: 0 },
                ..ChannelConfig::default()
            },
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }
}

/// A packet of media as it came, decrypted.
#[derive(Debug)]
pub(crate) struct MediaPacket {
    pub(crate) mid: Mid,
    pub(crate) payload_type: u8,
    /// Extended: it never wraps while its stream lasts.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) ssrc: u32,
    /// What it is a packet of, if that is video.
    pub(crate) video: Option<VideoCodec>,
    pub(crate) payload: Arc<[u8]>,
}

/// A packet of media to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) payload_type: u8,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// The level of audio in dBov, from -127 to 0, and whether it is speech.
    pub(crate) level: Option<(i8, bool)>,
    /// Sent again where it is missed.
    pub(crate) again: bool,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum PeerOutput {
    Transmit(Transmit),
    /// ICE and DTLS are up.
    Connected,
    /// No candidate pair answers any more.
    Lost,
    /// A candidate pair answers again.
    Restored,
    Media(MediaPacket),
    /// Whoever watches the track of this cid needs a key frame.
    KeyframeWanted(String),
    /// A channel takes data.
    Open,
    Data(Label, Vec<u8>),
    /// The channel takes data again.
    Writable,
    /// The peer closed the connection.
    Closed,
    /// Nothing more until then.
    Timeout(Instant),
}

/// What went wrong with a description or a datagram. The peer goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("a session description that can't be read: {0}")]
    Description(String),
    #[error("an answer (id {0}) to an offer that was not made, or was answered")]
    Unasked(u32),
    #[error("the connection refuses: {0}")]
    Rtc(#[from] RtcError),
    #[error("a datagram that is none of WebRTC's: {0}")]
    Datagram(#[from] NetError),
}

/// A section that sends one of our tracks.
#[derive(Debug)]
struct Sending {
    mid: Mid,
    /// The next sequence number; below 65,536 at first, as str0m asks for (a receiver starts with roll-over 0).
    sequence: u64,
    live: bool,
}

/// An offer that the server has not answered.
struct Pending {
    id: u32,
    offer: SdpPendingOffer,
    /// What it is to bring, for the case that nobody answers.
    wanted: Wanted,
    /// The sections that stand in it for the first time.
    added: Vec<Mid>,
}

/// What the next offer is to bring.
#[derive(Clone, Debug, Default)]
struct Wanted {
    offer: bool,
    channels: bool,
    restart: bool,
    audios: u32,
    videos: u32,
    sends: Vec<(String, MediaKind)>,
    stops: Vec<String>,
}

pub(crate) struct Peer {
    rtc: Rtc,
    wanted: Wanted,
    pending: Option<Pending>,
    last_offer: u32,
    /// By cid, which is also the track's id in the description.
    sending: BTreeMap<String, Sending>,
    receiving: Vec<(Mid, MediaKind)>,
    channels: BTreeMap<Label, ChannelId>,
    open: Vec<(ChannelId, Label)>,
    /// Came before there was a description that they belong to.
    candidates: Vec<String>,
    described: bool,
    lost: bool,
    /// str0m gave up: nothing more comes of it.
    broken: bool,
    now: Instant,
}

impl Peer {
    /// A connection without candidates of its own yet. `red`: audio may be redundant.
    pub(crate) fn new(now: Instant, red: bool) -> Self {
        let rtc = Rtc::builder()
            .clear_codecs()
            .enable_opus(true, red)
            // A participant without video codecs is thrown out when another publishes video (rtc.md, G3).
            .enable_vp8(true)
            .enable_h264(true)
            .enable_vp9(true)
            .enable_av1(true)
            // Frame mode goes silent on a section that gets a new SSRC (rtc.md, G2).
            .set_rtp_mode(true)
            .set_stats_interval(None)
            .build(now);
        Self {
            rtc,
            wanted: Wanted::default(),
            pending: None,
            last_offer: 0,
            sending: BTreeMap::new(),
            receiving: Vec::new(),
            channels: BTreeMap::new(),
            open: Vec::new(),
            candidates: Vec::new(),
            described: false,
            lost: false,
            broken: false,
            now,
        }
    }

    pub(crate) fn add_local_candidate(&mut self, candidate: Candidate) {
        self.rtc.add_local_candidate(candidate);
        if self.described {
            // Before its first timeout ICE has no clock, and a candidate that comes late would wait for ever. A first
            // timeout before there is anything to check would hold the checks back for 50 ms.
            self.broken |= self.timeout(self.now).is_err();
        }
    }

    /// The connection can't be reached there any more.
    pub(crate) fn remove_local_candidate(&mut self, candidate: &Candidate) {
        self.rtc.direct_api().invalidate_candidate(candidate);
    }

    /// The three channels, in the next offer.
    pub(crate) fn want_channels(&mut self) {
        self.wanted.channels = true;
        self.wanted.offer = true;
    }

    /// As many more sections to receive with. An offer follows even for none: a server waits for it (rtc.md, G1).
    pub(crate) fn want_receiving(&mut self, audios: u32, videos: u32) {
        self.wanted.audios = self.wanted.audios.saturating_add(audios);
        self.wanted.videos = self.wanted.videos.saturating_add(videos);
        self.wanted.offer = true;
    }

    /// A section that sends the track `cid`. One that has stopped is taken up again.
    pub(crate) fn want_sending(&mut self, cid: &str, kind: MediaKind) {
        self.wanted.stops.retain(|stopped| stopped != cid);
        self.wanted.sends.push((cid.to_owned(), kind));
        self.wanted.offer = true;
    }

    /// The track `cid` is sent no more.
    pub(crate) fn stop_sending(&mut self, cid: &str) {
        self.wanted.sends.retain(|(wanted, _)| wanted != cid);
        if let Some(sending) = self.sending.get_mut(cid) {
            sending.live = false;
            self.wanted.stops.push(cid.to_owned());
            self.wanted.offer = true;
        }
    }

    /// A cid that begins so, was used and is free: its section is taken up again rather than that the description grows.
    pub(crate) fn spare(&self, prefix: &str) -> Option<&str> {
        let wanted = |cid: &String| self.wanted.sends.iter().any(|(wanted, _)| wanted == cid);
        self.sending
            .iter()
            .find(|(cid, sending)| !sending.live && cid.starts_with(prefix) && !wanted(cid))
            .map(|(cid, _)| cid.as_str())
    }

    pub(crate) fn want_ice_restart(&mut self) {
        self.wanted.restart = true;
        self.wanted.offer = true;
    }

    /// The next offer, if one is wanted and none is under way: there is one at a time (rtc.md, G12).
    pub(crate) fn offer(&mut self) -> Option<SessionDescription> {
        if self.pending.is_some() || !std::mem::take(&mut self.wanted.offer) {
            return None;
        }
        let wanted = std::mem::take(&mut self.wanted);
        let mut added = Vec::new();
        let mut api = self.rtc.sdp_api();
        // A server that answers "inactive" to a spare section still wants to use it later.
        for (mid, _) in &self.receiving {
            api.set_direction(*mid, Direction::RecvOnly);
        }
        if wanted.channels {
            for label in Label::ALL {
                self.channels.insert(label, api.add_channel_with_config(label.config()));
            }
        }
        for (kind, count) in [(MediaKind::Audio, wanted.audios), (MediaKind::Video, wanted.videos)] {
            for _ in 0..count {
                let mid = api.add_media(kind, Direction::RecvOnly, None, None, None);
                self.receiving.push((mid, kind));
                added.push(mid);
            }
        }
        for cid in &wanted.stops {
            if let Some(sending) = self.sending.get(cid) {
                api.set_direction(sending.mid, Direction::Inactive);
            }
        }
        for (cid, kind) in &wanted.sends {
            if let Some(sending) = self.sending.get_mut(cid) {
                api.set_direction(sending.mid, Direction::SendOnly);
                sending.live = true;
                continue;
            }
            let mid = api.add_media(*kind, Direction::SendOnly, Some(cid.clone()), Some(cid.clone()), None);
            self.sending.insert(cid.clone(), Sending { mid, sequence: 1, live: true });
            added.push(mid);
        }
        if wanted.restart {
            let _: IceCreds = api.ice_restart(true);
        }
        if !api.has_changes() {
            // str0m makes no offer without a change: there and back is one.
            if let Some((mid, _)) = self.receiving.first() {
                api.set_direction(*mid, Direction::Inactive);
                api.set_direction(*mid, Direction::RecvOnly);
            }
        }
        let (offer, pending) = api.apply()?;
        self.last_offer = self.last_offer.wrapping_add(1);
        self.pending = Some(Pending { id: self.last_offer, offer: pending, wanted, added });
        Some(description("offer", offer.to_sdp_string(), self.last_offer))
    }

    /// The answer to the offer under way. One to an older offer changes nothing.
    pub(crate) fn answer(&mut self, answer: &SessionDescription) -> Result<(), PeerError> {
        // Servers before the ids echo none.
        let Some(pending) = self.pending.take_if(|pending| answer.id == 0 || pending.id == answer.id) else {
            return Err(PeerError::Unasked(answer.id));
        };
        let answer = SdpAnswer::from_sdp_string(&answer.sdp)
            .map_err(|error| PeerError::Description(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending.offer, answer)?;
        self.take_candidates();
        Ok(())
    }

    /// Gives up an offer that nobody will answer: the signalling that it left by is gone. What it was to bring is wanted
    /// again, since str0m keeps none of it.
    pub(crate) fn forget_offer(&mut self) {
        let Some(Pending { wanted, added, .. }) = self.pending.take() else { return };
        self.receiving.retain(|(mid, _)| !added.contains(mid));
        self.sending.retain(|_, sending| !added.contains(&sending.mid));
        let since = std::mem::replace(&mut self.wanted, wanted);
        self.wanted.offer = true;
        self.wanted.channels |= since.channels;
        self.wanted.restart |= since.restart;
        self.wanted.audios = self.wanted.audios.saturating_add(since.audios);
        self.wanted.videos = self.wanted.videos.saturating_add(since.videos);
        self.wanted.sends.retain(|(cid, _)| !since.stops.contains(cid));
        self.wanted.sends.extend(since.sends);
        self.wanted.stops.extend(since.stops);
    }

    /// Answers an offer of the server's: two connections, of which this one only receives.
    pub(crate) fn accept(&mut self, offer: &SessionDescription) -> Result<SessionDescription, PeerError> {
        let parsed = SdpOffer::from_sdp_string(&offer.sdp)
            .map_err(|error| PeerError::Description(error.to_string()))?;
        let answer = self.rtc.sdp_api().accept_offer(parsed)?;
        self.take_candidates();
        Ok(description("answer", answer.to_sdp_string(), offer.id))
    }

    /// A candidate of the server's, as it was trickled.
    pub(crate) fn add_remote_candidate(&mut self, candidate: &str) {
        if !self.described {
            if self.candidates.len() < MAX_CANDIDATES {
                self.candidates.push(candidate.to_owned());
            }
            return;
        }
        match Candidate::from_sdp_string(candidate) {
            Ok(candidate) => self.rtc.add_remote_candidate(candidate),
            Err(error) => tracing::debug!(%error, "a candidate that can't be read: left out"),
        }
    }

    fn take_candidates(&mut self) {
        self.described = true;
        for candidate in std::mem::take(&mut self.candidates) {
            self.add_remote_candidate(&candidate);
        }
    }

    /// A datagram from `source`, at our candidate `destination`.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), PeerError> {
        self.now = now;
        let receive = Receive::new(proto, source, destination, datagram)?;
        Ok(self.rtc.handle_input(Input::Receive(now, receive))?)
    }

    pub(crate) fn timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        self.now = now;
        Ok(self.rtc.handle_input(Input::Timeout(now))?)
    }

    /// What follows from the last input; to be called until it is a [`PeerOutput::Timeout`].
    ///
    /// # Errors
    /// Once, when the connection is broken: from then on it has nothing to say.
    pub(crate) fn poll(&mut self) -> Result<PeerOutput, PeerError> {
        const NEVER: Duration = Duration::from_secs(3600);
        loop {
            if self.broken {
                return Ok(PeerOutput::Timeout(self.now + NEVER));
            }
            match self.rtc.poll_output().inspect_err(|_| self.broken = true)? {
                Output::Timeout(at) => return Ok(PeerOutput::Timeout(at)),
                Output::Transmit(transmit) => return Ok(PeerOutput::Transmit(transmit)),
                Output::Event(event) => {
                    if let Some(output) = self.on_event(event) {
                        return Ok(output);
                    }
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "str0m tells much that this mode has no use for")]
    fn on_event(&mut self, event: Event) -> Option<PeerOutput> {
        match event {
            Event::Connected => Some(PeerOutput::Connected),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.lost = true;
                Some(PeerOutput::Lost)
            }
            Event::IceConnectionStateChange(IceConnectionState::Checking) => {
                // At first, and at an ICE restart.
                self.lost = true;
                None
            }
            Event::IceConnectionStateChange(
                IceConnectionState::Connected | IceConnectionState::Completed,
            ) => std::mem::take(&mut self.lost).then_some(PeerOutput::Restored),
            Event::RtpPacket(packet) => {
                let ssrc = packet.header.ssrc;
                let mid = self.rtc.direct_api().stream_rx(&ssrc)?.mid();
                Some(PeerOutput::Media(MediaPacket {
                    mid,
                    payload_type: *packet.header.payload_type,
                    sequence: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    marker: packet.header.marker,
                    ssrc: *ssrc,
                    video: self.video_codec(packet.header.payload_type),
                    payload: packet.payload,
                }))
            }
            Event::KeyframeRequest(request) => {
                let of = |(_, sending): &(&String, &Sending)| sending.mid == request.mid;
                self.sending.iter().find(of).map(|(cid, _)| PeerOutput::KeyframeWanted(cid.clone()))
            }
            Event::ChannelOpen(id, name) => {
                let label = Label::of(&name)?;
                self.open.push((id, label));
                self.rtc.channel(id)?.set_buffered_amount_low_threshold(CHANNEL_LOW);
                Some(PeerOutput::Open)
            }
            Event::ChannelData(data) => {
                let (_, label) = self.open.iter().find(|(id, _)| *id == data.id)?;
                Some(PeerOutput::Data(*label, data.data))
            }
            Event::ChannelBufferedAmountLow(_) => Some(PeerOutput::Writable),
            Event::ChannelClose(id) => {
                self.open.retain(|(open, _)| *open != id);
                None
            }
            Event::Closed => Some(PeerOutput::Closed),
            _ => None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.rtc.is_connected() && !self.lost && !self.broken
    }

    /// Writes one message; false if the channel is not open, or takes no more for now.
    pub(crate) fn write_data(&mut self, label: Label, message: &[u8]) -> Result<bool, PeerError> {
        let own = self.channels.get(&label).copied();
        let Some(id) = own.or_else(|| self.open.iter().find(|(_, open)| *open == label).map(|(id, _)| *id))
        else {
            return Ok(false);
        };
        match self.rtc.channel(id) {
            Some(mut channel) => Ok(channel.write(true, message)?),
            None => Ok(false),
        }
    }

    /// What the server takes this codec as, on the section of the track `cid`; `None` while it has not answered, or if it
    /// does not take it.
    pub(crate) fn payload_type(&self, cid: &str, codec: VideoCodec) -> Option<u8> {
        let sending = self.sending.get(cid).filter(|sending| sending.live)?;
        let params = self.rtc.codec_config().params();
        let fits = |pt: &&Pt| {
            params.iter().any(|params| {
                let spec = params.spec();
                params.pt() == **pt
                    && video_codec(spec.codec) == Some(codec)
                    // FU-A is of mode 1 (RFC 6184, 6.3).
                    && (codec != VideoCodec::H264 || spec.format.packetization_mode == Some(1))
            })
        };
        self.rtc.media(sending.mid)?.remote_pts().iter().find(fits).map(|pt| **pt)
    }

    fn video_codec(&self, payload_type: Pt) -> Option<VideoCodec> {
        if matches!(*payload_type, OPUS | RED) {
            return None;
        }
        let params = self.rtc.codec_config().find(|params| params.pt() == payload_type)?;
        video_codec(params.spec().codec)
    }

    /// Asks whoever sends on this section for a key frame.
    pub(crate) fn ask_keyframe(&mut self, mid: Mid) {
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Sends a packet of the track `cid`; false where it is not sent (yet).
    pub(crate) fn write_media(&mut self, now: Instant, cid: &str, packet: Outgoing) -> bool {
        let Some(sending) = self.sending.get_mut(cid).filter(|sending| sending.live) else {
            return false;
        };
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(sending.mid, None) else {
            return false;
        };
        let (audio_level, voice_activity) = packet.level.unzip();
        let values = ExtensionValues { audio_level, voice_activity, ..ExtensionValues::default() };
        stream.write_rtp(
            RtpWrite::new(
                Pt::from(packet.payload_type),
                sending.sequence.into(),
                packet.timestamp,
                now,
                packet.payload,
            )
            .marker(packet.marker)
            .nackable(packet.again)
            .ext_vals(values),
        );
        sending.sequence += 1;
        true
    }

    /// Says goodbye to the other side. What follows is to be polled and sent.
    pub(crate) fn close(&mut self) {
        // A connection that can't say goodbye is gone all the same.
        let _ = self.rtc.close();
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of many codecs these are offered")]
fn video_codec(codec: Codec) -> Option<VideoCodec> {
    match codec {
        Codec::Vp8 => Some(VideoCodec::Vp8),
        Codec::H264 => Some(VideoCodec::H264),
        Codec::Vp9 => Some(VideoCodec::Vp9),
        Codec::Av1 => Some(VideoCodec::Av1),
        _ => None,
    }
}

fn description(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: kind.to_owned(), sdp, id, ..SessionDescription::default() }
}
