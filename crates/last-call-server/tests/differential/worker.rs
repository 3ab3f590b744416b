//! Owns a worker that does as it is told: a plain WebSocket, a manner of answering, a record of what it was sent.
//! Refuses to be a good worker: it answers late, never, or nonsense.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use last_call_testkit::proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::target::Target;

/// More than anything here takes on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a worker answers offers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Mute,
    Accept,
    AcceptAfter(Duration),
    Decline,
    Terminate,
}

/// What a worker was sent, in order.
type Record = Vec<Down>;

/// A connected worker. Its socket drops with it, without a word.
pub(crate) struct Worker {
    frames: mpsc::UnboundedSender<Vec<Message>>,
    record: watch::Receiver<Record>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn register(agent: &str) -> Up {
    Up::Register(proto::RegisterWorkerRequest {
        agent_name: agent.into(),
        version: "test".into(),
        ..Default::default()
    })
}

pub(crate) fn status(status: proto::WorkerStatus, load: f32) -> Up {
    Up::UpdateWorker(proto::UpdateWorkerStatus { status: Some(status.into()), load, ..Default::default() })
}

pub(crate) fn accept(job: &str) -> Up {
    Up::Availability(proto::AvailabilityResponse {
        job_id: job.into(),
        available: true,
        participant_identity: format!("agent-{job}"),
        participant_name: "An Agent".into(),
        participant_metadata: "about it".into(),
        participant_attributes: [("mine".to_owned(), "yes".to_owned())].into(),
        ..Default::default()
    })
}

pub(crate) fn decline(job: &str) -> Up {
    Up::Availability(proto::AvailabilityResponse { job_id: job.into(), ..Default::default() })
}

fn answer(manner: Manner, job: &str) -> Option<Up> {
    match manner {
        Manner::Mute => None,
        Manner::Accept | Manner::AcceptAfter(_) => Some(accept(job)),
        Manner::Decline => Some(decline(job)),
        Manner::Terminate => Some(Up::Availability(proto::AvailabilityResponse {
            job_id: job.into(),
            terminate: true,
            ..Default::default()
        })),
    }
}

pub(crate) fn binary(message: Up) -> Message {
    Message::Binary(proto::WorkerMessage { message: Some(message) }.encode_to_vec().into())
}

/// Opens `/agent` with this token.
pub(crate) async fn open(target: &Target, token: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}/agent", target.authority).into_client_request()?;
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a header"));
    let stream = TcpStream::connect(&target.authority).await?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

impl Worker {
    /// Connects, without registering.
    pub(crate) async fn connect(target: &Target, manner: Manner) -> Self {
        let token = target.token(VideoGrants { agent: true, ..Default::default() });
        let socket = open(target, &token).await.unwrap_or_else(|error| panic!("{}: {error}", target.name));
        let (frames, outgoing) = mpsc::unbounded_channel();
        let (seen, record) = watch::channel(Record::new());
        let task = tokio::spawn(drive(socket, outgoing, frames.clone(), seen, manner));
        Self { frames, record, task }
    }

    /// Connects and registers, and waits until it can be asked: livekit-server answers a registration a little before.
    pub(crate) async fn start(target: &Target, agent: &str, manner: Manner) -> Self {
        let worker = Self::connect(target, manner).await;
        worker.send([register(agent)]);
        worker.wait(|down| matches!(down, Down::Register(_)).then_some(())).await;
        worker.caught_up().await;
        worker
    }

    /// Writes these in one go.
    pub(crate) fn send(&self, messages: impl IntoIterator<Item = Up>) {
        self.send_raw(messages.into_iter().map(binary).collect());
    }

    pub(crate) fn send_raw(&self, frames: Vec<Message>) {
        // A closed connection is for the test to notice.
        let _ = self.frames.send(frames);
    }

    /// Waits until the server has read everything sent so far, and this worker everything sent to it before.
    pub(crate) async fn caught_up(&self) {
        let stamp = fastrand::i64(1..);
        self.send([Up::Ping(proto::WorkerPing { timestamp: stamp })]);
        self.wait(|down| matches!(down, Down::Pong(pong) if pong.last_timestamp == stamp).then_some(()))
            .await;
    }

