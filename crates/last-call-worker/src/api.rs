//! LiveKit's server API: Twirp over HTTP, with protobuf bodies. The calls that are made often have methods; every other
//! is [`Api::call`].
//!
//! Owns their tokens, each with no more grants than its call needs, and their errors, which tell "no" from "nobody
//! knows". Refuses to try again: who asks decides by the error.

mod sip;

use std::time::Duration;

use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use prost::Message;

use crate::error::DialError;
use crate::exchange::{ExchangeError, WITHIN, exchange_with, said};
use crate::socket::Dialler;
use crate::token::{Keys, bearer};

/// The messages of the protocol.
pub use livekit_protocol as livekit;
/// What a call's token allows.
pub use livekit_token::{SIPGrants, VideoGrants};

/// How long a call's token is good.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Bytes of an answer: a thousand participants with 4 KiB of metadata and attributes each.
const ANSWER_LIMIT: usize = 4 << 20;

/// A client of one server. Each call has a connection of its own, and takes at most 10 s unless it says otherwise. All are
/// cancel safe, but the server may do what it was asked all the same.
#[derive(Clone)]
pub struct Api {
    dialler: Dialler,
    keys: Keys,
}

/// Why a call was of no use. Never shows a token.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ApiError {
    /// No answer. What was asked may have been done.
    #[error("{method} got no answer from {server}: {error}; is the server running, and is the URL right?")]
    Unreached { method: &'static str, server: String, error: ExchangeError },
    /// The keys are wrong.
    #[error("{server} refused {method} (HTTP 401 {said:?}); check LIVEKIT_API_KEY and LIVEKIT_API_SECRET")]
    Unauthorized { method: &'static str, server: String, said: String },
    /// Another status than success.
    #[error("{server} refused {method} with HTTP {status} {said:?}")]
    Refused { method: &'static str, server: String, status: u16, said: String },
    /// An answer that is no protobuf of this method. What was asked may have been done.
    #[error("{server} answered {method} with something else; is it a LiveKit server?")]
    Nonsense { method: &'static str, server: String },
    /// Nothing was sent.
    #[error("no token for {method} can be made: {error}")]
    Token { method: &'static str, error: String },
    /// A job whose process has no keys, or can't use its server's URL; nothing was sent.
    #[error("this job can't use the server's API: {0}")]
    Unavailable(String),
}

impl ApiError {
    /// Whether the server said no: nothing was done, and to ask once more would be of no use. After any other error it
    /// may have been done: Twirp says 408 of a deadline of its own, and 5xx of a node that did not answer it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        const PASSING: [u16; 3] = [408, 425, 429];
        match self {
            Self::Unreached { .. } | Self::Nonsense { .. } => false,
            Self::Unauthorized { .. } | Self::Token { .. } | Self::Unavailable(_) => true,
            Self::Refused { status, .. } => (400..500).contains(status) && !PASSING.contains(status),
        }
    }
}

impl Api {
    /// A client of the server that `dialler` reaches.
    #[must_use]
    pub fn new(dialler: Dialler, keys: Keys) -> Self {
        Self { dialler, keys }
    }

    /// Makes a room, to which every worker without an agent name sends an agent.
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn create_room(&self, room: &str) -> Result<(), ApiError> {
        let request = livekit::CreateRoomRequest { name: room.to_owned(), ..Default::default() };
        let created = self.call("RoomService/CreateRoom", creates(), &request).await;
        created.map(|_: livekit::Room| ())
    }

    /// Ends a room and its jobs.
    ///
    /// # Errors
    /// As [`ApiError`] says; one that is not there is refused with 404.
    pub async fn delete_room(&self, room: &str) -> Result<(), ApiError> {
        let request = livekit::DeleteRoomRequest { room: room.to_owned() };
        let deleted = self.call("RoomService/DeleteRoom", creates(), &request).await;
        deleted.map(|livekit::DeleteRoomResponse {}| ())
    }

    /// Everybody in a room, agents too; nobody where it is not there. livekit-server lists an agent that was killed
    /// as active for 20 s.
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn list_participants(&self, room: &str) -> Result<Vec<livekit::ParticipantInfo>, ApiError> {
        let request = livekit::ListParticipantsRequest { room: room.to_owned() };
        let listed = self.call("RoomService/ListParticipants", administers(room), &request).await;
        listed.map(|listed: livekit::ListParticipantsResponse| listed.participants)
    }

    /// Whether the room has an agent of this identity, or what is left of one: see [`Api::list_participants`].
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn agent_is_there(&self, room: &str, identity: &str) -> Result<bool, ApiError> {
        let there = |one: &livekit::ParticipantInfo| {
            one.identity == identity
                && one.kind() == livekit::participant_info::Kind::Agent
                && one.state() != livekit::participant_info::State::Disconnected
        };
        Ok(self.list_participants(room).await?.iter().any(there))
    }

    /// Disconnects a participant.
    ///
    /// # Errors
    /// As [`ApiError`] says; one that is not there is refused with 404.
    pub async fn remove_participant(&self, room: &str, identity: &str) -> Result<(), ApiError> {
        let (room, identity) = (room.to_owned(), identity.to_owned());
        let grants = administers(&room);
        let request = livekit::RoomParticipantIdentity { room, identity, ..Default::default() };
        let removed = self.call("RoomService/RemoveParticipant", grants, &request).await;
        removed.map(|livekit::RemoveParticipantResponse {}| ())
    }

    /// Asks for an agent in a room, which is made where it is not there. The server makes two of two calls that ask
    /// for the same: after an error that is no [refusal](ApiError::is_refusal), look with [`Api::list_dispatches`].
    ///
    /// # Errors
    /// As [`ApiError`] says. That no worker is there is none.
    pub async fn create_dispatch(
        &self,
        request: &livekit::CreateAgentDispatchRequest,
    ) -> Result<livekit::AgentDispatch, ApiError> {
        self.call("AgentDispatchService/CreateDispatch", administers(&request.room), request).await
    }

    /// The dispatches of a room, each with its job. livekit-server shows a job as running for ever.
    ///
    /// # Errors
    /// As [`ApiError`] says; a room that is not there is refused with 503.
    pub async fn list_dispatches(&self, room: &str) -> Result<Vec<livekit::AgentDispatch>, ApiError> {
        let request = livekit::ListAgentDispatchRequest { room: room.to_owned(), ..Default::default() };
        let listed = self.call("AgentDispatchService/ListDispatch", administers(room), &request).await;
        listed.map(|listed: livekit::ListAgentDispatchResponse| listed.agent_dispatches)
    }

    /// Ends a dispatch and its jobs.
    ///
    /// # Errors
    /// As [`ApiError`] says; one that is not there is refused with 404.
    pub async fn delete_dispatch(&self, room: &str, dispatch: &str) -> Result<(), ApiError> {
        let request =
            livekit::DeleteAgentDispatchRequest { dispatch_id: dispatch.to_owned(), room: room.to_owned() };
        let deleted = self.call("AgentDispatchService/DeleteDispatch", administers(room), &request).await;
        deleted.map(|_: livekit::AgentDispatch| ())
    }

    /// Any call: `method` is the service and its method ("Egress/StartRoomCompositeEgress"), and `grants` are what the
    /// server wants to see for it. `R` is the method's answer.
    ///
    /// ```no_run
    /// # use last_call_worker::api::{Api, ApiError, VideoGrants, livekit};
    /// # async fn stop(api: &Api, egress_id: String) -> Result<(), ApiError> {
    /// let grants = VideoGrants { room_record: true, ..VideoGrants::default() };
    /// let request = livekit::StopEgressRequest { egress_id };
    /// let _stopped: livekit::EgressInfo = api.call("Egress/StopEgress", grants, &request).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn call<R: Message + Default>(
        &self,
        method: &'static str,
        grants: VideoGrants,
        message: &impl Message,
    ) -> Result<R, ApiError> {
        self.call_within(WITHIN, method, (grants, SIPGrants::default()), message).await
    }

    async fn call_within<R: Message + Default>(
        &self,
        within: Duration,
        method: &'static str,
        grants: (VideoGrants, SIPGrants),
        message: &impl Message,
    ) -> Result<R, ApiError> {
        let server = || self.dialler.endpoint().authority();
        let unreached = |error| ApiError::Unreached { method, server: server(), error };
        let uri = self.dialler.endpoint().at(&format!("/twirp/livekit.{method}"));
        let uri = uri.map_err(|error| unreached(error.into()))?;
        let request = Request::post(uri.path_and_query().map_or("/", |target| target.as_str()))
            .header(AUTHORIZATION, self.bearer(grants).map_err(|error| ApiError::Token { method, error })?)
            .header(CONTENT_TYPE, "application/protobuf")
            .body(Full::new(message.encode_to_vec().into()))
            .map_err(|_| unreached(DialError::Uri.into()))?;
        let response = exchange_with(&self.dialler, &uri, request, ANSWER_LIMIT, within).await;
        let response = response.map_err(unreached)?;
        match response.status() {
            status if status.is_success() => R::decode(response.body().clone())
                .map_err(|_| ApiError::Nonsense { method, server: server() }),
            StatusCode::UNAUTHORIZED => {
                Err(ApiError::Unauthorized { method, server: server(), said: said(response.body()) })
            }
            status => Err(ApiError::Refused {
                method,
                server: server(),
                status: status.as_u16(),
                said: said(response.body()),
            }),
        }
    }

    fn bearer(&self, (grants, sip): (VideoGrants, SIPGrants)) -> Result<HeaderValue, String> {
        let token = self.keys.api_token(GOOD_FOR, grants, sip).map_err(|error| error.to_string())?;
        bearer(&token).ok_or_else(|| "it does not fit a header".to_owned())
    }
}

/// The grant for what makes and ends rooms; livekit-server knows none for one room.
fn creates() -> VideoGrants {
    VideoGrants { room_create: true, ..VideoGrants::default() }
}

/// The grant for what is in one room.
fn administers(room: &str) -> VideoGrants {
    VideoGrants { room_admin: true, room: room.to_owned(), ..VideoGrants::default() }
}

#[cfg(test)]
mod tests;
