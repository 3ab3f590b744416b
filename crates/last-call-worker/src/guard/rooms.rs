//! The look into rooms, for calls whose worker says nothing of their end.
//!
//! Owns which calls are looked after, and whose agent was seen. Refuses to judge an agent that was never in its room:
//! it may be on its way, or need no room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use last_call_proto::JobId;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::api::Api;

/// Between two looks, while nothing else calls for one.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The calls that are looked after.
pub(super) struct Rooms {
    api: Api,
    /// Where the requests are made: not beside the link.
    elsewhere: Handle,
    calls: BTreeMap<JobId, (String, String)>,
    seen: BTreeSet<JobId>,
    looking: bool,
    looks: (mpsc::UnboundedSender<Look>, mpsc::UnboundedReceiver<Look>),
}

/// Whose agent is there, and whose is not; nothing of one that could not be asked about.
type Look = Vec<(JobId, bool)>;

impl Rooms {
    pub(super) fn new(api: Api, elsewhere: Handle) -> Self {
        Self {
            api,
            elsewhere,
            calls: BTreeMap::new(),
            seen: BTreeSet::new(),
            looking: false,
            looks: mpsc::unbounded_channel(),
        }
    }

    /// Looks after this call from now on.
    pub(super) fn begin(&mut self, job: JobId, room: &str, agent: &str) {
        self.calls.insert(job, (room.to_owned(), agent.to_owned()));
    }

    /// No more after this one.
    pub(super) fn end(&mut self, job: &JobId) {
        self.calls.remove(job);
        self.seen.remove(job);
    }

    /// Asks about every call; one look at a time.
    pub(super) fn look(&mut self) {
        if self.looking || self.calls.is_empty() {
            return;
        }
        self.looking = true;
        let (api, calls, tell) = (self.api.clone(), self.calls.clone(), self.looks.0.clone());
        self.elsewhere.spawn(async move {
            let mut look = Look::new();
            for (job, (room, agent)) in calls {
                match api.agent_is_there(&room, &agent).await {
                    Ok(there) => look.push((job, there)),
                    Err(error) => tracing::debug!(%error, "the room of a call cannot be looked at"),
                }
            }
            // Nobody waits for it when guard has left.
            let _ = tell.send(look);
        });
    }

    /// The calls whose agent was in the room and has gone, by the next look. Cancel safe.
    pub(super) async fn gone(&mut self) -> Vec<JobId> {
        let Some(look) = self.looks.1.recv().await else { return std::future::pending().await };
        self.looking = false;
        let mut gone = Vec::new();
        for (job, there) in look {
            if !self.calls.contains_key(&job) {
                continue;
            }
            if there {
                self.seen.insert(job);
            } else if self.seen.contains(&job) {
                self.end(&job);
                gone.push(job);
            }
        }
        gone
    }
}
