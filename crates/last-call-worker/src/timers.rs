//! The timers that the core armed, and which is due next.
//!
//! Owns instants. Refuses durations, which [`last_call_proto::Policy`] has.

use std::collections::{BTreeMap, BTreeSet};

use last_call_proto::Timer;
use tokio::time::Instant;

/// Armed timers by name and by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        self.disarm(&timer);
        self.due.insert(timer.clone(), at);
        self.order.insert((at, timer));
    }

    pub(crate) fn disarm(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.due.remove_entry(timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// When `timer` fires, if it is armed.
    pub(crate) fn at(&self, timer: &Timer) -> Option<Instant> {
        self.due.get(timer).copied()
    }

    /// Disarms and returns the first timer that is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// Waits until the first timer is due; for ever if none is armed. Cancel safe.
    pub(crate) async fn next(&self) {
        match self.order.first() {
            Some((at, _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }
}
