//! Owns the tracks: ours, from an audio source to packets; others', from packets to those who listen.
//! Refuses to know who publishes what.

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::encryption::Type as EncryptionType;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, TrackInfo, TrackPublishedResponse, TrackType,
};
use str0m::media::MediaKind;

use super::video::Watched;
use super::{ANSWER_WITHIN, Engine, Reply, answer};
use crate::audio::{Attached, AudioSource, ReceiveTrack, SendTrack};
use crate::e2ee::{E2ee, FrameDecryptor, FrameEncryptor, Media as EncryptedMedia};
use crate::error::RoomError;
use crate::event::{Publication, RoomEvent};
use crate::peer::{MediaPacket, OPUS, Outgoing, RED};
use crate::people::People;
use crate::room::{PublishOptions, VideoOptions};
use crate::session::Session;
use crate::video::SendVideo;

/// What others say is heard at multiples of this, so that many of them don't wake a room as many times.
const BEAT: Duration = Duration::from_millis(5);
/// What is lost, and who does not watch any more, is looked for at multiples of this.
const VIDEO_BEAT: Duration = Duration::from_millis(20);

/// What a track of ours sends.
#[expect(clippy::large_enum_variant, reason = "a room has a few, and moves none")]
pub(super) enum Sends {
    Audio(SendTrack, PublishOptions),
    Video(SendVideo, VideoOptions),
}

impl Sends {
    const fn kind(&self) -> MediaKind {
        match self {
            Self::Audio(..) => MediaKind::Audio,
            Self::Video(..) => MediaKind::Video,
        }
    }

    /// What the cids of tracks begin with that may take up each other's sections: the server sends on with the codec that
    /// a section began with.
    fn prefix(&self) -> &'static str {
        match self {
            Self::Audio(..) => "audio",
            Self::Video(track, _) => track.codec().name(),
        }
    }
}

/// A track of ours.
pub(super) struct Local {
    pub(super) sends: Sends,
    pub(super) muted: bool,
    pub(super) encryptor: Option<FrameEncryptor>,
    /// What the server made of it, once it has.
    pub(super) info: Option<TrackInfo>,
    reply: Option<(Reply<Publication>, Instant)>,
}

/// A track of another's that somebody listens to.
#[derive(Default)]
struct Remote {
    track: ReceiveTrack,
    ssrc: Option<u32>,
    decryptor: Option<FrameDecryptor>,
}

pub(super) struct Media {
    begun: Instant,
    /// By cid.
    pub(super) local: BTreeMap<String, Local>,
    /// By sid.
    remote: BTreeMap<String, Remote>,
    /// By sid.
    pub(super) watched: BTreeMap<String, Watched>,
}

