//! What a job may ask of the server's API: anything of its own room, and calls by telephone into it.
//!
//! Owns a process's one client for it. Refuses to hand keys on: a job's process has those that its own command line, file
//! and environment name, as the worker has, and reads them when a job asks for the first time.

use std::sync::{Arc, LazyLock};

use super::JobContext;
use crate::api::{Api, ApiError, livekit};
use crate::config;
use crate::error::StartError;
use crate::options::ServerOptions;
use crate::socket::Dialler;

type Make = Box<dyn FnOnce() -> Result<Api, StartError> + Send>;

/// The name that the field gives to who is called by telephone.
const SIP_NAME: &str = "SIP-participant";

/// The way to the server's API, for every job of a process: made when one asks.
#[derive(Clone)]
pub(crate) struct JobApi(Arc<LazyLock<Result<Api, StartError>, Make>>);

impl From<Api> for JobApi {
    fn from(api: Api) -> Self {
        Self::made_by(|| Ok(api))
    }
}

impl JobApi {
    /// The server and the keys that these name.
    pub(crate) fn of(options: ServerOptions) -> Self {
        Self::made_by(move || {
            let endpoint = config::endpoint(&options)?;
            Ok(Api::new(Dialler::new(endpoint), config::keys(&options)?))
        })
    }

    fn made_by(make: impl FnOnce() -> Result<Api, StartError> + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl JobContext {
    /// The server's API, with the worker's own URL and keys: also in a job's process, which reads them where the worker
    /// did (`LIVEKIT_API_KEY`, and `LIVEKIT_API_SECRET` or the secret's file). Nothing is asked of the server yet.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] where they can't be read: which is missing, and where it is looked for.
    pub fn api(&self) -> Result<&Api, ApiError> {
        let none = || ApiError::Unavailable("its worker has no server".to_owned());
        let api: &Result<Api, StartError> = &self.0.given.api.as_ref().ok_or_else(none)?.0;
        api.as_ref().map_err(|error| ApiError::Unavailable(error.to_string()))
    }

    /// Ends the job's room for everybody in it. The job is told to stop then, as whenever its room ends. A room that is
    /// gone already is no error.
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn delete_room(&self) -> Result<(), ApiError> {
        match self.api()?.delete_room(self.room().name()).await {
            Err(ApiError::Refused { status: 404, .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Calls `call_to` ("+12345555555", or "sip:user@host") into the job's room by the outbound trunk `trunk_id`
    /// ("ST_…"). There it is `identity`, called `name`, or "SIP-participant". Returns when the participant is in the room,
    /// and may still ring; [`Api::create_sip_participant`] has everything else that a call can be told.
    ///
    /// # Errors
    /// As [`ApiError`] says; a trunk that is not there is refused with 404, and a server without a SIP service refuses.
    pub async fn add_sip_participant(
        &self,
        call_to: &str,
        trunk_id: &str,
        identity: &str,
        name: Option<&str>,
    ) -> Result<livekit::SipParticipantInfo, ApiError> {
        let request = livekit::CreateSipParticipantRequest {
            room_name: self.room().name().to_owned(),
            sip_call_to: call_to.to_owned(),
            sip_trunk_id: trunk_id.to_owned(),
            participant_identity: identity.to_owned(),
            participant_name: name.unwrap_or(SIP_NAME).to_owned(),
            ..livekit::CreateSipParticipantRequest::default()
        };
        self.api()?.create_sip_participant(&request).await
    }

    /// Hands the SIP participant `identity` of the job's room on to `transfer_to`, as [`JobContext::add_sip_participant`]
    /// takes it; with `play_dialtone` it hears a dial tone meanwhile. Returns when the other side has answered.
    ///
    /// # Errors
    /// As [`ApiError`] says; a participant that is not there is refused with 404.
    pub async fn transfer_sip_participant(
        &self,
        identity: &str,
        transfer_to: &str,
        play_dialtone: bool,
    ) -> Result<(), ApiError> {
        let request = livekit::TransferSipParticipantRequest {
            room_name: self.room().name().to_owned(),
            participant_identity: identity.to_owned(),
            transfer_to: transfer_to.to_owned(),
            play_dialtone,
            ..livekit::TransferSipParticipantRequest::default()
        };
        self.api()?.transfer_sip_participant(&request).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
