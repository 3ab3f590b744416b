//! Owns the handles of streams that come in: the queues of a topic's, and their readers. Refuses their rules.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_channel::mpsc;
use futures_core::Stream;

use super::Room;
use crate::engine::{Command, StreamCommand};
use crate::streams::{Decoder, Kind, Opened, Piece, StreamError, StreamInfo, Tap};

impl Room {
    /// Reads the text streams of a topic: what comes are their readers, from now on, until what is returned is dropped.
    /// Streams of a topic that nobody reads are dropped as they come; a topic that is read again is the newer's.
    #[must_use]
    pub fn text_streams(&self, topic: &str) -> TextStreams {
        TextStreams { opened: self.read(Kind::Text, topic) }
    }

    /// Reads the byte streams of a topic; as [`Room::text_streams`].
    #[must_use]
    pub fn byte_streams(&self, topic: &str) -> ByteStreams {
        ByteStreams { opened: self.read(Kind::Bytes, topic) }
    }

    fn read(&self, kind: Kind, topic: &str) -> mpsc::UnboundedReceiver<Opened> {
        let (opened, streams) = mpsc::unbounded();
        self.tell(Command::Stream(StreamCommand::Read { kind, topic: topic.to_owned(), opened }));
        streams
    }
}

macro_rules! streams {
    ($(#[$doc:meta])* $name:ident of $reader:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            opened: mpsc::UnboundedReceiver<Opened>,
        }

        impl $name {
            /// The next stream, as soon as it is opened; `None` once the room is over, or another reads the topic.
            /// Cancel safe.
            pub async fn next(&mut self) -> Option<$reader> {
                std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
            }
        }

        impl Stream for $name {
            type Item = $reader;

            fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<$reader>> {
                Pin::new(&mut self.opened).poll_next(context).map(|opened| opened.map($reader::new))
            }
        }
    };
}

streams! {
    /// The text streams of a topic.
    TextStreams of TextReader
}

streams! {
    /// The byte streams of a topic.
    ByteStreams of ByteReader
}

/// A stream of bytes that comes in. Dropped, the rest of it is not kept. What waits to be read is bounded: 8 MiB of one
/// stream, and 64 MiB of all streams of the room; above that a stream fails ([`StreamError::Unread`]).
#[derive(Debug)]
pub struct ByteReader {
    info: StreamInfo,
    tap: Tap,
    done: bool,
}

impl ByteReader {
    fn new(opened: Opened) -> Self {
        Self { info: opened.info, tap: opened.tap, done: false }
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// The next bytes, as they come; `None` once the stream is whole. After an error comes nothing. Cancel safe.
    ///
    /// # Errors
    /// [`StreamError`]: the stream ends here, and is not whole.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, StreamError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All that is left of it. Dropped, what was read is lost.
    ///
    /// # Errors
    /// [`StreamError::OverLimit`] where it is longer than `limit` bytes; and as [`ByteReader::next`].
    pub async fn read_all(&mut self, limit: usize) -> Result<Vec<u8>, StreamError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await.transpose()? {
            if bytes.len() > limit - all.len() {
                return Err(StreamError::OverLimit(limit));
            }
            all.extend(bytes);
        }
        Ok(all)
    }
}

impl Stream for ByteReader {
    type Item = Result<Vec<u8>, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let piece = ready!(self.tap.poll(context));
        self.done = !matches!(piece, Piece::Chunk(_));
        Poll::Ready(match piece {
            Piece::Chunk(bytes) => Some(Ok(bytes)),
            Piece::End(attributes) => {
                self.info.attributes.extend(attributes);
                None
            }
            Piece::Failed(error) => Some(Err(error)),
        })
    }
}

/// A stream of text that comes in; as [`ByteReader`].
#[derive(Debug)]
pub struct TextReader {
    bytes: ByteReader,
    decoder: Decoder,
}

impl TextReader {
    fn new(opened: Opened) -> Self {
        Self { bytes: ByteReader::new(opened), decoder: Decoder::default() }
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        self.bytes.info()
    }

    /// The next text, as it comes, in whole characters; `None` once the stream is whole. After an error comes nothing.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`StreamError`]: the stream ends here, and is not whole.
    pub async fn next(&mut self) -> Option<Result<String, StreamError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All that is left of it. Dropped, what was read is lost.
    ///
    /// # Errors
    /// [`StreamError::OverLimit`] where it is longer than `limit` bytes; and as [`TextReader::next`].
    pub async fn read_all(&mut self, limit: usize) -> Result<String, StreamError> {
        let mut all = String::new();
        while let Some(text) = self.next().await.transpose()? {
            if text.len() > limit - all.len() {
                return Err(StreamError::OverLimit(limit));
            }
            all.push_str(&text);
        }
        Ok(all)
    }
}

impl Stream for TextReader {
    type Item = Result<String, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let text = match ready!(Pin::new(&mut self.bytes).poll_next(context)) {
                Some(Ok(bytes)) => self.decoder.push(bytes),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.decoder.is_whole() => return Poll::Ready(None),
                None => {
                    self.decoder = Decoder::default();
                    Err(StreamError::NotText)
                }
            };
            match text {
                Ok(text) if text.is_empty() => {}
                text => {
                    self.bytes.done |= text.is_err();
                    return Poll::Ready(Some(text));
                }
            }
        }
    }
}