impl Media {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, local: BTreeMap::new(), remote: BTreeMap::new(), watched: BTreeMap::new() }
    }

    /// When [`Media::tick`] has something to do.
    pub(super) fn deadline(&self, now: Instant, connected: bool) -> Option<Instant> {
        let spoken = self.local.values().filter(|local| connected && local.info.is_some());
        let spoken = spoken.filter_map(|local| match &local.sends {
            Sends::Audio(track, _) => track.due(now),
            // They were not taken when they came: what is not negotiated yet will be.
            Sends::Video(track, _) => track.is_waiting().then(|| self.beat(now + BEAT, BEAT)),
        });
        let heard = self.remote.values().filter_map(|remote| Some(self.beat(remote.track.due()?, BEAT)));
        let seen = (!self.watched.is_empty()).then(|| self.beat(now + BEAT, VIDEO_BEAT));
        let asked = self.local.values().filter_map(|local| Some(local.reply.as_ref()?.1));
        spoken.chain(heard).chain(seen).chain(asked).min()
    }

    /// The first beat that is not before `at`.
    fn beat(&self, at: Instant, beat: Duration) -> Instant {
        let beats = at.saturating_duration_since(self.begun).as_micros().div_ceil(beat.as_micros());
        self.begun + Duration::from_micros(beats as u64 * beat.as_micros() as u64)
    }

    /// Whether somebody spoke into, or showed, a source of ours since this was asked last; wakes when they do.
    pub(super) fn poll_captured(&self, context: &Context<'_>) -> Poll<()> {
        let captured = self.local.values().filter(|local| match &local.sends {
            Sends::Audio(track, _) => track.poll_captured(context).is_ready(),
            Sends::Video(track, _) => track.poll_captured(context).is_ready(),
        });
        // Each of them, so that each wakes.
        if captured.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(super) fn listen(&mut self, sid: &str, stream: Attached) {
        self.remote.entry(sid.to_owned()).or_default().track.attach(stream);
    }

    /// A packet of a track; with the keys, where the room has any, and whoever knows whose the track is.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        sid: &str,
        packet: &MediaPacket,
        keys: Option<(&E2ee, &People, &Bytes)>,
    ) {
        if let Some(codec) = packet.video {
            return self.receive_video(now, sid, codec, packet, keys);
        }
        let audio = matches!(packet.payload_type, OPUS | RED);
        let Some(remote) = self.remote.get_mut(sid).filter(|_| audio) else { return };
        if remote.ssrc.replace(packet.ssrc).is_some_and(|ssrc| ssrc != packet.ssrc) {
            remote.track.restart();
        }
        let (red, sequence, timestamp) = (packet.payload_type == RED, packet.sequence, packet.timestamp);
        let owner = keys.and_then(|(keys, people, trailer)| Some((keys, people.encrypted_by(sid)?, trailer)));
        let Some((keys, owner, trailer)) = owner else {
            return remote.track.packet(now, red, sequence, timestamp, &packet.payload);
        };
        let decryptor = remote.decryptor.get_or_insert_with(|| {
            FrameDecryptor::new(keys.clone(), owner.identity(), EncryptedMedia::Audio, trailer.clone())
        });
        match decryptor.decrypt(&packet.payload) {
            Ok(decrypted) => remote.track.packet(now, red, sequence, timestamp, &decrypted.frame),
            Err(error) => tracing::debug!(%error, track = sid, "a frame can't be decrypted"),
        }
    }

    pub(super) fn on_event(&mut self, event: &RoomEvent) {
        if let RoomEvent::TrackUnsubscribed { publication, .. }
        | RoomEvent::TrackUnpublished { publication, .. } = event
        {
            self.remote.remove(publication.sid());
            self.watched.remove(publication.sid());
        }
    }

    /// The server does not take the track.
    pub(super) fn refused(&mut self, cid: &str, error: &RoomError) {
        if let Some(reply) = self.local.remove(cid).and_then(|local| local.reply) {
            answer(reply.0, Err(error.clone()));
        }
    }

    pub(super) fn by_sid(&mut self, sid: &str) -> Option<(&String, &mut Local)> {
        self.local.iter_mut().find(|(_, local)| local.info.as_ref().is_some_and(|info| info.sid == sid))
    }

    /// The room is over: no stream goes on, and nobody gets an answer.
    pub(super) fn end(&mut self) {
        self.local.clear();
        self.remote.clear();
        self.watched.clear();
    }

    /// What the server is to know of our tracks after a resume.
    pub(super) fn published(&self) -> Vec<TrackPublishedResponse> {
        let published = |(cid, local): (&String, &Local)| TrackPublishedResponse {
            cid: cid.clone(),
            track: local.info.clone(),
        };
        self.local.iter().filter(|(_, local)| local.info.is_some()).map(published).collect()
    }

    /// Everything that is due at `now`, from the sources to the session, and to the streams.
    fn tick(&mut self, now: Instant, session: &mut Session) {
        for (cid, local) in &mut self.local {
            if local.info.is_none() || !session.is_connected() {
                continue;
            }
            let Sends::Audio(track, _) = &mut local.sends else {
                local.send_video(now, cid, session);
                continue;
            };
            while track.due(now).is_some_and(|at| at <= now) {
                // What is said while muted goes by unheard, in time.
                let Some(packet) = track.tick(now).filter(|_| !local.muted) else { continue };
                let payload = match &mut local.encryptor {
                    Some(encryptor) => encryptor.encrypt(packet.timestamp, &packet.payload),
                    None => Ok(packet.payload),
                };
                // What can't be encrypted is not sent.
                let Ok(payload) = payload else { continue };
                session.write_media(
                    now,
                    cid,
                    Outgoing {
                        payload_type: if packet.red { RED } else { OPUS },
                        timestamp: packet.timestamp,
                        marker: packet.marker,
                        level: Some((packet.level_dbov, packet.voice)),
                        again: false,
                        payload,
                    },
                );
            }
        }
        for remote in self.remote.values_mut() {
            remote.track.tick(now);
        }
        self.remote.retain(|_, remote| remote.track.is_heard());
    }
}

impl Engine {
    pub(super) fn publish_audio(
        &mut self,
        source: &AudioSource,
        options: PublishOptions,
        reply: Reply<Publication>,
    ) {
        let track = match SendTrack::new(source, options.send(self.options.red), fastrand::u32(..)) {
            Ok(track) => track,
            Err(error) => {
                answer(reply, Err(RoomError::Audio(error.to_string())));
                return;
            }
        };
        self.publish_track(Sends::Audio(track, options), EncryptedMedia::Audio, reply);
    }

