//! Owns video as its codecs made it: frames to publish ([`VideoSource`]), frames of others ([`VideoStream`]), and
//! everything between them and RTP. Refuses to encode and to decode, and the clock: the engine ticks.

mod assemble;
mod format;
mod queue;
mod receive;
mod send;
mod source;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use self::assemble::Packet;
pub(crate) use self::receive::ReceiveVideo;
pub(crate) use self::send::SendVideo;
pub use self::source::VideoSource;
pub(crate) use self::stream::AttachedVideo;
pub use self::stream::VideoStream;

/// The most that a frame may have, in bytes.
const MOST: usize = 4 << 20;

/// How video is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VideoCodec {
    /// VP8 (RFC 6386): a frame as the codec has it.
    Vp8,
    /// H.264: an access unit in Annex B, each NAL unit behind a start code of four bytes.
    H264,
    /// VP9: a frame, or all spatial layers of one, one after the other.
    Vp9,
    /// AV1: a temporal unit, its OBUs with their sizes and without the temporal delimiter.
    Av1,
}

impl VideoCodec {
    /// As the signalling has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::H264 => "h264",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
        }
    }
}

/// One picture, as its encoder made it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedFrame {
    /// Of what codec it is.
    pub codec: VideoCodec,
    /// What a decoder takes: see [`VideoCodec`].
    pub payload: Vec<u8>,
    /// When it is to be shown, after any moment that is the same for all of a source or stream.
    pub timestamp: Duration,
    /// Of a frame that was received: its RTP timestamp, 90,000 a second. Nothing in one to send.
    pub rtp_timestamp: u32,
    /// Whether a decoder can begin with it.
    pub keyframe: bool,
    /// Width and height in pixels: of key frames of VP8 and VP9 (profile 0), whose headers say it right away.
    pub size: Option<(u32, u32)>,
}

impl EncodedFrame {
    /// A frame to send. Whether it is a key frame, and its size, are read from the payload.
    #[must_use]
    pub fn new(codec: VideoCodec, payload: Vec<u8>, timestamp: Duration) -> Self {
        let (keyframe, size) = format::look(codec, &payload);
        Self { codec, payload, timestamp, rtp_timestamp: 0, keyframe, size }
    }
}

impl std::fmt::Debug for EncodedFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { codec, timestamp, keyframe, .. } = self;
        let length = self.payload.len();
        write!(f, "EncodedFrame({codec:?} at {timestamp:?}, {length} bytes, keyframe: {keyframe})")
    }
}

/// What video can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// Another codec than the source's.
    #[error("a frame of {given:?} for a source of {wanted:?}")]
    Codec {
        /// The frame's.
        given: VideoCodec,
        /// The source's.
        wanted: VideoCodec,
    },
    /// More than a frame may have.
    #[error("a frame of {0} bytes: at most {MOST} are sent")]
    TooLarge(usize),
    /// Not what the codec makes.
    #[error("not a frame of {0:?}")]
    Malformed(VideoCodec),
}

fn lock<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves whole frames.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
