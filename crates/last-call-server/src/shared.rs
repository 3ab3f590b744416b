//! The hub, shared by the tasks that serve sockets, and the task that keeps its time.
//!
//! Owns the lock. Refuses to hold it across a wait.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Keys;
use crate::hub::Hub;

/// What every task of the server has.
#[derive(Debug)]
pub(crate) struct Shared {
    hub: Mutex<Hub>,
    sooner: Notify,
    /// Whose tokens are let in.
    pub(crate) keys: Keys,
}

impl Shared {
    pub(crate) fn new(hub: Hub, keys: Keys) -> Self {
        Self { hub: Mutex::new(hub), sooner: Notify::new(), keys }
    }

    /// Does something with the hub, alone.
    pub(crate) fn hub<R>(&self, act: impl FnOnce(&mut Hub) -> R) -> R {
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        let before = hub.due();
        let result = act(&mut hub);
        if hub.due().is_some_and(|due| before.is_none_or(|before| due < before)) {
            self.sooner.notify_one();
        }
        result
    }

    /// Wakes the hub whenever it is due, for ever.
    pub(crate) async fn keep_time(&self) {
        loop {
            match self.hub(|hub| hub.due()) {
                None => self.sooner.notified().await,
                Some(due) => tokio::select! {
                    () = self.sooner.notified() => {}
                    () = tokio::time::sleep_until(due) => self.hub(|hub| hub.wake(Instant::now())),
                },
            }
        }
    }
}
