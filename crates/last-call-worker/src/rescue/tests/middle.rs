//! A server between the rescue and the real one: it does what is asked, and then says nothing of it.
//!
//! Owns the faults, and a caller in every room, whom the embedded server cannot have. Refuses anything but Twirp.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use livekit_protocol as livekit;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use crate::exchange::exchange;

/// What goes wrong.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    /// So many of so many answers do not come; a third of these were not asked for.
    pub(super) lost: u32,
    pub(super) of: u32,
    /// Nothing is asked, and nothing answered.
    pub(super) deaf: bool,
    /// The answer to the first dispatch does not come.
    pub(super) loses_first_dispatch: bool,
    pub(super) drops_attributes: bool,
    /// Dispatches are shown as they are, and there is no worker; otherwise each has a job.
    pub(super) untaken: bool,
    /// This agent is in every room, and has just joined.
    pub(super) neighbour: Option<&'static str>,
    /// Somebody waits in every room but this.
    pub(super) callers: bool,
    pub(super) empty: Option<&'static str>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lost: 0,
            of: 1,
            deaf: false,
            loses_first_dispatch: false,
            drops_attributes: false,
            untaken: false,
            neighbour: None,
            callers: true,
            empty: None,
        }
    }
}

pub(super) struct Middle {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: String,
    faults: Mutex<Faults>,
    random: Mutex<fastrand::Rng>,
    lost: AtomicU64,
    /// Methods, in the order of their arrival.
    asked: Mutex<Vec<String>>,
}

impl Middle {
    pub(super) async fn start(url: &str, faults: Faults) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            upstream: url.trim_start_matches("ws://").to_owned(),
            faults: Mutex::new(faults),
            random: Mutex::new(fastrand::Rng::with_seed(7)),
            lost: AtomicU64::new(0),
            asked: Mutex::default(),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                let answer = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { address, state }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(super) fn set(&self, faults: Faults) {
        *lock(&self.state.faults) = faults;
    }

    pub(super) fn asked(&self) -> Vec<String> {
        lock(&self.state.asked).clone()
    }

    pub(super) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error closes the connection without a word.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let faults = *lock(&state.faults);
    let method = request.uri().path().trim_start_matches("/twirp/livekit.").to_owned();
    let first = {
        let mut asked = lock(&state.asked);
        asked.push(method.clone());
        method.ends_with("CreateDispatch") && asked.iter().filter(|one| **one == method).count() == 1
    };
    let (unlucky, before) = {
        let mut random = lock(&state.random);
        (random.u32(0..faults.of) < faults.lost, random.u32(0..3) == 0)
    };
    let lost = || {
        state.lost.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::ConnectionReset.into())
    };
    if faults.deaf || unlucky && before {
        return lost();
    }
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if faults.drops_attributes && method.ends_with("CreateDispatch") {
        let mut wish = livekit::CreateAgentDispatchRequest::decode(body).map_err(io::Error::other)?;
        wish.attributes.clear();
        body = wish.encode_to_vec().into();
    }
    let mut onward = Request::from_parts(head, Full::new(body.clone()));
    onward.headers_mut().remove(hyper::header::CONTENT_LENGTH);
    let stream = TcpStream::connect(&state.upstream).await?;
    let response =
        exchange(stream, onward, 1 << 20).await.map_err(|broken| io::Error::other(format!("{broken:?}")))?;
    if unlucky || faults.loses_first_dispatch && first {
        return lost();
    }
    let (mut head, mut answer) = response.into_parts();
    if method.ends_with("ListParticipants") && head.status.is_success() && faults.callers {
        answer = with_people(&body, answer, &faults).map_err(io::Error::other)?;
        head.headers.remove(hyper::header::CONTENT_LENGTH);
    }
    if method.ends_with("ListDispatch") && head.status.is_success() && !faults.untaken {
        answer = with_jobs(answer).map_err(io::Error::other)?;
        head.headers.remove(hyper::header::CONTENT_LENGTH);
    }
    Ok(Response::from_parts(head, Full::new(answer)))
}

fn with_people(asked: &Bytes, answer: Bytes, faults: &Faults) -> Result<Bytes, prost::DecodeError> {
    let asked = livekit::ListParticipantsRequest::decode(asked.clone())?;
    let mut listed = livekit::ListParticipantsResponse::decode(answer)?;
    if let Some(agent) = faults.neighbour {
        listed.participants.push(livekit::ParticipantInfo {
            identity: agent.to_owned(),
            kind: livekit::participant_info::Kind::Agent.into(),
            joined_at: i64::MAX,
            ..Default::default()
        });
    }
    if faults.empty != Some(&asked.room) {
        listed.participants.push(livekit::ParticipantInfo {
            identity: "caller".to_owned(),
            state: livekit::participant_info::State::Active.into(),
            ..Default::default()
        });
    }
    Ok(listed.encode_to_vec().into())
}

fn with_jobs(answer: Bytes) -> Result<Bytes, prost::DecodeError> {
    let mut listed = livekit::ListAgentDispatchResponse::decode(answer)?;
    for dispatch in &mut listed.agent_dispatches {
        dispatch.state.get_or_insert_default().jobs.push(livekit::Job::default());
    }
    Ok(listed.encode_to_vec().into())
}
