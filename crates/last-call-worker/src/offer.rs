//! What user code sees of an offer, and what it may say to it.
//!
//! Owns [`JobRequest`] and [`Reply`]. Refuses a way to say nothing: a request handler returns its reply.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::job::JobInfo;

/// A job that the server offers (`livekit.AvailabilityRequest`). Reads as its [`JobInfo`].
#[derive(Clone, Debug)]
pub struct JobRequest(Arc<JobInfo>);

impl JobRequest {
    pub(crate) fn new(info: Arc<JobInfo>) -> Self {
        Self(info)
    }

    /// Take the job, as the participant that the [`Acceptance`] describes.
    #[must_use]
    pub fn accept(&self) -> Acceptance {
        Acceptance { identity: format!("agent-{}", self.id()), ..Acceptance::default() }
    }

    /// Leave the job to the next worker.
    #[must_use]
    pub fn reject(&self) -> Reply {
        Reply::Reject
    }

    /// End the dispatch without an agent: no worker is asked any more.
    #[must_use]
    pub fn terminate(&self) -> Reply {
        Reply::Terminate
    }
}

impl Deref for JobRequest {
    type Target = JobInfo;

    fn deref(&self) -> &JobInfo {
        &self.0
    }
}

/// How the agent will appear in the room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: HashMap<String, String>,
}

impl Acceptance {
    /// The participant identity. Default `agent-` and the job's id.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        self
    }

    /// The display name. Default empty.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The participant's metadata. Default empty.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// One attribute of the participant.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }
}

/// What a request handler says to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Take the job.
    Accept(Acceptance),
    /// Leave the job to the next worker.
    Reject,
    /// End the dispatch without an agent.
    Terminate,
}

impl From<Acceptance> for Reply {
    fn from(acceptance: Acceptance) -> Self {
        Self::Accept(acceptance)
    }
}
