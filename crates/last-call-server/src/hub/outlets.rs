//! Where the hub says what happened: the event stream and the webhooks.
//!
//! Owns both senders. Refuses to wait for a reader: a slow follower misses events, a slow receiver of webhooks
//! has its queue cut.

use std::sync::Arc;

use livekit_protocol as livekit;
use tokio::sync::{broadcast, mpsc};

use crate::event::{Event, What, since_1970};
use crate::id;

/// The ways out.
#[derive(Debug)]
pub(crate) struct Outlets {
    /// Followers of events.
    pub(crate) events: broadcast::Sender<Event>,
    /// One queue for each receiver of webhooks.
    pub(crate) webhooks: Vec<mpsc::Sender<Arc<livekit::WebhookEvent>>>,
}

impl Outlets {
    /// Tells whoever follows; the event is not even made where nobody does.
    pub(super) fn tell(&self, what: impl FnOnce() -> What) {
        if self.events.receiver_count() > 0 {
            // The last follower may have gone meanwhile.
            let _ = self.events.send(Event::now(what()));
        }
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
