//! What a worker and a job's process say to each other.
//!
//! Owns the messages and their frames: a length of four bytes, then protobuf. Refuses to be a protocol between
//! versions: both ends are the same executable.

use std::io;
use std::time::Duration;

use livekit_protocol as livekit;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// What lies in the socket before the process starts, by which it knows what it is.
pub(super) const GREETING: &[u8; 24] = b"last-call: a job's life\n";

/// A frame is no longer. A job's metadata is a few kilobytes; the server takes 64 KiB.
const FRAME: usize = 16 << 20;
/// Frames read and not looked at yet.
const AHEAD: usize = 16;

#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct ToProcess {
    #[prost(oneof = "Order", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) order: Option<Order>,
}

/// What the process is to do.
#[derive(prost::Oneof)]
#[prost(skip_debug)]
pub(super) enum Order {
    #[prost(message, boxed, tag = "1")]
    Run(Box<Assignment>),
    /// The worker drains; milliseconds until the drain deadline.
    #[prost(uint64, tag = "2")]
    Draining(u64),
    #[prost(message, tag = "3")]
    Stop(Stop),
    /// Cancel the entrypoint.
    #[prost(bool, tag = "4")]
    Cancel(bool),
    /// Have user code's runtime answer.
    #[prost(bool, tag = "5")]
    Ping(bool),
    /// The server knows how the job ended: the agent may leave its room.
    #[prost(bool, tag = "6")]
    Reported(bool),
}

/// Holds the join token: it goes this way, and through no argument and no variable.
#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct Assignment {
    #[prost(message, optional, tag = "1")]
    pub(super) job: Option<livekit::Job>,
    #[prost(string, tag = "2")]
    pub(super) identity: String,
    #[prost(string, tag = "3")]
    pub(super) url: String,
    #[prost(string, tag = "4")]
    pub(super) token: String,
    #[prost(string, tag = "5")]
    pub(super) worker_id: String,
    /// The job's span, as a W3C `traceparent`; empty where there is none.
    #[prost(string, tag = "6")]
    pub(super) trace: String,
}

/// The job is told to stop.
#[derive(Message)]
pub(super) struct Stop {
    #[prost(enumeration = "Why", tag = "1")]
    pub(super) why: i32,
    /// Milliseconds until the entrypoint is cancelled.
    #[prost(uint64, tag = "2")]
    pub(super) left_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Why {
    Terminated = 0,
    Requested = 1,
    DrainDeadline = 2,
}

#[derive(Message)]
pub(super) struct FromProcess {
    #[prost(oneof = "News", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub(super) news: Option<News>,
}

/// What became of the process, or of its job.
#[derive(prost::Oneof)]
pub(super) enum News {
    /// It is initialised.
    #[prost(bool, tag = "1")]
    Warm(bool),
    /// It cannot be: what prewarming, or the start, said.
    #[prost(string, tag = "2")]
    Failed(String),
    /// The entrypoint starts.
    #[prost(bool, tag = "3")]
    Started(bool),
    /// The job asks to stop, with these words.
    #[prost(string, tag = "4")]
    StopRequested(String),
    /// The entrypoint is over.
    #[prost(bool, tag = "5")]
    Finishing(bool),
    #[prost(bool, tag = "6")]
    Succeeded(bool),
    #[prost(message, tag = "7")]
    JobFailed(Failure),
    /// User code's runtime has answered.
    #[prost(bool, tag = "8")]
    Pong(bool),
    /// It has the job: from here on it may have begun.
    #[prost(bool, tag = "9")]
    Taken(bool),
}

#[derive(Message)]
pub(super) struct Failure {
    #[prost(string, tag = "1")]
    pub(super) text: String,
    /// The type of user code's error; empty where it had none.
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

impl From<Order> for ToProcess {
    fn from(order: Order) -> Self {
        Self { order: Some(order) }
    }
}

impl From<News> for FromProcess {
    fn from(news: News) -> Self {
        Self { news: Some(news) }
    }
}

/// A time that is left, as it travels.
pub(super) fn milliseconds(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// Writes one frame. Not cancel safe: half a frame ends the conversation.
pub(super) async fn write(socket: &mut OwnedWriteHalf, message: &impl Message) -> io::Result<()> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let frame = [&length.to_be_bytes()[..], &body].concat();
    socket.write_all(&frame).await
}

/// Frames as they come, until the other end is gone or says what is no frame.
pub(super) fn read<M: Message + Default + 'static>(mut socket: OwnedReadHalf) -> mpsc::Receiver<M> {
    let (frames, taken) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        while let Ok(message) = read_one(&mut socket).await {
            if frames.send(message).await.is_err() {
                return;
            }
        }
    });
    taken
}

async fn read_one<M: Message + Default>(socket: &mut OwnedReadHalf) -> io::Result<M> {
    let length = usize::try_from(socket.read_u32().await?).unwrap_or(usize::MAX);
    if length > FRAME {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(M::decode(&body[..])?)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_garbage_ends_it() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (mut written, mut read) = (ours.into_split().1, read::<ToProcess>(theirs.into_split().0));
        let job = livekit::Job { id: "AJ_1".into(), metadata: "x".repeat(100_000), ..Default::default() };
        let run = Assignment { job: Some(job.clone()), token: "t".into(), ..Default::default() };
        for order in [Order::Run(Box::new(run)), Order::Draining(7)] {
            write(&mut written, &ToProcess::from(order)).await.expect("room in the socket");
        }
        let first = read.recv().await.and_then(|message| message.order);
        assert!(matches!(first, Some(Order::Run(run)) if run.job.as_ref() == Some(&job) && run.token == "t"));
        assert!(matches!(read.recv().await.and_then(|message| message.order), Some(Order::Draining(7))));
        written.write_all(&u32::MAX.to_be_bytes()).await.expect("room in the socket");
        assert!(read.recv().await.is_none());
    }
}
