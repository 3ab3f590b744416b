//! Owns what an agent sees with: a bounded queue of frames, filled by the engine and emptied by the agent. Refuses to
//! decode.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::{EncodedFrame, QUEUE_BYTES, QUEUE_FRAMES, lock};

#[derive(Debug)]
struct Queue {
    frames: VecDeque<EncodedFrame>,
    bytes: usize,
    dropped: u64,
    /// Only a key frame is of use.
    behind: bool,
    asked: bool,
    ended: bool,
    wanted: bool,
    waiting: Option<Waker>,
}

/// The pictures of one track, as they were encoded: a key frame first, and then every frame that a decoder can take. Where
/// one is lost, nothing comes until the next key frame, which is asked for. Dropped, the track is not sent to this
/// participant any more, unless another watches.
#[derive(Debug)]
pub struct VideoStream(Arc<Mutex<Queue>>);

/// The engine's end of a stream. Dropped, the stream ends.
#[derive(Debug)]
pub(crate) struct AttachedVideo(Arc<Mutex<Queue>>);

impl VideoStream {
    pub(crate) fn new() -> (Self, AttachedVideo) {
        let queue = Arc::new(Mutex::new(Queue {
            frames: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            behind: true,
            asked: false,
            ended: false,
            wanted: true,
            waiting: None,
        }));
        (Self(Arc::clone(&queue)), AttachedVideo(queue))
    }

    /// The next frame; `None` once the track is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<EncodedFrame> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Asks whoever publishes for a key frame, at most twice a second: a decoder lost its way.
    pub fn request_keyframe(&self) {
        lock(&self.0).asked = true;
    }

    /// Frames that were dropped: more than 64, or 8 MiB, waited for a slow reader, or there was no key frame before them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.0).dropped
    }
}

impl Stream for VideoStream {
    type Item = EncodedFrame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<EncodedFrame>> {
        let mut queue = lock(&self.0);
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes -= frame.payload.len();
            return Poll::Ready(Some(frame));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for VideoStream {
    fn drop(&mut self) {
        lock(&self.0).wanted = false;
    }
}

impl AttachedVideo {
    /// Whether anybody watches.
    pub(super) fn is_wanted(&self) -> bool {
        lock(&self.0).wanted
    }

    pub(super) fn take_request(&self) -> bool {
        std::mem::take(&mut lock(&self.0).asked)
    }

    /// A frame was lost on the way: those that follow are of no use.
    pub(super) fn miss(&self) {
        let mut queue = lock(&self.0);
        queue.behind = true;
        queue.dropped += 1;
    }

    /// Another frame; false if a key frame is needed instead.
    pub(super) fn push(&self, frame: &EncodedFrame) -> bool {
        let mut queue = lock(&self.0);
        let length = frame.payload.len();
        if queue.frames.len() >= QUEUE_FRAMES || queue.bytes + length > QUEUE_BYTES {
            queue.dropped += queue.frames.len() as u64;
            queue.frames.clear();
            queue.bytes = 0;
            queue.behind = true;
        }
        if queue.behind && !frame.keyframe {
            queue.dropped += 1;
            return false;
        }
        queue.behind = false;
        queue.bytes += length;
        queue.frames.push_back(frame.clone());
        if let Some(waiting) = queue.waiting.take() {
            waiting.wake();
        }
        true
    }
}

impl Drop for AttachedVideo {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.ended = true;
        if let Some(waiting) = queue.waiting.take() {
            waiting.wake();
        }
    }
}
