//! Owns a track of ours, from its source to packets. Refuses to send them.

use super::codec::{Encoder, Encoding};
use super::red::RedWriter;
use super::{AudioError, AudioSource, PACKET};

/// The payload type of Opus, inside of a redundant packet.
const OPUS: u8 = crate::peer::OPUS;
/// Quieter than this is no speech, in dBov.
const SPEECH: i8 = -50;

/// How a track is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendOptions {
    pub(crate) red: bool,
    pub(crate) dtx: bool,
    pub(crate) bitrate: u32,
}

/// A packet to send.
#[derive(Debug)]
pub(crate) struct OutPacket {
    pub(crate) red: bool,
    pub(crate) timestamp: u32,
    /// The first after a silence.
    pub(crate) marker: bool,
    pub(crate) level_dbov: i8,
    pub(crate) voice: bool,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct SendTrack {
    source: AudioSource,
    encoder: Encoder,
    red: Option<RedWriter>,
    timestamp: u32,
    silent: bool,
    block: Vec<i16>,
}

impl SendTrack {
    /// A track of `source`. Its timestamps begin anywhere.
    pub(crate) fn new(
        source: &AudioSource,
        options: SendOptions,
        timestamp: u32,
    ) -> Result<Self, AudioError> {
        let encoder = Encoder::new(&Encoding {
            sample_rate: source.sample_rate(),
            channels: source.channels(),
            bitrate: options.bitrate,
            dtx: options.dtx,
            fec: !options.red,
        })?;
        let red = options.red.then(RedWriter::default);
        Ok(Self { source: source.clone(), encoder, red, timestamp, silent: true, block: Vec::new() })
    }

    pub(crate) fn channels(&self) -> u16 {
        self.source.channels()
    }

    /// The next 20 ms; `None` if there is nothing to say in them.
    pub(crate) fn tick(&mut self) -> Option<OutPacket> {
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(PACKET);
        let spoken = self.source.take(&mut self.block);
        let level_dbov = level(&self.block);
        let payload = if spoken { self.encoder.encode(&mut self.block) } else { None };
        let Some(payload) = payload.map(<[u8]>::to_vec) else {
            self.silent = true;
            return None;
        };
        let (red, payload) = match &mut self.red {
            Some(red) => (true, red.write(OPUS, timestamp, payload)),
            None => (false, payload),
        };
        let marker = std::mem::take(&mut self.silent);
        Some(OutPacket { red, timestamp, marker, level_dbov, voice: level_dbov > SPEECH, payload })
    }
}

/// How loud, in dBov: 0 is as loud as can be, -127 is silence (RFC 6464).
fn level(samples: &[i16]) -> i8 {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    if power == 0.0 {
        return -127;
    }
    let mean = power / samples.len() as f64;
    (10.0 * (mean / 32_768.0_f64.powi(2)).log10()).clamp(-127.0, 0.0) as i8
}
