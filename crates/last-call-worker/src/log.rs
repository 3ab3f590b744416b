//! Where log lines go: JSON for collectors, plain text for people, both to stdout and never in the way.
//!
//! Owns the level names, the formats and the queue to stdout. Refuses to block: a reader that stopped
//! costs lines, which are counted, and never holds a drain. Refuses the lines of `tungstenite` and `ureq`
//! that spell out tokens.

use std::io::{self, IsTerminal, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_log::AsLog;
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt};

mod json;
mod pretty;
mod queue;

use queue::LineQueue;

/// How a line looks: text, with colours on a terminal unless `NO_COLOR` is set, or a JSON object with the
/// fields of the spans around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Pretty,
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// A single word that names no level.
    #[error(
        "--log-level {0:?}: use trace, debug, info, warn, error or critical, or directives such as \
         \"info,my_agent=debug\""
    )]
    Level(String),
    /// Directives that cannot be read.
    #[error("--log-level {directives:?}: {source}; directives look like \"info,my_agent=debug\"")]
    Directives {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the log thread: {0}")]
    Thread(#[from] io::Error),
}

/// The queue to stdout, once `init` has made it.
static QUEUE: OnceLock<Arc<LineQueue>> = OnceLock::new();

/// Starts the log, for `tracing` and for crates that use `log`. A subscriber that user code installed
/// before stays, and is no error.
///
/// `level` is a level's name in any case (`critical` is `error`), or `EnvFilter` directives.
///
/// # Errors
/// See [`LogError`].
pub(crate) fn init(format: Format, level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let queue = LineQueue::start(io::stdout(), format)?;
    // Installing can only fail because another thread was first: its subscriber then stays.
    let installed = match format {
        Format::Json => tracing::subscriber::set_global_default(json(filter, Arc::clone(&queue))),
        Format::Pretty => tracing::subscriber::set_global_default(pretty(filter, Arc::clone(&queue))),
    };
    if installed.is_ok() {
        let _ = QUEUE.set(queue);
        // Fails where user code has a logger of its own, which then stays too.
        let _ = tracing_log::LogTracer::builder().with_max_level(LevelFilter::current().as_log()).init();
    }
    Ok(())
}

/// Log lines still queued at the exit are waited for this long.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_millis(50);

/// The log of a program that [`LogOptions::start`](crate::LogOptions::start) started. Dropped, it writes what is
/// still queued, 50 ms at most.
#[must_use = "keep it until the end of main"]
#[derive(Debug)]
pub struct Logs(pub(crate) ());

impl Drop for Logs {
    fn drop(&mut self) {
        flush(FLUSH_WITHIN);
    }
}

/// Whether lines are text for people.
pub(crate) fn is_pretty() -> bool {
    QUEUE.get().is_some_and(|queue| queue.format() == Format::Pretty)
}

/// A line that a job's process has formatted already. Where the program's own subscriber logs, it goes to stdout
/// beside that.
pub(crate) fn pass_on(line: &str) {
    if QUEUE.get().is_none()
        && let Ok(queue) = LineQueue::start(io::stdout(), Format::Json)
    {
        let _ = QUEUE.set(queue);
    }
    if let Some(queue) = QUEUE.get() {
        // One write is one line.
        let _ = (&**queue).write(format!("{line}\n").as_bytes());
    }
}

/// Waits until the lines logged so far are written, `timeout` at most; whether they are. Call it before
/// the process ends.
pub(crate) fn flush(timeout: Duration) -> bool {
    QUEUE.get().is_none_or(|queue| queue.flush(timeout))
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let word = level.trim();
    let directives = match word.to_ascii_lowercase().as_str() {
        "critical" => "error",
        "warning" => "warn",
        "trace" | "debug" | "info" | "warn" | "error" => word,
        _ if word.contains(['=', ',']) => word,
        _ => return Err(LogError::Level(word.to_owned())),
    };
    EnvFilter::try_new(directives)
        .map_err(|source| LogError::Directives { directives: word.to_owned(), source })
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer()
        .log_internal_errors(false)
        .fmt_fields(JsonFields::new())
        .event_format(json::Flat)
        .with_writer(writer);
    Registry::default().with(filter).with(FilterFn::new(keeps_secrets)).with(lines).with(crate::otel::layer())
}

fn pretty<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = fmt::layer()
        .log_internal_errors(false)
        .with_ansi(colours)
        .fmt_fields(pretty::WithJob::default())
        .with_writer(writer);
    Registry::default().with(filter).with(FilterFn::new(keeps_secrets)).with(lines).with(crate::otel::layer())
}

/// The WebSocket library prints the handshake with its bearer token, and frames with the tokens of jobs; the
/// HTTP client prints requests to the collector, with their credentials; what rooms are made of prints the passwords of ICE.
fn keeps_secrets(line: &Metadata<'_>) -> bool {
    match line.target().split("::").next().unwrap_or_default() {
        "tungstenite" | "tokio_tungstenite" => *line.level() != Level::TRACE,
        "ureq" | "ureq_proto" | "str0m" | "is" | "dimpl" | "sctp_proto" | "livekit_signaling" => {
            *line.level() <= Level::INFO
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
