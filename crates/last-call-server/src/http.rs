//! The port: connections, their bounds, and which handler a path leads to.
//!
//! Owns the bounds on clients: 256 exchanges at once, one request each, 5 s for its head and 10 s for all of it.
//! Workers' sockets leave these bounds when they are upgraded: [`crate::agent`] has theirs. Pages that are open leave
//! them by [`Stay`]: [`crate::page`] has theirs.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};
use axum::serve::{Listener, ListenerExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::agent::{self, Agents};
use crate::page::{self, Page};
use crate::shared::Shared;
use crate::twirp;

/// Exchanges at once; more wait in the kernel's queue.
const EXCHANGES: usize = 256;
/// The patience with a client that sends its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The patience with a whole exchange, so that no slow reader holds a connection.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;

/// Where the paths lead.
pub(crate) fn router(shared: Arc<Shared>, agents: Agents, page: Option<Page>) -> Router {
    let people = page.map_or_else(|| Router::new().route("/", get(|| async { "OK" })), page::routes);
    people
        .route("/twirp/{*method}", any(twirp::serve).with_state(shared))
        .route("/agent", any(agent::upgrade).with_state(agents))
        .layer(map_response(last_of_its_connection))
}

/// Says that a connection ends with its answer. An upgrade says what it becomes.
async fn last_of_its_connection(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Serves the port for ever. Dropped, it drops the exchanges under way.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let mut listener = listener.tap_io(|io| {
        // Small frames must not wait for each other; where the system refuses, they do.
        let _ = io.set_nodelay(true);
    });
    let free = Arc::new(Semaphore::new(EXCHANGES));
    let mut exchanges = JoinSet::new();
    loop {
        let next = async {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { pending().await };
            (permit, listener.accept().await.0)
        };
        tokio::select! {
            (permit, io) = next => { exchanges.spawn(exchange(io, router.clone(), permit)); }
            // How an exchange ended is its client's affair.
            Some(_) = exchanges.join_next() => {}
        }
    }
}

/// One request and its answer.
async fn exchange(io: TcpStream, router: Router, permit: OwnedSemaphorePermit) {
    let (sender, mut stays) = mpsc::channel(1);
    let (stay, service) = (Stay(sender), TowerToHyperService::new(router));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(stay.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let longer = tokio::select! {
        _ = timeout(EXCHANGE_WITHIN, &mut connection) => return,
        Some(longer) = stays.recv() => longer,
    };
    drop(permit);
    tokio::select! {
        _ = connection => {}
        () = longer => {}
    }
}

/// Lets an answer take longer than an exchange may, and counts it no more among them.
#[derive(Clone, Debug)]
pub(crate) struct Stay(mpsc::Sender<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Stay {
    /// The connection lives until its client closes it or this is over. A connection has one answer, so a second call
    /// does nothing.
    pub(crate) fn during(&self, longer: impl Future<Output = ()> + Send + 'static) {
        let _ = self.0.try_send(Box::pin(longer));
    }
}
