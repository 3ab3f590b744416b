//! Jobs, from the offer to the end: what the dispatcher decides by id is here written out and remembered.
//!
//! Owns [`Call`]. Refuses to change what a list shows once a job is assigned: livekit-server's lists do not
//! follow a job either.

use std::sync::Arc;
use std::time::Duration;

use last_call_proto::{ConnId, DispatcherEvent, DispatcherInput, JobId, Report};
use livekit::DisconnectReason as Left;
use livekit::server_message::Message as Down;
use livekit_protocol as livekit;
use tokio::time::Instant;

use super::{Hub, Key, Place};
use crate::access;
use crate::alarms::Alarm;
use crate::event::{What, brief, since_1970};
use crate::id;

/// What livekit-server calls a job whose agent is gone.
pub(super) const AGENT_LEFT: &str = "agent worker left the room";

/// A job, from its dispatch until its room is forgotten.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) job: livekit::Job,
    pub(super) stage: Stage,
    group: Arc<Key>,
}

/// How far a job is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Workers are asked.
    Asked,
    /// A worker has it: the participant that its agent is.
    Running(Box<livekit::ParticipantInfo>),
    /// It ended, or its worker is gone.
    Over,
}

impl Call {
    pub(super) fn new(job: livekit::Job) -> Self {
        let group = Arc::new(Key {
            agent_name: job.agent_name.clone(),
            deployment: job.deployment.clone(),
            job_type: job.r#type,
        });
        Self { job, stage: Stage::Asked, group }
    }

    pub(super) fn place(&self) -> Place {
        Place::Group(Arc::clone(&self.group))
    }

    /// The participant, while the job runs.
    pub(super) fn participant(&self) -> Option<&livekit::ParticipantInfo> {
        match &self.stage {
            Stage::Running(participant) => Some(participant),
            Stage::Asked | Stage::Over => None,
        }
    }

    fn room(&self) -> &str {
        self.job.room.as_ref().map(|room| room.name.as_str()).unwrap_or_default()
    }

    fn worker(&self) -> String {
        self.job.state.as_ref().map(|state| state.worker_id.clone()).unwrap_or_default()
    }
}

/// Nanoseconds since 1970, as a job's state counts.
pub(super) fn nanos() -> i64 {
    i64::try_from(since_1970().as_nanos()).unwrap_or(i64::MAX)
}

impl Hub {
    pub(super) fn offer(&mut self, job: &JobId, conn: ConnId) -> Option<Down> {
        let worker = self.connections.get(&conn)?.id().to_owned();
        let call = self.calls.get_mut(job)?;
        self.outlets.tell(|| What::Offered {
            job: job.to_string(),
            dispatch: call.job.dispatch_id.clone(),
            room: call.room().to_owned(),
            worker: worker.clone(),
        });
        let now = nanos();
        call.job.state = Some(livekit::JobState {
            status: livekit::JobStatus::JsRunning.into(),
            started_at: now,
            updated_at: now,
            worker_id: worker,
            ..Default::default()
        });
        Some(Down::Availability(livekit::AvailabilityRequest {
            job: Some(call.job.clone()),
            resuming: false,
        }))
    }

    /// Makes a participant of the answer under way, and the token by which it joins.
    pub(super) fn assignment(&mut self, job: &JobId, conn: ConnId) -> Option<Down> {
        let answer = self.answer.take()?;
        let permission = self.connections.get(&conn)?.permission().clone();
        let call = self.calls.get_mut(job)?;
        let now = since_1970();
        let participant = livekit::ParticipantInfo {
            sid: id::new("PA_"),
            identity: answer.participant_identity,
            name: answer.participant_name,
            metadata: answer.participant_metadata,
            attributes: access::attributes(answer.participant_attributes, &call.group.agent_name),
            state: livekit::participant_info::State::Active.into(),
            kind: livekit::participant_info::Kind::Agent.into(),
            joined_at: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            joined_at_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            permission: Some(permission),
            ..Default::default()
        };
        if let Some(state) = &mut call.job.state {
            state.participant_identity.clone_from(&participant.identity);
        }
        let keys = self.elsewhere.as_ref().map_or(&self.keys, |rooms| &rooms.keys);
        let token = access::join_token(keys, call.room(), &participant);
        let token = token.inspect_err(|error| tracing::warn!(%job, %error, "no token for an agent"));
        call.stage = Stage::Running(Box::new(participant));
        let Ok(token) = token else {
            // Without a token the worker could do nothing: the job ends before it begins.
            self.list(job);
            self.end(job, Left::JoinFailure, false, "no token for the agent: its identity or room is empty");
            return None;
        };
        let url = self.elsewhere.as_ref().map(|rooms| rooms.url.clone());
        Some(Down::Assignment(livekit::JobAssignment { job: Some(call.job.clone()), url, token }))
    }

