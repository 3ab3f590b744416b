//! Owns the jobs that the stub offers. Refuses to be complete: the fields that a worker reads.

use std::collections::HashMap;

use livekit_protocol as proto;
use livekit_protocol::JobType;

/// A job to offer: of type room, unless told otherwise.
#[derive(Clone, Debug)]
pub struct Job(pub(super) proto::Job);

impl Job {
    /// A job with this id, for a room that bears the id too, of the nameless agent.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self(proto::Job {
            dispatch_id: format!("AD_{id}"),
            r#type: JobType::JtRoom as i32,
            room: Some(proto::Room {
                sid: format!("RM_{id}"),
                name: format!("room-{id}"),
                ..Default::default()
            }),
            state: Some(proto::JobState::default()),
            id,
            ..Default::default()
        })
    }

    /// The room's name.
    pub fn room(mut self, name: &str) -> Self {
        self.0.room.get_or_insert_default().name = name.to_owned();
        self
    }

    /// The agent's name in the dispatch.
    pub fn agent(mut self, name: &str) -> Self {
        self.0.agent_name = name.to_owned();
        self
    }

    /// The dispatch's id.
    pub fn dispatch(mut self, id: &str) -> Self {
        self.0.dispatch_id = id.to_owned();
        self
    }

    /// The dispatch's metadata.
    pub fn metadata(mut self, metadata: &str) -> Self {
        self.0.metadata = metadata.to_owned();
        self
    }

    /// One attribute of the dispatch.
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.0.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Makes it a job of type publisher, for this participant.
    pub fn publisher(self, identity: &str) -> Self {
        self.about(JobType::JtPublisher, identity)
    }

    /// Makes it a job of type participant, for this participant.
    pub fn participant(self, identity: &str) -> Self {
        self.about(JobType::JtParticipant, identity)
    }

    fn about(mut self, kind: JobType, identity: &str) -> Self {
        self.0.r#type = kind as i32;
        self.0.participant = Some(proto::ParticipantInfo {
            sid: format!("PA_{identity}"),
            identity: identity.to_owned(),
            attributes: HashMap::new(),
            ..Default::default()
        });
        self
    }

    /// The message as it goes over the wire.
    pub fn into_message(self) -> proto::Job {
        self.0
    }
}
