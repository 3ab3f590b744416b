//! Dispatches: a room's wishes for agents, and the jobs that came of them.
//!
//! Owns [`Dispatch`]. Refuses to offer one again that was lost: livekit-server does not either.

use last_call_proto::{DispatcherInput, JobId};
use livekit::DisconnectReason as Left;
use livekit_protocol as livekit;

use super::Hub;
use super::call::{Call, Stage, nanos};
use crate::event::{What, brief};
use crate::id;
use crate::twirp::Problem;
use crate::wire;

/// Dispatches remembered at once, over all rooms.
const DISPATCHES: usize = 50_000;

/// A room's wish for an agent.
#[derive(Debug)]
pub(super) struct Dispatch {
    info: livekit::AgentDispatch,
    /// Its job, once a worker took or terminated it.
    job: Option<JobId>,
}

impl Hub {
    /// Makes a room where there is none, and asks for an agent in it. Workers are asked at once, but their
    /// answers come later: no worker is no error.
    ///
    /// # Errors
    /// When the request makes no sense or there is no room for it.
    pub(crate) fn create_dispatch(
        &mut self,
        request: livekit::CreateAgentDispatchRequest,
    ) -> Result<livekit::AgentDispatch, Problem> {
        wire::check_deployment(&request.deployment).map_err(Problem::invalid)?;
        self.check_dispatches(2)?;
        self.create_room(livekit::CreateRoomRequest { name: request.room.clone(), ..Default::default() })?;
        let info = self.dispatch(livekit::AgentDispatch {
            agent_name: request.agent_name,
            room: request.room,
            metadata: request.metadata,
            restart_policy: request.restart_policy,
            deployment: request.deployment,
            attributes: request.attributes,
            ..Default::default()
        });
        self.settle();
        Ok(info)
    }

    /// Whether as many more fit.
    pub(super) fn check_dispatches(&self, more: usize) -> Result<(), Problem> {
        if self.dispatches.len().saturating_add(more) > DISPATCHES {
            return Err(Problem::full(format!("{DISPATCHES} dispatches are there already; delete rooms")));
        }
        Ok(())
    }

    /// Remembers a dispatch of a room that is there, and has its job offered.
    pub(super) fn dispatch(&mut self, wish: livekit::AgentDispatch) -> livekit::AgentDispatch {
        let state = livekit::AgentDispatchState { created_at: nanos(), ..Default::default() };
        let info = livekit::AgentDispatch { id: id::new("AD_"), state: Some(state), ..wish };
        let Some(room) = self.rooms.get_mut(&info.room) else { return info };
        room.dispatches.push(info.id.clone());
        self.outlets.tell(|| What::DispatchCreated {
            dispatch: info.id.clone(),
            room: info.room.clone(),
            agent_name: brief(&info.agent_name),
        });
        let job = livekit::Job {
            id: id::new("AJ_"),
            dispatch_id: info.id.clone(),
            r#type: livekit::JobType::JtRoom.into(),
            room: Some(room.info.clone()),
            metadata: info.metadata.clone(),
            agent_name: info.agent_name.clone(),
            deployment: info.deployment.clone(),
            attributes: info.attributes.clone(),
            ..Default::default()
        };
        let id = JobId::from(job.id.as_str());
        let call = Call::new(job);
        self.dispatches.insert(info.id.clone(), Dispatch { info: info.clone(), job: None });
        self.feed(call.place(), DispatcherInput::Dispatch(id.clone()));
        self.calls.insert(id, call);
        info
    }

    /// A room's dispatches, or the one that is asked for, with the jobs that workers took.
    ///
    /// # Errors
    /// When there is no such room.
    pub(crate) fn list_dispatch(
        &self,
        request: &livekit::ListAgentDispatchRequest,
    ) -> Result<livekit::ListAgentDispatchResponse, Problem> {
        let room = self.rooms.get(&request.room).ok_or_else(Problem::nobody_answers)?;
        let wanted = |id: &&String| request.dispatch_id.is_empty() || **id == request.dispatch_id;
        let listed = room.dispatches.iter().filter(wanted).filter_map(|id| self.dispatches.get(id));
        Ok(livekit::ListAgentDispatchResponse {
            agent_dispatches: listed.map(|dispatch| self.shown(dispatch)).collect(),
        })
    }

    /// Forgets a dispatch and ends its job; one that is still being offered ends as soon as it is taken.
    ///
    /// # Errors
    /// When there is no such room or dispatch.
    pub(crate) fn delete_dispatch(
        &mut self,
        request: &livekit::DeleteAgentDispatchRequest,
    ) -> Result<livekit::AgentDispatch, Problem> {
        let room = self.rooms.get_mut(&request.room).ok_or_else(Problem::nobody_answers)?;
        let count = room.dispatches.len();
        room.dispatches.retain(|id| *id != request.dispatch_id);
        if room.dispatches.len() == count {
            return Err(Problem::missing("dispatch ID not found"));
        }
        let dispatch = self.dispatches.get(&request.dispatch_id).map(|dispatch| self.shown(dispatch));
        self.drop_dispatch(&request.dispatch_id, Left::ParticipantRemoved, true, "");
        self.settle();
        dispatch.ok_or_else(|| Problem::missing("dispatch ID not found"))
    }

    /// Forgets a dispatch that its room no longer names.
    pub(super) fn drop_dispatch(&mut self, id: &str, left: Left, success: bool, error: &str) {
        let Some(job) = self.dispatches.remove(id).and_then(|dispatch| dispatch.job) else { return };
        if self.calls.get(&job).is_some_and(|call| matches!(call.stage, Stage::Over)) {
            self.calls.remove(&job);
        } else {
            self.end(&job, left, success, error);
        }
    }

    /// Adds a job to its dispatch; false where that is deleted.
    pub(super) fn list(&mut self, job: &JobId) -> bool {
        let dispatch = self.calls.get(job).and_then(|call| self.dispatches.get_mut(&call.job.dispatch_id));
        dispatch.map(|dispatch| dispatch.job = Some(job.clone())).is_some()
    }

    /// The job of a dispatch that its room names, while it runs.
    pub(super) fn running(&self, dispatch: &str) -> Option<(&JobId, &livekit::ParticipantInfo)> {
        let job = self.dispatches.get(dispatch)?.job.as_ref()?;
        Some((job, self.calls.get(job)?.participant()?))
    }

    fn shown(&self, dispatch: &Dispatch) -> livekit::AgentDispatch {
        let mut info = dispatch.info.clone();
        let job = dispatch.job.as_ref().and_then(|job| self.calls.get(job));
        if let Some((state, call)) = info.state.as_mut().zip(job) {
            state.jobs.push(call.job.clone());
        }
        info
    }
}
