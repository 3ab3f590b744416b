//! Lines for standard output, written by a thread of their own.
//!
//! Owns that thread. Refuses to hold who says a line: a reader that has stopped must not stop the demo, which has
//! processes to end.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// The way to standard output.
#[derive(Debug)]
pub(crate) struct Lines {
    queue: mpsc::Sender<String>,
    writer: JoinHandle<io::Result<()>>,
}

impl Lines {
    /// Starts to write.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::channel::<String>();
        let write = move || lines.into_iter().try_for_each(|line| writeln!(io::stdout(), "{line}"));
        let writer = thread::Builder::new().name("lines".to_owned()).spawn(write)?;
        Ok(Self { queue, writer })
    }

    /// One more.
    ///
    /// # Errors
    /// When standard output takes no more: [`Lines::finish`] says why.
    pub(crate) fn say(&self, line: String) -> io::Result<()> {
        self.queue.send(line).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until all of them are written.
    ///
    /// # Errors
    /// When one could not be.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.queue);
        self.writer.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes has died")))
    }
}
