//! Owns the handles of streams that go out: what they are opened with, and their writers. Refuses to queue: a chunk waits
//! until the one before is on its way.

use std::collections::HashMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use livekit_protocol::DataPacket;
use livekit_protocol::data_packet::Value;
use livekit_protocol::data_stream::header::ContentHeader;
use livekit_protocol::data_stream::{ByteHeader, Chunk, Header, TextHeader, Trailer};
use prost::Message as _;

use super::Room;
use crate::engine::{Command, StreamCommand};
use crate::error::RoomError;
use crate::streams::{CHUNK, StreamInfo, pieces};

/// What a text stream is opened with. `Debug` shows only the topic.
#[derive(Clone, Default)]
pub struct TextOptions {
    /// What it is about: who reads it chooses by that.
    pub topic: String,
    /// For those who read it. With everything else that is said at the opening, 15,000 bytes at most.
    pub attributes: HashMap<String, String>,
    /// The identities that get it; none is everybody.
    pub destinations: Vec<String>,
    /// All of its bytes, in UTF-8, if that is known: readers then hold more or less for an error. [`Room::send_text`]
    /// knows by itself.
    pub size: Option<u64>,
    /// The id of a stream that this one answers, or empty.
    pub reply_to: String,
    /// The ids of byte streams that belong to it.
    pub attached: Vec<String>,
    /// The identity in whose name an agent sends this, or empty: the server lets agents only, and no one where it is
    /// encrypted; then it is this participant's.
    pub on_behalf_of: String,
}

impl fmt::Debug for TextOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextOptions").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What a byte stream is opened with. `Debug` shows only the topic.
#[derive(Clone)]
pub struct ByteOptions {
    /// What it is about: who reads it chooses by that.
    pub topic: String,
    /// For those who read it. With everything else that is said at the opening, 15,000 bytes at most.
    pub attributes: HashMap<String, String>,
    /// The identities that get it; none is everybody.
    pub destinations: Vec<String>,
    /// All of its bytes, if that is known: readers then hold more or less for an error. [`Room::send_bytes`] knows by
    /// itself.
    pub size: Option<u64>,
    /// The name of the file. Default: "unknown".
    pub name: String,
    /// What it holds. Default: "application/octet-stream".
    pub mime_type: String,
}

impl Default for ByteOptions {
    fn default() -> Self {
        Self {
            topic: String::new(),
            attributes: HashMap::new(),
            destinations: Vec::new(),
            size: None,
            name: "unknown".to_owned(),
            mime_type: "application/octet-stream".to_owned(),
        }
    }
}

impl fmt::Debug for ByteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteOptions").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Room {
    /// Sends text as a stream, of any length; returns when all of it is on its way. Dropped before, its readers get an
    /// error.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn send_text(&self, text: &str, options: TextOptions) -> Result<StreamInfo, RoomError> {
        let size = Some(text.len() as u64);
        let mut writer = self.stream_text(TextOptions { size, ..options }).await?;
        writer.write(text).await?;
        writer.0.close(HashMap::new()).await
    }

    /// Opens a stream of text, to be written bit by bit.
    ///
    /// # Errors
    /// What it is opened with is larger than 15,000 bytes; too much waits to be sent already; the room is over.
    pub async fn stream_text(&self, options: TextOptions) -> Result<TextWriter, RoomError> {
        let text = TextHeader {
            reply_to_stream_id: options.reply_to,
            attached_stream_ids: options.attached,
            ..TextHeader::default()
        };
        let header = Header {
            topic: options.topic,
            mime_type: "text/plain".to_owned(),
            attributes: options.attributes,
            total_length: options.size,
            content_header: Some(ContentHeader::TextHeader(text)),
            ..Header::default()
        };
        Writer::open(self, header, options.destinations, options.on_behalf_of).await.map(TextWriter)
    }

    /// Sends bytes as a stream, as many as there are; as [`Room::send_text`].
    ///
    /// # Errors
    /// As [`ByteWriter::write`].
    pub async fn send_bytes(&self, bytes: &[u8], options: ByteOptions) -> Result<StreamInfo, RoomError> {
        let size = Some(bytes.len() as u64);
        let mut writer = self.stream_bytes(ByteOptions { size, ..options }).await?;
        writer.write(bytes).await?;
        writer.0.close(HashMap::new()).await
    }

    /// Opens a stream of bytes, to be written bit by bit; as [`Room::stream_text`].
    ///
    /// # Errors
    /// As [`Room::stream_text`].
    pub async fn stream_bytes(&self, options: ByteOptions) -> Result<ByteWriter, RoomError> {
        let header = Header {
            topic: options.topic,
            mime_type: options.mime_type,
            attributes: options.attributes,
            total_length: options.size,
            content_header: Some(ContentHeader::ByteHeader(ByteHeader { name: options.name })),
            ..Header::default()
        };
        Writer::open(self, header, options.destinations, String::new()).await.map(ByteWriter)
    }
}