    pub(super) fn publish_track(&mut self, sends: Sends, media: EncryptedMedia, reply: Reply<Publication>) {
        let prefix = sends.prefix();
        let spare = self.session.spare(prefix).filter(|cid| !self.media.local.contains_key(cid));
        let cid = spare.unwrap_or_else(|| format!("{prefix}-{:016x}", fastrand::u64(..)));
        let reply = Some((reply, self.now + ANSWER_WITHIN));
        let encryptor = self.options.e2ee.clone().zip(self.people.local()).map(|(keys, own)| {
            let (ssrc, first) = (fastrand::u32(..), fastrand::u16(..));
            FrameEncryptor::new(keys, own.identity(), media, ssrc, first)
        });
        let local = Local { encryptor, sends, muted: false, info: None, reply };
        let request = self.add_track(&cid, &local);
        self.media.local.insert(cid, local);
        self.signal(request);
    }

    fn add_track(&self, cid: &str, local: &Local) -> Request {
        let encryption = if self.options.e2ee.is_some() { EncryptionType::Gcm } else { EncryptionType::None };
        let request = AddTrackRequest {
            cid: cid.to_owned(),
            muted: local.muted,
            disable_red: !self.options.red,
            encryption: encryption as i32,
            ..AddTrackRequest::default()
        };
        Request::AddTrack(match &local.sends {
            Sends::Audio(track, options) => {
                let features = [
                    (track.channels() == 2).then_some(AudioTrackFeature::TfStereo),
                    (!options.dtx).then_some(AudioTrackFeature::TfNoDtx),
                ];
                AddTrackRequest {
                    name: options.name.clone(),
                    r#type: TrackType::Audio as i32,
                    source: options.source.to_proto(),
                    audio_features: features.into_iter().flatten().map(|feature| feature as i32).collect(),
                    stream: options.stream.clone(),
                    ..request
                }
            }
            Sends::Video(track, options) => super::video::add_track(track, options, request),
        })
    }

    pub(super) fn on_track_published(&mut self, published: TrackPublishedResponse) {
        let Some(local) = self.media.local.get_mut(&published.cid) else { return };
        let Some(info) = published.track else { return };
        let publication = Publication::of(&info, false);
        local.info = Some(info);
        let kind = local.sends.kind();
        if let Some((reply, _)) = local.reply.take() {
            answer(reply, Ok(publication));
        }
        self.session.publisher().want_sending(&published.cid, kind);
        self.session.negotiate();
    }

    pub(super) fn unpublish(&mut self, sid: &str, reply: Reply<()>) {
        let gone = self.take_track(sid);
        answer(
            reply,
            if gone { Ok(()) } else { Err(RoomError::Unknown { what: "track", name: sid.to_owned() }) },
        );
    }

    /// The track is sent no more; whether there was one.
    pub(super) fn take_track(&mut self, sid: &str) -> bool {
        let Some(cid) = self.media.by_sid(sid).map(|(cid, _)| cid.clone()) else { return false };
        self.media.local.remove(&cid);
        self.session.publisher().stop_sending(&cid);
        self.session.negotiate();
        true
    }

    pub(super) fn set_muted(&mut self, sid: &str, muted: bool) {
        let Some((_, local)) = self.media.by_sid(sid) else { return };
        local.mute(muted);
        self.signal(Request::Mute(MuteTrackRequest { sid: sid.to_owned(), muted }));
    }

    /// The server mutes or unmutes a track of ours.
    pub(super) fn on_mute(&mut self, mute: &MuteTrackRequest) {
        if let Some((_, local)) = self.media.by_sid(&mute.sid) {
            local.mute(mute.muted);
        }
    }

    /// All of our tracks, in a new session.
    pub(super) fn publish_again(&mut self) {
        let mut requests = Vec::new();
        for (cid, local) in &self.media.local {
            requests.push(self.add_track(cid, local));
        }
        for local in self.media.local.values_mut() {
            local.info = None;
            local.pause();
        }
        requests.into_iter().for_each(|request| self.signal(request));
    }

    pub(super) fn tick(&mut self) {
        let late = |local: &Local| local.reply.as_ref().is_some_and(|(_, until)| *until <= self.now);
        let unanswered: Vec<String> =
            self.media.local.iter().filter(|(_, local)| late(local)).map(|(cid, _)| cid.clone()).collect();
        for cid in unanswered {
            self.media.refused(&cid, &RoomError::Timeout(ANSWER_WITHIN));
        }
        self.media.tick(self.now, &mut self.session);
        self.tick_video();
    }
}
