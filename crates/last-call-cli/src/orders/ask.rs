//! One question to one worker over its admin socket, and the answer.
//!
//! Owns the words for whoever answers, and the 5 s that he has. Refuses to show what came as it came.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use http_body_util::{Full, LengthLimitError};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request, StatusCode};
use last_call_worker::exchange::{self, BODY_LIMIT, Broken};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::shown;

/// A worker waits 2 s for its link thread before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Drain,
    Quiet,
    Unquiet,
}

impl Verb {
    fn request(self) -> (Method, &'static str) {
        match self {
            Self::Drain => (Method::POST, "/drain"),
            Self::Quiet => (Method::POST, "/quiet"),
            Self::Unquiet => (Method::DELETE, "/quiet"),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Quiet => "be quiet",
            Self::Unquiet => "take calls again",
        })
    }
}

/// Why a worker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("no such file; either the worker has left, or its --admin-socket is another path")]
    Missing,
    #[error("no process listens there; its worker was killed, and the file can be removed")]
    Dead,
    #[error("this is no socket")]
    NoSocket,
    #[error(
        "permission denied: the socket is of user {owner}, and this is user {me}; run it as that user, by sudo -u '#{owner}' for one"
    )]
    NotOurs { owner: u32, me: u32 },
    #[error(
        "permission denied: user {me} may not enter its directory; run it as the worker's user or as root"
    )]
    Closed { me: u32 },
    #[error("no answer within {ANSWER_WITHIN:?}; its process may be stopped, or short of CPU")]
    Silent,
    #[error("refused: {0}")]
    Refused(String),
    #[error("whoever listens there is no worker of Last Call: {0}")]
    Strange(String),
    #[error("cannot be asked: {0}")]
    Io(String),
}

/// What a worker says of itself, as far as people are shown it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub(super) phase: String,
    pub(super) registered: bool,
    pub(super) wedged: bool,
    pub(super) worker_id: Option<String>,
    pub(super) agent_name: String,
    pub(super) active_jobs: u32,
    pub(super) accepted_jobs: u32,
    pub(super) load: f64,
    pub(super) drain: Option<Progress>,
}

/// How far a drain has come.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Progress {
    pub(super) started: f64,
    pub(super) time_left: f64,
    pub(super) jobs_at_start: u32,
    pub(super) jobs_finished: u32,
}

/// A worker that answered.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The process, where it can be seen from here.
    pub(super) pid: Option<i32>,
    pub(super) status: Status,
    /// The whole page.
    pub(super) page: Map<String, Value>,
}

impl Status {
    /// In a few words.
    pub(super) fn in_words(&self) -> String {
        let Self { phase, active_jobs, .. } = self;
        let name = if self.agent_name.is_empty() { "(every room)" } else { &self.agent_name };
        format!("{}, {}, jobs: {active_jobs}", shown::line(name), shown::line(phase))
    }
}

impl Progress {
    /// What is left of the budget, to the second.
    pub(super) fn time_left(&self) -> Duration {
        let year = Duration::from_secs(366 * 24 * 3600);
        let left = Duration::try_from_secs_f64(self.time_left.max(0.0)).unwrap_or(year).min(year);
        Duration::from_secs(left.as_secs())
    }
}

/// Asks a worker what it does.
pub(super) async fn status(socket: &Path) -> Result<Seen, Unreached> {
    let answer = ask(socket, &Method::GET, "/status").await?;
    if answer.code != StatusCode::OK {
        return Err(answer.strange());
    }
    let strange =
        |error: serde_json::Error| Unreached::Strange(format!("its status makes no sense ({error})"));
    let page: Map<String, Value> = serde_json::from_slice(&answer.body).map_err(strange)?;
    let status = Status::deserialize(Value::Object(page.clone())).map_err(strange)?;
    Ok(Seen { pid: answer.pid, status, page })
}

/// Gives an order; the worker's word for what it does now, and its process, where that can be seen from here.
pub(super) async fn order(socket: &Path, verb: Verb) -> Result<(String, Option<i32>), Unreached> {
    let (method, target) = verb.request();
    taken(verb, &ask(socket, &method, target).await?)
}

fn taken(verb: Verb, answer: &Answer) -> Result<(String, Option<i32>), Unreached> {
    match (verb, answer.code) {
        (_, StatusCode::ACCEPTED) => Ok((answer.text(), answer.pid)),
        // It is on its way out: what a drain is for.
        (Verb::Drain, StatusCode::SERVICE_UNAVAILABLE) => Ok((answer.text(), answer.pid)),
        (_, StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE) => Err(Unreached::Refused(answer.text())),
        _ => Err(answer.strange()),
    }
}

/// What came back.
#[derive(Debug)]
struct Answer {
    pid: Option<i32>,
    code: StatusCode,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        shown::line(&String::from_utf8_lossy(&self.body))
    }

    fn strange(&self) -> Unreached {
        Unreached::Strange(format!("it answers {}", self.code))
    }
}

async fn ask(socket: &Path, method: &Method, target: &'static str) -> Result<Answer, Unreached> {
    bounded(async {
        let stream = UnixStream::connect(socket).await.map_err(|error| closed_door(socket, &error))?;
        // A process of another PID namespace is number 0.
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
        let (code, body) = exchange(stream, method, target).await?;
        Ok(Answer { pid, code, body })
    })
    .await
}

async fn bounded<T>(asked: impl Future<Output = Result<T, Unreached>>) -> Result<T, Unreached> {
    tokio::time::timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(Unreached::Silent))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &Method,
    target: &'static str,
) -> Result<(StatusCode, Bytes), Unreached> {
    let request =
        Request::builder().method(method).uri(target).header(HOST, "worker").header(CONNECTION, "close");
    let request = request.body(Full::default()).map_err(|error| Unreached::Io(error.to_string()))?;
    let response = exchange::exchange(stream, request, BODY_LIMIT).await.map_err(|broken| match broken {
        Broken::Http(error) => told(&error),
        Broken::Body(error) if error.is::<LengthLimitError>() => {
            Unreached::Strange(format!("its answer is larger than {} KiB", BODY_LIMIT / 1024))
        }
        Broken::Body(error) => told(error.as_ref()),
    })?;
    Ok((response.status(), response.into_body()))
}

/// Why a connection is not to be had.
fn closed_door(socket: &Path, error: &io::Error) -> Unreached {
    let meta = std::fs::metadata(socket);
    let me = nix::unistd::geteuid().as_raw();
    match (error.kind(), meta) {
        (io::ErrorKind::NotFound, _) => Unreached::Missing,
        (io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied, Ok(meta))
            if !meta.file_type().is_socket() =>
        {
            Unreached::NoSocket
        }
        (io::ErrorKind::ConnectionRefused, _) => Unreached::Dead,
        (io::ErrorKind::PermissionDenied, Ok(meta)) => Unreached::NotOurs { owner: meta.uid(), me },
        (io::ErrorKind::PermissionDenied, Err(_)) => Unreached::Closed { me },
        // Its queue is full, and it takes nobody out.
        (io::ErrorKind::WouldBlock, _) => Unreached::Silent,
        (_, _) => Unreached::Io(error.to_string()),
    }
}

/// What broke an exchange: whoever is there speaks no HTTP, or hung up within it.
fn told(error: &(dyn std::error::Error + 'static)) -> Unreached {
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => Unreached::Strange(format!("it does not speak HTTP ({error})")),
        _ => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Unreached::Io(format!("it gave no whole answer ({why})"))
        }
    }
}

#[cfg(test)]
mod tests;
