//! `last-call ps`, `drain`, `quiet`, `unquiet`: workers and orders to them, over their admin sockets.
//!
//! Owns whom an order reaches, and what is said of each worker. Refuses to decide for a worker: what
//! an order does is in docs/drain.md.

mod ask;
mod find;
mod options;
mod table;
mod wait;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use last_call_worker::{Exit, StartError};
use tokio::runtime::Builder;

use self::ask::{Seen, Unreached, Verb};
use self::find::Sockets;
use self::options::Targets;
pub(crate) use self::options::{Drain, Ps, Quiet, Unquiet};
use crate::failure::Failure;
use crate::shown;

/// Workers asked at once: little against the 1,024 files that a process may have open.
const AT_ONCE: usize = 64;

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
                living.iter().map(|(socket, is)| format!("\n    {}  {is}", shown::path(socket))).collect();
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
        // An idle worker leaves so soon that its answer may be cut off.
        Err(Unreached::Io(_)) if verb == Verb::Drain && gone(socket).await => {
            say(socket, "left");
            Some(None)
        }
        Err(why) => {
            note(socket, why);
            None
        }
    }
}

async fn gone(socket: &Path) -> bool {
    matches!(ask::status(socket).await, Err(Unreached::Dead | Unreached::Missing))
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
    let _ = writeln!(io::stdout(), "{}: {text}", shown::path(socket));
}

/// What is wrong with one worker.
fn note(socket: &Path, text: impl fmt::Display) {
    complain(format_args!("{}: {text}", shown::path(socket)));
}

fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
