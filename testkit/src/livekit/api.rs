//! Owns the calls of LiveKit's server API that tests make: Twirp over HTTP, with protobuf bodies. Refuses TLS and retries: the server is
//! on loopback, and a test wants to see the first answer.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message;
use ureq::Agent;

use crate::netns;

/// A call that takes longer has failed; the slowest, deleting a dispatch with a running job, takes 3 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client of one server.
#[derive(Clone)]
pub struct Api {
    url: String,
    key: String,
    secret: String,
    agent: Agent,
    netns: Option<String>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("url", &self.url).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Api {
    /// A client of the server at `url`, which begins with `http://`.
    pub fn new(url: String, key: &str, secret: &str) -> Self {
        let config =
            Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).proxy(None);
        Self {
            url,
            key: key.to_owned(),
            secret: secret.to_owned(),
            agent: config.build().into(),
            netns: None,
        }
    }

    /// The same client, in a network namespace made by `ip netns`.
    pub(super) fn in_netns(self, name: &str) -> Self {
        Self { netns: Some(name.to_owned()), ..self }
    }

    /// Creates a room, or finds the one of this name.
    ///
    /// # Errors
    /// What the server answers; so with every method below.
    pub fn create_room(&self, name: &str) -> Result<proto::Room> {
        let request = proto::CreateRoomRequest { name: name.to_owned(), ..Default::default() };
        self.call("RoomService/CreateRoom", name, &request)
    }

    /// All rooms.
    ///
    /// # Errors
    /// What the server answers.
    pub fn list_rooms(&self) -> Result<Vec<proto::Room>> {
        let response: proto::ListRoomsResponse =
            self.call("RoomService/ListRooms", "", &proto::ListRoomsRequest::default())?;
        Ok(response.rooms)
    }

    /// Ends a room and disconnects everyone in it.
    ///
    /// # Errors
    /// When there is no such room.
    pub fn delete_room(&self, name: &str) -> Result<()> {
        let request = proto::DeleteRoomRequest { room: name.to_owned() };
        self.call("RoomService/DeleteRoom", name, &request).map(|proto::DeleteRoomResponse {}| ())
    }

    /// Everyone in a room, agents too.
    ///
    /// # Errors
    /// When there is no such room.
    pub fn list_participants(&self, room: &str) -> Result<Vec<proto::ParticipantInfo>> {
        let request = proto::ListParticipantsRequest { room: room.to_owned() };
        let response: proto::ListParticipantsResponse =
            self.call("RoomService/ListParticipants", room, &request)?;
        Ok(response.participants)
    }

    /// Disconnects one participant.
    ///
    /// # Errors
    /// When there is no such room or participant.
    pub fn remove_participant(&self, room: &str, identity: &str) -> Result<()> {
        let request = proto::RoomParticipantIdentity {
            room: room.to_owned(),
            identity: identity.to_owned(),
            ..Default::default()
        };
        let done = self.call("RoomService/RemoveParticipant", room, &request);
        done.map(|proto::RemoveParticipantResponse {}| ())
    }

    /// Asks for an agent in a room, which is created where it is not there.
    ///
    /// # Errors
    /// When the server refuses it. That no worker is there is no error.
    pub fn create_dispatch(
        &self,
        room: &str,
        agent_name: &str,
        metadata: &str,
        attributes: &[(&str, &str)],
    ) -> Result<proto::AgentDispatch> {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.dispatch(&proto::CreateAgentDispatchRequest {
            agent_name: agent_name.to_owned(),
            room: room.to_owned(),
            metadata: metadata.to_owned(),
            attributes: attributes.collect::<HashMap<_, _>>(),
            ..Default::default()
        })
    }

    /// As [`Api::create_dispatch`], with all that can be asked for.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn dispatch(&self, request: &proto::CreateAgentDispatchRequest) -> Result<proto::AgentDispatch> {
        self.call("AgentDispatchService/CreateDispatch", &request.room, request)
    }

    /// The dispatches of a room, with their jobs.
    ///
    /// # Errors
    /// When there is no such room.
    pub fn list_dispatch(&self, room: &str) -> Result<Vec<proto::AgentDispatch>> {
        let request = proto::ListAgentDispatchRequest { room: room.to_owned(), ..Default::default() };
        let response: proto::ListAgentDispatchResponse =
            self.call("AgentDispatchService/ListDispatch", room, &request)?;
        Ok(response.agent_dispatches)
    }

    /// Ends a dispatch and its jobs.
    ///
    /// # Errors
    /// When there is no such room or dispatch.
    pub fn delete_dispatch(&self, room: &str, dispatch_id: &str) -> Result<proto::AgentDispatch> {
        let request =
            proto::DeleteAgentDispatchRequest { dispatch_id: dispatch_id.to_owned(), room: room.to_owned() };
        self.call("AgentDispatchService/DeleteDispatch", room, &request)
    }

    fn call<R: Message + Default>(&self, method: &str, room: &str, request: &impl Message) -> Result<R> {
        netns::within(self.netns.as_deref(), || self.post(method, room, request))
    }

    fn post<R: Message + Default>(&self, method: &str, room: &str, request: &impl Message) -> Result<R> {
        let grants = VideoGrants {
            room_create: true,
            room_list: true,
            room_admin: true,
            room: room.to_owned(),
            ..Default::default()
        };
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_grants(grants).to_jwt()?;
        let mut response = self
            .agent
            .post(format!("{}/twirp/livekit.{method}", self.url))
            .header("Authorization", format!("Bearer {token}"))
            .content_type("application/protobuf")
            .send(&request.encode_to_vec()[..])
            .with_context(|| format!("{method} for room {room:?} got no answer from {}", self.url))?;
        let status = response.status();
        let body = response.body_mut().read_to_vec().with_context(|| format!("{method} broke off"))?;
        if !status.is_success() {
            bail!("{method} for room {room:?} failed with {status}: {}", String::from_utf8_lossy(&body));
        }
        R::decode(&body[..]).with_context(|| format!("{method} answered with something else"))
    }
}
