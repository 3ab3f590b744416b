//! Owns what happens in a room, as an agent hears of it, and the words for it. Refuses to decide what happened: that is
//! `people.rs`.

mod participant;
mod transcription;
mod words;

use std::fmt;

pub(crate) use self::participant::Known;
pub use self::participant::{Participant, Publication, RoomInfo};
pub use self::transcription::{Transcription, TranscriptionSegment};
pub use self::words::{ConnectionQuality, DisconnectReason, ParticipantKind, TrackKind, TrackSource};

/// Something that happened in the room. Participants and publications are as they were then.
#[derive(Clone)]
#[non_exhaustive]
pub enum RoomEvent {
    /// A participant came. Those who were there before this one joined are in [`Room::participants`](crate::Room::participants)
    /// without an event.
    ParticipantConnected(Participant),
    /// A participant's media is connected.
    ParticipantActive(Participant),
    /// A participant left; its tracks have been unpublished before.
    ParticipantDisconnected(Participant),
    /// A participant published a track.
    TrackPublished {
        /// What was published.
        publication: Publication,
        /// By whom.
        participant: Participant,
    },
    /// A participant took a track back.
    TrackUnpublished {
        /// What was taken back.
        publication: Publication,
        /// By whom.
        participant: Participant,
    },
    /// A track's media comes from now on.
    TrackSubscribed {
        /// What comes.
        publication: Publication,
        /// From whom.
        participant: Participant,
    },
    /// A track's media comes no more.
    TrackUnsubscribed {
        /// What came.
        publication: Publication,
        /// From whom.
        participant: Participant,
    },
    /// The server can't send a track that was subscribed to.
    TrackSubscriptionFailed {
        /// The track's sid.
        track: String,
    },
    /// A track was muted.
    TrackMuted {
        /// What was muted.
        publication: Publication,
        /// Whose it is: this participant's own too.
        participant: Participant,
    },
    /// A track was unmuted.
    TrackUnmuted {
        /// What was unmuted.
        publication: Publication,
        /// Whose it is: this participant's own too.
        participant: Participant,
    },
    /// The server has a track of ours.
    LocalTrackPublished(Publication),
    /// The server has a track of ours no more.
    LocalTrackUnpublished(Publication),
    /// Somebody hears a track of ours, for the first time.
    LocalTrackSubscribed {
        /// The track's sid.
        track: String,
    },
    /// Who speaks now, this participant too; loudest first.
    ActiveSpeakersChanged(Vec<Participant>),
    /// A participant's metadata is another.
    ParticipantMetadataChanged(Participant),
    /// A participant's name is another.
    ParticipantNameChanged(Participant),
    /// Some of a participant's attributes are others.
    ParticipantAttributesChanged {
        /// Whose.
        participant: Participant,
        /// Which: added, changed and taken away.
        changed: Vec<String>,
    },
    /// What this participant may do is another.
    PermissionsChanged(Participant),
    /// How well a participant is connected.
    ConnectionQualityChanged {
        /// Who.
        participant: Participant,
        /// How well.
        quality: ConnectionQuality,
    },
    /// A packet of data came.
    DataReceived {
        /// What it holds.
        payload: Vec<u8>,
        /// What it is about.
        topic: Option<String>,
        /// From whom; `None` from a server API.
        participant: Option<Participant>,
        /// Whether it came on the reliable channel.
        reliable: bool,
    },
    /// A key was pressed on a telephone.
    DtmfReceived {
        /// The event's code (RFC 4733).
        code: u32,
        /// The key: "0" to "9", "*", "#", "A" to "D".
        digit: String,
        /// On whose telephone.
        participant: Option<Participant>,
    },
    /// An agent says what somebody said, by a packet of its own ([`TOPIC_TRANSCRIPTION`](crate::TOPIC_TRANSCRIPTION) is
    /// the newer way).
    TranscriptionReceived(Transcription),
    /// The room's metadata, or whether it is recorded, is another.
    RoomUpdated(RoomInfo),
    /// The server moved this participant to another room.
    Moved(RoomInfo),
    /// The connection broke, and is being mended.
    Reconnecting,
    /// The connection is mended.
    Reconnected,
    /// The server sent a newer join token; it is kept for a reconnect.
    TokenRefreshed,
    /// The room is over for this participant. The last event.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
    },
}

impl RoomEvent {
    /// The event's name, as in the enum.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ParticipantConnected(_) => "ParticipantConnected",
            Self::ParticipantActive(_) => "ParticipantActive",
            Self::ParticipantDisconnected(_) => "ParticipantDisconnected",
            Self::TrackPublished { .. } => "TrackPublished",
            Self::TrackUnpublished { .. } => "TrackUnpublished",
            Self::TrackSubscribed { .. } => "TrackSubscribed",
            Self::TrackUnsubscribed { .. } => "TrackUnsubscribed",
            Self::TrackSubscriptionFailed { .. } => "TrackSubscriptionFailed",
            Self::TrackMuted { .. } => "TrackMuted",
            Self::TrackUnmuted { .. } => "TrackUnmuted",
            Self::LocalTrackPublished(_) => "LocalTrackPublished",
            Self::LocalTrackUnpublished(_) => "LocalTrackUnpublished",
            Self::LocalTrackSubscribed { .. } => "LocalTrackSubscribed",
            Self::ActiveSpeakersChanged(_) => "ActiveSpeakersChanged",
            Self::ParticipantMetadataChanged(_) => "ParticipantMetadataChanged",
            Self::ParticipantNameChanged(_) => "ParticipantNameChanged",
            Self::ParticipantAttributesChanged { .. } => "ParticipantAttributesChanged",
            Self::PermissionsChanged(_) => "PermissionsChanged",
            Self::ConnectionQualityChanged { .. } => "ConnectionQualityChanged",
            Self::DataReceived { .. } => "DataReceived",
            Self::DtmfReceived { .. } => "DtmfReceived",
            Self::TranscriptionReceived(_) => "TranscriptionReceived",
            Self::RoomUpdated(_) => "RoomUpdated",
            Self::Moved(_) => "Moved",
            Self::Reconnecting => "Reconnecting",
            Self::Reconnected => "Reconnected",
            Self::TokenRefreshed => "TokenRefreshed",
            Self::Disconnected { .. } => "Disconnected",
        }
    }
}

/// Only the name: what an event holds may be personal.
impl fmt::Debug for RoomEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