    /// What became of a job.
    pub(super) fn happened(&mut self, event: DispatcherEvent) {
        match event {
            DispatcherEvent::Assigned(job, _) => self.assigned(&job),
            DispatcherEvent::Terminated(job) => {
                if let Some(call) = self.calls.get_mut(&job) {
                    call.stage = Stage::Over;
                    if let Some(state) = &mut call.job.state {
                        state.status = livekit::JobStatus::JsSuccess.into();
                        state.ended_at = state.started_at;
                    }
                }
                if !self.list(&job) {
                    self.calls.remove(&job);
                }
            }
            DispatcherEvent::Unserved(job) => {
                self.lost(&job, |job, dispatch, room| What::Unserved { job, dispatch, room })
            }
            DispatcherEvent::Unanswered(job) => {
                self.lost(&job, |job, dispatch, room| What::Unanswered { job, dispatch, room })
            }
            DispatcherEvent::Reported(job, Report::Running) => {
                let Some(call) = self.calls.get(&job) else { return };
                self.outlets.tell(|| What::JobRunning { job: job.to_string(), worker: call.worker() });
            }
            DispatcherEvent::Reported(job, Report::Success) => {
                self.ended(&job, Left::ClientInitiated, true, "")
            }
            DispatcherEvent::Reported(job, Report::Failed(error)) => {
                self.ended(&job, Left::ClientInitiated, false, &error);
            }
            DispatcherEvent::Orphaned(job) => {
                let Some(call) = self.calls.get(&job) else { return };
                self.outlets.tell(|| What::JobOrphaned {
                    job: job.to_string(),
                    worker: call.worker(),
                    dispatch: call.job.dispatch_id.clone(),
                    room: call.room().to_owned(),
                });
                self.leave(&job, Left::ConnectionTimeout);
            }
        }
    }

    fn assigned(&mut self, job: &JobId) {
        let Some(call) = self.calls.get(job) else { return };
        let Some(participant) = call.participant() else { return };
        self.outlets.tell(|| What::Assigned {
            job: job.to_string(),
            dispatch: call.job.dispatch_id.clone(),
            room: call.room().to_owned(),
            worker: call.worker(),
            identity: brief(&participant.identity),
        });
        let Some(room) = self.rooms.get(call.room()) else {
            return self.end(job, Left::RoomDeleted, false, AGENT_LEFT);
        };
        self.outlets.hook("participant_joined", &room.info, Some(participant));
        self.alarms.disarm(&Alarm::Room(room.info.name.clone()));
        if !self.list(job) {
            // Its dispatch was deleted while workers were asked.
            self.end(job, Left::ParticipantRemoved, true, "");
        }
    }

    fn lost(&mut self, job: &JobId, what: impl FnOnce(String, String, String) -> What) {
        let Some(call) = self.calls.remove(job) else { return };
        let room = call.room().to_owned();
        self.outlets.tell(|| what(job.to_string(), call.job.dispatch_id, room));
    }

    /// Ends a running job from outside: its worker is told.
    pub(super) fn end(&mut self, job: &JobId, left: Left, success: bool, error: &str) {
        if let Some(call) = self.calls.get(job) {
            self.feed(call.place(), DispatcherInput::Terminate(job.clone()));
            self.ended(job, left, success, error);
        }
    }

    fn ended(&mut self, job: &JobId, left: Left, success: bool, error: &str) {
        let Some(call) = self.calls.get(job) else { return };
        self.outlets.tell(|| What::JobEnded {
            job: job.to_string(),
            worker: call.worker(),
            success,
            error: brief(error),
        });
        self.leave(job, left);
    }

    /// The agent is gone from its room, which may be empty now.
    fn leave(&mut self, job: &JobId, left: Left) {
        let Some(call) = self.calls.get_mut(job) else { return };
        let Stage::Running(mut participant) = std::mem::replace(&mut call.stage, Stage::Over) else { return };
        participant.disconnect_reason = left.into();
        participant.state = livekit::participant_info::State::Disconnected.into();
        let room = call.room().to_owned();
        if !self.dispatches.contains_key(&call.job.dispatch_id) {
            self.calls.remove(job);
        }
        let Some(room) = self.rooms.get(&room) else { return };
        self.outlets.hook("participant_left", &room.info, Some(&participant));
        if self.agents(room).next().is_none() {
            let patience = Duration::from_secs(room.info.departure_timeout.into());
            self.alarms.arm(Alarm::Room(room.info.name.clone()), Instant::now() + patience);
        }
    }
}
