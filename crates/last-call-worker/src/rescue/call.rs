//! A call as the rescue knows it, and the attribute of its dispatches that says whose call it is.
//!
//! Owns `lc.rescue`. Refuses metadata: what a dispatch was made of is read from the server when it is needed.

use std::collections::{HashMap, VecDeque};

use last_call_proto::{JobId, Lineage};
use livekit_protocol as livekit;
use serde::{Deserialize, Serialize};

/// The attribute of every dispatch that is made here; see docs/rescue.md.
pub(super) const ATTRIBUTE: &str = "lc.rescue";

/// Identities of dead agents that an attribute lists.
const DEAD_AT_MOST: usize = 8;

/// Dispatches that are remembered.
const MADE_AT_MOST: usize = 256;

/// Whose call a dispatch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The call's first dispatch.
    pub(super) first: String,
    /// How often it was dispatched again.
    pub(super) attempt: u8,
    /// Identities of the agents that it has lost, the oldest first.
    pub(super) dead: Vec<String>,
}

impl Mark {
    /// What the attributes of a dispatch, or of its job, say.
    pub(super) fn read(attributes: &HashMap<String, String>) -> Option<Self> {
        let mark: Self = serde_json::from_str(attributes.get(ATTRIBUTE)?).ok()?;
        (!mark.first.is_empty()).then_some(mark)
    }

    pub(super) fn text(&self) -> String {
        serde_json::json!({"first": self.first, "attempt": self.attempt, "dead": self.dead}).to_string()
    }
}

/// A call with its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) job: String,
    pub(super) room: String,
    /// The dispatch that the job is of.
    pub(super) dispatch: String,
    /// The agent's identity.
    pub(super) agent: String,
    /// The job is for a participant.
    #[serde(default)]
    pub(super) targeted: bool,
    pub(super) mark: Mark,
}

impl Call {
    /// The call of this job, whose agent joins as `agent`.
    pub(super) fn of(job: &livekit::Job, agent: &str) -> Self {
        let first = || Mark { first: job.dispatch_id.clone(), attempt: 0, dead: Vec::new() };
        Self {
            job: job.id.clone(),
            room: job.room.as_ref().map(|room| room.name.clone()).unwrap_or_default(),
            dispatch: job.dispatch_id.clone(),
            agent: agent.to_owned(),
            targeted: job.r#type() != livekit::JobType::JtRoom,
            mark: Mark::read(&job.attributes).unwrap_or_else(first),
        }
    }

    pub(super) fn lineage(&self) -> Lineage {
        JobId::from(self.mark.first.as_str())
    }

    /// The agents that it has lost, with this one.
    pub(super) fn dead(&self) -> Vec<String> {
        let mut dead = self.mark.dead.clone();
        dead.push(self.agent.clone());
        dead.split_off(dead.len().saturating_sub(DEAD_AT_MOST))
    }

    /// The mark of the dispatch that replaces this agent's.
    pub(super) fn next(&self, attempt: u8) -> Mark {
        Mark { first: self.mark.first.clone(), attempt, dead: self.dead() }
    }
}

/// Dispatches that were made here, the latest of them: a server may drop attributes.
#[derive(Debug, Default)]
pub(super) struct Made(VecDeque<(String, Mark)>);

impl Made {
    pub(super) fn add(&mut self, dispatch: String, mark: Mark) {
        self.0.push_back((dispatch, mark));
        if self.0.len() > MADE_AT_MOST {
            self.0.pop_front();
        }
    }

    pub(super) fn mark(&self, dispatch: &str) -> Option<&Mark> {
        self.0.iter().find(|(id, _)| id == dispatch).map(|(_, mark)| mark)
    }
}
