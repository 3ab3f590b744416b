//! `last-call ps`, `drain`, `quiet`, `unquiet`: workers and orders to them, over their admin sockets.
//!
//! Owns the options, whom an order reaches, and what is said of each worker. Refuses to decide for a worker: what
//! an order does is in docs/drain.md.

mod ask;
mod find;
mod table;
mod wait;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use futures_util::{StreamExt, future, stream};
use last_call_worker::{Exit, StartError};
use tokio::runtime::Builder;

use self::ask::{Seen, Unreached, Verb};
use self::find::Sockets;
use crate::failure::Failure;

/// Workers asked at once: little against the 1,024 files that a process may have open.
const AT_ONCE: usize = 64;

/// What each of these pages ends with.
macro_rules! after_help {
    ($text:literal) => {
        concat!(
            $text,
            "

A SOCKET is what a worker was given as --admin-socket: a path, or a directory, which stands for
every *.sock in it. Without one LAST_CALL_ADMIN_SOCKET says it, as to the worker; so in a worker's
container these commands need no arguments. They read no configuration file. A socket opens for
the worker's own user and for root."
        )
    };
}

/// Show workers: what they do, and how far their drains have come
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help!("\
Examples:
    last-call ps
    last-call ps /run/last-call /run/agent.sock
    last-call ps --json | jq -r 'select(.phase == \"draining\").drain.time_left'
    kubectl exec my-pod -- last-call ps

JOBS are those that run, and behind a + those accepted whose assignment is still to come. With
--json each worker is a line: its status page, socket and pid; or socket and error.

Exit codes: 0 every worker answered; 1 one did not; 2 usage."))]
pub(crate) struct Ps {
    #[command(flatten)]
    sockets: Given,
    /// One JSON object for each worker in place of a table
    #[arg(long)]
    json: bool,
}

/// Let workers finish their calls and leave, as SIGTERM does
///
/// A drain cannot be undone; a second order changes nothing.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help!("\
Examples:
    last-call drain /run/last-call/4711.sock
    last-call drain --all --wait
    last-call drain --wait --timeout 10m

With --wait a drain goes on when this command is ended, or runs out of --timeout.

Exit codes: 0 every worker took the order, and with --wait has left; 1 one did not; 2 usage, also
where several workers are found and none is named."))]
pub(crate) struct Drain {
    #[command(flatten)]
    to: Targets,
    /// Wait until the workers have left, and say how their drains go
    #[arg(long)]
    wait: bool,
    /// The most that --wait takes, such as 90s or 15m [default: what is left of each worker's own budget]
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = last_call_worker::duration)]
    timeout: Option<Duration>,
}

/// Let workers take no new calls, until unquiet or a drain
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help!("\
Examples:
    last-call quiet
    last-call quiet --all /run/last-call

Exit codes: 0 every worker took the order; 1 one did not; 2 usage, also where several workers are
found and none is named."))]
pub(crate) struct Quiet {
    #[command(flatten)]
    to: Targets,
}

/// Let quiet workers take calls again
///
/// A worker that drains refuses it.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help!("\
Examples:
    last-call unquiet
    last-call unquiet --all /run/last-call

Exit codes: 0 every worker took the order; 1 one did not, or drains; 2 usage, also where several
workers are found and none is named."))]
pub(crate) struct Unquiet {
    #[command(flatten)]
    to: Targets,
}

/// The sockets on the command line.
#[derive(Args, Clone, Debug)]
struct Given {
    /// Admin sockets, or directories of them
    #[arg(value_name = "SOCKET", env = "LAST_CALL_ADMIN_SOCKET", value_parser = OsStringValueParser::new().map(path))]
    sockets: Vec<PathBuf>,
}

/// Whom an order is for.
#[derive(Args, Clone, Debug)]
struct Targets {
    #[command(flatten)]
    sockets: Given,
    /// Every worker that is found, where there are several
    #[arg(long)]
    all: bool,
}

/// An empty variable, as templates leave one, becomes an empty path, and [`find`] passes it over.
fn path(text: OsString) -> PathBuf {
    text.into()
}

/// Whether the command line is for one of these. They run in a worker's environment, whose LAST_CALL_CONFIG names
/// a file of the worker's options and not of theirs.
pub(crate) fn asked_for() -> bool {
    let command = std::env::args_os().nth(1);
    command.is_some_and(|name| ["ps", "drain", "quiet", "unquiet"].iter().any(|order| name == *order))
}

impl Ps {
    /// Shows every worker.
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let found = find::sockets(&self.sockets.sockets)?;
        let workers = block_on(looked_at(found.paths()))?;
        let mut out = io::stdout().lock();
        if self.json {
            for (socket, seen) in &workers {
                writeln!(out, "{}", table::json(socket, seen.as_ref()))?;
            }
        } else {
            let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
            if !workers.is_empty() {
                writeln!(out, "{}", table::text(&workers, width))?;
            }
            out.flush()?;
            for (socket, seen) in &workers {
                if let Err(why) = seen {
                    note(socket, why);
                }
            }
        }
        if workers.is_empty() {
            complain(found.nobody());
        }
        Ok(code(workers.iter().all(|(_, seen)| seen.is_ok())))
    }
}

