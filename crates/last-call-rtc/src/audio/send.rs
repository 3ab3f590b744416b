//! Owns a track of ours, from its source to packets. Refuses to send them.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::codec::{Encoder, Encoding};
use super::red::RedWriter;
use super::{AudioError, AudioSource, CLOCK, FRAME, LATEST, PACKET};

/// The payload type of Opus, inside of a redundant packet.
const OPUS: u8 = crate::peer::OPUS;
/// Quieter than this is no speech, in dBov.
const SPEECH: i8 = -50;

/// Where the clock leaps, it leaps by a multiple of this, as Opus' own packets do.
const GRAIN: u32 = CLOCK / 400;
const GRAIN_LONG: Duration = Duration::from_micros(2_500);

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
    /// Of the next packet, and when that is due; `None` before the first.
    timestamp: u32,
    next: Option<Instant>,
    /// Nothing waited after the last packet: the next one comes when it is said.
    starved: bool,
    /// Since when less than a packet waits.
    part: Option<Instant>,
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
        Ok(Self {
            source: source.clone(),
            encoder,
            red: options.red.then(RedWriter::default),
            timestamp,
            next: None,
            starved: true,
            part: None,
            silent: true,
            block: Vec::new(),
        })
    }

    pub(crate) fn channels(&self) -> u16 {
        self.source.channels()
    }

    /// Whether something was said since this was asked last; wakes when there is.
    pub(crate) fn poll_captured(&self, context: &Context<'_>) -> Poll<()> {
        self.source.poll_captured(context)
    }

    /// When something is to be done; `None` while nothing waits. A whole packet goes when its turn comes; what is less is
    /// waited with for as long as a packet is.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let turn = self.next.unwrap_or(now);
        let queued = self.source.queued();
        if queued >= FRAME {
            return Some(turn);
        }
        (!queued.is_zero()).then(|| self.part.map_or(now, |part| turn.max(part + FRAME)))
    }

    /// What is due at `now`; `None` if there is nothing to say in it.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<OutPacket> {
        if self.source.queued() < FRAME && self.part.is_none() {
            self.part = Some(now);
            return None;
        }
        self.part = None;
        self.take_turn(now);
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(PACKET);
        let spoken = self.source.take(&mut self.block);
        self.starved = self.source.queued() < FRAME;
        let level_dbov = level(&self.block);
        let Some(payload) = spoken.then(|| self.encoder.encode(&mut self.block)).flatten() else {
            self.silent = true;
            return None;
        };
        let (red, payload) = match &mut self.red {
            Some(red) => (true, red.write(OPUS, timestamp, payload)),
            None => (false, payload.to_vec()),
        };
        let marker = std::mem::take(&mut self.silent);
        Some(OutPacket { red, timestamp, marker, level_dbov, voice: level_dbov > SPEECH, payload })
    }

    /// What is a little late is so by accident, and its timestamp is as if it were not. What is later than that follows a
    /// silence.
    fn take_turn(&mut self, now: Instant) {
        let next = self.next.unwrap_or(now);
        let late = now.saturating_duration_since(next);
        let turn = if late > if self.starved { FRAME * 2 } else { LATEST } {
            let leap = (late.as_micros() / GRAIN_LONG.as_micros()) as u32;
            self.timestamp = self.timestamp.wrapping_add(leap.wrapping_mul(GRAIN));
            self.silent = true;
            next + GRAIN_LONG * leap
        } else if late > FRAME && self.starved {
            now - FRAME
        } else {
            next
        };
        self.next = Some(turn + FRAME);
    }
}

/// How loud, in dBov: 0 is as loud as can be, -127 is silence (RFC 6464).
fn level(samples: &[i16]) -> i8 {
    let power: u64 = samples.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
    if power == 0 {
        return -127;
    }
    let mean = power as f64 / samples.len() as f64;
    (10.0 * (mean / 32_768.0_f64.powi(2)).log10()).clamp(-127.0, 0.0) as i8
}
