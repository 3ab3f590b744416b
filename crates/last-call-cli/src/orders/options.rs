//! The options of `ps` and of the orders, which are their help pages too.
//!
//! Owns the texts. Refuses to look at a socket.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

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
    pub(super) sockets: Given,
    /// One JSON object for each worker in place of a table
    #[arg(long)]
    pub(super) json: bool,
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
    pub(super) to: Targets,
    /// Wait until the workers have left, and say how their drains go
    #[arg(long)]
    pub(super) wait: bool,
    /// The most that --wait takes, such as 90s or 15m [default: what is left of each worker's own budget]
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = last_call_worker::duration)]
    pub(super) timeout: Option<Duration>,
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
    pub(super) to: Targets,
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
    pub(super) to: Targets,
}

/// The sockets on the command line. These commands run in a worker's environment, whose LAST_CALL_CONFIG names a file
/// of the worker's options and not of theirs.
#[derive(Args, Clone, Debug)]
#[command(group = last_call_worker::no_file())]
pub(crate) struct Given {
    /// Admin sockets, or directories of them
    #[arg(value_name = "SOCKET", env = "LAST_CALL_ADMIN_SOCKET", value_parser = OsStringValueParser::new().map(path))]
    pub(super) sockets: Vec<PathBuf>,
}

/// Whom an order is for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Targets {
    #[command(flatten)]
    pub(super) sockets: Given,
    /// Every worker that is found, where there are several
    #[arg(long)]
    pub(super) all: bool,
}

/// An empty variable, as templates leave one, becomes an empty path, and [`super::find`] passes it over.
fn path(text: OsString) -> PathBuf {
    text.into()
}