impl Drain {
    /// Starts the drain of each target.
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let timeout = self.wait.then_some(self.timeout);
        self.to.order(Verb::Drain, timeout)
    }
}

impl Quiet {
    /// Makes each target quiet.
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        self.to.order(Verb::Quiet, None)
    }
}

impl Unquiet {
    /// Takes that back.
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        self.to.order(Verb::Unquiet, None)
    }
}

impl Targets {
    /// Gives the order, and waits for the end of the workers where a wait is given.
    fn order(&self, verb: Verb, wait: Option<Option<Duration>>) -> Result<ExitCode, Failure> {
        let found = find::sockets(&self.sockets.sockets)?;
        block_on(async {
            let targets =
                if found.named() { found.paths().to_vec() } else { self.choose(verb, &found).await? };
            if targets.is_empty() {
                complain(found.nobody());
                return Ok(Exit::Failed.into());
            }
            let each = targets.iter().map(async |socket| (socket, obey(socket, verb).await));
            let obeyed: Vec<_> = stream::iter(each).buffered(AT_ONCE).collect().await;
            let mut good = obeyed.iter().all(|(_, pid)| pid.is_some());
            if let Some(timeout) = wait {
                let waits = obeyed
                    .iter()
                    .filter_map(|(socket, pid)| Some(wait::until_gone(socket, (*pid)?, timeout)));
                good &= future::join_all(waits).await.into_iter().all(|left| left);
            }
            Ok(code(good))
        })?
    }

    /// The living ones of those that nobody named: one, unless all are meant.
    async fn choose(&self, verb: Verb, found: &Sockets) -> Result<Vec<PathBuf>, Failure> {
        let mut living = Vec::new();
        for (socket, seen) in looked_at(found.paths()).await {
            match seen {
                Err(why @ (Unreached::Dead | Unreached::Missing)) => note(&socket, &why),
                Err(why) => living.push((socket, why.to_string())),
                Ok(seen) => living.push((socket, seen.status.in_words())),
            }
        }
        if living.len() > 1 && !self.all {
            let list: String =
                living.iter().map(|(socket, is)| format!("\n    {}  {is}", socket.display())).collect();
            return Err(Failure::Usage(format!(
                "{} workers are here; name those that shall {verb}, or say --all:{list}",
                living.len()
            )));
        }
        Ok(living.into_iter().map(|(socket, _)| socket).collect())
    }
}

/// Gives one order and says what came of it; the process that took it, if one did, where that can be seen from here.
async fn obey(socket: &Path, verb: Verb) -> Option<Option<i32>> {
    match ask::order(socket, verb).await {
        Ok((word, pid)) => {
            say(socket, word);
            Some(pid)
        }
        Err(why) => {
            note(socket, why);
            None
        }
    }
}

/// Each of `sockets` with what its worker says, in this order.
async fn looked_at(sockets: &[PathBuf]) -> Vec<(PathBuf, Result<Seen, Unreached>)> {
    let each = sockets.iter().map(async |socket| (socket.clone(), ask::status(socket).await));
    stream::iter(each).buffered(AT_ONCE).collect().await
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError::System { what: "runtime", error })?;
    Ok(runtime.block_on(future))
}

fn code(good: bool) -> ExitCode {
    if good { Exit::Finished } else { Exit::Failed }.into()
}

/// A line about one worker. An order that was given stands, and a wait goes on, though nobody reads of it.
fn say(socket: &Path, text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{}: {text}", socket.display());
}

/// What is wrong with one worker.
fn note(socket: &Path, text: impl fmt::Display) {
    complain(format_args!("{}: {text}", socket.display()));
}

fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
