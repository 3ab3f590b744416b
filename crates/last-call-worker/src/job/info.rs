//! What the server says of a job: its type, room and participant.
//!
//! Owns the reading of `livekit.Job`, with nothing in it trusted to be there. Refuses tokens.

use std::collections::HashMap;
use std::fmt;

use livekit_protocol as livekit;

/// What a worker takes jobs for (`livekit.JobType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobType {
    /// One job for each room. The default.
    #[default]
    Room,
    /// One job for each participant that publishes a track.
    Publisher,
    /// One job for each participant that joins.
    Participant,
}

impl JobType {
    /// The name on the wire, as `/worker` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        livekit::JobType::from(self).as_str_name()
    }
}

impl From<JobType> for livekit::JobType {
    fn from(kind: JobType) -> Self {
        match kind {
            JobType::Room => Self::JtRoom,
            JobType::Publisher => Self::JtPublisher,
            JobType::Participant => Self::JtParticipant,
        }
    }
}

/// A job as offered and assigned (`livekit.Job`).
#[derive(Clone, Default)]
pub struct JobInfo {
    id: String,
    dispatch_id: String,
    job_type: JobType,
    room: RoomInfo,
    participant: Option<ParticipantInfo>,
    metadata: String,
    attributes: HashMap<String, String>,
    agent_name: String,
    deployment: String,
}

impl JobInfo {
    /// The job's id ("AJ_…").
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The dispatch that the job comes from ("AD_…").
    #[must_use]
    pub fn dispatch_id(&self) -> &str {
        &self.dispatch_id
    }

    /// What the job is for.
    #[must_use]
    pub fn job_type(&self) -> JobType {
        self.job_type
    }

    /// The room to join.
    #[must_use]
    pub fn room(&self) -> &RoomInfo {
        &self.room
    }

    /// The participant that the job is for; `None` for [`JobType::Room`].
    #[must_use]
    pub fn participant(&self) -> Option<&ParticipantInfo> {
        self.participant.as_ref()
    }

    /// The dispatch's metadata. Personal data.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// The dispatch's attributes. Personal data; empty where the server does not know them.
    #[must_use]
    pub fn attributes(&self) -> &HashMap<String, String> {
        &self.attributes
    }

    /// The agent name that was dispatched; empty for an automatic dispatch.
    #[must_use]
    pub fn agent_name(&self) -> &str {
        &self.agent_name
    }

    /// The deployment that was dispatched; empty is the default one.
    #[must_use]
    pub fn deployment(&self) -> &str {
        &self.deployment
    }
}

impl From<livekit::Job> for JobInfo {
    fn from(job: livekit::Job) -> Self {
        let job_type = match job.r#type() {
            livekit::JobType::JtRoom => JobType::Room,
            livekit::JobType::JtPublisher => JobType::Publisher,
            livekit::JobType::JtParticipant => JobType::Participant,
        };
        Self {
            id: job.id,
            dispatch_id: job.dispatch_id,
            job_type,
            room: job.room.map(RoomInfo::from).unwrap_or_default(),
            participant: job.participant.map(ParticipantInfo::from),
            metadata: job.metadata,
            attributes: job.attributes,
            agent_name: job.agent_name,
            deployment: job.deployment,
        }
    }
}

/// All that user code can see of it, for a process that shows it to user code.
impl From<&JobInfo> for livekit::Job {
    fn from(info: &JobInfo) -> Self {
        let RoomInfo { name, sid, metadata, participants } = info.room.clone();
        let room =
            livekit::Room { name, sid, metadata, num_participants: participants, ..Default::default() };
        let participant = info.participant.clone().map(|info| {
            let ParticipantInfo { identity, sid, name, metadata, attributes } = info;
            livekit::ParticipantInfo { identity, sid, name, metadata, attributes, ..Default::default() }
        });
        Self {
            id: info.id.clone(),
            dispatch_id: info.dispatch_id.clone(),
            r#type: livekit::JobType::from(info.job_type).into(),
            room: Some(room),
            participant,
            metadata: info.metadata.clone(),
            attributes: info.attributes.clone(),
            agent_name: info.agent_name.clone(),
            deployment: info.deployment.clone(),
            ..Default::default()
        }
    }
}

impl fmt::Debug for JobInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobInfo")
            .field("id", &self.id)
            .field("job_type", &self.job_type)
            .field("room", &self.room.name)
            .field("metadata_bytes", &self.metadata.len())
            .finish_non_exhaustive()
    }
}

/// A room as it was when the job was offered (`livekit.Room`).
#[derive(Clone, Default)]
pub struct RoomInfo {
    name: String,
    sid: String,
    metadata: String,
    participants: u32,
}

impl RoomInfo {
    /// The room's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The room's id ("RM_…"); empty for `connect`.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The room's metadata. Personal data.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Participants then in the room.
    #[must_use]
    pub fn participants(&self) -> u32 {
        self.participants
    }
}

impl From<livekit::Room> for RoomInfo {
    fn from(room: livekit::Room) -> Self {
        Self { name: room.name, sid: room.sid, metadata: room.metadata, participants: room.num_participants }
    }
}

/// A participant as it was when the job was offered (`livekit.ParticipantInfo`).
#[derive(Clone, Default)]
pub struct ParticipantInfo {
    identity: String,
    sid: String,
    name: String,
    metadata: String,
    attributes: HashMap<String, String>,
}

impl ParticipantInfo {
    /// The participant's identity.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The participant's id ("PA_…").
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The participant's display name. Personal data.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The participant's metadata. Personal data.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// The participant's attributes. Personal data.
    #[must_use]
    pub fn attributes(&self) -> &HashMap<String, String> {
        &self.attributes
    }
}

impl From<livekit::ParticipantInfo> for ParticipantInfo {
    fn from(info: livekit::ParticipantInfo) -> Self {
        Self {
            identity: info.identity,
            sid: info.sid,
            name: info.name,
            metadata: info.metadata,
            attributes: info.attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_is_told_of_a_job_is_all_of_it() {
        let attributes = HashMap::from([("lang".to_owned(), "de".to_owned())]);
        let room = livekit::Room {
            name: "room".into(),
            sid: "RM_1".into(),
            metadata: "of the room".into(),
            num_participants: 3,
            ..Default::default()
        };
        let participant = livekit::ParticipantInfo {
            identity: "caller".into(),
            sid: "PA_1".into(),
            name: "A Caller".into(),
            metadata: "of the caller".into(),
            attributes: attributes.clone(),
            ..Default::default()
        };
        let job = livekit::Job {
            id: "AJ_1".into(),
            dispatch_id: "AD_1".into(),
            r#type: livekit::JobType::JtParticipant.into(),
            room: Some(room),
            participant: Some(participant),
            metadata: "of the job".into(),
            attributes,
            agent_name: "concierge".into(),
            deployment: "blue".into(),
            ..Default::default()
        };
        assert_eq!(livekit::Job::from(&JobInfo::from(job.clone())), job);
        assert!(livekit::Job::from(&JobInfo::default()).participant.is_none());
    }
}
