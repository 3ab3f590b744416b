//! The timers that the core armed, and which is due next; the waits that every loop has.
//!
//! Owns instants. Refuses durations, which [`last_call_proto::Policy`] has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use last_call_proto::Timer;
use tokio::time::{Instant, Interval, MissedTickBehavior};

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
        until(self.order.first().map(|(at, _)| *at)).await;
    }
}

/// Waits for this moment; for ever, if there is none. Cancel safe.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ticks, the first at once; after a tick that came late the next is a whole period later.
pub(crate) fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
