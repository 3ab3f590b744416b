//! Where events go: to whoever follows the stream, and into the history that the page is drawn from.
//!
//! Owns their one order. Refuses to wait for a reader: a slow follower misses events.

mod history;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::event::{Event, What, brief};

pub(crate) use history::{Batch, History, Limits, Tally};

/// Events kept for a follower that is slow; older ones are lost to it.
const EVENTS: usize = 1_024;

/// The way of events. A clone leads to the same followers.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    events: broadcast::Sender<Event>,
    /// None where there is no page.
    history: Option<Arc<Mutex<History>>>,
}

impl Journal {
    pub(crate) fn new(page: bool) -> Self {
        let history = page.then(|| Arc::new(Mutex::new(History::new(Limits::SERVED))));
        Self { events: broadcast::Sender::new(EVENTS), history }
    }

    /// Tells whoever follows; the event is not even made where nobody can.
    pub(crate) fn tell(&self, what: impl FnOnce() -> What) {
        // Held until the event is sent, so that both ways have one order.
        let history = self.history();
        let followed = self.events.receiver_count() > 0;
        if history.is_none() && !followed {
            return;
        }
        let event = Event::now(what());
        if followed {
            // The last follower may have gone meanwhile.
            let _ = self.events.send(event.clone());
        }
        if let Some(mut history) = history {
            history.record(&Arc::new(event));
        }
    }

    /// Everything that happens from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What the page is drawn from, alone.
    pub(crate) fn history(&self) -> Option<MutexGuard<'_, History>> {
        self.history.as_ref().map(|history| history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts remarks among the events of a server: what happened beside it, such as a signal that was sent to a worker.
/// A clone leads to the same server.
#[derive(Clone, Debug)]
pub struct Notes(Journal);

impl Notes {
    pub(crate) fn new(journal: Journal) -> Self {
        Self(journal)
    }

    /// Says it as [`What::Noted`], now: of the worker with this id (`AW_…`), or of all. A text is cut after 512 bytes.
    pub fn say(&self, worker: Option<&str>, text: &str) {
        self.0.tell(|| What::Noted { worker: worker.map(brief), text: brief(text) });
    }
}
