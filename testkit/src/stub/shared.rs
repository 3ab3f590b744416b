//! Owns the state that the test's thread and the stub's own share: the log, the script, the open connections, the offers and their
//! answers. Refuses IO: bytes are handed to the connection's queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use livekit_protocol as proto;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_token::{AccessToken, TokenVerifier, VideoGrants};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::event::{Event, What};
use crate::cut::Cut;
use crate::log::Log;
use crate::wire;

/// What the stub does by itself.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) upgrade: Policy,
    pub(crate) register: bool,
    pub(crate) assign: Option<Duration>,
    pub(crate) pong: bool,
}

/// What becomes of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    Refuse(u16),
    Hang,
}

/// What a connection's writer is to do.
#[derive(Debug)]
pub(crate) enum Out {
    Bytes(Bytes),
    End,
}

/// The test's hold on one open connection.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) out: mpsc::UnboundedSender<Out>,
    pub(crate) frozen: watch::Sender<bool>,
    pub(crate) cut: watch::Sender<Option<Cut>>,
    pub(crate) registered: bool,
}

/// An offer and what became of it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The job's id.
    pub job_id: String,
    /// The connection it was made on.
    pub connection: u64,
    /// When it was handed to the socket.
    pub sent_at: Instant,
    /// The worker's first answer.
    pub answer: Option<Answer>,
    /// Further answers, which a correct worker does not send.
    pub repeated: u32,
    pub(crate) job: proto::Job,
}

/// A worker's answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was read.
    pub at: Instant,
    /// The worker takes the job.
    pub available: bool,
    /// The worker asks that the dispatch be ended.
    pub terminate: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Log<Event>,
    pub(crate) keys: Option<(String, String)>,
    pub(crate) next: AtomicU64,
    script: Mutex<Script>,
    handles: Mutex<BTreeMap<u64, Handle>>,
    offers: Mutex<HashMap<String, Offer>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(script: Script, keys: Option<(String, String)>) -> Self {
        Self {
            log: Log::new(1),
            keys,
            next: AtomicU64::new(1),
            script: Mutex::new(script),
            handles: Mutex::default(),
            offers: Mutex::default(),
        }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    pub(crate) fn handles(&self) -> MutexGuard<'_, BTreeMap<u64, Handle>> {
        lock(&self.handles)
    }

    pub(crate) fn offers(&self) -> MutexGuard<'_, HashMap<String, Offer>> {
        lock(&self.offers)
    }

    pub(crate) fn record(&self, connection: u64, what: What) {
        self.log.push(Event { at: Instant::now(), connection, what });
    }

    /// Gives `connection`'s handle to `act`.
    ///
    /// # Errors
    /// When the connection is over, or never was.
    pub(crate) fn with<R>(&self, connection: u64, act: impl FnOnce(&mut Handle) -> R) -> Result<R> {
        let mut handles = self.handles();
        let handle = handles.get_mut(&connection);
        handle.map(act).with_context(|| format!("the stub's connection {connection} is not open"))
    }

    /// Records and queues a message; an offer is remembered until it is answered.
    pub(crate) fn send(&self, connection: u64, message: ToWorker) -> Result<()> {
        let bytes = proto::ServerMessage { message: Some(message.clone()) }.encode_to_vec();
        let frame = wire::frame(OpCode::Data(Data::Binary), bytes);
        self.with(connection, |handle| {
            if let ToWorker::Availability(proto::AvailabilityRequest { job: Some(job), .. }) = &message {
                self.remember(connection, job.clone());
            }
            self.record(connection, What::Sent(message));
            // A connection that ends meanwhile says so in the log.
            let _ = handle.out.send(Out::Bytes(frame));
        })
    }

    fn remember(&self, connection: u64, job: proto::Job) {
        let (job_id, sent_at) = (job.id.clone(), Instant::now());
        let offer = Offer { job_id: job_id.clone(), connection, sent_at, answer: None, repeated: 0, job };
        self.offers().insert(job_id, offer);
    }

    /// The newest connection on which a worker is registered.
    pub(crate) fn newest_registered(&self) -> Option<u64> {
        self.handles().iter().rev().find(|(_, handle)| handle.registered).map(|(connection, _)| *connection)
    }

    /// Sends the assignment of a job that was offered; without `token`, one for its room.
    pub(crate) fn assign(&self, job_id: &str, token: Option<String>, url: Option<String>) -> Result<()> {
        let offer = self.offers().get(job_id).cloned();
        let offer = offer.with_context(|| format!("job {job_id} was never offered"))?;
        let token = match token {
            Some(token) => token,
            None => self.room_token(&offer.job)?,
        };
        self.send(
            offer.connection,
            ToWorker::Assignment(proto::JobAssignment { job: Some(offer.job), url, token }),
        )
    }

    fn room_token(&self, job: &proto::Job) -> Result<String> {
        let (key, secret) = self.keys.as_ref().map_or(("stub", "stub"), |(key, secret)| (key, secret));
        let room = job.room.as_ref().map(|room| room.name.clone()).unwrap_or_default();
        let grants = VideoGrants { room_join: true, agent: true, room, ..Default::default() };
        let identity = format!("agent-{}", job.id);
        let token = AccessToken::with_api_key(key, secret).with_identity(&identity).with_grants(grants);
        token.to_jwt().with_context(|| format!("no token for job {} (its room has a name?)", job.id))
    }

    /// Whether the bearer token is one that the real server would take.
    pub(crate) fn allows(&self, token: Option<&str>) -> bool {
        let Some((key, secret)) = &self.keys else { return true };
        let claims = token.map(|token| TokenVerifier::with_api_key(key, secret).verify(token));
        matches!(claims, Some(Ok(claims)) if claims.video.agent)
    }
}
