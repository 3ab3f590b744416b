//! Which timers are armed, and which is due next.
//!
//! Owns instants. Refuses durations: the core's are in [`DispatcherTimer::wait`], a room's in its request.

use std::collections::{BTreeMap, BTreeSet};

use last_call_proto::DispatcherTimer;
use tokio::time::Instant;

/// Why the server would wake although nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// A dispatcher's timer.
    Core(DispatcherTimer),
    /// Whether this room is still empty.
    Room(String),
}

/// Armed alarms by name and by time.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    due: BTreeMap<Alarm, Instant>,
    order: BTreeSet<(Instant, Alarm)>,
}

impl Alarms {
    pub(crate) fn arm(&mut self, alarm: Alarm, at: Instant) {
        self.disarm(&alarm);
        self.due.insert(alarm.clone(), at);
        self.order.insert((at, alarm));
    }

    pub(crate) fn disarm(&mut self, alarm: &Alarm) {
        if let Some((alarm, at)) = self.due.remove_entry(alarm) {
            self.order.remove(&(at, alarm));
        }
    }

    /// When the first is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Disarms and returns the first that is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Alarm> {
        self.first().filter(|at| *at <= now)?;
        let (_, alarm) = self.order.pop_first()?;
        self.due.remove(&alarm);
        Some(alarm)
    }
}
