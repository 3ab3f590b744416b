//! What to tell systemd, and when.
//!
//! Owns the words and their order, as a pure function of what the worker shows and of the time. Refuses sockets.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use last_call_proto::Phase;
use tokio::time::Instant;

use crate::observe::{DrainProgress, Snapshot};

/// What one message adds to the time in which the worker must get ready, or must have left.
const EXTENSION: Duration = Duration::from_secs(20);
/// Between two such messages.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// What the exit may take after the drain budget, on a machine that is busy.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// From one look at the status to the next: the number of jobs can change a thousand times a second, and people read
/// this.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// No watchdog is worth looking more often.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// A status line is one line; the server's part of it could be anything.
const STATUS_LENGTH: usize = 200;

/// What was said so far, and so what would be new.
#[derive(Clone, Debug)]
pub(super) struct News {
    server: Arc<str>,
    watchdog: Option<Duration>,
    ready: bool,
    /// Since when the worker drains, once that was said.
    stopping: Option<Instant>,
    extended: Option<Instant>,
    alive: Option<Instant>,
    status: Arc<str>,
    status_at: Option<Instant>,
}

impl News {
    /// `watchdog` is how often a sign of life is due.
    pub(super) fn new(server: String, watchdog: Option<Duration>) -> Self {
        Self {
            server: server.into(),
            watchdog,
            ready: false,
            stopping: None,
            extended: None,
            alive: None,
            status: Arc::default(),
            status_at: None,
        }
    }

    /// How often [`News::next`] must be asked, so that a sign of life is never later than half of its time.
    pub(super) fn look_every(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| (watchdog / 4).max(LOOK_AT_MOST_EVERY))
    }

    /// The message for now, which counts as said; `None` if there is nothing new. What is new with the status alone is
    /// said a second later at most.
    pub(super) fn next(&mut self, shown: &Snapshot, now: Instant) -> Option<String> {
        let mut lines = Vec::new();
        let turned = self.turn(shown, now);
        lines.extend(turned.map(str::to_owned));
        if let Some(extension) = self.extension(shown, now) {
            lines.push(format!("EXTEND_TIMEOUT_USEC={}", extension.as_micros()));
        }
        if self.look_every().is_some_and(|every| is_due(&mut self.alive, every, now)) {
            lines.push("WATCHDOG=1".to_owned());
        }
        // A busy link asks at each of its turns: the text is made when it may be said, and not to be compared.
        if is_due(&mut self.status_at, STATUS_EVERY, now) || turned.is_some() {
            let status = self.status(shown);
            if *self.status != *status {
                lines.push(format!("STATUS={status}"));
                (self.status, self.status_at) = (status.into(), Some(now));
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// The two moments that systemd counts on, each once.
    fn turn(&mut self, shown: &Snapshot, now: Instant) -> Option<&'static str> {
        if self.stopping.is_some() {
            return None;
        }
        if is_draining(shown) {
            self.stopping = Some(now);
            self.extended = None;
            return Some("STOPPING=1");
        }
        (shown.registered && !std::mem::replace(&mut self.ready, true)).then_some("READY=1")
    }

    /// More time to get ready or to drain, if it is time to ask for it.
    fn extension(&mut self, shown: &Snapshot, now: Instant) -> Option<Duration> {
        let left = match (self.stopping, &shown.drain) {
            (Some(since), Some(drain)) => {
                drain.budget.saturating_add(LEAVE_WITHIN).saturating_sub(now - since)
            }
            (Some(_), None) => LEAVE_WITHIN,
            (None, _) if self.ready => Duration::ZERO,
            (None, _) => EXTENSION,
        };
        let extension = left.min(EXTENSION);
        (!extension.is_zero() && is_due(&mut self.extended, EXTEND_EVERY, now)).then_some(extension)
    }

    /// One line for people.
    fn status(&self, shown: &Snapshot) -> String {
        let server = &self.server;
        let jobs = match shown.jobs_held() {
            1 => "1 job".to_owned(),
            jobs => format!("{jobs} jobs"),
        };
        let text = match (shown.phase, &shown.worker_id) {
            (Phase::Draining, _) => {
                format!("draining: taking no jobs, {jobs} left{}", until(shown.drain.as_ref()))
            }
            (Phase::Drained, _) => "drained: leaving".to_owned(),
            (Phase::Quiet, _) => format!("quiet: taking no jobs, {jobs}"),
            (Phase::Serving, None) => format!("not registered at {server} yet"),
            (Phase::Serving, Some(_)) if !shown.registered => format!("lost {server}, trying again; {jobs}"),
            (Phase::Serving, Some(_)) if shown.wedged => {
                format!("user code does not run: taking no jobs, {jobs}")
            }
            (Phase::Serving, Some(worker)) => format!("registered as {worker} at {server}, {jobs}"),
        };
        text.chars().take(STATUS_LENGTH).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

fn is_draining(shown: &Snapshot) -> bool {
    matches!(shown.phase, Phase::Draining | Phase::Drained)
}

/// Whether `every` has passed since the last time that this was true; the first time is at once.
fn is_due(last: &mut Option<Instant>, every: Duration, now: Instant) -> bool {
    let due = last.is_none_or(|last| now - last >= every);
    if due {
        *last = Some(now);
    }
    due
}

/// The end of the drain on the clock, if there is a date for it.
fn until(drain: Option<&DrainProgress>) -> String {
    let end = drain.and_then(|drain| drain.started.checked_add(drain.budget));
    let mut text = String::new();
    match end.map(|end| write!(text, ", until {}", humantime::format_rfc3339_seconds(end))) {
        Some(Ok(())) => text,
        Some(Err(_)) | None => String::new(),
    }
}