/// A stream of ours.
#[derive(Debug)]
struct Writer {
    room: Room,
    info: StreamInfo,
    destinations: Vec<String>,
    on_behalf_of: String,
    /// This participant's sid when it was opened: another session's readers have not seen the opening.
    session: String,
    /// The index of the next chunk.
    next: u64,
    /// Whether everything so far has been sent.
    whole: bool,
    closed: bool,
}

impl Writer {
    async fn open(
        room: &Room,
        header: Header,
        destinations: Vec<String>,
        on_behalf_of: String,
    ) -> Result<Self, RoomError> {
        let header = Header {
            stream_id: format!("{:032x}", fastrand::u128(..)),
            timestamp: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            ..header
        };
        let size = header.encoded_len();
        if size > CHUNK {
            return Err(RoomError::TooLarge { size, most: CHUNK });
        }
        let (session, identity) = room.shared.view(|view| {
            let local = view.local.as_ref();
            local.map(|local| (local.sid().to_owned(), local.identity().to_owned())).unwrap_or_default()
        });
        let mut writer = Self {
            room: room.clone(),
            info: StreamInfo::new(header.clone(), &identity, room.encrypts),
            destinations,
            on_behalf_of,
            session,
            next: 0,
            whole: true,
            closed: false,
        };
        writer.send(Value::StreamHeader(header)).await?;
        Ok(writer)
    }

    async fn chunk(&mut self, content: &[u8]) -> Result<(), RoomError> {
        let chunk = Chunk {
            stream_id: self.info.id.clone(),
            chunk_index: self.next,
            content: content.to_vec(),
            ..Chunk::default()
        };
        self.next += 1;
        self.send(Value::StreamChunk(chunk)).await
    }

    async fn close(mut self, attributes: HashMap<String, String>) -> Result<StreamInfo, RoomError> {
        let trailer = Trailer { stream_id: self.info.id.clone(), attributes, ..Trailer::default() };
        self.send(Value::StreamTrailer(trailer)).await?;
        self.closed = true;
        Ok(self.info.clone())
    }

    /// The next packet. One that is not sent breaks the stream, and so does a caller that is gone before.
    async fn send(&mut self, value: Value) -> Result<(), RoomError> {
        let session =
            |view: &crate::shared::View| view.local.as_ref().is_some_and(|local| local.sid() == self.session);
        if !std::mem::take(&mut self.whole) || !self.room.shared.view(session) {
            return Err(RoomError::BrokenStream);
        }
        self.room.send(self.packet(value), true).await?;
        self.whole = true;
        Ok(())
    }

    fn packet(&self, value: Value) -> DataPacket {
        DataPacket {
            participant_identity: self.on_behalf_of.clone(),
            destination_identities: self.destinations.clone(),
            value: Some(value),
            ..DataPacket::default()
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.closed {
            let trailer = Trailer {
                stream_id: self.info.id.clone(),
                reason: "interrupted".to_owned(),
                ..Trailer::default()
            };
            let packet = Box::new(self.packet(Value::StreamTrailer(trailer)));
            self.room.tell(Command::Stream(StreamCommand::BreakOff(packet)));
        }
    }
}

/// A stream of text that goes out. Dropped before it is closed, its readers get an error
/// ([`StreamError::BrokenOff`](crate::StreamError::BrokenOff), "interrupted").
#[derive(Debug)]
pub struct TextWriter(Writer);

impl TextWriter {
    /// What it was opened with.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        &self.0.info
    }

    /// Sends more text; returns when it is on its way, so that who writes is no faster than the connection. Dropped
    /// before, the stream is broken.
    ///
    /// # Errors
    /// Too much waits to be sent already; the room is over; [`RoomError::BrokenStream`]: every write after an error, and
    /// after the connection was made anew. The stream can't be closed then.
    pub async fn write(&mut self, text: &str) -> Result<(), RoomError> {
        for piece in pieces(text) {
            self.0.chunk(piece.as_bytes()).await?;
        }
        Ok(())
    }

    /// Ends the stream: it is whole.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn close(self) -> Result<(), RoomError> {
        self.close_with(HashMap::new()).await
    }

    /// As [`TextWriter::close`], and adds these to the stream's attributes.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn close_with(self, attributes: HashMap<String, String>) -> Result<(), RoomError> {
        self.0.close(attributes).await.map(drop)
    }
}

/// A stream of bytes that goes out; as [`TextWriter`].
#[derive(Debug)]
pub struct ByteWriter(Writer);

impl ByteWriter {
    /// What it was opened with.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        &self.0.info
    }

    /// Sends more bytes; as [`TextWriter::write`].
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), RoomError> {
        for chunk in bytes.chunks(CHUNK) {
            self.0.chunk(chunk).await?;
        }
        Ok(())
    }

    /// Ends the stream: it is whole.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn close(self) -> Result<(), RoomError> {
        self.close_with(HashMap::new()).await
    }

    /// As [`ByteWriter::close`], and adds these to the stream's attributes.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub async fn close_with(self, attributes: HashMap<String, String>) -> Result<(), RoomError> {
        self.0.close(attributes).await.map(drop)
    }
}
