//! Owns a video track of another's, from its packets to everyone who watches. Refuses to know whose it is.

use std::time::{Duration, Instant};

use super::assemble::{Assembler, Packet};
use super::{AttachedVideo, EncodedFrame};

/// A key frame is asked for no more often.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Nothing comes: a picture that stands still is asked for no more often.
const ASK_SILENT_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(crate) struct ReceiveVideo {
    assembler: Assembler,
    watchers: Vec<AttachedVideo>,
    /// Somebody can't go on without a key frame.
    wanted: bool,
    asked: Option<Instant>,
    /// Something came, from whoever is to be asked, since then.
    heard: bool,
}

impl ReceiveVideo {
    /// Another watcher, from the next key frame on, which is asked for.
    pub(crate) fn attach(&mut self, stream: AttachedVideo) {
        self.watchers.push(stream);
        self.wanted = true;
        self.heard = true;
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// The same track from another source of packets: its numbers begin anew.
    pub(crate) fn restart(&mut self) {
        self.assembler.restart();
    }

    pub(crate) fn packet(&mut self, now: Instant, packet: Packet) {
        self.heard = true;
        self.assembler.insert(now, packet);
    }

    /// Hands over what is whole; `open` decrypts it, where it must be, and says no if it can't.
    pub(crate) fn hand_over(&mut self, now: Instant, mut open: impl FnMut(&mut EncodedFrame) -> bool) {
        self.watchers.retain(AttachedVideo::is_wanted);
        for mut frame in self.assembler.poll(now) {
            if !open(&mut frame) {
                // Nobody is asked for a key frame that can't be opened either.
                self.watchers.iter().for_each(AttachedVideo::miss);
                continue;
            }
            for watcher in &self.watchers {
                self.wanted |= !watcher.push(&frame);
            }
        }
        self.wanted |= self.assembler.is_broken();
    }

    /// Bytes that wait to be put together.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.assembler.waiting()
    }

    /// Whether a key frame is to be asked for now.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        for watcher in &self.watchers {
            self.wanted |= watcher.take_request();
        }
        let every = if self.heard { ASK_EVERY } else { ASK_SILENT_EVERY };
        let may = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= every);
        if !self.wanted || !may {
            return false;
        }
        (self.wanted, self.heard, self.asked) = (false, false, Some(now));
        true
    }
}
