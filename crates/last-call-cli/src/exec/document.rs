//! What a program is told of its job: the document on file descriptor 3.
//!
//! Owns its shape, which docs/exec.md has for people. Refuses to drop or rename a field: programs of other people
//! read it.

use std::collections::HashMap;

use last_call_worker::{JobContext, JobInfo, ParticipantInfo, RoomInfo};
use serde::Serialize;

/// The version of the contract.
const VERSION: u32 = 1;

/// The whole document.
#[derive(Serialize)]
pub(super) struct Document<'j> {
    version: u32,
    url: &'j str,
    token: &'j str,
    identity: &'j str,
    worker_id: &'j str,
    job: Job<'j>,
}

/// A job, without secrets.
#[derive(Serialize)]
pub(super) struct Job<'j> {
    id: &'j str,
    dispatch_id: &'j str,
    #[serde(rename = "type")]
    kind: &'static str,
    room: Room<'j>,
    participant: Option<Participant<'j>>,
    metadata: &'j str,
    attributes: &'j HashMap<String, String>,
    agent_name: &'j str,
    deployment: &'j str,
}

#[derive(Serialize)]
struct Room<'j> {
    name: &'j str,
    sid: &'j str,
    metadata: &'j str,
    participants: u32,
}

#[derive(Serialize)]
struct Participant<'j> {
    identity: &'j str,
    sid: &'j str,
    name: &'j str,
    metadata: &'j str,
    attributes: &'j HashMap<String, String>,
}

impl<'j> Document<'j> {
    pub(super) fn of(job: &'j JobContext) -> Self {
        Self {
            version: VERSION,
            url: job.url(),
            token: job.token(),
            identity: job.identity(),
            worker_id: job.worker_id(),
            job: Job::of(job.info()),
        }
    }
}

impl<'j> Job<'j> {
    pub(super) fn of(info: &'j JobInfo) -> Self {
        Self {
            id: info.id(),
            dispatch_id: info.dispatch_id(),
            kind: info.job_type().as_str(),
            room: Room::of(info.room()),
            participant: info.participant().map(Participant::of),
            metadata: info.metadata(),
            attributes: info.attributes(),
            agent_name: info.agent_name(),
            deployment: info.deployment(),
        }
    }
}

impl<'j> Room<'j> {
    fn of(room: &'j RoomInfo) -> Self {
        Self {
            name: room.name(),
            sid: room.sid(),
            metadata: room.metadata(),
            participants: room.participants(),
        }
    }
}

impl<'j> Participant<'j> {
    fn of(participant: &'j ParticipantInfo) -> Self {
        Self {
            identity: participant.identity(),
            sid: participant.sid(),
            name: participant.name(),
            metadata: participant.metadata(),
            attributes: participant.attributes(),
        }
    }
}

/// The line, or document, of something that has no reason not to be JSON.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("texts, numbers and maps with texts as keys");
    text.push(b'\n');
    text
}
