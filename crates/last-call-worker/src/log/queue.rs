//! The way of a line from the thread that logs to the file that may be stuck.
//!
//! Owns a queue bounded in bytes and the one thread that writes. Refuses to make a logging thread wait:
//! a line that finds the queue full is dropped and counted, and the next line written says how many.
//! `tracing-appender` is not used because its guard waits for a fixed second at exit and reports to
//! stderr, which may be the same stuck pipe.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Format;

/// Bytes that wait to be written, at most.
const CAPACITY: usize = 4 * 1024 * 1024;

/// A bounded queue of lines and its writer thread, which ends with the queue.
#[derive(Debug)]
pub(super) struct LineQueue {
    lines: Sender<Vec<u8>>,
    state: Arc<State>,
    format: Format,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines ever taken into the queue.
    taken: AtomicU64,
    /// Lines that the queue had no room for, since it last said so.
    dropped: AtomicU64,
    /// Lines that left the queue, written or failed.
    done: Mutex<u64>,
    more_done: Condvar,
}

impl LineQueue {
    /// Starts the thread that writes to `file`, and formats its own notices in `format`.
    pub(super) fn start(file: impl Write + Send + 'static, format: Format) -> io::Result<Arc<Self>> {
        let (lines, queue) = mpsc::channel();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("last-call-log".into())
            .spawn(move || write_all(file, &queue, &shared, format))?;
        Ok(Arc::new(Self { lines, state, format }))
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Waits until every line taken so far has left; whether it did within `timeout`.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let taken = self.state.taken.load(Ordering::SeqCst);
        let done = self.state.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.more_done.wait_timeout_while(done, timeout, |done| *done < taken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= taken
    }

    fn push(&self, line: &[u8]) {
        let waiting = self.state.waiting.fetch_add(line.len(), Ordering::SeqCst);
        let fits = waiting.saturating_add(line.len()) <= CAPACITY;
        if fits && self.lines.send(line.to_vec()).is_ok() {
            self.state.taken.fetch_add(1, Ordering::SeqCst);
        } else {
            self.state.waiting.fetch_sub(line.len(), Ordering::SeqCst);
            self.state.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn write_all(mut file: impl Write, lines: &Receiver<Vec<u8>>, state: &State, format: Format) {
    for line in lines {
        let dropped = state.dropped.swap(0, Ordering::SeqCst);
        if dropped > 0 {
            let _ = file.write_all(dropped_notice(dropped, format).as_bytes());
        }
        // A reader that is gone costs its lines; the worker goes on.
        let _ = file.write_all(&line).and_then(|()| file.flush());
        state.waiting.fetch_sub(line.len(), Ordering::SeqCst);
        *state.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        state.more_done.notify_all();
    }
}

fn dropped_notice(dropped: u64, format: Format) -> String {
    let message = format!("{dropped} log lines dropped: whoever reads this log does not keep up");
    match format {
        Format::Json => super::json::notice("WARN", &message),
        Format::Pretty => format!("WARN {message}\n"),
    }
}

/// Takes one line for each `write`, as the formatter hands it over.
impl Write for &LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
