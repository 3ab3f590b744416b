//! Owns a video track of ours, from its source to packets. Refuses to send them.

use std::task::{Context, Poll};

use super::{EncodedFrame, VideoCodec, VideoSource, format};

/// A packet to send.
#[derive(Debug)]
pub(crate) struct OutVideo {
    pub(crate) timestamp: u32,
    /// The last of its frame.
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct SendVideo {
    source: VideoSource,
    /// Where the timestamps begin: anywhere.
    first: u32,
    picture: u16,
}

impl SendVideo {
    pub(crate) fn new(source: &VideoSource, first: u32) -> Self {
        // Whoever watches another track of the same source has its key frame already.
        source.ask();
        Self { source: source.clone(), first, picture: 0 }
    }

    pub(crate) fn codec(&self) -> VideoCodec {
        self.source.codec()
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        self.source.size()
    }

    /// Whoever watches needs a key frame.
    pub(crate) fn ask(&self) {
        self.source.ask();
    }

    /// What waits is not sent, nor what follows until the next key frame.
    pub(crate) fn skip(&self) {
        self.source.miss();
    }

    /// Whether something was shown since this was asked last; wakes when there is.
    pub(crate) fn poll_captured(&self, context: &Context<'_>) -> Poll<()> {
        self.source.poll_captured(context)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.source.is_waiting()
    }

    /// The packets of the next frame; `seal` encrypts it, where it must be, and says no if it can't.
    pub(crate) fn next(
        &mut self,
        mut seal: impl FnMut(u32, Vec<u8>) -> Option<Vec<u8>>,
    ) -> Option<Vec<OutVideo>> {
        loop {
            let EncodedFrame { codec, payload, timestamp, .. } = self.source.take()?;
            // 90,000 a second; the timestamps of RTP wrap.
            let timestamp = self.first.wrapping_add((timestamp.as_nanos() * 9 / 100_000) as u32);
            let packets =
                seal(timestamp, payload).and_then(|frame| format::split(codec, &frame, self.picture));
            let Some(packets) = packets else {
                // What can't be encrypted is not sent.
                self.source.miss();
                continue;
            };
            self.picture = self.picture.wrapping_add(1);
            let last = packets.len() - 1;
            let packet = |(index, payload)| OutVideo { timestamp, marker: index == last, payload };
            return Some(packets.into_iter().enumerate().map(packet).collect());
        }
    }
}
