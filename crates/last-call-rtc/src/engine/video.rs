//! Owns what is video's own among the tracks: frames from a source to the session, packets to those who watch, and who
//! is asked for a key frame. Refuses to know who publishes what.

use std::time::Instant;

use bytes::Bytes;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{
    AddTrackRequest, SimulcastCodec, TrackType, UpdateTrackSettings, VideoLayer, VideoQuality,
};

use super::media::{Local, Media, Sends};
use super::{Engine, Reply, answer};
use crate::e2ee::{E2ee, FrameDecryptor, Media as EncryptedMedia};
use crate::error::RoomError;
use crate::event::{Publication, RoomEvent, TrackKind};
use crate::peer::{MediaPacket, Outgoing};
use crate::people::People;
use crate::room::VideoOptions;
use crate::session::Session;
use crate::video::{AttachedVideo, Packet, ReceiveVideo, SendVideo, VideoCodec, VideoSource};

/// A track of another's that somebody watches.
#[derive(Default)]
pub(super) struct Watched {
    track: ReceiveVideo,
    ssrc: Option<u32>,
    decryptor: Option<FrameDecryptor>,
    /// Its sender encrypts, and this participant has no keys, or its codec is not understood under them.
    closed: bool,
}

impl Watched {
    fn hand_over(&mut self, now: Instant) {
        let Self { track, decryptor, closed, .. } = self;
        track.hand_over(now, |frame| {
            let Some(decryptor) = decryptor.as_mut().filter(|_| !*closed) else { return !*closed };
            match decryptor.decrypt(&frame.payload) {
                Ok(decrypted) => frame.payload = decrypted.frame,
                Err(error) => {
                    tracing::debug!(%error, "a frame can't be decrypted");
                    return false;
                }
            }
            !frame.payload.is_empty()
        });
    }
}

impl Media {
    pub(super) fn receive_video(
        &mut self,
        now: Instant,
        sid: &str,
        codec: VideoCodec,
        packet: &MediaPacket,
        keys: Option<(&E2ee, &People, &Bytes)>,
    ) {
        let Some(watched) = self.watched.get_mut(sid) else { return };
        if watched.ssrc.replace(packet.ssrc).is_some_and(|ssrc| ssrc != packet.ssrc) {
            watched.track.restart();
        }
        let owner = keys.and_then(|(keys, people, trailer)| Some((keys, people.encrypted_by(sid)?, trailer)));
        if let Some((keys, owner, trailer)) = owner {
            watched.closed = codec != VideoCodec::Vp8;
            watched.decryptor.get_or_insert_with(|| {
                FrameDecryptor::new(keys.clone(), owner.identity(), EncryptedMedia::Vp8, trailer.clone())
            });
        }
        watched.track.packet(
            now,
            Packet {
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                marker: packet.marker,
                codec,
                payload: packet.payload.clone(),
            },
        );
        watched.hand_over(now);
    }

    /// Whoever watches a track of ours needs a key frame.
    pub(super) fn keyframe_wanted(&self, cid: &str) {
        if let Some(Local { sends: Sends::Video(track, _), .. }) = self.local.get(cid) {
            track.ask();
        }
    }
}

impl Local {
    /// Everything that its source has, as packets.
    pub(super) fn send_video(&mut self, now: Instant, cid: &str, session: &mut Session) {
        let Sends::Video(track, _) = &mut self.sends else { return };
        // Not answered yet: what waits, waits on.
        let Some(payload_type) = session.payload_type(cid, track.codec()) else { return };
        if self.muted {
            return track.skip();
        }
        let encryptor = &mut self.encryptor;
        let mut seal = |timestamp, frame: Vec<u8>| match encryptor {
            Some(encryptor) => encryptor.encrypt(timestamp, &frame).ok(),
            None => Some(frame),
        };
        while let Some(packets) = track.next(&mut seal) {
            for packet in packets {
                session.write_media(
                    now,
                    cid,
                    Outgoing {
                        payload_type,
                        timestamp: packet.timestamp,
                        marker: packet.marker,
                        level: None,
                        again: true,
                        payload: packet.payload,
                    },
                );
            }
        }
    }

    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
        self.pause();
    }

    /// Pictures that depend on what was sent before are of no use any more.
    pub(super) fn pause(&self) {
        if let Sends::Video(track, _) = &self.sends {
            track.skip();
        }
    }
}

pub(super) fn add_track(
    track: &SendVideo,
    options: &VideoOptions,
    request: AddTrackRequest,
) -> AddTrackRequest {
    let (width, height) = track.size();
    let layer = VideoLayer {
        quality: VideoQuality::High as i32,
        width,
        height,
        bitrate: options.bitrate,
        ..VideoLayer::default()
    };
    let codec = SimulcastCodec {
        codec: track.codec().name().to_owned(),
        cid: request.cid.clone(),
        layers: vec![layer.clone()],
        ..SimulcastCodec::default()
    };
    AddTrackRequest {
        name: options.name.clone(),
        r#type: TrackType::Video as i32,
        source: options.source.to_proto(),
        width,
        height,
        layers: vec![layer],
        // Otherwise the server takes the codec that it likes best.
        simulcast_codecs: vec![codec],
        stream: options.stream.clone(),
        ..request
    }
}

impl Engine {
    pub(super) fn publish_video(
        &mut self,
        source: &VideoSource,
        options: VideoOptions,
        reply: Reply<Publication>,
    ) {
        if source.codec() == VideoCodec::Av1 {
            // livekit-server forwards nothing of what is packetised here, in either mode of its layers.
            let why = "AV1 can't be published, only received";
            answer(reply, Err(RoomError::Video(why.to_owned())));
            return;
        }
        if self.options.e2ee.is_some() && source.codec() != VideoCodec::Vp8 {
            let why = format!("{} can't be encrypted end to end, VP8 can", source.codec().name());
            answer(reply, Err(RoomError::Unencrypted(why)));
            return;
        }
        let track = SendVideo::new(source, fastrand::u32(..));
        self.publish_track(Sends::Video(track, options), EncryptedMedia::Vp8, reply);
    }

    pub(super) fn watch(&mut self, sid: &str, stream: AttachedVideo) {
        let first = !self.media.watched.contains_key(sid);
        let watched = self.media.watched.entry(sid.to_owned()).or_default();
        watched.track.attach(stream);
        watched.closed |= self.options.e2ee.is_none() && self.people.encrypted_by(sid).is_some();
        if first {
            self.want_video(sid, true);
        }
    }

    /// The server sends a track that somebody watches, and no other.
    fn want_video(&mut self, sid: &str, wanted: bool) {
        self.signal(Request::TrackSetting(UpdateTrackSettings {
            track_sids: vec![sid.to_owned()],
            disabled: !wanted,
            quality: VideoQuality::High as i32,
            ..UpdateTrackSettings::default()
        }));
    }

    pub(super) fn see_video(&mut self, event: &RoomEvent) {
        if let RoomEvent::TrackSubscribed { publication, .. } = event
            && publication.kind() == TrackKind::Video
        {
            self.want_video(publication.sid(), self.media.watched.contains_key(publication.sid()));
        }
    }

    pub(super) fn tick_video(&mut self) {
        let mut left = Vec::new();
        for (sid, watched) in &mut self.media.watched {
            watched.hand_over(self.now);
            if !watched.track.is_watched() {
                left.push(sid.clone());
            } else if watched.track.asks(self.now) {
                self.session.ask_keyframe(sid);
            }
        }
        for sid in left {
            self.media.watched.remove(&sid);
            self.want_video(&sid, false);
        }
    }
}
