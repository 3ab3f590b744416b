//! Owns what is known of a participant, of a track and of the room, at one moment. Refuses to show personal data in
//! `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use livekit_protocol as proto;

use super::words::{ConnectionQuality, DisconnectReason, ParticipantKind, TrackKind, TrackSource};

/// A participant, as it was at one moment. Cheap to clone.
#[derive(Clone, Default, PartialEq)]
pub struct Participant(pub(crate) Arc<Known>);

#[derive(Clone, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) sid: String,
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) kind: ParticipantKind,
    pub(crate) active: bool,
    pub(crate) permissions: Option<proto::ParticipantPermission>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) level: f32,
    pub(crate) speaking: bool,
    pub(crate) quality: ConnectionQuality,
    pub(crate) version: u32,
    pub(crate) reason: DisconnectReason,
}

impl Participant {
    /// The server's id of it ("PA_…"): another each time it joins.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.0.sid
    }

    /// Who it is: unique in the room.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.0.identity
    }

    /// The name for people. Personal data.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What its app says of it. Personal data.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.0.metadata
    }

    /// What its app says of it, by key. Personal data.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.0.attributes
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ParticipantKind {
        self.0.kind
    }

    /// Whether its media is connected.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.0.active
    }

    /// Whether it may publish tracks.
    #[must_use]
    pub fn can_publish(&self) -> bool {
        self.0.permissions.as_ref().is_none_or(|permissions| permissions.can_publish)
    }

    /// Whether it may send data.
    #[must_use]
    pub fn can_publish_data(&self) -> bool {
        self.0.permissions.as_ref().is_none_or(|permissions| permissions.can_publish_data)
    }

    /// Its tracks.
    #[must_use]
    pub fn publications(&self) -> &[Publication] {
        &self.0.publications
    }

    /// Whether it speaks, as the server hears it.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.0.speaking
    }

    /// How loud, from 0 to 1.
    #[must_use]
    pub fn audio_level(&self) -> f32 {
        self.0.level
    }

    /// How well it is connected.
    #[must_use]
    pub fn connection_quality(&self) -> ConnectionQuality {
        self.0.quality
    }

    /// Why it left, of one that has.
    #[must_use]
    pub fn disconnect_reason(&self) -> DisconnectReason {
        self.0.reason
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("sid", &self.0.sid)
            .field("identity", &self.0.identity)
            .field("kind", &self.0.kind)
            .finish_non_exhaustive()
    }
}

/// A track that a participant publishes, as it was at one moment. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Publication(Arc<Track>);

#[derive(Clone, PartialEq)]
struct Track {
    sid: String,
    name: String,
    kind: TrackKind,
    source: TrackSource,
    muted: bool,
    mime_type: String,
    width: u32,
    height: u32,
    encrypted: bool,
    subscribed: bool,
}

impl Publication {
    pub(crate) fn of(info: &proto::TrackInfo, subscribed: bool) -> Self {
        Self(Arc::new(Track {
            sid: info.sid.clone(),
            name: info.name.clone(),
            kind: TrackKind::from(info.r#type),
            source: TrackSource::from(info.source),
            muted: info.muted,
            mime_type: info.mime_type.clone(),
            width: info.width,
            height: info.height,
            encrypted: info.encryption != proto::encryption::Type::None as i32,
            subscribed,
        }))
    }

    pub(crate) fn with(&self, subscribed: bool) -> Self {
        Self(Arc::new(Track { subscribed, ..(*self.0).clone() }))
    }

    /// The server's id of it ("TR_…").
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.0.sid
    }

    /// What its publisher calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Sound or pictures.
    #[must_use]
    pub fn kind(&self) -> TrackKind {
        self.0.kind
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> TrackSource {
        self.0.source
    }

    /// Whether nothing is sent on it.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.0.muted
    }

    /// The codec ("audio/opus", "audio/red", "video/VP8").
    #[must_use]
    pub fn mime_type(&self) -> &str {
        &self.0.mime_type
    }

    /// The width and height of its pictures, in pixels; zero for sound.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        (self.0.width, self.0.height)
    }

    /// Whether it is encrypted end to end.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.encrypted
    }

    /// Whether its media comes to this participant.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.0.subscribed
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Track { sid, kind, source, muted, subscribed, .. } = &*self.0;
        let mut shown = f.debug_struct("Publication");
        shown.field("sid", sid).field("kind", kind).field("source", source).field("muted", muted);
        shown.field("subscribed", subscribed).finish_non_exhaustive()
    }
}

/// The room, as it was at one moment. Cheap enough to clone.
#[derive(Clone, Default, PartialEq)]
pub struct RoomInfo {
    pub(crate) sid: String,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) recorded: bool,
}

impl RoomInfo {
    pub(crate) fn of(room: &proto::Room) -> Self {
        Self {
            sid: room.sid.clone(),
            name: room.name.clone(),
            metadata: room.metadata.clone(),
            recorded: room.active_recording,
        }
    }

    /// The server's id of it ("RM_…"); empty until the server has said it.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its maker says of it. Personal data.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Whether it is recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }
}

impl fmt::Debug for RoomInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomInfo").field("sid", &self.sid).field("name", &self.name).finish_non_exhaustive()
    }
}
