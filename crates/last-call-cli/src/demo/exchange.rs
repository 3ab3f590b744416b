//! One HTTP exchange with the server, over a connection of its own.
//!
//! Owns the way there, and 10 s for all of it. Refuses to try again.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use last_call_worker::{DialError, Dialler, UrlError};
use tokio::time::timeout;

use crate::exchange::{BODY_LIMIT, Broken};

/// The slowest call, deleting a dispatch with a running job, takes livekit-server 3 s.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// Why there is no answer. Never shows a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("the answer's body broke off, or is over {BODY_LIMIT} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {WITHIN:?}")]
    TimedOut,
}

impl From<Broken> for ExchangeError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Http(error) => Self::Broken(error),
            Broken::Body(error) => Self::Body(error),
        }
    }
}

/// Sends `request` to the server that `at` is on, and reads the answer. Where that is an upgrade, it can be taken out
/// of the response. Cancel safe: dropped, it closes the connection.
pub(super) async fn exchange(
    dialler: &Dialler,
    at: &Uri,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, ExchangeError> {
    let host = at.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    request.headers_mut().insert(HOST, host.ok_or(DialError::Uri)?);
    let whole = async { Ok(crate::exchange::exchange(dialler.stream().await?, request).await?) };
    timeout(WITHIN, whole).await.map_err(|_| ExchangeError::TimedOut)?
}
