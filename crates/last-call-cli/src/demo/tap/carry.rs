//! Both directions of one upgraded connection.
//!
//! Owns the patience: 10 s with a side that does not read, and as long with the second direction when the first has
//! ended. Refuses to answer for a side: pings, pongs and closes go through, so a stopped worker looks stopped.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frames::{self, Message, Piece, Splitter};
use super::reading;
use super::seen::{Seen, SeenWhat};

const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Where what is seen goes; dropped, it says that the worker is gone, if that was not said.
#[derive(Debug)]
pub(super) struct Witness {
    worker: usize,
    seen: mpsc::UnboundedSender<Seen>,
    gone: AtomicBool,
}

impl Witness {
    /// Of a connection that is open now.
    pub(super) fn connected(worker: usize, seen: mpsc::UnboundedSender<Seen>) -> Self {
        let witness = Self { worker, seen, gone: AtomicBool::new(false) };
        witness.tell(SeenWhat::Connected);
        witness
    }

    fn tell(&self, what: SeenWhat) {
        if !self.gone.load(Ordering::Relaxed) {
            // Nobody may look any more.
            let _ = self.seen.send(Seen::now(self.worker, what));
        }
    }

    /// Says what failed, also after the end.
    fn trouble(&self, text: String) {
        let _ = self.seen.send(Seen::now(self.worker, SeenWhat::Trouble { text }));
    }

    fn gone(&self) {
        self.tell(SeenWhat::Gone);
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.gone();
    }
}

/// Carries messages until both sides have ended, or one has failed. `rooms` goes into assignments without a URL.
pub(super) async fn carry<S>(worker: S, server: S, witness: Witness, rooms: Option<String>)
where
    S: AsyncRead + AsyncWrite,
{
    let (from_worker, to_worker) = split(worker);
    let (from_server, to_server) = split(server);
    let witness = Arc::new(witness);
    let (above, below) = (Arc::clone(&witness), Arc::clone(&witness));
    let mut available = true;
    let mut up = pin!(direction(from_worker, to_server, move |message| {
        if let Some(what) = reading::of_worker(message, &mut available) {
            above.tell(what);
        }
        None
    }));
    let mut down = pin!(direction(from_server, to_worker, move |message| {
        let (what, instead) = reading::of_server(message, rooms.as_deref());
        if let Some(what) = what {
            below.tell(what);
        }
        frames::frame(instead?, message.text)
    }));
    tokio::select! {
        ended = up.as_mut() => second(ended, down, witness).await,
        ended = down.as_mut() => second(ended, up, witness).await,
    }
}

/// Lets the second direction end by itself, if the first did.
async fn second(first: io::Result<()>, second: impl Future<Output = io::Result<()>>, witness: Arc<Witness>) {
    let ended = match first {
        Ok(()) => {
            witness.gone();
            timeout(PATIENCE, second).await.unwrap_or(Ok(()))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        witness.trouble(format!("its connection broke: {error}"));
    }
}

/// Carries messages one way until the sender ends, and passes the end on. What `judge` returns goes in a message's
/// place.
async fn direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut judge: impl FnMut(&Message) -> Option<Bytes>,
) -> io::Result<()> {
    let mut splitter = Splitter::default();
    loop {
        while let Some(piece) = splitter.next().map_err(io::Error::other)? {
            let wire = match piece {
                Piece::Control { wire } => wire,
                Piece::Message(message) => judge(&message).unwrap_or(message.wire),
            };
            within(to.write_all(&wire)).await?;
        }
        within(to.flush()).await?;
        splitter.buffer.reserve(READ);
        if from.read_buf(&mut splitter.buffer).await? == 0 {
            within(to.write_all(&splitter.rest())).await?;
            return within(to.shutdown()).await;
        }
    }
}

async fn within(written: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("a side did not read for {PATIENCE:?}"));
    timeout(PATIENCE, written).await.unwrap_or_else(|_| Err(late()))
}
