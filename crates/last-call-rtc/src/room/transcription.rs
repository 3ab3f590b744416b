//! Owns what LiveKit's agents say beside audio: transcriptions, the topics and attributes of their streams, and keys of a
//! telephone. Refuses to know what was said.

use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, SipDtmf};

use super::{Room, TextOptions};
use crate::error::RoomError;
use crate::event::Transcription;

/// The topic of text that people write to an agent.
pub const TOPIC_CHAT: &str = "lk.chat";
/// The topic of what was said, by a person or an agent.
pub const TOPIC_TRANSCRIPTION: &str = "lk.transcription";
/// The attribute for which part of a conversation a transcription is: a newer one of the same segment replaces it.
pub const ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID: &str = "lk.segment_id";
/// The attribute for the sid of the track that was heard.
pub const ATTRIBUTE_TRANSCRIPTION_TRACK_ID: &str = "lk.transcribed_track_id";
/// The attribute for whether a transcription changes no more: "true" or "false".
pub const ATTRIBUTE_TRANSCRIPTION_FINAL: &str = "lk.transcription_final";

impl TextOptions {
    /// A transcription of what `participant` said, or says, in `segment`, as LiveKit's agents send it.
    ///
    /// What is known at once, or replaces what came before in that segment, is a stream of its own
    /// ([`Room::send_text`]), with `is_final` in its attributes. What an agent says comes bit by bit: one stream
    /// ([`Room::stream_text`]) that begins with `is_final` false, and whose end has
    /// [`ATTRIBUTE_TRANSCRIPTION_FINAL`] "true" ([`TextWriter::close_with`](super::TextWriter::close_with)).
    #[must_use]
    pub fn transcription(participant: &str, track: Option<&str>, segment: &str, is_final: bool) -> Self {
        let mut options = Self { topic: TOPIC_TRANSCRIPTION.to_owned(), ..Self::default() };
        options.on_behalf_of = participant.to_owned();
        let said = [
            (ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID, segment.to_owned()),
            (ATTRIBUTE_TRANSCRIPTION_FINAL, is_final.to_string()),
        ];
        let track = track.map(|track| (ATTRIBUTE_TRANSCRIPTION_TRACK_ID, track.to_owned()));
        options.attributes.extend(said.into_iter().chain(track).map(|(key, value)| (key.to_owned(), value)));
        options
    }
}

impl Room {
    /// Says what somebody said, by the older way, a packet ([`TextOptions::transcription`] is the newer: LiveKit's agents
    /// use both). The server passes it on for agents only, and it is never encrypted.
    ///
    /// # Errors
    /// Larger than a packet may be; too much waits to be sent already; the room is over.
    pub async fn publish_transcription(&self, said: Transcription) -> Result<(), RoomError> {
        self.send_value(Value::Transcription(said.into())).await
    }

    /// Presses a key, for the telephones in the room: `code` as RFC 4733 has it (0 to 9 for the digits, 10 for "*", 11 for
    /// "#", 12 to 15 for "A" to "D"), and `digit` as it is written on the key. Never encrypted.
    ///
    /// # Errors
    /// Too much waits to be sent already; the room is over.
    pub async fn publish_dtmf(&self, code: u32, digit: &str) -> Result<(), RoomError> {
        self.send_value(Value::SipDtmf(SipDtmf { code, digit: digit.to_owned() })).await
    }

    async fn send_value(&self, value: Value) -> Result<(), RoomError> {
        let packet = DataPacket { value: Some(value), ..DataPacket::default() };
        self.send(packet, true).await
    }
}
