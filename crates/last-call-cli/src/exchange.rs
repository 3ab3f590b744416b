//! One HTTP exchange over a stream of its own.
//!
//! Owns the bound on the answer's body: 64 KiB. Refuses to watch the time and to follow redirects: who asks says how long
//! it may take, and sees what was answered.

use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of a body.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) enum Broken {
    Http(hyper::Error),
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

/// Sends `request` as it is, and reads the answer. Where that is an upgrade, it can be taken out of the response. Cancel
/// safe: dropped, it closes the connection.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Broken> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(Broken::Body)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    // The request first, so that what ends the connection too early shows in the answer; later it is nobody's affair.
    let (answered, _) = tokio::join!(answered, drive(connection));
    answered
}

/// Boxed, because the compiler does not find out by itself that it is `Send`.
fn drive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: Connection<TokioIo<S>, Full<Bytes>>,
) -> Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> {
    Box::pin(connection.with_upgrades())
}
