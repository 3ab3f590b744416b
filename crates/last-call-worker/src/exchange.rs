//! One HTTP exchange: over a stream that is there, or with a server, over a connection of its own.
//!
//! Owns the bound on the answer's body, and the whole time of an exchange with a server. Refuses to follow redirects and
//! to try again: who asks sees what was answered.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{DialError, UrlError};
use crate::socket::Dialler;

/// Bytes of an answer's body that are enough for most: 64 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Enough for most of [`exchange_with`]. Deleting a dispatch with a running job takes livekit-server 3 s.
pub const WITHIN: Duration = Duration::from_secs(10);

/// Characters shown of what a server says.
const SAID: usize = 200;

/// Why there is no whole answer.
#[derive(Debug)]
pub enum Broken {
    /// The connection broke, or the other side speaks no HTTP.
    Http(hyper::Error),
    /// The body broke off, or is over the limit (`http_body_util::LengthLimitError`).
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

/// Why a server gave no answer. Never shows a token.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ExchangeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("the answer's body broke off, or is too large: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl From<Broken> for ExchangeError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Http(error) => Self::Broken(error),
            Broken::Body(error) => Self::Body(error),
        }
    }
}

/// Sends `request` as it is over `stream`, and reads an answer whose body has at most `limit` bytes. Where that is an
/// upgrade, it can be taken out of the response. The time is the caller's. Cancel safe: dropped, it closes the
/// connection.
///
/// # Errors
/// When there is no whole answer.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, Broken> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(Broken::Body)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    // The request first, so that what ends the connection too early shows in the answer; later it is nobody's affair.
    let (answered, _) = tokio::join!(answered, drive(connection));
    answered
}

/// As [`exchange`], with the server that `at` is on, all of it within this time. The server may do what it was asked
/// although no answer came.
///
/// # Errors
/// When the server is not reached, or gives no whole answer in time.
pub async fn exchange_with(
    dialler: &Dialler,
    at: &Uri,
    mut request: Request<Full<Bytes>>,
    limit: usize,
    within: Duration,
) -> Result<Response<Bytes>, ExchangeError> {
    let host = at.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    request.headers_mut().insert(HOST, host.ok_or(DialError::Uri)?);
    let whole = async { Ok(exchange(dialler.stream().await?, request, limit).await?) };
    tokio::time::timeout(within, whole).await.map_err(|_| ExchangeError::TimedOut(within))?
}

/// What a server says in a body, on one line and fit for a terminal.
pub(crate) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut said: String = text.trim().chars().take(SAID).map(harmless).collect();
    if text.trim().chars().nth(SAID).is_some() {
        said.push('…');
    }
    said
}

/// Boxed, because the compiler does not find out by itself that it is `Send`.
fn drive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: Connection<TokioIo<S>, Full<Bytes>>,
) -> Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> {
    Box::pin(connection.with_upgrades())
}
