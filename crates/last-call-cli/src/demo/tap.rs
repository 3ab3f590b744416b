//! A listener between one worker and the server, which passes everything on and tells what it sees.
//!
//! Owns the port, the upgrade and the bounds on connections: 64 at once, 5 s for a request's head. Refuses to change
//! what passes, but for one thing: an assignment without a URL gets the server's, so that agents join rooms there and
//! not here.

mod carry;
mod frames;
mod reading;
mod seen;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, on};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use last_call_worker::Dialler;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use self::carry::{Witness, carry};
pub(crate) use self::seen::{Seen, SeenWhat};
use super::exchange::{ExchangeError, WITHIN, exchange};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// The patience with a client that sends its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;

/// The server behind a tap.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) dialler: Dialler,
    /// Whether it has rooms to join, so that an assignment without a URL gets its.
    pub(crate) rooms: bool,
}

/// A running tap. Dropped, it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct Tap {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    /// Listens on a free port of loopback for the worker of this number. Runs within a tokio runtime that has IO and
    /// time enabled.
    ///
    /// # Errors
    /// When the system has no port, or takes no more sockets.
    pub(crate) fn start(
        upstream: Upstream,
        worker: usize,
        seen: mpsc::UnboundedSender<Seen>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let passage = Arc::new(Passage { upstream, worker, seen });
        Ok(Self { address, task: tokio::spawn(listen(listener, passage)).abort_handle() })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the worker takes as LIVEKIT_URL.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }
}

/// What every connection of a tap needs.
struct Passage {
    upstream: Upstream,
    worker: usize,
    seen: mpsc::UnboundedSender<Seen>,
}

/// Both ends of a connection that is being upgraded, the worker's first.
type Ends = (Witness, OnUpgrade, OnUpgrade);

async fn listen(listener: TcpListener, passage: Arc<Passage>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(Arc::clone(&passage).serve(tcp));
                }
                Err(error) => {
                    tracing::warn!(%error, "a worker's connection cannot be taken");
                    // What is short, descriptors most likely, is not there again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            // How a connection ended is told by itself.
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Passage {
    /// Serves one connection to its end: one request, and what it becomes.
    async fn serve(self: Arc<Self>, tcp: TcpStream) {
        // Small frames must not wait for each other; where the system refuses, they do.
        let _ = tcp.set_nodelay(true);
        let ends = Mutex::new(None);
        let service = service_fn(|request| async {
            let (response, opened) = self.answer(request).await;
            *ends.lock().unwrap_or_else(PoisonError::into_inner) = opened;
            Ok::<_, Infallible>(response)
        });
        let exchanged = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(tcp), service)
            .with_upgrades();
        if timeout(HEAD_WITHIN + 2 * WITHIN, exchanged).await.is_err() {
            return;
        }
        let ends: Option<Ends> = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some((witness, worker, server)) = ends else { return };
        let (Ok(worker), Ok(server)) = (worker.await, server.await) else { return };
        let Upstream { dialler, rooms } = &self.upstream;
        let rooms = rooms.then(|| dialler.endpoint().as_str().to_owned());
        carry(TokioIo::new(worker), TokioIo::new(server), witness, rooms).await;
    }

    /// Asks the server, and answers as it does.
    async fn answer(&self, mut request: Request<Incoming>) -> (Response<Full<Bytes>>, Option<Ends>) {
        let authority = self.upstream.dialler.endpoint().authority();
        let upgrade = request.method() == Method::GET && request.headers().contains_key(UPGRADE);
        if !upgrade || request.uri().path() != "/agent" {
            let text = format!(
                "this is the tap of `last-call demo`, where workers connect to /agent alone; the server is at {authority}\n"
            );
            return (refusal(StatusCode::NOT_FOUND, text), None);
        }
        let worker = on(&mut request);
        match self.ask(&request).await {
            Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let witness = Witness::connected(self.worker, self.seen.clone());
                let server = on(&mut response);
                let (mut parts, _) = response.into_parts();
                parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
                (Response::from_parts(parts, Full::default()), Some((witness, worker, server)))
            }
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                end(&mut parts.headers);
                (Response::from_parts(parts, Full::new(body)), None)
            }
            Err(error) => {
                tracing::warn!(worker = self.worker, server = authority, %error, "a worker's connection failed");
                let text = format!("the demo's tap has no answer from the server at {authority}: {error}\n");
                (refusal(StatusCode::BAD_GATEWAY, text), None)
            }
        }
    }

    /// Sends a worker's request to the server: the same but for its host, and without compression, through which
    /// nothing could be seen.
    async fn ask(&self, request: &Request<Incoming>) -> Result<Response<Bytes>, ExchangeError> {
        let uri = self.upstream.dialler.endpoint().at("/agent")?;
        let mut target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        if let Some(query) = request.uri().query() {
            target.push(if uri.query().is_some() { '&' } else { '?' });
            target.push_str(query);
        }
        let mut asked = Request::new(Full::default());
        *asked.uri_mut() = target.parse().map_err(|_| last_call_worker::DialError::Uri)?;
        *asked.headers_mut() = request.headers().clone();
        for dropped in [SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH, TRANSFER_ENCODING] {
            asked.headers_mut().remove(dropped);
        }
        exchange(&self.upstream.dialler, &uri, asked).await
    }
}

/// An answer that is the tap's own.
fn refusal(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    end(response.headers_mut());
    response
}

/// Says that the connection ends with this answer, and leaves its length to be counted anew.
fn end(headers: &mut HeaderMap) {
    for counted in [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(counted);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
