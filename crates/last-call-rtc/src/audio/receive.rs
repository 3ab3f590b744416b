//! Owns a track of another's, from its packets to everyone who listens. Refuses to know whose it is.

use std::time::{Duration, Instant};

use super::codec::Decoder;
use super::jitter::{self, Counts, JitterBuffer, Pace, Pull};
use super::stream::Attached;
use super::stretch::Stretch;
use super::{FRAME, LATEST, PACKET, red};

/// How long a packet that is due is waited for, before it is guessed.
const PATIENCE: Duration = Duration::from_millis(10);

struct Listener {
    decoder: Decoder,
    stretch: Stretch,
    stream: Attached,
}

pub(crate) struct ReceiveTrack {
    jitter: JitterBuffer,
    listeners: Vec<Listener>,
    /// When what is heard next begins; `None` while there is nothing.
    next: Option<Instant>,
    /// More is to be put in, until it is a packet.
    slower: bool,
}

impl Default for ReceiveTrack {
    fn default() -> Self {
        Self { jitter: JitterBuffer::new(), listeners: Vec::new(), next: None, slower: false }
    }
}

impl ReceiveTrack {
    /// Another listener, from now on.
    pub(crate) fn attach(&mut self, stream: Attached) {
        let stretch = Stretch::new(stream.sample_rate(), stream.channels());
        match Decoder::new(stream.sample_rate(), stream.channels()) {
            Ok(decoder) => self.listeners.push(Listener { decoder, stretch, stream }),
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
        self.insert(now, red, sequence, timestamp, payload);
        self.next = self.next.or(self.jitter.begins());
    }

    fn insert(&mut self, now: Instant, red: bool, sequence: u64, timestamp: u32, payload: &[u8]) {
        if !red {
            if !payload.is_empty() {
                self.jitter.insert(now, sequence, timestamp, payload);
            }
            return;
        }
        let Ok(blocks) = red::blocks(payload) else { return };
        let again = blocks.clone().count() - 1;
        if let Some(newest) = blocks.clone().last().filter(|block| !block.payload.is_empty()) {
            self.jitter.insert(now, sequence, timestamp, newest.payload);
        }
        for (index, block) in blocks.take(again).enumerate().filter(|(_, block)| !block.payload.is_empty()) {
            let sequence = sequence.saturating_sub((again - index) as u64);
            self.jitter.insert_again(sequence, timestamp.wrapping_sub(block.offset), block.payload);
        }
    }

    /// When something is to be heard; `None` while there is nothing.
    pub(crate) fn due(&self) -> Option<Instant> {
        let patience = if self.jitter.is_dry() { PATIENCE } else { Duration::ZERO };
        Some(self.turn()? + patience)
    }

    /// When what is heard next begins. What begins anew begins at its own time: the silence before it is a bit longer.
    fn turn(&self) -> Option<Instant> {
        let next = self.next?;
        Some(self.jitter.begins().filter(|at| (next..next + FRAME).contains(at)).unwrap_or(next))
    }

    /// Everything that is due, to everyone who listens.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.listeners.retain(|listener| listener.stream.is_wanted());
        while let Some(at) = self.turn()
            && self.due().is_some_and(|due| due <= now)
        {
            let at = if now > at + LATEST { now } else { at };
            self.next = self.play(at).map(|length| at + jitter::clock(length.into()));
        }
    }

    /// What begins at `at`, and how long it is.
    fn play(&mut self, at: Instant) -> Option<u32> {
        if self.slower && self.listeners.iter().all(|listener| listener.stretch.has(PACKET)) {
            self.slower = false;
            for Listener { stretch, stream, .. } in &mut self.listeners {
                stretch.spend(PACKET);
                stretch.give(|samples| stream.push(samples));
            }
            return Some(PACKET);
        }
        let even = self.listeners.iter().all(|listener| listener.stretch.is_even());
        let pace = if even || self.slower { self.jitter.pace(at) } else { Pace::Even };
        let length = self.pull(at)?;
        match pace {
            Pace::Even => {}
            Pace::Slower => self.slower = true,
            Pace::Faster if self.slower => self.slower = false,
            Pace::Faster => {
                let surplus = self.pull(at + jitter::clock(length.into())).unwrap_or_default();
                self.listeners.iter_mut().for_each(|listener| listener.stretch.add(surplus));
            }
        }
        for Listener { stretch, stream, .. } in &mut self.listeners {
            if self.slower {
                stretch.lengthen(PACKET)
            } else {
                stretch.shorten()
            }
            stretch.give(|samples| stream.push(samples));
        }
        Some(length)
    }

    /// Decodes what comes next, and says how long it is.
    fn pull(&mut self, at: Instant) -> Option<u32> {
        let pull = self.jitter.pull(at);
        let length = match &pull {
            Pull::Frame(payload) => jitter::duration(payload),
            Pull::Recover(_, length) | Pull::Conceal(length) | Pull::Silence(length) => *length,
            Pull::Nothing => return None,
        };
        for Listener { decoder, stretch, .. } in &mut self.listeners {
            let heard = |samples: &[i16]| stretch.push(samples);
            match &pull {
                Pull::Frame(payload) => decoder.decode(payload, heard),
                Pull::Recover(next, length) => decoder.recover(next, *length, heard),
                Pull::Conceal(length) => decoder.conceal(*length, heard),
                Pull::Silence(length) => decoder.silence(*length, heard),
                Pull::Nothing => {}
            }
        }
        Some(length)
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "for the statistics of a room"))]
    pub(crate) fn counts(&self) -> Counts {
        self.jitter.counts
    }
}
