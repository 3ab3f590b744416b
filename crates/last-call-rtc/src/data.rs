//! Owns what makes the reliable channel reliable across a resume: each packet has a number, what the server has not had
//! is sent again, and what comes again is dropped (rtc.md, G14). Refuses to read what a packet holds.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use livekit_protocol::{DataChannelReceiveState, DataPacket};
use prost::Message as _;

/// What is kept to be sent again, in bytes: far more than goes out in the seconds of a resume.
const KEPT: usize = 4 << 20;
/// Participants whose numbers are kept.
const SENDERS: usize = 4096;

/// What goes out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    last: u32,
    kept: VecDeque<(u32, Bytes)>,
    bytes: usize,
}

impl Outbox {
    /// The packet with the next number, encoded. The number is another's until [`Outbox::sent`].
    pub(crate) fn stamp(&self, packet: &mut DataPacket) -> Bytes {
        packet.sequence = self.last.wrapping_add(1);
        Bytes::from(packet.encode_to_vec())
    }

    /// What was stamped last is on its way.
    pub(crate) fn sent(&mut self, message: Bytes) {
        self.last = self.last.wrapping_add(1);
        self.bytes += message.len();
        self.kept.push_back((self.last, message));
        while self.bytes > KEPT
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// What the server has not had, which is everything after `last`, in order.
    pub(crate) fn replay(&mut self, last: u32) -> impl DoubleEndedIterator<Item = &Bytes> {
        while self.kept.front().is_some_and(|(sequence, _)| *sequence <= last)
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.bytes -= oldest.len();
        }
        self.kept.iter().map(|(_, message)| message)
    }
}

/// What comes in.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The last number of each sender's, by its sid.
    last: BTreeMap<String, u32>,
}

impl Inbox {
    /// Whether the packet is new.
    pub(crate) fn take(&mut self, packet: &DataPacket) -> bool {
        if packet.sequence == 0 || packet.participant_sid.is_empty() {
            // A sender, or a server, without numbers.
            return true;
        }
        if let Some(last) = self.last.get_mut(&packet.participant_sid) {
            let new = packet.sequence > *last;
            *last = packet.sequence.max(*last);
            return new;
        }
        if self.last.len() < SENDERS {
            self.last.insert(packet.participant_sid.clone(), packet.sequence);
        }
        true
    }

    /// What has come, for the server after a resume.
    pub(crate) fn states(&self) -> Vec<DataChannelReceiveState> {
        let state = |(publisher_sid, last_seq): (&String, &u32)| DataChannelReceiveState {
            publisher_sid: publisher_sid.clone(),
            last_seq: *last_seq,
        };
        self.last.iter().map(state).collect()
    }
}

#[cfg(test)]
mod tests;
