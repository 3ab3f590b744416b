//! Owns data streams that come in: which chunk belongs where, when a stream is whole, and what keeps it from that. Refuses
//! to send, and to know who reads. (LiveKit's `DataStream` headers, chunks and trailers, version 1: content in the header
//! and compression are for participants that say they can, which this one does not.)

mod pipe;
mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use livekit_protocol::data_stream::header::ContentHeader;
use livekit_protocol::data_stream::{ByteHeader, Chunk, CompressionType, Header, TextHeader, Trailer};
use prost::Message as _;

use self::pipe::{Budget, Feed};
pub(crate) use self::pipe::{Piece, Tap};
pub(crate) use self::text::{Decoder, pieces};

/// The most that a chunk holds, and a header takes, in bytes: as in the official SDKs.
pub(crate) const CHUNK: usize = 15_000;
/// Streams that one sender has open.
const OPEN_EACH: usize = 128;
/// Streams that are open, of all senders.
const OPEN: usize = 1024;
/// What one stream may have unread, in bytes.
const UNREAD_EACH: usize = 8 << 20;
/// What all streams may have unread, in bytes.
const UNREAD: usize = 64 << 20;

/// Why a stream ends before it is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// It was closed before all of what its opening promised had come.
    #[error("the stream ends after {had} of {size} bytes")]
    Incomplete {
        /// What came, in bytes.
        had: u64,
        /// What was promised, in bytes.
        size: u64,
    },
    /// More came than its opening promised.
    #[error("the stream is longer than the {0} bytes that its sender promised")]
    TooLong(u64),
    /// A chunk is missing.
    #[error("a part of the stream is missing")]
    Missed,
    /// Its sender broke it off, and says why.
    #[error("the sender broke the stream off: {0}")]
    BrokenOff(String),
    /// Its sender left the room.
    #[error("the sender left the room in the middle of the stream")]
    SenderLeft,
    /// Too much of it waited to be read: 8 MiB, or 64 MiB of all streams together. What waited is dropped.
    #[error("the stream was not read as fast as it came, and more waits than a room keeps")]
    Unread,
    /// More than [`read_all`](crate::ByteReader::read_all) was to hold.
    #[error("the stream is longer than the {0} bytes that were to be read")]
    OverLimit(usize),
    /// Text that is not UTF-8.
    #[error("the text of the stream is not UTF-8")]
    NotText,
    /// Some of it is encrypted, and some is not.
    #[error("the stream is encrypted in parts only")]
    PartlyEncrypted,
    /// The connection was made anew, and what was sent meanwhile is lost.
    #[error("the connection was made anew in the middle of the stream")]
    Interrupted,
    /// The room is over for this participant.
    #[error("this participant is not in the room any more")]
    Closed,
}

/// What is known of a stream from its opening. `Debug` shows neither names nor attributes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name among the sender's streams.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// The identity of who opened it; empty for a participant that is hidden. An agent may send text in another's name:
    /// [`StreamInfo::generated`].
    pub sender: String,
    /// When it was opened by the sender's clock, in milliseconds since 1970.
    pub timestamp: i64,
    /// "text/plain", "application/octet-stream", …
    pub mime_type: String,
    /// All of its bytes, where the sender knows from the beginning.
    pub size: Option<u64>,
    /// The sender's own; once the stream has been read to its end, those that came with the end too.
    pub attributes: HashMap<String, String>,
    /// Encrypted end to end.
    pub encrypted: bool,
    /// Of bytes: the name of the file, unchecked: never a path to write to. Empty for text.
    pub name: String,
    /// Of text: the stream that it answers, or empty.
    pub reply_to: String,
    /// Of text: the byte streams that belong to it.
    pub attached: Vec<String>,
    /// Of text: an agent sent it in [`StreamInfo::sender`]'s name, by the server's word.
    pub generated: bool,
}

impl StreamInfo {
    pub(crate) fn new(header: Header, sender: &str, encrypted: bool) -> Self {
        let mut text = TextHeader::default();
        let mut bytes = ByteHeader::default();
        match header.content_header {
            Some(ContentHeader::TextHeader(header)) => text = header,
            Some(ContentHeader::ByteHeader(header)) => bytes = header,
            None => {}
        }
        Self {
            id: header.stream_id,
            topic: header.topic,
            sender: sender.to_owned(),
            timestamp: header.timestamp,
            mime_type: header.mime_type,
            size: header.total_length,
            attributes: header.attributes,
            encrypted,
            name: bytes.name,
            reply_to: text.reply_to_stream_id,
            attached: text.attached_stream_ids,
            generated: text.generated,
        }
    }
}

impl fmt::Debug for StreamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamInfo")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Text,
    Bytes,
}

/// Whose packet it is.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The server's word for who sent it.
    pub(crate) sid: &'a str,
    /// In whose name: an agent's header may have another's, and its chunks do not.
    pub(crate) identity: &'a str,
    pub(crate) encrypted: bool,
}

impl Origin<'_> {
    /// What sender's streams are kept under. An older server says no sid.
    fn owner(&self) -> &str {
        if self.sid.is_empty() { self.identity } else { self.sid }
    }
}

/// A stream that has begun.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) kind: Kind,
    pub(crate) info: StreamInfo,
    pub(crate) tap: Tap,
}

