//! Owns one worker's connection after its upgrade: frames in, the scripted answers, frames out. Refuses to correct the worker: whatever
//! it sends is recorded as it came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use livekit_protocol as proto;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use prost::Message as _;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::event::What;
use super::shared::{Answer, Handle, Out, Script, Shared};
use crate::cut::Cut;
use crate::wire;

/// Either TCP or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The version that the script's registration answer names.
pub(crate) const SERVER_VERSION: &str = "1.13.5";

/// Room for one read: larger than any burst of frames that a test compares.
const READ: usize = 64 * 1024;

/// What is known when the upgrade is done.
pub(crate) struct Upgraded {
    pub(crate) number: u64,
    pub(crate) stream: Box<dyn Stream>,
    /// A second hold on the same socket, to reset it.
    pub(crate) socket: Socket,
    /// Bytes behind the upgrade.
    pub(crate) rest: BytesMut,
    /// Socket reads so far.
    pub(crate) reads: u64,
}

/// Serves the connection to its end and records why it ended.
pub(crate) async fn serve(shared: Arc<Shared>, upgraded: Upgraded) {
    let Upgraded { number, stream, socket, rest, reads } = upgraded;
    let (out, outgoing) = mpsc::unbounded_channel();
    let (frozen, thaw) = watch::channel(false);
    let (cut, mut cuts) = watch::channel(None);
    shared.handles().insert(number, Handle { out: out.clone(), frozen, cut, registered: false });
    let (read_half, write_half) = tokio::io::split(stream);
    let reader = Reader { shared: Arc::clone(&shared), number, out, reads, partial: None };
    let why = tokio::select! {
        why = reader.run(read_half, rest, thaw) => why,
        why = write(write_half, outgoing) => why,
        _ = cuts.changed() => {
            if *cuts.borrow() == Some(Cut::Rst) {
                // Without it the test would see a FIN where it asked for a reset, and fail on that.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            "cut by the test".to_owned()
        }
    };
    shared.handles().remove(&number);
    shared.record(number, What::Ended(why));
}

async fn write(mut socket: impl AsyncWrite + Unpin, mut outgoing: mpsc::UnboundedReceiver<Out>) -> String {
    while let Some(Out::Bytes(bytes)) = outgoing.recv().await {
        if let Err(error) = socket.write_all(&bytes).await {
            return format!("writing failed: {error}");
        }
        if let Err(error) = socket.flush().await {
            return format!("writing failed: {error}");
        }
    }
    "closed by the worker".to_owned()
}

struct Reader {
    shared: Arc<Shared>,
    number: u64,
    out: mpsc::UnboundedSender<Out>,
    reads: u64,
    /// The message whose first frames are there.
    partial: Option<(Data, Vec<u8>, usize)>,
}

impl Reader {
    async fn run(
        mut self,
        mut socket: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
        mut frozen: watch::Receiver<bool>,
    ) -> String {
        loop {
            loop {
                match wire::split(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => self.frame(frame),
                    Err(error) => {
                        self.shared.record(
                            self.number,
                            What::Garbled { bytes: buffer.split().freeze(), error: format!("{error:#}") },
                        );
                        break;
                    }
                }
            }
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return "forgotten by the stub".to_owned();
            }
            buffer.reserve(READ);
            let read = tokio::select! {
                biased;
                _ = frozen.changed() => continue,
                read = socket.read_buf(&mut buffer) => read,
            };
            match read {
                Ok(0) => return "the worker closed the socket".to_owned(),
                Ok(_) => self.reads += 1,
                Err(error) => return format!("reading failed: {error}"),
            }
        }
    }

    fn frame(&mut self, frame: Bytes) {
        let (size, read) = (frame.len(), self.reads);
        let (header, payload) = match wire::open(frame.clone()) {
            Ok(opened) => opened,
            Err(error) => return self.garbled(frame, format!("{error:#}")),
        };
        match header.opcode {
            OpCode::Control(Control::Ping) => {
                self.record(What::Ping { payload: payload.clone(), read });
                if self.shared.script().pong {
                    self.reply(wire::frame(OpCode::Control(Control::Pong), payload));
                }
            }
            OpCode::Control(Control::Pong) => self.record(What::Pong { payload, read }),
            OpCode::Control(Control::Close) => {
                let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                self.record(What::Close(code));
                self.reply(wire::frame(OpCode::Control(Control::Close), payload));
                let _ = self.out.send(Out::End);
            }
            OpCode::Data(kind) => self.data(kind, payload, size, header.is_final),
            OpCode::Control(Control::Reserved(code)) => self.garbled(frame, format!("control opcode {code}")),
        }
    }

    fn data(&mut self, kind: Data, payload: Bytes, size: usize, last: bool) {
        let (kind, bytes, size) = match (kind, self.partial.take()) {
            (Data::Continue, Some((kind, mut bytes, before))) => {
                bytes.extend_from_slice(&payload);
                (kind, bytes, before + size)
            }
            (Data::Continue | Data::Reserved(_), _) => {
                return self.garbled(payload, format!("a {kind:?} frame"));
            }
            (kind @ (Data::Text | Data::Binary), _) => (kind, payload.to_vec(), size),
        };
        if !last {
            self.partial = Some((kind, bytes, size));
        } else if kind == Data::Text {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.record(What::Text { text, read: self.reads });
        } else {
            self.message(bytes.into(), size);
        }
    }

    fn message(&mut self, bytes: Bytes, size: usize) {
        let at = Instant::now();
        match proto::WorkerMessage::decode(bytes.clone()).map(|decoded| decoded.message) {
            Ok(Some(message)) => {
                if let FromWorker::Availability(answer) = &message {
                    self.answered(answer, at);
                }
                // As it is now: who sees the message in the log may change it.
                let script = self.shared.script().clone();
                let read = self.reads;
                let what = What::Message { message: message.clone(), size, read };
                // Who waits for a registration offers next: it must find the worker registered.
                if matches!(message, FromWorker::Register(_)) {
                    self.react(&script, message);
                    self.record(what);
                } else {
                    self.record(what);
                    self.react(&script, message);
                }
            }
            Ok(None) => self.garbled(bytes, "a message of no known kind".to_owned()),
            Err(error) => self.garbled(bytes, error.to_string()),
        }
    }

    fn answered(&self, answer: &proto::AvailabilityResponse, at: Instant) {
        let mut offers = self.shared.offers();
        let Some(offer) = offers.get_mut(&answer.job_id) else { return };
        if offer.answer.is_some() {
            offer.repeated += 1;
        } else {
            offer.answer = Some(Answer { at, available: answer.available, terminate: answer.terminate });
        }
        offer.job.state.get_or_insert_default().participant_identity.clone_from(&answer.participant_identity);
    }

    /// What the real server does by itself, as far as the script asks for it.
    fn react(&self, script: &Script, message: FromWorker) {
        match message {
            FromWorker::Register(_) => {
                let _ = self.shared.with(self.number, |handle| handle.registered = true);
                if script.register {
                    self.send(ToWorker::Register(proto::RegisterWorkerResponse {
                        worker_id: format!("AW_stub{}", self.number),
                        server_info: Some(proto::ServerInfo {
                            version: SERVER_VERSION.to_owned(),
                            protocol: 16,
                            node_id: "ND_stub".to_owned(),
                            ..Default::default()
                        }),
                        endpoint_settings: None,
                    }));
                }
            }
            FromWorker::Availability(answer) if answer.available => {
                if let Some(delay) = script.assign {
                    self.assign(answer.job_id, delay);
                }
            }
            FromWorker::Ping(ping) => {
                let timestamp = ping.timestamp;
                self.send(ToWorker::Pong(proto::WorkerPong { last_timestamp: timestamp, timestamp }));
            }
            FromWorker::Availability(_)
            | FromWorker::UpdateWorker(_)
            | FromWorker::UpdateJob(_)
            | FromWorker::SimulateJob(_)
            | FromWorker::MigrateJob(_) => {}
        }
    }

    /// Assigns on this thread when nothing is to be waited for, so that the assignment follows its answer in the log.
    fn assign(&self, job_id: String, delay: Duration) {
        // A job that was never offered, or a connection that is gone, has no assignment: the log shows both.
        if delay.is_zero() {
            let _ = self.shared.assign(&job_id, None, None);
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = shared.assign(&job_id, None, None);
        });
    }

    fn send(&self, message: ToWorker) {
        // The connection is open while its reader runs.
        let _ = self.shared.send(self.number, message);
    }

    fn reply(&self, frame: Bytes) {
        // The writer may have ended on an error, which the log shows.
        let _ = self.out.send(Out::Bytes(frame));
    }

    fn garbled(&self, bytes: Bytes, error: String) {
        self.record(What::Garbled { bytes, error });
    }

    fn record(&self, what: What) {
        self.shared.record(self.number, what);
    }
}
