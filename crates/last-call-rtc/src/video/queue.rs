//! Owns a queue of frames, bounded: what is dropped, and what is of no use after it. Refuses to know who fills it.

use std::collections::VecDeque;

use super::EncodedFrame;

/// What a queue holds: some two seconds of frames, and of bytes whatever comes first.
const MOST_FRAMES: usize = 64;
const MOST_BYTES: usize = 2 * super::MOST;

#[derive(Debug)]
pub(super) struct Frames {
    frames: VecDeque<EncodedFrame>,
    bytes: usize,
    dropped: u64,
    /// Only a key frame is of use.
    behind: bool,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { frames: VecDeque::new(), bytes: 0, dropped: 0, behind: true }
    }

    /// Whether one of so many bytes is too much.
    pub(super) fn is_full(&self, length: usize) -> bool {
        self.frames.len() >= MOST_FRAMES || self.bytes + length > MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Everything is dropped, and what follows until the next key frame.
    pub(super) fn clear(&mut self) {
        self.dropped += self.frames.len() as u64;
        self.frames.clear();
        self.bytes = 0;
        self.behind = true;
    }

    /// A frame was lost before it came here: those that follow are of no use.
    pub(super) fn miss(&mut self) {
        self.behind = true;
        self.dropped += 1;
    }

    /// Whether another frame is of use; it is dropped where a key frame is needed instead.
    pub(super) fn takes(&mut self, keyframe: bool) -> bool {
        let useless = self.behind && !keyframe;
        self.dropped += u64::from(useless);
        self.behind = useless;
        !useless
    }

    pub(super) fn push(&mut self, frame: EncodedFrame) {
        self.bytes += frame.payload.len();
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<EncodedFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.payload.len();
        Some(frame)
    }
}
