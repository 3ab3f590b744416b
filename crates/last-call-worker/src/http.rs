//! The port for probes and scrapers: `/`, `/worker`, `/worker/jobs`, `/livez`, `/readyz`, `/metrics`, read-only.
//!
//! Owns the pages and the bounds on their clients: 256 connections, one request each, 10 s for all of
//! it. Refuses to change anything: the verbs of [`crate::admin`] appear here only where an admin token
//! is set, behind it, and for no web page.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use last_call_proto::Phase;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::jobs::Line;
use crate::metrics::{self, Metrics};
use crate::observe::{Snapshot, Verb};
use crate::secret::Secret;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// The patience with a client that sends its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The patience with a whole exchange, so that no slow reader holds a connection.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
/// What a worker that has ended gives to answers under way.
pub(crate) const LAST_ANSWERS_WITHIN: Duration = Duration::from_millis(50);
/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;
/// Bytes of a request's body; no page reads more.
const BODY_LIMIT: usize = 4 * 1024;
/// A link thread silent for longer is taken for dead. It beats at least each ping, 2.5 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// The generation of the worker protocol that LiveKit's tools look for.
const PROTOCOL_VERSION: u32 = 1;

/// All that the pages are made of.
#[derive(Debug)]
pub(crate) struct Ops {
    /// What never changes, once it is known.
    pub(crate) info: Arc<OnceLock<WorkerInfo>>,
    /// What the link thread shows.
    pub(crate) snapshot: watch::Receiver<Snapshot>,
    /// To the link thread.
    pub(crate) verbs: mpsc::UnboundedSender<Verb>,
    /// The page of `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// The link thread's sign of life.
    pub(crate) beat: Arc<Beat>,
    /// Opens the verbs on the TCP port; without one they exist on the admin socket only.
    pub(crate) admin_token: Option<Secret>,
    /// The host name by which the verbs may be called on the TCP port, beside addresses and `localhost`.
    pub(crate) admin_host: Option<String>,
}

impl Ops {
    /// What the worker is; nothing yet, where that is not known.
    pub(crate) fn worker(&self) -> WorkerInfo {
        self.info.get().cloned().unwrap_or(WorkerInfo {
            agent_name: String::new(),
            worker_type: "",
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

/// What a worker is, for `/worker`.
#[derive(Clone, Debug)]
pub(crate) struct WorkerInfo {
    /// The name that dispatches ask for; empty for automatic dispatch.
    pub(crate) agent_name: String,
    /// `JT_ROOM`, `JT_PUBLISHER` or `JT_PARTICIPANT`.
    pub(crate) worker_type: &'static str,
    /// The framework's version.
    pub(crate) version: &'static str,
}

/// A thread's sign of life, kept without a lock.
#[derive(Debug)]
pub(crate) struct Beat {
    started: Instant,
    /// Milliseconds from `started` to the latest beat.
    latest: AtomicU64,
}

impl Beat {
    /// A first beat, now.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), latest: AtomicU64::new(0) }
    }

    /// The thread lives.
    pub(crate) fn beat(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.latest.store(since, Ordering::Relaxed);
    }

    /// The time since the latest beat.
    fn silence(&self) -> Duration {
        self.silence_at(self.started.elapsed())
    }

    fn silence_at(&self, since_start: Duration) -> Duration {
        since_start.saturating_sub(Duration::from_millis(self.latest.load(Ordering::Relaxed)))
    }
}

/// Serves the port until the link thread has let go of the snapshot, or this is dropped. Call it within a
/// tokio runtime that has IO and time enabled.
///
/// # Errors
/// Where the listener cannot be handed to the runtime.
pub(crate) async fn serve(listener: std::net::TcpListener, ops: Arc<Ops>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let worker = ops.snapshot.clone();
    serve_on(tokio::net::TcpListener::from_std(listener)?, pages(ops), worker).await;
    Ok(())
}

/// Serves `router` on `listener` for as long as `worker` can change: one request for each connection,
/// everything bounded. At the end, answers under way have 50 ms to leave: the one to `POST /drain` is
/// often the last thing that a worker says.
pub(crate) async fn serve_on<L: Listener>(
    mut listener: L,
    router: Router,
    mut worker: watch::Receiver<Snapshot>,
) {
    let router = router.layer(DefaultBodyLimit::max(BODY_LIMIT));
    let mut exchanges = JoinSet::new();
    loop {
        tokio::select! {
            changed = worker.changed() => if changed.is_err() {
                break;
            },
            (io, _) = listener.accept(), if exchanges.len() < CONNECTIONS => {
                let router = TowerToHyperService::new(router.clone());
                let exchange = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .max_buf_size(HEAD_LIMIT)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(io), router);
                exchanges.spawn(tokio::time::timeout(EXCHANGE_WITHIN, exchange));
            }
            // How an exchange ended is its client's affair.
            Some(_) = exchanges.join_next() => {}
        }
    }
    drop(listener);
    let last_answers = async { while exchanges.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_ANSWERS_WITHIN, last_answers).await;
}

fn pages(ops: Arc<Ops>) -> Router {
    let router = Router::new()
        .route("/", get(health))
        .route("/worker", get(worker))
        .route("/worker/jobs", get(jobs))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape));
    let router = match &ops.admin_token {
        None => router,
        Some(_) => {
            let door = middleware::from_fn_with_state(Arc::clone(&ops), admit);
            router.merge(crate::admin::verbs().route_layer(door))
        }
    };
    router.with_state(ops)
}

