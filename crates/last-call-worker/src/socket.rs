//! The WebSocket to the server: frames in, batches of frames out, each batch in one write.
//!
//! Owns the connection once it is open. Refuses to decide what is written or when to give up: it says what
//! happened, and its caller asks the core.

mod dial;
mod proxy;
mod tls;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Sink, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) use dial::{AGENT, AGENT_NAME};
pub use dial::{Dialler, Endpoint};
pub(crate) use proxy::Proxy;

/// The server's own limit on a frame (`agent_signal_message_size_limit`).
pub(crate) const FRAME_LIMIT: usize = 2 << 20;

/// Any byte stream that a WebSocket can run over.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// What the socket did.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    /// Everything sent so far is with the kernel.
    Written,
    /// A binary frame arrived.
    Frame(Bytes),
    /// A text frame arrived, which this side never asks for.
    Text,
    /// A ping or pong arrived.
    Alive,
    /// The connection is over; why, for people.
    Closed {
        reason: String,
        /// A frame over [`FRAME_LIMIT`] ended it.
        oversized: bool,
    },
}

/// An open connection.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Transport>>,
    outgoing: VecDeque<Message>,
    writing: bool,
}

impl Socket {
    pub(crate) fn new(stream: WebSocketStream<Box<dyn Transport>>) -> Self {
        Self { stream, outgoing: VecDeque::new(), writing: false }
    }

    /// Whether the last batch is out, so that the next may be decided.
    pub(crate) fn is_idle(&self) -> bool {
        !self.writing
    }

    /// Writes these frames, all in one write if the kernel takes them, and then is true. Otherwise
    /// [`SocketEvent::Written`] follows when it has.
    pub(crate) fn send(&mut self, frames: impl IntoIterator<Item = Message>) -> bool {
        self.outgoing.extend(frames);
        // An error shows again with the next event.
        let written = poll_fn(|cx| self.poll_write(cx)).now_or_never();
        self.writing = !matches!(written, Some(Ok(())));
        !self.writing
    }

    /// The next thing that happens. Cancel safe: nothing is lost when dropped.
    pub(crate) async fn event(&mut self) -> SocketEvent {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<SocketEvent> {
        if self.writing {
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {
                    self.writing = false;
                    return Poll::Ready(SocketEvent::Written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(closed(&error)),
                Poll::Pending => {}
            }
        }
        self.stream.poll_next_unpin(cx).map(|frame| match frame {
            Some(Ok(Message::Binary(bytes))) => SocketEvent::Frame(bytes),
            Some(Ok(Message::Text(_))) => SocketEvent::Text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => SocketEvent::Alive,
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map_or_else(String::new, |frame| format!(" with code {}", frame.code));
                SocketEvent::Closed { reason: format!("the server closed{reason}"), oversized: false }
            }
            Some(Err(error)) => closed(&error),
            None => SocketEvent::Closed { reason: "the connection ended".to_owned(), oversized: false },
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut stream = Pin::new(&mut self.stream);
        while !self.outgoing.is_empty() {
            std::task::ready!(stream.as_mut().poll_ready(cx))?;
            if let Some(frame) = self.outgoing.pop_front() {
                stream.as_mut().start_send(frame)?;
            }
        }
        stream.as_mut().poll_flush(cx)
    }

    /// Says goodbye and reads on until the server does, so that no unread byte makes the kernel reset the
    /// connection under our last frames.
    pub(crate) async fn close(mut self, within: Duration) {
        let goodbye = async {
            self.stream.close(None).await?;
            while let Some(frame) = self.stream.next().await {
                frame?;
            }
            Ok::<_, Error>(())
        };
        // However it goes, the process leaves.
        let _ = tokio::time::timeout(within, goodbye).await;
    }
}

fn closed(error: &Error) -> SocketEvent {
    SocketEvent::Closed { reason: error.to_string(), oversized: matches!(error, Error::Capacity(_)) }
}
