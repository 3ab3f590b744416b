//! Rooms and who is in them: agents, from the assignment of their job to its end.
//!
//! Owns [`Room`] and when one is forgotten. Refuses callers: nobody joins a room here.

use std::time::Duration;

use last_call_proto::JobId;
use livekit::DisconnectReason as Left;
use livekit_protocol as livekit;
use tokio::time::Instant;

use super::Hub;
use super::call::AGENT_LEFT;
use crate::alarms::Alarm;
use crate::event::{What, since_1970};
use crate::id;
use crate::twirp::Problem;
use crate::wire;

/// Rooms at once.
const ROOMS: usize = 10_000;
/// livekit-server's `max_room_name_length`.
const NAME_LIMIT: usize = 256;
/// Seconds that an empty room waits for a first agent.
const EMPTY_FOR: u32 = 300;
/// Seconds that a room stays after its last agent.
const DEPARTED_FOR: u32 = 20;

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) info: livekit::Room,
    /// In the order of their creation.
    pub(super) dispatches: Vec<String>,
}

impl Hub {
    /// Makes a room and dispatches the agents that are asked for, or else those without a name; or finds
    /// the room of this name and leaves it as it is.
    ///
    /// # Errors
    /// When the request makes no sense or there is no place for a room.
    pub(crate) fn create_room(
        &mut self,
        request: livekit::CreateRoomRequest,
    ) -> Result<livekit::Room, Problem> {
        if let Some(room) = self.rooms.get(&request.name) {
            return Ok(room.info.clone());
        }
        self.check_room(&request)?;
        let now = since_1970();
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let info = livekit::Room {
            sid: id::new("RM_"),
            name: request.name,
            empty_timeout: or(request.empty_timeout, EMPTY_FOR),
            departure_timeout: or(request.departure_timeout, DEPARTED_FOR),
            max_participants: request.max_participants,
            creation_time: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            creation_time_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            metadata: request.metadata,
            ..Default::default()
        };
        self.outlets.tell(|| What::RoomStarted { room: info.name.clone() });
        self.outlets.hook("room_started", &info, None);
        let closes = Instant::now() + Duration::from_secs(info.empty_timeout.into());
        self.alarms.arm(Alarm::Room(info.name.clone()), closes);
        self.rooms.insert(info.name.clone(), Room { info: info.clone(), dispatches: Vec::new() });
        let mut agents = request.agents;
        if agents.is_empty() {
            agents.push(livekit::RoomAgentDispatch::default());
        }
        for agent in agents {
            self.dispatch(livekit::AgentDispatch {
                agent_name: agent.agent_name,
                room: info.name.clone(),
                metadata: agent.metadata,
                restart_policy: agent.restart_policy,
                deployment: agent.deployment,
                attributes: agent.attributes,
                ..Default::default()
            });
        }
        self.settle();
        Ok(info)
    }

    fn check_room(&self, request: &livekit::CreateRoomRequest) -> Result<(), Problem> {
        if request.name.is_empty() {
            return Err(Problem::invalid("no room name"));
        }
        if request.name.len() > NAME_LIMIT {
            return Err(Problem::invalid(format!(
                "room name length exceeds limits: max length {NAME_LIMIT}"
            )));
        }
        if self.rooms.len() >= ROOMS {
            return Err(Problem::full(format!("{ROOMS} rooms are there already; delete some")));
        }
        for agent in &request.agents {
            wire::check_deployment(&agent.deployment).map_err(Problem::invalid)?;
        }
        self.check_dispatches(request.agents.len().max(1))
    }

    /// All rooms, or those of these names.
    pub(crate) fn list_rooms(&self, request: &livekit::ListRoomsRequest) -> livekit::ListRoomsResponse {
        let rooms = self.rooms.values().map(|room| &room.info);
        let wanted = |room: &&livekit::Room| request.names.is_empty() || request.names.contains(&room.name);
        livekit::ListRoomsResponse { rooms: rooms.filter(wanted).cloned().collect() }
    }

    /// Ends a room and everything in it.
    ///
    /// # Errors
    /// When there is no such room.
    pub(crate) fn delete_room(&mut self, name: &str) -> Result<livekit::DeleteRoomResponse, Problem> {
        if !self.rooms.contains_key(name) {
            return Err(Problem::missing("requested room does not exist"));
        }
        self.finish_room(name);
        self.settle();
        Ok(livekit::DeleteRoomResponse {})
    }

    /// Ends a room. Jobs still being offered end as soon as they are taken.
    pub(super) fn finish_room(&mut self, name: &str) {
        let Some(dispatches) = self.rooms.get_mut(name).map(|room| std::mem::take(&mut room.dispatches))
        else {
            return;
        };
        for id in dispatches {
            self.drop_dispatch(&id, Left::RoomDeleted, false, AGENT_LEFT);
        }
        self.alarms.disarm(&Alarm::Room(name.to_owned()));
        if let Some(room) = self.rooms.remove(name) {
            self.outlets.tell(|| What::RoomFinished { room: name.to_owned() });
            self.outlets.hook("room_finished", &room.info, None);
        }
    }

    /// The jobs that run in a room, with their participants.
    pub(super) fn agents<'a>(
        &'a self,
        room: &'a Room,
    ) -> impl Iterator<Item = (&'a JobId, &'a livekit::ParticipantInfo)> {
        room.dispatches.iter().filter_map(|dispatch| self.running(dispatch))
    }

    /// Who is in a room. A room that is not there has nobody.
    pub(crate) fn list_participants(&self, room: &str) -> livekit::ListParticipantsResponse {
        let agents = self.rooms.get(room).into_iter().flat_map(|room| self.agents(room));
        let participants = agents.map(|(_, participant)| participant.clone()).collect();
        livekit::ListParticipantsResponse { participants }
    }

    /// One who is in a room.
    ///
    /// # Errors
    /// When nobody of this identity is.
    pub(crate) fn get_participant(
        &self,
        request: &livekit::RoomParticipantIdentity,
    ) -> Result<livekit::ParticipantInfo, Problem> {
        self.find(request).map(|(_, participant)| participant.clone())
    }

    /// Ends the job of one who is in a room.
    ///
    /// # Errors
    /// When nobody of this identity is.
    pub(crate) fn remove_participant(
        &mut self,
        request: &livekit::RoomParticipantIdentity,
    ) -> Result<livekit::RemoveParticipantResponse, Problem> {
        let job = self.find(request)?.0.clone();
        self.end(&job, Left::ParticipantRemoved, false, AGENT_LEFT);
        self.settle();
        Ok(livekit::RemoveParticipantResponse {})
    }

    fn find(
        &self,
        request: &livekit::RoomParticipantIdentity,
    ) -> Result<(&JobId, &livekit::ParticipantInfo), Problem> {
        let room = self.rooms.get(&request.room);
        let mut agents = room.into_iter().flat_map(|room| self.agents(room));
        let found = agents.find(|(_, participant)| participant.identity == request.identity);
        found.ok_or_else(|| Problem::missing("participant does not exist"))
    }
}
