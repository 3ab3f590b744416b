//! The verbs that change a worker, and its status, on a unix socket that only its user may open.
//!
//! Owns the socket file, from its first moment at mode 0600 to its removal, and the answers. Refuses
//! decisions: a verb goes to the link thread, and the answer is what the worker's snapshot then shows.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /status` | 200, the snapshot as JSON |
//! | `POST /drain` | 202, also when draining already: a drain ends in exit |
//! | `POST /quiet` | 202, also when quiet or draining already |
//! | `DELETE /quiet` | 202, or 409 when draining |

mod directory;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use last_call_proto::Phase;
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::http::{Ops, WorkerInfo, phase_word, serve_on};
use crate::observe::{DrainProgress, Snapshot, Verb};

/// How long an answer waits for the snapshot to show what the verb asked for.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// A live process holds the path.
    #[error("admin socket {}: another process answers there; give each worker a path of its own", .0.display())]
    Taken(PathBuf),
    /// Something else has that name.
    #[error("admin socket {}: the path exists and is no socket; choose another or remove it", .0.display())]
    NoSocket(PathBuf),
    /// The file system says no.
    #[error("admin socket {}: {source}; its directory must exist and be writable, its path short (under 100 bytes)", .path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// A bound admin socket. Dropping it removes the file, unless another process has replaced it.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Binds `path`, or where that is a directory a file in it of this process's number, so that one environment
    /// does for several workers. Files left by workers that are gone are replaced there, or removed.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub(crate) fn bind(path: &Path) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Io { path: path.to_owned(), source };
        let several = path.is_dir();
        let parent = if several { Some(path) } else { path.parent() };
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        if !several {
            make_way(path)?;
        }
        // Bound where nobody else may look, so that no moment sees it at the umask's mode.
        let hidden = tempfile::Builder::new()
            .prefix(".lc")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent.unwrap_or(Path::new(".")))
            .map_err(failed)?;
        let newborn = hidden.path().join("s");
        let listener = UnixListener::bind(&newborn).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        fs::set_permissions(&newborn, Permissions::from_mode(0o600)).map_err(failed)?;
        let id = identity(&newborn).map_err(failed)?;
        let path = if several {
            directory::settle(path, &newborn, process::id()).map_err(failed)?
        } else {
            fs::rename(&newborn, path).map_err(failed)?;
            path.to_owned()
        };
        Ok(Self { listener, file: SocketFile { path, id } })
    }
}

/// The name in the file system, removed with this value.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            // A file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Makes sure that nothing of value is at `path`.
fn make_way(path: &Path) -> Result<(), AdminError> {
    let failed = |source| AdminError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(AdminError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match knock(path).map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _)) => Ok(()),
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => Err(AdminError::Taken(path.to_owned())),
        Err((_, error)) => Err(failed(error)),
    }
}

/// Connects without waiting: a stopped process with a full queue is there too.
fn knock(path: &Path) -> io::Result<()> {
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?;
    caller.connect(&SockAddr::unix(path)?)
}

/// Serves the socket until the link thread has let go of the snapshot, or this is dropped; then the file
/// is removed. Call it within a tokio runtime that has IO and time enabled.
///
/// # Errors
/// Where the listener cannot be handed to the runtime.
pub(crate) async fn serve(socket: AdminSocket, ops: Arc<Ops>) -> io::Result<()> {
    let AdminSocket { listener, file: _file } = socket;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let worker = ops.snapshot.clone();
    serve_on(listener, verbs().route("/status", get(status)).with_state(ops), worker).await;
    Ok(())
}

/// The routes that change the worker; who may ask is the caller's affair.
pub(crate) fn verbs() -> Router<Arc<Ops>> {
    Router::new().route("/drain", post(drain)).route("/quiet", post(quiet).delete(unquiet))
}

type Answer = (StatusCode, &'static str);

// Each verb takes the body, so that one beyond the limit is refused and a small one is read to its end.
async fn drain(State(ops): State<Arc<Ops>>, _: Bytes) -> Answer {
    ask(&ops, Verb::Drain, |phase| matches!(phase, Phase::Draining | Phase::Drained)).await
}

async fn quiet(State(ops): State<Arc<Ops>>, _: Bytes) -> Answer {
    ask(&ops, Verb::Quiet, |phase| phase != Phase::Serving).await
}

async fn unquiet(State(ops): State<Arc<Ops>>, _: Bytes) -> Answer {
    let (code, word) = ask(&ops, Verb::Unquiet, |phase| phase != Phase::Quiet).await;
    match ops.snapshot.borrow().phase {
        Phase::Draining | Phase::Drained => {
            (StatusCode::CONFLICT, "the worker is draining; a drain ends in exit and cannot be undone")
        }
        Phase::Serving | Phase::Quiet => (code, word),
    }
}

/// Hands `verb` to the link thread and waits until the snapshot shows it.
async fn ask(ops: &Ops, verb: Verb, shown: impl Fn(Phase) -> bool) -> Answer {
    const GONE: Answer = (StatusCode::SERVICE_UNAVAILABLE, "the worker has ended");
    if ops.verbs.send(verb).is_err() {
        return GONE;
    }
    let mut snapshot = ops.snapshot.clone();
    let shown = snapshot.wait_for(|snapshot| shown(snapshot.phase));
    match tokio::time::timeout(SHOWN_WITHIN, shown).await {
        Ok(Ok(snapshot)) => (StatusCode::ACCEPTED, phase_word(snapshot.phase)),
        Ok(Err(_)) => GONE,
        Err(_) => (StatusCode::ACCEPTED, "asked; the worker has not shown it yet"),
    }
}

/// The page of `/status`. Durations are in seconds, the start is in seconds of the Unix epoch.
#[derive(Debug, Serialize)]
struct StatusPage {
    phase: &'static str,
    registered: bool,
    wedged: bool,
    worker_id: Option<String>,
    agent_name: String,
    version: &'static str,
    active_jobs: u32,
    accepted_jobs: u32,
    load: f32,
    drain: Option<DrainPage>,
}

#[derive(Debug, Serialize)]
struct DrainPage {
    started: f64,
    budget: f64,
    time_left: f64,
    jobs_at_start: u32,
    jobs_finished: u32,
    declined: u64,
}

async fn status(State(ops): State<Arc<Ops>>) -> Json<StatusPage> {
    let snapshot: Snapshot = ops.snapshot.borrow().clone();
    let WorkerInfo { agent_name, version, .. } = ops.worker();
    Json(StatusPage {
        phase: phase_word(snapshot.phase),
        registered: snapshot.registered,
        wedged: snapshot.wedged,
        worker_id: snapshot.worker_id,
        agent_name,
        version,
        active_jobs: snapshot.active_jobs,
        accepted_jobs: snapshot.accepted_jobs,
        load: snapshot.load.fraction(),
        drain: snapshot.drain.as_ref().map(|drain| drain_page(drain, SystemTime::now())),
    })
}

fn drain_page(drain: &DrainProgress, now: SystemTime) -> DrainPage {
    let started = drain.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    DrainPage {
        started: started.as_secs_f64(),
        budget: drain.budget.as_secs_f64(),
        time_left: drain.time_left(now).as_secs_f64(),
        jobs_at_start: drain.jobs_at_start,
        jobs_finished: drain.jobs_finished,
        declined: drain.declined,
    }
}

#[cfg(test)]
mod tests;