struct Open {
    feed: Feed,
    /// The index of the next chunk.
    next: u64,
    /// Bytes that have come.
    had: u64,
    size: Option<u64>,
    encrypted: bool,
}

#[derive(Default)]
pub(crate) struct Streams {
    /// By owner and id: nobody reaches into another's stream.
    open: BTreeMap<String, BTreeMap<String, Open>>,
    budget: Budget,
}

impl Streams {
    /// A stream begins; `None` where it is not read: nobody `wants` it, it can't be, or there are too many.
    pub(crate) fn open(
        &mut self,
        origin: Origin<'_>,
        header: Header,
        wants: impl Fn(Kind, &str) -> bool,
    ) -> Option<Opened> {
        let kind = match header.content_header {
            Some(ContentHeader::TextHeader(_)) => Kind::Text,
            Some(ContentHeader::ByteHeader(_)) => Kind::Bytes,
            None => return None,
        };
        if !wants(kind, &header.topic) {
            return None;
        }
        if header.inline_content.is_some() || header.compression != CompressionType::None as i32 {
            tracing::debug!(id = header.stream_id, "a stream of a later version: left out");
            return None;
        }
        if !self.has_room(origin.owner()) {
            tracing::warn!(open = self.count(), "too many streams are open at once: one is left out");
            return None;
        }
        if self.stream(origin, &header.stream_id).is_some() {
            tracing::debug!(id = header.stream_id, "a stream that is open already: left out");
            return None;
        }
        let Some((feed, tap)) = pipe::pipe(&self.budget, header.encoded_len()) else {
            tracing::warn!("too many streams wait to be read: one is left out");
            return None;
        };
        let info = StreamInfo::new(header, origin.identity, origin.encrypted);
        let open = Open { feed, next: 0, had: 0, size: info.size, encrypted: origin.encrypted };
        self.open.entry(origin.owner().to_owned()).or_default().insert(info.id.clone(), open);
        Some(Opened { kind, info, tap })
    }

    /// Whether one more may open.
    fn has_room(&mut self, owner: &str) -> bool {
        let full = |streams: &Self| {
            streams.count() >= OPEN || streams.open.get(owner).is_some_and(|own| own.len() >= OPEN_EACH)
        };
        if full(self) {
            for streams in self.open.values_mut() {
                streams.retain(|_, stream| stream.feed.is_wanted());
            }
            self.open.retain(|_, streams| !streams.is_empty());
        }
        !full(self)
    }

    fn count(&self) -> usize {
        self.open.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn chunk(&mut self, origin: Origin<'_>, chunk: Chunk) {
        let Some(stream) = self.stream(origin, &chunk.stream_id) else { return };
        match stream.take(origin.encrypted, chunk.chunk_index, chunk.content) {
            Ok(true) => {}
            Ok(false) => drop(self.close(origin, &chunk.stream_id)),
            Err(error) => {
                if let Some(stream) = self.close(origin, &chunk.stream_id) {
                    stream.feed.end(Err(error));
                }
            }
        }
    }

    pub(crate) fn trailer(&mut self, origin: Origin<'_>, trailer: Trailer) {
        let Some(stream) = self.close(origin, &trailer.stream_id) else { return };
        let end = match stream.size {
            _ if stream.encrypted != origin.encrypted => Err(StreamError::PartlyEncrypted),
            _ if !trailer.reason.is_empty() => Err(StreamError::BrokenOff(trailer.reason)),
            Some(size) if stream.had < size => Err(StreamError::Incomplete { had: stream.had, size }),
            _ => Ok(trailer.attributes),
        };
        stream.feed.end(end);
    }

    /// A participant left: its streams are not ended by anybody else.
    pub(crate) fn left(&mut self, sid: &str, identity: &str) {
        for owner in [sid, identity] {
            for stream in self.open.remove(owner).unwrap_or_default().into_values() {
                stream.feed.end(Err(StreamError::SenderLeft));
            }
        }
    }

    /// Whatever is on its way does not arrive.
    pub(crate) fn interrupted(&mut self) {
        for stream in std::mem::take(&mut self.open).into_values().flat_map(BTreeMap::into_values) {
            stream.feed.end(Err(StreamError::Interrupted));
        }
    }

    fn stream(&mut self, origin: Origin<'_>, id: &str) -> Option<&mut Open> {
        self.open.get_mut(origin.owner())?.get_mut(id)
    }

    fn close(&mut self, origin: Origin<'_>, id: &str) -> Option<Open> {
        let streams = self.open.get_mut(origin.owner())?;
        let stream = streams.remove(id);
        if streams.is_empty() {
            self.open.remove(origin.owner());
        }
        stream
    }
}

impl Open {
    /// Whether anybody still reads.
    fn take(&mut self, encrypted: bool, index: u64, content: Vec<u8>) -> Result<bool, StreamError> {
        if encrypted != self.encrypted {
            return Err(StreamError::PartlyEncrypted);
        }
        if index < self.next {
            // Sent again after a resume.
            return Ok(true);
        }
        if index > self.next {
            return Err(StreamError::Missed);
        }
        self.next += 1;
        self.had = self.had.saturating_add(content.len() as u64);
        if let Some(size) = self.size.filter(|size| self.had > *size) {
            return Err(StreamError::TooLong(size));
        }
        self.feed.push(content)
    }
}
