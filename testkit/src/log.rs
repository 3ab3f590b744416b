//! Owns an append-only record that threads wait on. Refuses removal: whoever waits may look from any earlier point.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Entries in the order of their arrival, and whether more can come.
#[derive(Debug)]
pub(crate) struct Log<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    entries: Vec<T>,
    writers: usize,
}

impl<T> Log<T> {
    /// An empty log that `writers` sources feed; once each has called [`Log::end`], nobody waits any longer.
    pub(crate) fn new(writers: usize) -> Self {
        Self { state: Mutex::new(State { entries: Vec::new(), writers }), changed: Condvar::new() }
    }

    /// A panicking test thread must still see the log, so poison is passed over.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, entry: T) {
        self.lock().entries.push(entry);
        self.changed.notify_all();
    }

    /// One source will write no more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.writers = state.writers.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Shows each entry from `from` on to `seek`, once, as it arrives, until it returns something; `None` at `timeout`, or when
    /// every source has ended.
    pub(crate) fn wait<R>(
        &self,
        from: usize,
        timeout: Duration,
        mut seek: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + timeout;
        let mut next = from;
        let mut state = self.lock();
        loop {
            while let Some(entry) = state.entries.get(next) {
                next += 1;
                if let Some(found) = seek(entry) {
                    return Some(found);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.writers == 0 {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until every source has ended, at most `timeout`.
    pub(crate) fn wait_end(&self, timeout: Duration) {
        self.wait(usize::MAX, timeout, |_| None::<()>);
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn entries(&self, from: usize) -> Vec<T> {
        self.lock().entries.get(from..).map(<[T]>::to_vec).unwrap_or_default()
    }
}
