//! Whose tokens count with guard, and which secret its child gets: the real one, or one that only guard knows.
//!
//! Owns the keys, the child's variables for them, and the rooms of running jobs. Refuses a worker whose token nobody
//! here signed, or any process of the pod could take calls; and under `hold` to sign what is not allowed.

mod allow;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;
use hyper::{StatusCode, Uri};
use last_call_proto::JobId;
use livekit_token::{AccessToken, Claims, TokenVerifier};
use thiserror::Error;
use url::form_urlencoded;

pub(crate) use self::allow::Right;
use self::allow::Signed;
use crate::error::StartError;
use crate::secret::Secret;
use crate::token::{Keys, bearer};

/// How long a token holds that is signed for one request: it is read once, when the request arrives.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// The name of a token in a query.
const TOKEN: &str = "access_token";

/// Why a request goes no further. Never shows a token.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody knows who asks: 401.
    #[error("{0}")]
    Unknown(String),
    /// It may not ask for that: 403.
    #[error("{0}")]
    Forbidden(String),
}

impl Refused {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
        }
    }
}

/// The keys on both sides of guard.
#[derive(Debug)]
pub(crate) struct Secrets {
    real: Keys,
    held: Option<Held>,
    /// Of every job that runs.
    rooms: Mutex<BTreeMap<JobId, String>>,
}

/// The child does not know the real keys.
#[derive(Debug)]
struct Held {
    local: Keys,
    allowed: Vec<Right>,
}

impl Secrets {
    /// The child has the real key and secret.
    pub(crate) fn pass(real: Keys) -> Self {
        Self { real, held: None, rooms: Mutex::default() }
    }

    /// The child has a key and a secret of its own, made here, and what it asks of the server with them is signed anew
    /// where it is `allowed`. From here on no process of the same user can read this one's memory and environment,
    /// where the real secret is.
    ///
    /// # Errors
    /// When the system has no random numbers, or does not close that.
    pub(crate) fn hold(real: Keys, allowed: Vec<Right>) -> Result<Self, StartError> {
        conceal()?;
        Self::held(real, allowed)
    }

