//! Owns audio: what an agent speaks into ([`AudioSource`]), what it hears with ([`AudioStream`]), and everything between
//! them and RTP. Refuses the clock: it says when the engine is to tick, and the engine what time it is.

mod codec;
mod jitter;
mod receive;
mod red;
mod send;
mod source;
mod stream;
mod stretch;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::receive::ReceiveTrack;
#[cfg(test)]
pub(crate) use self::send::OutPacket;
pub(crate) use self::send::{SendOptions, SendTrack};
pub use self::source::AudioSource;
pub(crate) use self::stream::Attached;
pub use self::stream::{AudioStream, AudioStreamOptions};

/// RTP's clock for Opus, in samples a second (RFC 7587).
const CLOCK: u32 = 48_000;
/// One packet: 20 ms of it.
const PACKET: u32 = CLOCK / 50;
const FRAME: Duration = Duration::from_millis(20);
/// A thread that stood still for longer plays on from now: nobody wants to hear all of it at once.
const LATEST: Duration = Duration::from_millis(200);

/// Sound: samples of 16 bits, interleaved.
#[derive(Clone, PartialEq, Eq)]
pub struct AudioFrame {
    /// As many as channels, for each moment.
    pub samples: Vec<i16>,
    /// Moments a second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u16,
}

impl AudioFrame {
    /// How long it is.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let moments = self.samples.len() as u64 / u64::from(self.channels.max(1));
        Duration::from_nanos(moments * 1_000_000_000 / u64::from(self.sample_rate.max(1)))
    }
}

impl std::fmt::Debug for AudioFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sample_rate, channels, .. } = self;
        write!(f, "AudioFrame({:?} of {sample_rate} Hz, {channels} channels)", self.duration())
    }
}

/// What audio can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// A frame of another format than the source's.
    #[error("a frame of {given} Hz and {given_channels} channels for a source of {wanted} Hz and {channels}")]
    Format {
        /// The frame's rate.
        given: u32,
        /// The frame's channels.
        given_channels: u16,
        /// The source's rate.
        wanted: u32,
        /// The source's channels.
        channels: u16,
    },
    /// A rate that can't be resampled.
    #[error("{0} Hz: a sample rate from 8000 to 192000, and a multiple of 50, is needed")]
    Rate(u32),
    /// Neither mono nor stereo.
    #[error("{0} channels: 1 and 2 are possible")]
    Channels(u16),
    /// The codec says no.
    #[error("the Opus codec refuses: {0}")]
    Codec(String),
}

/// A rate and a count of channels that every part of this module takes.
fn check(sample_rate: u32, channels: u16) -> Result<(), AudioError> {
    if !(8_000..=192_000).contains(&sample_rate) || !sample_rate.is_multiple_of(50) {
        return Err(AudioError::Rate(sample_rate));
    }
    if !(1..=2).contains(&channels) {
        return Err(AudioError::Channels(channels));
    }
    Ok(())
}
