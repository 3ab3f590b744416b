//! Owns what an agent speaks into: a bounded queue of samples, filled by the agent and emptied by the engine. Refuses to
//! encode.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{AudioError, AudioFrame};
use crate::bell::Bell;

/// How much waits to be sent at most, if nothing else is said.
const QUEUE: Duration = Duration::from_secs(1);

/// Something to speak into: published as a track by [`Room::publish_audio`](crate::Room::publish_audio). Cheap to clone;
/// every clone is the same source.
#[derive(Clone, Debug)]
pub struct AudioSource {
    sample_rate: u32,
    channels: u16,
    /// The most samples that wait.
    most: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    samples: VecDeque<i16>,
    waiting: Vec<Waker>,
    /// Something was said.
    bell: Bell,
}

impl AudioSource {
    /// A source whose queue holds a second. 8, 12, 16, 24 and 48 kHz cost no resampling.
    #[must_use]
    pub fn new(sample_rate: u32, channels: u16) -> Self {
        Self::with_queue(sample_rate, channels, QUEUE)
    }

    /// A source whose queue holds as much as this: what [`AudioSource::clear`] takes back is never more.
    #[must_use]
    pub fn with_queue(sample_rate: u32, channels: u16, queue: Duration) -> Self {
        let moments = u64::from(sample_rate).saturating_mul(queue.as_millis() as u64) / 1000;
        let most = usize::try_from(moments).unwrap_or(usize::MAX).saturating_mul(usize::from(channels));
        Self { sample_rate, channels, most, queue: Arc::default() }
    }

    /// Samples a second, in each channel.
    #[must_use]
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// 1 or 2.
    #[must_use]
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Speaks `frame`, after what waits; returns when the queue has it, which may be before anybody hears it. Waits while
    /// the queue is full, for ever if the source is not published. Cancel safe: all of the frame is queued, or nothing.
    ///
    /// # Errors
    /// A frame of another rate, or of another count of channels.
    pub async fn capture(&self, frame: &AudioFrame) -> Result<(), AudioError> {
        if (frame.sample_rate, frame.channels) != (self.sample_rate, self.channels) {
            return Err(AudioError::Format {
                given: frame.sample_rate,
                given_channels: frame.channels,
                wanted: self.sample_rate,
                channels: self.channels,
            });
        }
        poll_fn(|context| {
            let mut queue = self.lock();
            // A frame that is larger than the queue goes when it is empty.
            if !queue.samples.is_empty() && queue.samples.len() + frame.samples.len() > self.most {
                queue.wait(context.waker());
                return Poll::Pending;
            }
            queue.samples.extend(&frame.samples);
            queue.bell.ring();
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Takes back everything that waits: the agent was interrupted.
    pub fn clear(&self) {
        let mut queue = self.lock();
        queue.samples.clear();
        queue.wake();
    }

    /// How much waits to be sent.
    #[must_use]
    pub fn queued(&self) -> Duration {
        let moments = self.lock().samples.len() as u64 / u64::from(self.channels.max(1));
        Duration::from_nanos(moments * 1_000_000_000 / u64::from(self.sample_rate.max(1)))
    }

    /// Waits until everything that was queued is sent, or taken back. For ever if the source is not published, and
    /// something waits. Cancel safe.
    pub async fn wait_for_playout(&self) {
        poll_fn(|context| {
            let mut queue = self.lock();
            if queue.samples.is_empty() {
                return Poll::Ready(());
            }
            queue.wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Everything that waits, once anything does. Cancel safe.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn spoken(&self) -> Vec<i16> {
        poll_fn(|context| {
            let mut queue = self.lock();
            if queue.samples.is_empty() {
                queue.bell.wait(context);
                return Poll::Pending;
            }
            let samples = queue.samples.drain(..).collect();
            queue.wake();
            Poll::Ready(samples)
        })
        .await
    }

    /// The next 20 ms; the last of what waits is filled up with silence. False if nothing waits.
    pub(super) fn take(&self, into: &mut Vec<i16>) -> bool {
        let length = self.sample_rate as usize / 50 * usize::from(self.channels);
        into.clear();
        let mut queue = self.lock();
        if queue.samples.is_empty() {
            return false;
        }
        let there = length.min(queue.samples.len());
        into.extend(queue.samples.drain(..there));
        into.resize(length, 0);
        queue.wake();
        true
    }

    /// Whether something was said since this was asked last; wakes when there is.
    pub(super) fn poll_captured(&self, context: &Context<'_>) -> Poll<()> {
        self.lock().bell.poll(context)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every section leaves whole samples.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}
