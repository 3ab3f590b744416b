//! A listener between one worker and the server, which passes everything on and tells what it sees: the worker's
//! connection, and the calls of the server's API that its agents make.
//!
//! Owns the port, the upgrade and the bounds: 64 connections at once, 5 s for a request's head, 10 s and 64 KiB for its
//! body, as much for an answer. Refuses to change what passes, but for one thing: an assignment without a URL gets the
//! server's, so that agents join rooms there and not here.

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
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SEC_WEBSOCKET_EXTENSIONS, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, on};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use last_call_worker::exchange::{BODY_LIMIT, ExchangeError, WITHIN, exchange_with};
use last_call_worker::{DialError, Dialler};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use self::carry::{Witness, carry};
pub(crate) use self::seen::{Seen, SeenWhat};

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
    let mut short = false;
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((tcp, _)) => {
                    short = false;
                    connections.spawn(Arc::clone(&passage).serve(tcp));
                }
                Err(error) => {
                    if !std::mem::replace(&mut short, true) {
                        passage.trouble(format!("its connection cannot be taken: {error}"));
                    }
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
        let upgrades = is_websocket(&request);
        if upgrades && request.uri().path() != "/agent" || request.method() == Method::CONNECT {
            let text = format!(
                "this is the tap of `last-call demo`, where workers connect to /agent alone; the server is at {authority}\n"
            );
            return (refusal(StatusCode::NOT_FOUND, text), None);
        }
        let worker = upgrades.then(|| on(&mut request));
        let (head, body) = request.into_parts();
        let body = match whole(body).await {
            Ok(body) => body,
            Err(refusal) => return (refusal, None),
        };
        match (self.ask(head, body, upgrades).await, worker) {
            (Ok(mut response), Some(worker)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let witness = Witness::connected(self.worker, self.seen.clone());
                let server = on(&mut response);
                let (mut parts, _) = response.into_parts();
                parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
                (Response::from_parts(parts, Full::default()), Some((witness, worker, server)))
            }
            (Ok(response), _) => {
                let (mut parts, body) = response.into_parts();
                end(&mut parts.headers);
                (Response::from_parts(parts, Full::new(body)), None)
            }
            (Err(error), _) => {
                let text = format!("the demo's tap has no answer from the server at {authority}: {error}");
                self.trouble(text.clone());
                (refusal(StatusCode::BAD_GATEWAY, text + "\n"), None)
            }
        }
    }

    /// Sends a worker's request to the server: the same but for its host and what is between two neighbours alone, and
    /// an upgrade without compression, through which nothing could be seen.
    async fn ask(
        &self,
        mut head: Parts,
        body: Bytes,
        upgrades: bool,
    ) -> Result<Response<Bytes>, ExchangeError> {
        let uri = self.upstream.dialler.endpoint().at(head.uri.path())?;
        let mut target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        if let Some(query) = head.uri.query() {
            target.push(if uri.query().is_some() { '&' } else { '?' });
            target.push_str(query);
        }
        head.uri = target.parse().map_err(|_| DialError::Uri)?;
        if upgrades {
            for dropped in [SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH, TRANSFER_ENCODING] {
                head.headers.remove(dropped);
            }
        } else {
            end(&mut head.headers);
        }
        let request = Request::from_parts(head, Full::new(body));
        exchange_with(&self.upstream.dialler, &uri, request, BODY_LIMIT, WITHIN).await
    }

    fn trouble(&self, text: String) {
        // Nobody may look any more.
        let _ = self.seen.send(Seen::now(self.worker, SeenWhat::Trouble { text }));
    }
}

fn is_websocket(request: &Request<Incoming>) -> bool {
    let protocols = request.headers().get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = protocols.flat_map(|value| value.split(','));
    request.method() == Method::GET && protocols.any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

/// A request's body, or what is answered where it is none.
async fn whole(body: Incoming) -> Result<Bytes, Response<Full<Bytes>>> {
    let (status, text) = match timeout(WITHIN, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the demo's tap takes bodies of {BODY_LIMIT} bytes at most\n"),
        ),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, format!("the body is not there after {WITHIN:?}\n")),
    };
    Err(refusal(status, text))
}

/// An answer that is the tap's own.
fn refusal(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    end(response.headers_mut());
    response
}

/// Says that the connection ends with this exchange, drops what is between two neighbours alone (RFC 9110, 7.6.1), and
/// leaves the length to be counted anew.
fn end(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let named: Vec<HeaderName> = named.collect();
    let known =
        [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, TE, TRAILER, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];
    let known = known.into_iter().chain([HeaderName::from_static("keep-alive")]);
    for dropped in named.into_iter().chain(known) {
        headers.remove(dropped);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
