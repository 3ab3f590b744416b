//! Owns the enums of LiveKit's protocol as this crate's users see them. Refuses to fail on a value that a newer server
//! has: it is `Unknown`.

use std::fmt;

use livekit_protocol as proto;

/// One enum of the protocol: its variants, each with the protocol's number and a text for people.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:expr, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// Not said, or a value that this version does not know.
            #[default]
            Unknown,
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                $(if number == $number as i32 { return Self::$variant; })*
                Self::Unknown
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown => "unknown",
                })
            }
        }
    };
}

words! {
    /// Why a participant is not in the room any more (`livekit.DisconnectReason`).
    DisconnectReason {
        /// It left.
        ClientInitiated = proto::DisconnectReason::ClientInitiated, "left by itself";
        /// Another joined under the same identity.
        DuplicateIdentity = proto::DisconnectReason::DuplicateIdentity, "another joined under its identity";
        /// The server ended.
        ServerShutdown = proto::DisconnectReason::ServerShutdown, "the server shut down";
        /// Removed by the server API.
        ParticipantRemoved = proto::DisconnectReason::ParticipantRemoved, "removed by the server's API";
        /// The room was deleted.
        RoomDeleted = proto::DisconnectReason::RoomDeleted, "the room was deleted";
        /// The server lost its place in the session.
        StateMismatch = proto::DisconnectReason::StateMismatch, "the server's state is another";
        /// It could not join.
        JoinFailure = proto::DisconnectReason::JoinFailure, "could not join";
        /// Moved to another server.
        Migration = proto::DisconnectReason::Migration, "moved to another server";
        /// The connection broke, and could not be mended.
        SignalClose = proto::DisconnectReason::SignalClose, "the connection was lost";
        /// The room was closed: everybody has left.
        RoomClosed = proto::DisconnectReason::RoomClosed, "the room was closed";
        /// A telephone that was called does not answer.
        UserUnavailable = proto::DisconnectReason::UserUnavailable, "did not answer the call";
        /// A telephone that was called rejected the call.
        UserRejected = proto::DisconnectReason::UserRejected, "rejected the call";
        /// The telephone trunk failed.
        SipTrunkFailure = proto::DisconnectReason::SipTrunkFailure, "the telephone trunk failed";
        /// Its connection timed out.
        ConnectionTimeout = proto::DisconnectReason::ConnectionTimeout, "timed out";
        /// Its media failed.
        MediaFailure = proto::DisconnectReason::MediaFailure, "its media failed";
        /// The agent failed.
        AgentError = proto::DisconnectReason::AgentError, "the agent failed";
    }
}

words! {
    /// What a participant is (`livekit.ParticipantInfo.Kind`).
    ParticipantKind {
        /// A person, with an app.
        Standard = proto::participant_info::Kind::Standard, "standard";
        /// A stream from outside.
        Ingress = proto::participant_info::Kind::Ingress, "ingress";
        /// A recorder.
        Egress = proto::participant_info::Kind::Egress, "egress";
        /// A telephone.
        Sip = proto::participant_info::Kind::Sip, "sip";
        /// An agent.
        Agent = proto::participant_info::Kind::Agent, "agent";
        /// A call by another service, as WhatsApp.
        Connector = proto::participant_info::Kind::Connector, "connector";
    }
}

words! {
    /// What a track is.
    TrackKind {
        /// Sound.
        Audio = proto::TrackType::Audio, "audio";
        /// Pictures.
        Video = proto::TrackType::Video, "video";
        /// Data.
        Data = proto::TrackType::Data, "data";
    }
}

words! {
    /// Where a track comes from (`livekit.TrackSource`).
    TrackSource {
        /// A camera.
        Camera = proto::TrackSource::Camera, "camera";
        /// A microphone; an agent's voice too.
        Microphone = proto::TrackSource::Microphone, "microphone";
        /// A shared screen.
        ScreenShare = proto::TrackSource::ScreenShare, "screen share";
        /// The sound of a shared screen.
        ScreenShareAudio = proto::TrackSource::ScreenShareAudio, "screen share audio";
    }
}

impl TrackSource {
    pub(crate) fn to_proto(self) -> i32 {
        let source = match self {
            Self::Camera => proto::TrackSource::Camera,
            Self::Microphone => proto::TrackSource::Microphone,
            Self::ScreenShare => proto::TrackSource::ScreenShare,
            Self::ScreenShareAudio => proto::TrackSource::ScreenShareAudio,
            Self::Unknown => proto::TrackSource::Unknown,
        };
        source as i32
    }
}

words! {
    /// How well a participant is connected (`livekit.ConnectionQuality`).
    ConnectionQuality {
        /// Words get lost.
        Poor = proto::ConnectionQuality::Poor, "poor";
        /// Well enough.
        Good = proto::ConnectionQuality::Good, "good";
        /// Nothing to complain of.
        Excellent = proto::ConnectionQuality::Excellent, "excellent";
        /// Nothing comes from it.
        Lost = proto::ConnectionQuality::Lost, "lost";
    }
}
