//! One client's connection: each of its requests goes on to where a route says, and the answer comes back.
//!
//! Owns HTTP/1.1 between neighbours: bodies as they come, upgrades and tunnels byte for byte, and one connection onwards
//! for the client's one, which ends with it, so that a client sees of the server's connections what it would see alone.
//! Refuses a time-out of its own, since calls to a telephone take a minute, and to send anything twice.

use std::convert::Infallible;
use std::mem::Discriminant;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, on};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{DialError, whole_text};
use crate::socket::{Dialler, Proxy, Transport};

/// Where a request goes on to.
#[derive(Clone)]
pub(super) enum Hop {
    /// The real server.
    Server(Dialler),
    /// Guard's own listener.
    Here(SocketAddr),
    /// A proxy of the child's environment.
    Proxy(Arc<Proxy>),
}

impl Hop {
    async fn dial(&self) -> Result<Box<dyn Transport>, DialError> {
        match self {
            Self::Server(dialler) => dialler.stream().await,
            Self::Here(address) => match TcpStream::connect(address).await {
                Ok(tcp) => Ok(Box::new(tcp)),
                Err(error) => Err(DialError::Tcp {
                    host: address.ip().to_string(),
                    port: address.port(),
                    error: error.to_string(),
                }),
            },
            Self::Proxy(proxy) => Ok(Box::new(proxy.dial(None).await?)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Server(_) => "the server",
            Self::Here(_) => "guard",
            Self::Proxy(_) => "the proxy",
        }
    }
}

/// What a client is answered.
pub(super) type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// An answer that is guard's own: one line, for Twirp's clients in the envelope that they show.
pub(super) fn refusal(request: &Parts, status: StatusCode, text: &str) -> Answer {
    #[derive(Serialize)]
    struct Problem<'a> {
        code: &'static str,
        msg: &'a str,
    }
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "permission_denied",
        _ => "unavailable",
    };
    let (kind, body) = match serde_json::to_string(&Problem { code, msg: text }) {
        Ok(problem) if request.uri.path().contains("/twirp/") => ("application/json", problem),
        Ok(_) | Err(_) => ("text/plain; charset=utf-8", format!("{text}\n")),
    };
    let mut answer = Response::new(Either::Right(Full::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Serves a connection to its end. `route` makes of each request's head what goes on, and says where to; or it answers.
pub(super) async fn serve<R>(tcp: TcpStream, route: R)
where
    R: Fn(&mut Parts) -> Result<Hop, Box<Answer>>,
{
    // Small frames must not wait for each other; where the system refuses, they do.
    let _ = tcp.set_nodelay(true);
    let (dialled, mut connections) = mpsc::unbounded_channel();
    let relay = Relay { route, dialled, kept: Mutex::default(), ends: Mutex::default() };
    let mut drivers = JoinSet::new();
    {
        let service = service_fn(|request| relay.answer(request));
        // Without a timer hyper watches no time.
        let mut client = pin!(
            hyper::server::conn::http1::Builder::new()
                .preserve_header_case(true)
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
        );
        loop {
            tokio::select! {
                biased;
                // How it ended is the client's affair.
                _ = client.as_mut() => break,
                Some(connection) = connections.recv() => drop(drivers.spawn(connection)),
                Some(_) = drivers.join_next() => if lock(&relay.ends).is_none() {
                    client.as_mut().graceful_shutdown();
                },
            }
        }
    }
    let ends = lock(&relay.ends).take();
    let Some((near, far)) = ends else { return };
    let (Ok(near), Ok(mut far)) = tokio::join!(near, far.open()) else { return };
    let _ = copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
}

/// The connection onwards, which lives until it is closed.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Relay<R> {
    route: R,
    dialled: mpsc::UnboundedSender<Driver>,
    kept: Mutex<Option<(Discriminant<Hop>, SendRequest<Incoming>)>>,
    /// Of an upgrade or a tunnel: the client's end, and the other.
    ends: Mutex<Option<(OnUpgrade, Far)>>,
}

/// The other end of what is passed on byte for byte.
enum Far {
    Upgraded(OnUpgrade),
    Dialled(Box<dyn Transport>),
}

impl Far {
    async fn open(self) -> hyper::Result<Box<dyn Transport>> {
        match self {
            Self::Upgraded(upgraded) => Ok(Box::new(TokioIo::new(upgraded.await?))),
            Self::Dialled(stream) => Ok(stream),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection broke: {}", whole_text(.0))]
    Broken(#[from] hyper::Error),
}

impl<R> Relay<R>
where
    R: Fn(&mut Parts) -> Result<Hop, Box<Answer>>,
{
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Answer, Infallible> {
        let near = on(&mut request);
        let (mut parts, body) = request.into_parts();
        let upgrade = between_neighbours(&mut parts.headers);
        let hop = match (self.route)(&mut parts) {
            Ok(hop) => hop,
            Err(answer) => return Ok(*answer),
        };
        restore(&mut parts.headers, upgrade);
        let asked = Parts::clone(&parts);
        let answered = if let (&Method::CONNECT, Hop::Here(_)) = (&parts.method, &hop) {
            self.open(&hop, near).await
        } else {
            self.ask(&hop, Request::from_parts(parts, body), near).await
        };
        Ok(answered.unwrap_or_else(|error| {
            tracing::warn!(%error, path = asked.uri.path(), "guard got no answer from {} for the worker", hop.name());
            refusal(&asked, StatusCode::BAD_GATEWAY, &format!("guard got no answer from {}: {error}", hop.name()))
        }))
    }

    /// A tunnel that ends here.
    async fn open(&self, hop: &Hop, near: OnUpgrade) -> Result<Answer, Lost> {
        let far = hop.dial().await?;
        *lock(&self.ends) = Some((near, Far::Dialled(far)));
        Ok(Response::new(Either::Right(Full::default())))
    }

    async fn ask(&self, hop: &Hop, request: Request<Incoming>, near: OnUpgrade) -> Result<Answer, Lost> {
        let connect = request.method() == Method::CONNECT;
        let mut response = self.send(hop, request).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = between_neighbours(response.headers_mut());
        if !(switched || connect && response.status().is_success()) {
            return Ok(response.map(Either::Left));
        }
        *lock(&self.ends) = Some((near, Far::Upgraded(on(&mut response))));
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        restore(&mut parts.headers, upgrade);
        Ok(Response::from_parts(parts, Either::Right(Full::default())))
    }

    async fn send(&self, hop: &Hop, mut request: Request<Incoming>) -> Result<Response<Incoming>, Lost> {
        let mut kept = self.kept(hop).await;
        loop {
            let fresh = kept.is_none();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.dial(hop).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *lock(&self.kept) = Some((std::mem::discriminant(hop), sender));
                    return Ok(response);
                }
                // A request comes back where nothing of it has left.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    Some(_) | None => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// The connection of the request before, if it leads there and is still open.
    async fn kept(&self, hop: &Hop) -> Option<SendRequest<Incoming>> {
        let (to, mut sender) = lock(&self.kept).take()?;
        (to == std::mem::discriminant(hop) && sender.ready().await.is_ok()).then_some(sender)
    }

    async fn dial(&self, hop: &Hop) -> Result<SendRequest<Incoming>, Lost> {
        let stream = hop.dial().await?;
        let mut onwards = hyper::client::conn::http1::Builder::new();
        let (sender, connection) = onwards.preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
        // An error of it is that of the request that it ends.
        let driver: Driver = Box::pin(async move { drop(connection.with_upgrades().await) });
        // The connection's own loop drives it, for as long as it asks here.
        let _ = self.dialled.send(driver);
        Ok(sender)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what is between two neighbours alone (RFC 9110, 7.6.1); the protocol that they change to, if they do, is
/// returned.
fn between_neighbours(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    let upgrade = headers.remove(UPGRADE).filter(|_| named.contains(&UPGRADE));
    let known = [CONNECTION, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING];
    let old = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for dropped in named.into_iter().chain(known).chain(old) {
        headers.remove(dropped);
    }
    upgrade
}

fn restore(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

#[cfg(test)]
mod tests;