    /// As [`Secrets::hold`], with this process open.
    pub(super) fn held(real: Keys, allowed: Vec<Right>) -> Result<Self, StartError> {
        let mut random = [0; 36];
        let failed =
            |error: getrandom::Error| StartError::System { what: "random numbers", error: error.into() };
        getrandom::fill(&mut random).map_err(failed)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, secret) = text.split_at(8);
        let local = Keys { key: format!("guard{name}"), secret: Secret::from(secret.to_owned()) };
        Ok(Self { real, held: Some(Held { local, allowed }), rooms: Mutex::default() })
    }

    /// Gives the child the key and the secret that it shall know.
    pub(crate) fn environment(&self, command: &mut Command) {
        let Keys { key, secret } = self.keys();
        command.env("LIVEKIT_API_KEY", key).env("LIVEKIT_API_SECRET", secret.expose());
        command.env_remove("LAST_CALL_API_SECRET_FILE");
    }

    /// Checks the token of a worker that registers, in the header or in the query, as livekit-server does.
    ///
    /// # Errors
    /// When it has none that counts here: why, for its log.
    pub(crate) fn verify_worker(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refused> {
        if self.verify(headers, uri)?.video.agent {
            return Ok(());
        }
        Err(Refused::Unknown(
            "the token does not allow to register as a worker: it lacks the grant \"agent\"".into(),
        ))
    }

    /// A job runs in `room` from now on.
    pub(crate) fn begin(&self, job: JobId, room: &str) {
        self.rooms().insert(job, room.to_owned());
    }

    /// It has ended.
    pub(crate) fn end(&self, job: &JobId) {
        self.rooms().remove(job);
    }

    /// Whether a job runs in `room`.
    fn owns(&self, room: &str) -> bool {
        self.rooms().values().any(|own| own == room)
    }

    /// Lets a request to the server through; under `hold` with a token of the real key for nothing but this, or as it
    /// is where it joins a room, with a token that the server made. `prefix` is the path of the server's URL.
    pub(super) fn admit(&self, request: &mut Parts, prefix: &str) -> Result<(), Refused> {
        let Some(held) = &self.held else { return Ok(()) };
        let path = request.uri.path().strip_prefix(prefix).unwrap_or_default();
        if ["/rtc", "/rtc/v1", "/rtc/validate", "/rtc/v1/validate"].contains(&path) {
            return Ok(());
        }
        let Some((service, method)) =
            path.strip_prefix("/twirp/livekit.").and_then(|method| method.split_once('/'))
        else {
            return Err(Refused::Forbidden(format!(
                "guard holds the secret, and passes on nothing for {path:?}"
            )));
        };
        let claims = self.verify(&request.headers, &request.uri)?;
        let Signed { video, sip } =
            allow::signed(service, method, &claims, &held.allowed, |room| self.owns(room))
                .map_err(Refused::Forbidden)?;
        let token = AccessToken::with_api_key(&self.real.key, self.real.secret.expose())
            .with_ttl(SIGNED_FOR)
            .with_grants(video)
            .with_sip_grants(sip)
            .to_jwt();
        let bearer = token.ok().and_then(|token| bearer(&token));
        let bearer =
            bearer.ok_or_else(|| Refused::Forbidden("guard cannot sign with the key that it has".into()))?;
        request.headers.insert(AUTHORIZATION, bearer);
        // The child's token may be there; no method of Twirp's reads the rest.
        request.uri = request.uri.path().parse().unwrap_or_default();
        Ok(())
    }

    /// The keys that the child knows.
    fn keys(&self) -> &Keys {
        self.held.as_ref().map_or(&self.real, |held| &held.local)
    }

    fn verify(&self, headers: &HeaderMap, uri: &Uri) -> Result<Claims, Refused> {
        let missing = || {
            Refused::Unknown(
                "there is no token: it belongs into the header Authorization, after Bearer".into(),
            )
        };
        let token = match headers.get(AUTHORIZATION) {
            Some(value) => {
                value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned)
            }
            None => {
                let mut query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
                query.find(|(name, _)| name == TOKEN).map(|(_, token)| token.into_owned())
            }
        };
        let token = token.ok_or_else(missing)?;
        let Keys { key, secret } = self.keys();
        let claims = TokenVerifier::with_api_key(key, secret.expose()).verify(&token);
        let claims = claims.map_err(|error| self.unknown(error.source()))?;
        // One without an issuer passes the verifier.
        if claims.iss == *key { Ok(claims) } else { Err(self.unknown(None)) }
    }

    fn unknown(&self, error: Option<&(dyn Error + 'static)>) -> Refused {
        let said = error.map(ToString::to_string).unwrap_or_default();
        Refused::Unknown(match (said.as_str(), &self.held) {
            ("ExpiredSignature", _) => {
                "the token has expired: is the clock right, and was it made for this?".into()
            }
            ("ImmatureSignature", _) => "the token is not valid yet: is the clock right?".into(),
            (_, None) => "the token is not signed with guard's API key and secret: give the worker the same \
                          LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
                .into(),
            (_, Some(_)) => {
                "the token is not signed with the key and secret that guard gave its child: does the \
                             worker read others from a file?"
                    .into()
            }
        })
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<JobId, String>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's query as it goes on: the token in it is for guard alone, and another for each connection.
pub(super) fn without_token(query: &str) -> String {
    let named = |pair: &&str| pair.split('=').next() != Some(TOKEN);
    query.split('&').filter(named).collect::<Vec<_>>().join("&")
}

/// Closes /proc/PID of this process to others of the same user: the child is one.
fn conceal() -> Result<(), StartError> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| StartError::System { what: "way to conceal the secret", error: error.into() })?;
    Ok(())
}

#[cfg(test)]
mod tests;
