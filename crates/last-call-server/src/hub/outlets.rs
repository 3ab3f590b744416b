//! Where the hub says what happened: the event stream and the webhooks.
//!
//! Owns the queues of webhooks. Refuses to wait for a reader: a slow receiver has its queue cut.

use std::sync::Arc;

use livekit_protocol as livekit;
use tokio::sync::mpsc;

use crate::event::{What, since_1970};
use crate::id;
use crate::journal::Journal;

/// The ways out.
#[derive(Debug)]
pub(crate) struct Outlets {
    /// Followers of events, and the page.
    pub(crate) journal: Journal,
    /// One queue for each receiver of webhooks.
    pub(crate) webhooks: Vec<mpsc::Sender<Arc<livekit::WebhookEvent>>>,
}

impl Outlets {
    /// Tells whoever follows.
    pub(super) fn tell(&self, what: impl FnOnce() -> What) {
        self.journal.tell(what);
    }

    /// Queues a webhook.
    pub(super) fn hook(
        &self,
        event: &str,
        room: &livekit::Room,
        participant: Option<&livekit::ParticipantInfo>,
    ) {
        if self.webhooks.is_empty() {
            return;
        }
        let event = Arc::new(livekit::WebhookEvent {
            event: event.to_owned(),
            room: Some(room.clone()),
            participant: participant.cloned(),
            id: id::new("EV_"),
            created_at: i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX),
            ..Default::default()
        });
        for queue in &self.webhooks {
            if queue.try_send(Arc::clone(&event)).is_err() {
                tracing::warn!(event = event.event, "the queue of a webhook is full: dropped");
            }
        }
    }
}
