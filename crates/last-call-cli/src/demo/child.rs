//! A worker's process, as Kubernetes has one: started, sent SIGTERM, awaited.
//!
//! Owns the process with all that it starts, and the last lines that it wrote. Refuses to leave any of it behind.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::story::Left;
use crate::shown;

/// The end of a process waits for its last words, which another may hold back for ever.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// Bytes of its output that are kept, for when something is wrong.
const KEPT: usize = 4 * 1024;

/// A running worker. Dropped, it is killed, with its whole process group.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Pid,
    said: Tail,
    /// What reads its output.
    readers: JoinSet<()>,
}

/// The end of what was written.
type Tail = Arc<Mutex<VecDeque<u8>>>;

impl Child {
    /// Starts it, in a process group of its own: a Ctrl-C is the demo's to handle.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let number = process.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
        let (said, mut readers) = (Tail::default(), JoinSet::new());
        if let Some(stdout) = process.stdout.take() {
            readers.spawn(keep(stdout, Arc::clone(&said)));
        }
        if let Some(stderr) = process.stderr.take() {
            readers.spawn(keep(stderr, Arc::clone(&said)));
        }
        Ok(Self { process, pid: Pid::from_raw(number), said, readers })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Signals this process alone, as Kubernetes does.
    pub(crate) fn signal(&self, signal: Signal) {
        // One that has left is not there to be told.
        let _ = kill(self.pid, signal);
    }

    /// Waits for its end. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Left {
        self.process.wait().await.map_or(Left::Stayed, Left::from)
    }

    /// After its end: the last lines that it wrote.
    pub(crate) async fn last_words(mut self) -> String {
        let _ = timeout(LAST_WORDS_WITHIN, async { while self.readers.join_next().await.is_some() {} }).await;
        self.last_lines()
    }

    /// The last lines that it has written.
    pub(crate) fn last_lines(&self) -> String {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        shown::lines(&String::from_utf8_lossy(said.make_contiguous()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Its own children too. The group is gone where all have ended.
        let _ = killpg(self.pid, Signal::SIGKILL);
    }
}

impl From<ExitStatus> for Left {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

async fn keep(mut pipe: impl AsyncRead + Unpin, said: Tail) {
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(&chunk[..count]);
        let surplus = said.len().saturating_sub(KEPT);
        said.drain(..surplus);
    }
}
