//! Owns what an agent shows: a bounded queue of frames, filled by the agent and emptied by the engine. Refuses to encode.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::queue::Frames;
use super::{EncodedFrame, MOST, VideoCodec, VideoError, format, lock};
use crate::bell::Bell;

/// Something to show: published as a track by [`Room::publish_video`](crate::Room::publish_video). Cheap to clone; every
/// clone is the same source.
///
/// Begin with a key frame, and make another whenever [`VideoSource::keyframe_requested`] returns: without it, whoever
/// comes later sees nothing.
#[derive(Clone, Debug)]
pub struct VideoSource {
    codec: VideoCodec,
    size: (u32, u32),
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    frames: Frames,
    /// A key frame was asked for, and nobody has heard of it.
    asked: bool,
    waiting: Vec<Waker>,
    /// Something was shown.
    bell: Bell,
}

impl VideoSource {
    /// A source of frames of this codec, so many pixels wide and high at most. Its queue holds 64 frames, or 8 MiB.
    #[must_use]
    pub fn new(codec: VideoCodec, width: u32, height: u32) -> Self {
        let queue = Queue { frames: Frames::new(), asked: false, waiting: Vec::new(), bell: Bell::default() };
        Self { codec, size: (width, height), queue: Arc::new(Mutex::new(queue)) }
    }

    /// How its frames are compressed.
    #[must_use]
    pub fn codec(&self) -> VideoCodec {
        self.codec
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Shows `frame`: it is sent at once, if the source is published. When it is to be seen, relative to the
    /// others, its timestamp says. Never waits. A frame that depends on one that was not sent is dropped, up to the next
    /// key frame, which is asked for: at the start, after a mute, and where the queue is full, which happens only while
    /// nothing is sent.
    ///
    /// # Errors
    /// A frame of another codec, of more than 4 MiB, or that is none of its codec's.
    pub fn push(&self, frame: EncodedFrame) -> Result<(), VideoError> {
        if frame.codec != self.codec {
            return Err(VideoError::Codec { given: frame.codec, wanted: self.codec });
        }
        let length = frame.payload.len();
        if length > MOST {
            return Err(VideoError::TooLarge(length));
        }
        if format::split(frame.codec, &frame.payload, 0).is_none() {
            return Err(VideoError::Malformed(frame.codec));
        }
        let keyframe = format::look(frame.codec, &frame.payload).0;
        let mut queue = lock(&self.queue);
        if queue.frames.is_full(length) {
            queue.miss();
        }
        if queue.frames.takes(keyframe) {
            queue.frames.push(frame);
            queue.bell.ring();
        } else {
            queue.ask();
        }
        Ok(())
    }

    /// Waits until somebody needs a key frame. Whoever asks again before this is called again asks once. Cancel safe.
    pub async fn keyframe_requested(&self) {
        poll_fn(|context| {
            let mut queue = lock(&self.queue);
            if std::mem::take(&mut queue.asked) {
                return Poll::Ready(());
            }
            if !queue.waiting.iter().any(|waiting| waiting.will_wake(context.waker())) {
                queue.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Frames that were not sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.queue).frames.dropped()
    }

    /// Whether something was shown since this was asked last; wakes when there is.
    pub(super) fn poll_captured(&self, context: &Context<'_>) -> Poll<()> {
        lock(&self.queue).bell.poll(context)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !lock(&self.queue).frames.is_empty()
    }

    pub(super) fn take(&self) -> Option<EncodedFrame> {
        lock(&self.queue).frames.pop()
    }

    pub(super) fn ask(&self) {
        lock(&self.queue).ask();
    }

    /// What waits is dropped, and what follows until the next key frame.
    pub(super) fn miss(&self) {
        lock(&self.queue).miss();
    }
}

impl Queue {
    fn ask(&mut self) {
        self.asked = true;
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn miss(&mut self) {
        self.frames.clear();
        self.ask();
    }
}
