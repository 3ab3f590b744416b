//! One connection of the worker: the upgrade, the registration, the frames both ways.
//!
//! Owns the WebSocket towards the worker, which has no extensions: a frame is what it says. Refuses to know what frames
//! mean, but for the first, which must be a registration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::frames;
use super::guarded::{Attached, FromWorker};
use super::secrets::{self, Secrets};
use crate::runner::FromUser;
use crate::socket::FRAME_LIMIT;

/// The server's own patience with a worker that connects and does not register.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

/// What a worker that takes no bytes is given for the close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A worker that wants to register.
pub(super) struct Arrival {
    /// Its first frame, in protobuf.
    pub(super) register: Bytes,
    pub(super) request: livekit::RegisterWorkerRequest,
    /// The query of its `/agent`.
    pub(super) query: String,
    pub(super) connection: Attached,
    /// Where its frames go from now on; dropped, the connection closes.
    pub(super) link: oneshot::Sender<mpsc::UnboundedSender<FromUser>>,
}

/// Which SDK it is, by its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sdk {
    /// livekit-agents, which is the one that reports how jobs end.
    Python,
    /// A worker of Last Call.
    Ours,
    /// @livekit/agents sends no name, as many others do not.
    Unknown,
}

impl Sdk {
    fn of(request: &Request) -> Self {
        let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        match agent.unwrap_or_default() {
            agent if agent.contains("aiohttp") => Self::Python,
            agent if agent.starts_with(crate::socket::AGENT_NAME) => Self::Ours,
            _ => Self::Unknown,
        }
    }

    /// Whether it says how its jobs end.
    pub(super) fn reports(self) -> bool {
        self != Self::Unknown
    }

    /// Whether its word for a job that failed means that the job's process died.
    pub(super) fn says_failed_of_the_dead(self) -> bool {
        self == Self::Python
    }

    /// Whether such a worker may be told to drain while calls run. livekit-agents before 1.8.9 swallows the signal or hangs
    /// in its drain; 1.8.9 hangs where two calls end at once: it waits for them in a loop that never gives way to what reports
    /// them.
    pub(super) fn drains_well(self) -> bool {
        self == Self::Ours
    }
}

/// Serves one connection to its end. Cancel safe: dropped, it is closed without a word.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    secrets: Arc<Secrets>,
    arrivals: mpsc::UnboundedSender<Arrival>,
) {
    if let Err(why) = try_serve(stream, secrets, arrivals).await {
        tracing::warn!(why, "a connection to guard was of no use");
    }
}

async fn try_serve(
    stream: std::net::TcpStream,
    secrets: Arc<Secrets>,
    arrivals: mpsc::UnboundedSender<Arrival>,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    stream.set_nodelay(true).map_err(|error| text(&error))?;
    let stream = TcpStream::from_std(stream).map_err(|error| text(&error))?;
    let registering = async {
        let (mut socket, asked) = upgrade(stream, &secrets).await?;
        let first = socket.next().await;
        Ok::<_, String>((socket, asked, first))
    };
    let registering = timeout(REGISTER_WITHIN, registering).await;
    let (mut socket, (query, sdk), first) =
        registering.map_err(|_| format!("no registration within {REGISTER_WITHIN:?}"))??;
    let (register, json) = match first {
        Some(Ok(Message::Binary(bytes))) => (bytes, false),
        Some(Ok(Message::Text(json))) => (frames::from_json(&json).unwrap_or_default(), true),
        _ => return Err("it sent no frame".to_owned()),
    };
    let message = livekit::WorkerMessage::decode(register.clone()).ok().and_then(|frame| frame.message);
    let Some(Up::Register(request)) = message else {
        // As the server does.
        let _ = socket.close(None).await;
        return Err("its first frame is no registration".to_owned());
    };
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let (to, outgoing) = mpsc::unbounded_channel();
    let (link, linked) = oneshot::channel();
    let connection = Attached { number, to, json, sdk };
    let arrival = Arrival { register, request, query, connection, link };
    if arrivals.send(arrival).is_err() {
        return Ok(());
    }
    let Ok(link) = linked.await else {
        // Nobody has a use for it: as in a drain.
        let _ = timeout(CLOSE_WITHIN, socket.close(None)).await;
        return Ok(());
    };
    carry(socket, outgoing, json, number, &link).await;
    Ok(())
}

type Asked = (String, Sdk);

async fn upgrade(
    stream: TcpStream,
    secrets: &Secrets,
) -> Result<(WebSocketStream<TcpStream>, Asked), String> {
    let mut asked = None;
    #[expect(clippy::result_large_err, reason = "the library's own type for an answer")]
    let look = |request: &Request, response: Response| {
        if let Err(refused) = secrets.verify_worker(request.headers(), request.uri()) {
            tracing::error!(reason = %refused, "a worker is not let in");
            let mut answer = ErrorResponse::new(Some(refused.to_string()));
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            return Err(answer);
        }
        asked = Some((secrets::without_token(request.uri().query().unwrap_or_default()), Sdk::of(request)));
        Ok(response)
    };
    let limits =
        WebSocketConfig::default().max_message_size(Some(FRAME_LIMIT)).max_frame_size(Some(FRAME_LIMIT));
    let socket = tokio_tungstenite::accept_hdr_async_with_config(stream, look, Some(limits)).await;
    let socket = socket.map_err(|error| format!("no upgrade: {error}"))?;
    Ok((socket, asked.unwrap_or((String::new(), Sdk::Unknown))))
}

/// Carries frames both ways until either side has had enough.
async fn carry(
    socket: WebSocketStream<TcpStream>,
    mut outgoing: mpsc::UnboundedReceiver<Message>,
    json: bool,
    number: u64,
    link: &mpsc::UnboundedSender<FromUser>,
) {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            let said = match message {
                Message::Binary(bytes) => FromWorker::Frame(number, bytes),
                Message::Text(text) if json => match frames::from_json(&text) {
                    Some(bytes) => FromWorker::Frame(number, bytes),
                    None => continue,
                },
                Message::Pong(payload) => match <[u8; 4]>::try_from(payload.as_ref()) {
                    Ok(ping) => FromWorker::Pong(number, u32::from_be_bytes(ping)),
                    Err(_) => continue,
                },
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Frame(_) => continue,
            };
            // A link that has left has no use for it.
            let _ = link.send(FromUser::Worker(said));
        }
    };
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            if sink.feed(message).await.is_err() || (outgoing.is_empty() && sink.flush().await.is_err()) {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    drop(outgoing);
    // Who has left needs not hear of it.
    let _ = link.send(FromUser::Worker(FromWorker::Gone(number)));
    // Whoever closes is answered, and whoever is left is told so.
    let _ = timeout(CLOSE_WITHIN, sink.close()).await;
}
