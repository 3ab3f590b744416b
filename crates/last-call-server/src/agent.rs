//! Workers' sockets: the upgrade at `/agent`, frames in, frames out, pings.
//!
//! Owns a socket's task and its bounds: frames of 2 MiB, 4,096 of them waiting to be written, 10 s for a write.
//! Refuses to know what a frame means.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use last_call_proto::ConnId;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::access::Grants;
use crate::shared::Shared;
use crate::wire::{self, Encoding};

/// livekit-server's limit on a worker's message.
const FRAME_LIMIT: usize = 2 << 20;
/// What is read at once: a worker's frames are small, and every socket keeps this much.
const READ_BUFFER: usize = 8 * 1024;
/// Frames that wait to be written; a worker that is further behind is cut off.
const BACKLOG: usize = 4_096;
/// The patience with a worker that does not read.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// livekit-server's pings.
const PING_EVERY: Duration = Duration::from_secs(10);
/// The patience with a worker that is told goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// What the upgrade needs.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    /// The hub.
    pub(crate) shared: Arc<Shared>,
    /// Held by every socket's task, so that the server's end can wait for them.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Upgrades a worker's request. What is no WebSocket finds nothing here, and a token without the grant is refused.
pub(crate) async fn upgrade(State(agents): State<Agents>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let wanted = parts.extensions.remove::<OnUpgrade>();
    let Some((key, upgrade)) = websocket_key(&parts.method, &parts.headers).zip(wanted) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match Grants::of(&parts, &agents.shared.keys) {
        Ok(grants) if grants.agent() => {}
        Ok(_) => return (StatusCode::UNAUTHORIZED, "permissions denied").into_response(),
        Err(_) => return (StatusCode::UNAUTHORIZED, "invalid authorization token").into_response(),
    }
    let (outgoing, frames) = mpsc::channel(BACKLOG);
    let Ok(conn) = agents.shared.hub(|hub| hub.connected(outgoing)) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many workers").into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        if let Ok(io) = upgrade.await {
            serve(&agents.shared, conn, TokioIo::new(io), frames).await;
        }
        agents.shared.hub(|hub| hub.closed(conn));
        drop(agents.alive);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// The key of a WebSocket's handshake, if this is one.
fn websocket_key(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name: HeaderName, wanted: &str| {
        let listed = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        listed.split(',').any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    let ours =
        lists(CONNECTION, "upgrade") && lists(UPGRADE, "websocket") && lists(SEC_WEBSOCKET_VERSION, "13");
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| ours && method == Method::GET).cloned()
}

/// Serves a socket until either side ends it.
async fn serve(shared: &Shared, conn: ConnId, io: TokioIo<Upgraded>, frames: mpsc::Receiver<Message>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(FRAME_LIMIT))
        .max_frame_size(Some(FRAME_LIMIT));
    let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (sink, stream) = stream.split();
    tokio::select! {
        () = read(shared, conn, stream) => {}
        () = write(sink, frames) => {}
    }
}

/// Gives every message to the hub, until one cannot be read.
async fn read(shared: &Shared, conn: ConnId, mut stream: SplitStream<Stream>) {
    while let Some(Ok(frame)) = stream.next().await {
        let (message, encoding) = match &frame {
            Message::Binary(bytes) => (wire::decode(bytes), Encoding::Protobuf),
            Message::Text(text) => (wire::decode_json(text), Encoding::Json),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            Message::Close(_) => return,
        };
        let Some(message) = message else {
            return tracing::warn!(
                conn = conn.0,
                bytes = frame.len(),
                "a worker's message is unknown: closed"
            );
        };
        shared.hub(|hub| hub.received(conn, message, encoding));
    }
}

/// Writes what the hub sends and a ping now and then, until the hub hangs up or the worker stops reading.
async fn write(mut sink: SplitSink<Stream, Message>, mut frames: mpsc::Receiver<Message>) {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            frame = frames.recv() => frame,
            _ = pings.tick() => Some(Message::Ping(Bytes::new())),
        };
        let Some(first) = first else { break };
        let batch = async {
            sink.feed(first).await?;
            while let Ok(frame) = frames.try_recv() {
                sink.feed(frame).await?;
            }
            sink.flush().await
        };
        match timeout(WRITE_WITHIN, batch).await {
            Ok(Ok(())) => {}
            Ok(Err::<_, Error>(_)) | Err(_) => return,
        }
    }
    // However it goes, the socket closes.
    let _ = timeout(GOODBYE_WITHIN, sink.close()).await;
}
