//! One HTTP exchange with the server, over a connection of its own.
//!
//! Owns the bounds: 10 s for all of it, 64 KiB for the answer's body. Refuses redirects: it shows what was answered.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use last_call_worker::{DialError, Dialler, Transport, UrlError};
use tokio::time::timeout;

/// The slowest call, deleting a dispatch with a running job, takes livekit-server 3 s.
pub(super) const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a body.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// Why there is no answer. Never shows a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the answer's body broke off, or is over {BODY_LIMIT} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {WITHIN:?}")]
    TimedOut,
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
    let whole = async {
        let stream = dialler.stream().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answered = async move {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            Ok(Response::from_parts(parts, read(body).await?))
        };
        // What ends the connection too early shows in the answer, and later it is nobody's affair.
        let (_, answered) = tokio::join!(drive(connection), answered);
        answered
    };
    timeout(WITHIN, whole).await.map_err(|_| ExchangeError::TimedOut)?
}

/// Boxed, because the compiler does not find out by itself that it is `Send`.
fn drive(
    connection: Connection<TokioIo<Box<dyn Transport>>, Full<Bytes>>,
) -> Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> {
    Box::pin(connection.with_upgrades())
}

async fn read(body: Incoming) -> Result<Bytes, ExchangeError> {
    Ok(Limited::new(body, BODY_LIMIT).collect().await.map_err(ExchangeError::Body)?.to_bytes())
}