    /// Waits for the first message, from the start, of which `find` makes something.
    pub(crate) async fn wait<R>(&self, find: impl FnMut(&Down) -> Option<R>) -> R {
        let mut find = find;
        let mut record = self.record.clone();
        let mut found = None;
        let wait = record.wait_for(|seen| {
            found = seen.iter().find_map(&mut find);
            found.is_some()
        });
        let ended = timeout(PATIENCE, wait).await.map(|ended| ended.is_ok());
        assert_eq!(ended, Ok(true), "in vain, or its connection ended: {:?}", self.seen());
        found.expect("it was found")
    }

    /// Waits until its assignments are for these rooms, in this order.
    pub(crate) async fn wait_assigned(&self, rooms: &[&str]) {
        until(|| self.assignments() == rooms, || format!("{:?} for {rooms:?}", self.assignments())).await;
    }

    /// Waits until the server closed the connection.
    pub(crate) async fn wait_closed(&self) {
        let mut record = self.record.clone();
        let closed = async { while record.changed().await.is_ok() {} };
        timeout(PATIENCE, closed).await.expect("the server closes the connection");
    }

    /// The kinds of messages that it was sent, in order: no token is shown.
    pub(crate) fn seen(&self) -> Vec<&'static str> {
        let kind = |down: &Down| match down {
            Down::Register(_) => "register",
            Down::Availability(_) => "availability",
            Down::Assignment(_) => "assignment",
            Down::Termination(_) => "termination",
            Down::Pong(_) => "pong",
            Down::GoAway(_) => "go away",
        };
        self.record.borrow().iter().map(kind).collect()
    }

    /// The rooms that it was asked for, in order.
    pub(crate) fn offers(&self) -> Vec<String> {
        let record = self.record.borrow();
        record.iter().filter_map(offer).filter_map(|job| job.room).map(|room| room.name).collect()
    }

    /// The rooms of its assignments, in order.
    pub(crate) fn assignments(&self) -> Vec<String> {
        let record = self.record.borrow();
        record.iter().filter_map(assignment).filter_map(|it| it.job?.room).map(|room| room.name).collect()
    }
}

/// Waits until what several workers were sent is `enough`; `seen` is for the one who reads why it is not.
pub(crate) async fn until(mut enough: impl FnMut() -> bool, seen: impl FnOnce() -> String) {
    let wait = async {
        while !enough() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("in vain: {}", seen());
    }
}

/// The job of an offer.
pub(crate) fn offer(down: &Down) -> Option<proto::Job> {
    if let Down::Availability(request) = down { request.job.clone() } else { None }
}

pub(crate) fn assignment(down: &Down) -> Option<proto::JobAssignment> {
    if let Down::Assignment(assignment) = down { Some(assignment.clone()) } else { None }
}

async fn drive(
    socket: WebSocketStream<TcpStream>,
    mut outgoing: mpsc::UnboundedReceiver<Vec<Message>>,
    frames: mpsc::UnboundedSender<Vec<Message>>,
    seen: watch::Sender<Record>,
    manner: Manner,
) {
    let (mut sink, mut stream) = socket.split();
    loop {
        let message = tokio::select! {
            Some(batch) = outgoing.recv() => {
                for frame in batch {
                    if sink.feed(frame).await.is_err() {
                        return;
                    }
                }
                // A connection that is gone is seen by the reader.
                let _ = sink.flush().await;
                continue;
            }
            frame = stream.next() => match frame {
                Some(Ok(Message::Binary(bytes))) => proto::ServerMessage::decode(bytes).ok(),
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).ok(),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        let message = message.and_then(|message| message.message).expect("a message that we know");
        let reply = offer(&message).and_then(|job| answer(manner, &job.id));
        seen.send_modify(|record| record.push(message));
        let Some(reply) = reply else { continue };
        let delay = if let Manner::AcceptAfter(delay) = manner { delay } else { Duration::ZERO };
        let frames = frames.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = frames.send(vec![binary(reply)]);
        });
    }
}
