//! Owns what a transcription says. Refuses to know how it came.

use std::fmt;

use livekit_protocol as proto;

/// What somebody said, as text. `Debug` does not show the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcription {
    /// The identity of who spoke.
    pub participant: String,
    /// The sid of the track that was heard.
    pub track: String,
    /// What was said; one that comes again, by its id, replaces what it was.
    pub segments: Vec<TranscriptionSegment>,
}

/// A part of a [`Transcription`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TranscriptionSegment {
    /// Its name: a newer text of the same segment has it again.
    pub id: String,
    /// All of its text so far.
    pub text: String,
    /// The language, as "en"; may be empty.
    pub language: String,
    /// Whether it changes no more.
    pub is_final: bool,
    /// When it began; LiveKit names no unit, and its agents say zero.
    pub start_time: u64,
    /// When it ended; as [`TranscriptionSegment::start_time`].
    pub end_time: u64,
}

impl fmt::Debug for TranscriptionSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscriptionSegment")
            .field("id", &self.id)
            .field("is_final", &self.is_final)
            .finish_non_exhaustive()
    }
}

impl From<proto::Transcription> for Transcription {
    fn from(packet: proto::Transcription) -> Self {
        let segment = |segment: proto::TranscriptionSegment| TranscriptionSegment {
            id: segment.id,
            text: segment.text,
            language: segment.language,
            is_final: segment.r#final,
            start_time: segment.start_time,
            end_time: segment.end_time,
        };
        Self {
            participant: packet.transcribed_participant_identity,
            track: packet.track_id,
            segments: packet.segments.into_iter().map(segment).collect(),
        }
    }
}

impl From<Transcription> for proto::Transcription {
    fn from(said: Transcription) -> Self {
        let segment = |segment: TranscriptionSegment| proto::TranscriptionSegment {
            id: segment.id,
            text: segment.text,
            language: segment.language,
            r#final: segment.is_final,
            start_time: segment.start_time,
            end_time: segment.end_time,
        };
        Self {
            transcribed_participant_identity: said.participant,
            track_id: said.track,
            segments: said.segments.into_iter().map(segment).collect(),
        }
    }
}
