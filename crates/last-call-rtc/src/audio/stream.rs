//! Owns what an agent hears with: a bounded queue of samples, filled by the engine and emptied by the agent. Refuses to
//! decode.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use super::{AudioError, AudioFrame, check};

/// How a track is heard.
#[derive(Clone, Debug)]
pub struct AudioStreamOptions {
    /// Samples a second, in each channel. Default: 48,000. 8, 12, 16, 24 and 48 kHz cost no resampling.
    pub sample_rate: u32,
    /// 1 or 2. Default: 1. Opus mixes one into the other.
    pub channels: u16,
    /// How long each frame is. Default: 20 ms.
    pub frame: Duration,
    /// How much waits for a slow reader at most; then the oldest is dropped. Default: 1 s.
    pub queue: Duration,
}

impl Default for AudioStreamOptions {
    fn default() -> Self {
        let (frame, queue) = (Duration::from_millis(20), Duration::from_secs(1));
        Self { sample_rate: 48_000, channels: 1, frame, queue }
    }
}

#[derive(Debug)]
struct Queue {
    samples: VecDeque<i16>,
    dropped: u64,
    ended: bool,
    wanted: bool,
    waiting: Option<Waker>,
}

/// The sound of one track, in frames of one length: from the first packet on without a gap, a lost packet guessed, a
/// muted track silent. Dropped, the track is not decoded any more.
#[derive(Debug)]
pub struct AudioStream {
    sample_rate: u32,
    channels: u16,
    /// Samples in a frame.
    frame: usize,
    queue: Arc<Mutex<Queue>>,
}

/// The engine's end of a stream. Dropped, the stream ends.
#[derive(Debug)]
pub(crate) struct Attached {
    sample_rate: u32,
    channels: u16,
    /// The most samples that wait.
    most: usize,
    queue: Arc<Mutex<Queue>>,
}

impl AudioStream {
    pub(crate) fn new(options: &AudioStreamOptions) -> Result<(Self, Attached), AudioError> {
        let AudioStreamOptions { sample_rate, channels, frame, queue } = *options;
        check(sample_rate, channels)?;
        let samples = |duration: Duration| {
            let moments = u128::from(sample_rate) * duration.as_micros() / 1_000_000;
            usize::try_from(moments).unwrap_or(usize::MAX).max(1).saturating_mul(usize::from(channels))
        };
        let (frame, most) = (samples(frame), samples(queue));
        let queue = Arc::new(Mutex::new(Queue {
            samples: VecDeque::new(),
            dropped: 0,
            ended: false,
            wanted: true,
            waiting: None,
        }));
        let attached = Attached { sample_rate, channels, most: most.max(frame), queue: Arc::clone(&queue) };
        Ok((Self { sample_rate, channels, frame, queue }, attached))
    }

    /// The next frame; `None` once the track is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<AudioFrame> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Samples that were dropped, in all channels, since the reader was slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.queue).dropped
    }
}

impl Stream for AudioStream {
    type Item = AudioFrame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<AudioFrame>> {
        let mut queue = lock(&self.queue);
        if queue.samples.len() >= self.frame {
            let samples = queue.samples.drain(..self.frame).collect();
            return Poll::Ready(Some(AudioFrame {
                samples,
                sample_rate: self.sample_rate,
                channels: self.channels,
            }));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for AudioStream {
    fn drop(&mut self) {
        lock(&self.queue).wanted = false;
    }
}

impl Attached {
    pub(crate) fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    pub(crate) fn channels(&self) -> u16 {
        self.channels
    }

    /// Whether anybody listens.
    pub(crate) fn is_wanted(&self) -> bool {
        lock(&self.queue).wanted
    }

    pub(crate) fn push(&self, samples: &[i16]) {
        let mut queue = lock(&self.queue);
        queue.samples.extend(samples);
        let over = queue.samples.len().saturating_sub(self.most);
        // Whole moments: a channel must not become the other.
        let over = over.next_multiple_of(usize::from(self.channels)).min(queue.samples.len());
        queue.samples.drain(..over);
        queue.dropped += over as u64;
        if let Some(waiting) = queue.waiting.take() {
            waiting.wake();
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.ended = true;
        if let Some(waiting) = queue.waiting.take() {
            waiting.wake();
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Every section leaves whole samples.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
