//! Owns what an agent sees with: a bounded queue of frames, filled by the engine and emptied by the agent. Refuses to
//! decode.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::queue::Frames;
use super::{EncodedFrame, lock};

#[derive(Debug)]
struct Queue {
    frames: Frames,
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
            frames: Frames::new(),
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
        lock(&self.0).frames.dropped()
    }
}

impl Stream for VideoStream {
    type Item = EncodedFrame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<EncodedFrame>> {
        let mut queue = lock(&self.0);
        if let Some(frame) = queue.frames.pop() {
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
        lock(&self.0).frames.miss();
    }

    /// Another frame; false if a key frame is needed instead.
    pub(super) fn push(&self, frame: &EncodedFrame) -> bool {
        let mut queue = lock(&self.0);
        if queue.frames.is_full(frame.payload.len()) {
            queue.frames.clear();
        }
        if !queue.frames.takes(frame.keyframe) {
            return false;
        }
        queue.frames.push(frame.clone());
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
