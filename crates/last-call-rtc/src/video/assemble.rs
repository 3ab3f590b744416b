//! Owns the way from packets to whole frames: order, loss, and which frames a decoder can take. Refuses to ask anybody
//! for anything: it says when a key frame is needed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EncodedFrame, VideoCodec, format};

/// How long a packet may be missing: time for a NACK or two, and not for a picture to stand still.
const PATIENCE: Duration = Duration::from_millis(300);
/// What waits in order to be put together: more is a stream that can't be followed.
const MOST_PACKETS: usize = 4096;
const MOST_BYTES: usize = super::MOST + (1 << 20);
/// Frames are whole, or given up, long before; what says otherwise is another stream.
const MOST_AHEAD: u64 = 1 << 15;

/// A packet as it came.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// Extended: it never wraps.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    /// The last of its frame.
    pub(crate) marker: bool,
    pub(crate) codec: VideoCodec,
    /// Empty in one that only fills the line.
    pub(crate) payload: Arc<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// With when each came.
    window: BTreeMap<u64, (Instant, Packet)>,
    bytes: usize,
    /// The packet that the next frame begins with; none while only a key frame will do.
    next: Option<u64>,
    clock: Option<Clock>,
}

/// RTP's timestamps without their wrap.
#[derive(Debug)]
struct Clock {
    last: u32,
    /// Since the first frame.
    ticks: i64,
}

impl Assembler {
    /// Whether nothing is of use but a key frame.
    pub(super) fn is_broken(&self) -> bool {
        self.next.is_none()
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.window.values().map(|(_, packet)| packet.payload.len()).sum()
    }

    /// The same track from another source of packets: its numbers begin anew.
    pub(super) fn restart(&mut self) {
        self.drop_all();
        self.clock = None;
    }

    fn drop_all(&mut self) {
        self.window.clear();
        self.bytes = 0;
        self.next = None;
    }

    pub(super) fn insert(&mut self, now: Instant, packet: Packet) {
        let newest = self.window.last_key_value().map_or(packet.sequence, |(newest, _)| *newest);
        if packet.sequence.abs_diff(self.next.unwrap_or(newest)) > MOST_AHEAD {
            self.drop_all();
        }
        if self.next.is_some_and(|next| packet.sequence < next) {
            return;
        }
        let length = packet.payload.len();
        if let Some((_, before)) = self.window.insert(packet.sequence, (now, packet)) {
            self.bytes -= before.payload.len();
        }
        self.bytes += length;
        if self.window.len() > MOST_PACKETS || self.bytes > MOST_BYTES {
            self.drop_all();
        }
    }

    /// Everything that is whole at `now`, in order.
    pub(super) fn poll(&mut self, now: Instant) -> VecDeque<EncodedFrame> {
        let mut frames = VecDeque::new();
        loop {
            self.skip_filling();
            let Some(first) = self.next.or_else(|| self.keyframe(now)) else { return frames };
            let Some(last) = self.last_of(first) else {
                // The head of the line, or a later part of the frame, has been missing for too long.
                if self.waits_in_vain(first, now) {
                    self.next = None;
                    self.drop_before(first + 1);
                    continue;
                }
                return frames;
            };
            let frame = self.take(first, last);
            // What is not the frame that it began as leaves a decoder without it.
            let usable = frame.filter(|frame| self.next.is_some() || frame.keyframe);
            self.next = usable.as_ref().map(|_| last + 1);
            frames.extend(usable);
        }
    }

    /// Passes packets between frames that hold nothing.
    fn skip_filling(&mut self) {
        while let Some(next) = self.next
            && self.window.get(&next).is_some_and(|(_, packet)| packet.payload.is_empty())
        {
            self.window.remove(&next);
            self.next = Some(next + 1);
        }
    }

    /// Where the first key frame begins that may become whole; what is older than that is dropped.
    fn keyframe(&mut self, now: Instant) -> Option<u64> {
        let begins = |(_, packet): &(Instant, Packet)| format::begins_keyframe(packet.codec, &packet.payload);
        let found = self.window.iter().find(|(_, packet)| begins(packet)).map(|(sequence, _)| *sequence);
        // The beginning may come late: the rest of its frame is kept as long as that may be.
        let old = |(came, _): &(Instant, Packet)| now.saturating_duration_since(*came) > PATIENCE;
        let keep = self.window.iter().find(|(_, packet)| !old(packet)).map(|(sequence, _)| *sequence);
        let all = self.window.last_key_value().map_or(0, |(last, _)| last + 1);
        self.drop_before(found.unwrap_or(keep.unwrap_or(all)));
        found
    }

    fn drop_before(&mut self, first: u64) {
        while let Some(entry) = self.window.first_entry().filter(|entry| *entry.key() < first) {
            self.bytes -= entry.remove().1.payload.len();
        }
    }

    /// The last packet of the frame that begins at `first`, if all of it is there.
    fn last_of(&self, first: u64) -> Option<u64> {
        let mut timestamp = None;
        for (expected, (sequence, (_, packet))) in (first..).zip(self.window.range(first..)) {
            if *sequence != expected {
                return None;
            }
            if packet.payload.is_empty() {
                continue;
            }
            // A frame ends with a marker, or where another begins.
            if timestamp.is_some_and(|timestamp| timestamp != packet.timestamp) {
                return sequence.checked_sub(1);
            }
            timestamp = Some(packet.timestamp);
            if packet.marker {
                return Some(*sequence);
            }
        }
        None
    }

    /// Whether what came after a gap, of the frame that begins at `first`, is older than patience.
    fn waits_in_vain(&self, first: u64, now: Instant) -> bool {
        let mut packets = (first..).zip(self.window.range(first..));
        let after_gap = packets.find(|(expected, (sequence, _))| expected != *sequence);
        after_gap.is_some_and(|(_, (_, (came, _)))| now.saturating_duration_since(*came) > PATIENCE)
    }

    /// Takes a frame out; `None` if its packets make none.
    fn take(&mut self, first: u64, last: u64) -> Option<EncodedFrame> {
        let rest = self.window.split_off(&last.saturating_add(1));
        let packets = std::mem::replace(&mut self.window, rest);
        self.bytes -= packets.values().map(|(_, packet)| packet.payload.len()).sum::<usize>();
        let filled =
            || packets.range(first..).map(|(_, (_, packet))| packet).filter(|one| !one.payload.is_empty());
        let head = filled().next()?;
        if filled().any(|packet| packet.codec != head.codec) {
            return None;
        }
        let payload = format::join(head.codec, filled().map(|packet| &*packet.payload))?;
        let (keyframe, size) = format::look(head.codec, &payload);
        Some(EncodedFrame {
            codec: head.codec,
            payload,
            timestamp: self.time(head.timestamp),
            rtp_timestamp: head.timestamp,
            keyframe,
            size,
        })
    }

    fn time(&mut self, timestamp: u32) -> Duration {
        let clock = self.clock.get_or_insert(Clock { last: timestamp, ticks: 0 });
        clock.ticks += i64::from(timestamp.wrapping_sub(clock.last).cast_signed());
        clock.last = timestamp;
        // 90,000 a second.
        Duration::from_nanos(u64::try_from(clock.ticks).unwrap_or(0).saturating_mul(100_000) / 9)
    }
}
