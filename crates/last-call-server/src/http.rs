//! The port: connections, their bounds, and which handler a path leads to.
//!
//! Owns the bounds on clients: 256 exchanges at once, one request each, 5 s for its head and 10 s for all of it.
//! Workers' sockets leave these bounds when they are upgraded: [`crate::agent`] has theirs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};
use axum::serve::{Listener, ListenerExt};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::agent::{self, Agents};
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
pub(crate) fn router(shared: Arc<Shared>, agents: Agents) -> Router {
    Router::new()
        // What livekit-server says to load balancers.
        .route("/", get(|| async { "OK" }))
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
    let mut exchanges = JoinSet::new();
    loop {
        tokio::select! {
            (io, _) = listener.accept(), if exchanges.len() < EXCHANGES => {
                let exchange = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .max_buf_size(HEAD_LIMIT)
                    .serve_connection(TokioIo::new(io), TowerToHyperService::new(router.clone()))
                    .with_upgrades();
                exchanges.spawn(tokio::time::timeout(EXCHANGE_WITHIN, exchange));
            }
            // How an exchange ended is its client's affair.
            Some(_) = exchanges.join_next() => {}
        }
    }
}
