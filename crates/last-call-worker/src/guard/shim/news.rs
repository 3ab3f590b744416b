//! What the shim's scripts tell guard: lines of a pipe, each written at once.
//!
//! Owns the words. Refuses to trust them: the jobs' processes can write there as well, so what is too long, or no news,
//! is passed over.

use std::io;
use std::path::Path;

use last_call_proto::JobId;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use crate::process::Ended;

/// Bytes of a line at most: what the kernel writes into a pipe in one piece.
const LINE: usize = 4096;

/// What happened to a process of the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShimNews {
    /// A process for jobs, or for what jobs share, has started.
    Process { pid: u32 },
    /// It is given this job. Of Node only.
    Started { pid: u32, job: JobId },
    /// It has ended, after it was given this job: with [`Ended::Exit`] or [`Ended::Signal`]. Of Node only.
    Ended { pid: u32, job: JobId, ended: Ended },
}

/// The stream of news.
#[derive(Debug)]
pub(crate) struct News {
    pipe: Receiver,
    /// With a writer here it does not end when the last process closes it.
    _writer: Sender,
    read: Vec<u8>,
    /// The rest of a line that is too long is still to come.
    overlong: bool,
}

impl News {
    /// Opens the pipe at `path`. In a runtime only.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let pipe = OpenOptions::new().open_receiver(path)?;
        let writer = OpenOptions::new().open_sender(path)?;
        Ok(Self { pipe, _writer: writer, read: Vec::new(), overlong: false })
    }

    /// The next one; never, where the pipe fails. Cancel safe.
    pub(crate) async fn next(&mut self) -> ShimNews {
        loop {
            while let Some(line) = self.line() {
                if let Some(news) = parse(&line) {
                    return news;
                }
            }
            if !matches!(self.pipe.read_buf(&mut self.read).await, Ok(1..)) {
                std::future::pending().await
            }
        }
    }

    /// Takes a whole line from what is read, and keeps no more of a part than a line may have.
    fn line(&mut self) -> Option<Vec<u8>> {
        while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
            let line = self.read.drain(..=end).collect();
            if !std::mem::take(&mut self.overlong) {
                return Some(line);
            }
        }
        if self.read.len() > LINE {
            self.read.clear();
            self.overlong = true;
        }
        None
    }
}

/// A process number; 0 is none, and would be this process's own group.
fn process(word: &str) -> Option<u32> {
    word.parse().ok().filter(|pid| *pid > 0)
}

fn parse(line: &[u8]) -> Option<ShimNews> {
    let words: Vec<_> = std::str::from_utf8(line).ok()?.split_whitespace().collect();
    match words[..] {
        ["process", pid] => Some(ShimNews::Process { pid: process(pid)? }),
        ["started", pid, job] => Some(ShimNews::Started { pid: process(pid)?, job: job.into() }),
        ["ended", pid, job, how, number] => {
            let number = number.parse().ok()?;
            let ended = match how {
                "exit" => Ended::Exit(number),
                "signal" => Ended::Signal(number),
                _ => return None,
            };
            Some(ShimNews::Ended { pid: process(pid)?, job: job.into(), ended })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn job() -> JobId {
        "AJ_x".into()
    }

    #[tokio::test]
    async fn garbage_is_passed_over_and_news_come_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("news");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut news = News::open(&path).expect("a pipe");
        let long = format!("process {}\n", "7".repeat(3 * LINE));
        // A writer that leaves does not end it.
        for text in [
            "\n\u{0}process\nprocess -1\nstarted 5\nended 5 AJ_x left 3\nended 5 AJ_x exit\n",
            &long,
            "process 5\nstarted 5 AJ_x\n",
            "ended 5 AJ_x exit 3\r\nended 5 AJ_x signal 9\nproc",
            "ess 6\n",
        ] {
            File::options()
                .write(true)
                .open(&path)
                .expect("the pipe")
                .write_all(text.as_bytes())
                .expect("room");
        }
        for expected in [
            ShimNews::Process { pid: 5 },
            ShimNews::Started { pid: 5, job: job() },
            ShimNews::Ended { pid: 5, job: job(), ended: Ended::Exit(3) },
            ShimNews::Ended { pid: 5, job: job(), ended: Ended::Signal(9) },
            ShimNews::Process { pid: 6 },
        ] {
            assert_eq!(news.next().await, expected);
        }
        assert!(news.read.capacity() <= 4 * LINE, "{}", news.read.capacity());
    }
}
