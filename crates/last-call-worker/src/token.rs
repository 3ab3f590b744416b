//! The tokens that the worker mints: one for each connection, one for each call of the API, one for `connect`.
//!
//! Owns grants and lifetimes. Refuses to keep a token.

use std::time::Duration;

use hyper::header::HeaderValue;
use livekit_token::{AccessToken, AccessTokenError, SIPGrants, VideoGrants};

use crate::error::DialError;
use crate::secret::Secret;

/// A worker's token is read once, at the upgrade.
const WORKER_TOKEN_FOR: Duration = Duration::from_secs(10 * 60);
/// A join token as the server's own: an hour.
const JOIN_TOKEN_FOR: Duration = Duration::from_secs(60 * 60);

/// An API key and its secret, which is never shown.
#[derive(Clone, Debug)]
pub struct Keys {
    pub(crate) key: String,
    pub(crate) secret: Secret,
}

/// A token as the value of `Authorization`, which no debug output shows; `None` if it fits no header.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    bearer.set_sensitive(true);
    Some(bearer)
}

impl Keys {
    /// These two.
    pub fn new(key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { key: key.into(), secret: Secret::from(secret.into()) }
    }

    /// A token to register with.
    pub(crate) fn worker_token(&self) -> Result<String, DialError> {
        let grants = VideoGrants { agent: true, ..VideoGrants::default() };
        self.token(WORKER_TOKEN_FOR, grants, |token| token)
            .map_err(|error| DialError::Token(error.to_string()))
    }

    /// A token to join `room` as an agent with.
    pub(crate) fn join_token(&self, room: &str, identity: &str) -> Result<String, AccessTokenError> {
        let grants =
            VideoGrants { room_join: true, agent: true, room: room.to_owned(), ..VideoGrants::default() };
        self.token(JOIN_TOKEN_FOR, grants, |token| token.with_identity(identity).with_kind("agent"))
    }

    /// A token for one call of the server's API.
    pub(crate) fn api_token(
        &self,
        ttl: Duration,
        grants: VideoGrants,
        sip: SIPGrants,
    ) -> Result<String, AccessTokenError> {
        self.token(ttl, grants, |token| token.with_sip_grants(sip))
    }

    fn token(
        &self,
        ttl: Duration,
        grants: VideoGrants,
        finish: impl FnOnce(AccessToken) -> AccessToken,
    ) -> Result<String, AccessTokenError> {
        let token =
            AccessToken::with_api_key(&self.key, self.secret.expose()).with_ttl(ttl).with_grants(grants);
        finish(token).to_jwt()
    }
}