/// What the Python SDK says here. Its users point liveness probes at it, so a worker that holds calls
/// is never unhealthy: a restart would end them, a reconnect will not.
async fn health(State(ops): State<Arc<Ops>>) -> (StatusCode, &'static str) {
    let snapshot = ops.snapshot.borrow().clone();
    if snapshot.registered || snapshot.active_jobs > 0 || snapshot.accepted_jobs > 0 {
        (StatusCode::OK, "OK")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failed to connect to livekit")
    }
}

/// The JSON form of the protocol's `WorkerInfo`, and LiveKit's `project_type`.
#[derive(Debug, Serialize)]
struct WorkerPage {
    worker_type: &'static str,
    agent_name: String,
    active_jobs: u32,
    sdk_version: &'static str,
    worker_load: f32,
    protocol_version: u32,
    project_type: &'static str,
}

async fn worker(State(ops): State<Arc<Ops>>) -> Json<WorkerPage> {
    let snapshot = ops.snapshot.borrow().clone();
    let WorkerInfo { agent_name, worker_type, version } = ops.worker();
    Json(WorkerPage {
        worker_type,
        agent_name,
        active_jobs: snapshot.active_jobs,
        sdk_version: version,
        worker_load: snapshot.load.fraction(),
        protocol_version: PROTOCOL_VERSION,
        project_type: "rust",
    })
}

/// The jobs that run, and what each one's process uses, where it has one.
#[derive(Debug, Serialize)]
struct JobsPage {
    jobs: Vec<Line>,
}

async fn jobs(State(ops): State<Arc<Ops>>) -> Json<JobsPage> {
    Json(JobsPage { jobs: ops.metrics.running.page() })
}

/// Whether a restart would mend anything; a drain, long or wedged, is life.
async fn live(State(ops): State<Arc<Ops>>) -> Response {
    let silence = ops.beat.silence();
    if silence <= SILENCE_LIMIT {
        return "alive".into_response();
    }
    let text = format!("the link thread has been silent for {} s", silence.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Whether the server may send calls here.
async fn ready(State(ops): State<Arc<Ops>>) -> (StatusCode, &'static str) {
    let word = readiness(&ops.snapshot.borrow());
    let code = if word == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, word)
}

const READY: &str = "ready";

fn readiness(snapshot: &Snapshot) -> &'static str {
    match snapshot.phase {
        Phase::Quiet | Phase::Draining | Phase::Drained => phase_word(snapshot.phase),
        Phase::Serving if snapshot.wedged => "wedged",
        Phase::Serving if !snapshot.registered => "connecting",
        Phase::Serving if snapshot.away => "away",
        Phase::Serving => READY,
    }
}

/// A phase as operators read it.
pub(crate) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Serving => "serving",
        Phase::Quiet => "quiet",
        Phase::Draining => "draining",
        Phase::Drained => "drained",
    }
}

async fn scrape(State(ops): State<Arc<Ops>>) -> Response {
    let snapshot = ops.snapshot.borrow().clone();
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], ops.metrics.encode(&snapshot)).into_response()
}

/// Lets a verb through, or says why not.
async fn admit(State(ops): State<Arc<Ops>>, request: Request, next: Next) -> Response {
    match refusal(request.headers(), &ops) {
        None => next.run(request).await,
        Some((code, why)) if code == StatusCode::UNAUTHORIZED => {
            (code, [(WWW_AUTHENTICATE, "Bearer")], why).into_response()
        }
        Some(refusal) => refusal.into_response(),
    }
}

/// A browser names the page that it asks for in `Origin`; one that was lured here by DNS rebinding names
/// the attacker's host in `Host`. Both are refused before the token is looked at.
fn refusal(headers: &HeaderMap, ops: &Ops) -> Option<(StatusCode, &'static str)> {
    if headers.contains_key(ORIGIN) {
        return Some((StatusCode::FORBIDDEN, "no web page may ask for this"));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    if !host.is_some_and(|host| is_ours(host.host(), ops.admin_host.as_deref())) {
        return Some((StatusCode::FORBIDDEN, "ask by address, as localhost, or by the configured host"));
    }
    let claim = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    let admitted = match (claim, &ops.admin_token) {
        (Some((scheme, claim)), Some(token)) => {
            scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(claim)
        }
        _ => false,
    };
    (!admitted).then_some((StatusCode::UNAUTHORIZED, "this needs the admin token as a bearer token"))
}

fn is_ours(host: &str, configured: Option<&str>) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || configured.is_some_and(|configured| host.eq_ignore_ascii_case(configured))
}

#[cfg(test)]
pub(crate) mod tests;
