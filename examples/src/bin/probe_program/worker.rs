//! The worker of this program: lines of JSON on the socket, and SIGTERM.
//!
//! Owns both. Refuses to act on what they say, but for what is written down at once.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::diary::{Diary, Entry};

/// What the job must hear of.
pub(crate) enum News {
    /// It is told to stop, for this reason.
    Stop(String),
    /// SIGTERM.
    Terminated,
}

/// The way there.
#[derive(Clone)]
pub(crate) struct Worker(Arc<UnixStream>);

impl Worker {
    pub(crate) fn at_stdin() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        socket.peer_addr()?;
        Ok(Self(Arc::new(socket)))
    }

    /// Says one line. A worker that is gone hears nothing, and ends this process.
    pub(crate) fn say(&self, line: &Value) {
        let _ = self.0.as_ref().write_all(format!("{line}\n").as_bytes());
    }

    pub(crate) fn log(&self, message: &str, fields: &Value) {
        self.say(&json!({"type": "log", "message": message, "fields": fields}));
    }

    /// Says that it reads, and does: writes the start and the drain down, and passes on the rest. Who is deaf takes no
    /// SIGTERM.
    pub(crate) fn listen(&self, diary: Diary, deaf: bool) -> io::Result<Receiver<News>> {
        let (tell, news) = channel();
        let mut signals = Signals::new([SIGTERM])?;
        let terminated = tell.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if !deaf {
                    let _ = terminated.send(News::Terminated);
                }
            }
        });
        let lines = BufReader::new(self.0.try_clone()?).lines();
        // In this order: who sees the start knows that it is told before it is signalled.
        self.say(&json!({"type": "ready"}));
        diary.write(Entry::Started);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                match line["type"].as_str() {
                    Some("draining") => diary.write(Entry::Draining),
                    Some("shutdown") => {
                        let reason = line["reason"].as_str().unwrap_or_default().to_owned();
                        let _ = tell.send(News::Stop(reason));
                    }
                    _ => {}
                }
            }
        });
        Ok(news)
    }
}

#[expect(clippy::print_stderr, reason = "nobody else hears it")]
pub(crate) fn complain(error: &io::Error) -> ExitCode {
    eprintln!("standard input is no socket to a worker: {error}");
    ExitCode::from(2)
}
