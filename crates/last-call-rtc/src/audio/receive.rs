//! Owns a track of another's, from its packets to everyone who listens. Refuses to know whose it is.

use std::time::Instant;

use super::codec::Decoder;
use super::jitter::{self, Counts, JitterBuffer, Pull};
use super::stream::Attached;
use super::{PACKET, red};

struct Listener {
    decoder: Decoder,
    stream: Attached,
}

pub(crate) struct ReceiveTrack {
    jitter: JitterBuffer,
    listeners: Vec<Listener>,
    /// Samples of RTP's clock that this tick is to give; less than none after a long packet.
    owed: i64,
}

impl Default for ReceiveTrack {
    fn default() -> Self {
        Self { jitter: JitterBuffer::new(), listeners: Vec::new(), owed: 0 }
    }
}

impl ReceiveTrack {
    /// Another listener, from now on.
    pub(crate) fn attach(&mut self, stream: Attached) {
        match Decoder::new(stream.sample_rate(), stream.channels()) {
            Ok(decoder) => self.listeners.push(Listener { decoder, stream }),
            // Its options were checked; the codec itself failed.
            Err(error) => tracing::warn!(%error, "a track can't be decoded"),
        }
    }

    pub(crate) fn is_heard(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// The same track from another source of packets: its numbers begin anew.
    pub(crate) fn restart(&mut self) {
        self.jitter.restart();
    }

    pub(crate) fn packet(&mut self, now: Instant, red: bool, sequence: u64, timestamp: u32, payload: &[u8]) {
        if !red {
            if !payload.is_empty() {
                self.jitter.insert(now, sequence, timestamp, payload);
            }
            return;
        }
        let Ok(blocks) = red::blocks(payload) else { return };
        let frames: Vec<red::Block<'_>> = blocks.collect();
        let Some((newest, again)) = frames.split_last() else { return };
        if !newest.payload.is_empty() {
            self.jitter.insert(now, sequence, timestamp, newest.payload);
        }
        for (index, block) in again.iter().enumerate().filter(|(_, block)| !block.payload.is_empty()) {
            let sequence = sequence.saturating_sub((again.len() - index) as u64);
            self.jitter.insert_again(sequence, timestamp.wrapping_sub(block.offset), block.payload);
        }
    }

    /// The next 20 ms, to everyone who listens.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.listeners.retain(|listener| listener.stream.is_wanted());
        self.owed += i64::from(PACKET);
        if self.jitter.is_too_far_behind() {
            // Decoded, so that the codec's state is right, and not heard.
            if let Pull::Frame(payload) = self.jitter.pull(now) {
                self.listeners.iter_mut().for_each(|listener| listener.decoder.decode(&payload, |_| {}));
            }
        }
        while self.owed > 0 {
            let pull = self.jitter.pull(now);
            let length = match &pull {
                Pull::Frame(payload) => jitter::duration(payload),
                Pull::Nothing => {
                    self.owed = 0;
                    return;
                }
                Pull::Recover(_) | Pull::Conceal | Pull::Silence => PACKET,
            };
            self.owed -= i64::from(length);
            for Listener { decoder, stream } in &mut self.listeners {
                let heard = |samples: &[i16]| stream.push(samples);
                match &pull {
                    Pull::Frame(payload) => decoder.decode(payload, heard),
                    Pull::Recover(next) => decoder.recover(next, length, heard),
                    Pull::Conceal => decoder.conceal(length, heard),
                    Pull::Silence | Pull::Nothing => decoder.silence(length, heard),
                }
            }
        }
    }

    #[expect(dead_code, reason = "for the statistics of a room")]
    pub(crate) fn counts(&self) -> Counts {
        self.jitter.counts
    }
}
