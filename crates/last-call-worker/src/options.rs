//! Options: what can be set, under which flag and variable, and what it is otherwise.
//!
//! Owns the definitions, which are the help page too. Refuses secrets on the command line: every process of
//! the machine can read that.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::log::Format;
use crate::process::Limits;
use crate::rescue::RescueOptions;

/// The commands of a worker program. Flatten it into your own clap parser, parse that with
/// [`crate::parse`], and give it to [`crate::run_with`].
#[derive(Args, Clone, Debug)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Register with a LiveKit server and take jobs until told to drain
    ///
    /// On SIGTERM or SIGINT the worker says at once that it is full, declines every new offer, lets every
    /// running job finish, and exits with 0. SIGQUIT, or Ctrl-C twice on a terminal, forces it to leave.
    /// Logs are JSON unless written to a terminal.
    Start(Box<Options>),
    /// As start, for development: debug logs, no load limit, probes on a free port of loopback
    Dev(Box<Options>),
    /// Run one job in a room, without being dispatched, and exit when it ends
    Connect(Box<ConnectOptions>),
}

impl Command {
    /// Whether the worker is to have an init (`--reap`).
    pub(crate) fn reaps(&self) -> bool {
        match self {
            Self::Start(options) | Self::Dev(options) => options.reap,
            Self::Connect(_) => false,
        }
    }
}

/// A program that is nothing but a worker.
#[derive(Debug, Parser)]
#[command(about = "A LiveKit agent worker", after_help = after_help())]
pub(crate) struct Program {
    #[command(flatten)]
    pub(crate) cli: Cli,
}

fn after_help() -> String {
    let telemetry = "\n\nSpans and metrics go where OTEL_EXPORTER_OTLP_ENDPOINT says, and as OpenTelemetry's other variables do.";
    let telemetry = if cfg!(feature = "otel") { telemetry } else { "" };
    format!("{AFTER_HELP}{telemetry}")
}

const AFTER_HELP: &str = "\
The API secret is read from LIVEKIT_API_SECRET or --api-secret-file; a flag would show it to every process.

A flag wins over its variable, and that over the file of --config, where it has the flag's name:
    drain-timeout = \"15m\"
`start --print-config` shows what holds and why. `completions SHELL` and `man [COMMAND]` print a
completion script and the manual.

Exit codes: 0 drained, every job had its end; 1 did not start; 2 usage; 3 refused by the server;
4 the drain budget ran out; 5 forced to leave; 70 a fault of the framework.";

/// What a worker can be told. Every flag has a variable, and is a key of the configuration file; the flag
/// wins over the variable, and that over the file.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) stop: StopOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,

    /// The name that dispatches ask for; empty takes a job for every new room [default: what the program
    /// says, else LIVEKIT_AGENT_NAME]
    #[arg(long, env = "LIVEKIT_AGENT_NAME_OVERRIDE", value_name = "NAME", help_heading = "Jobs")]
    pub(crate) agent_name: Option<String>,
    /// The deployment that dispatches must name; empty is the default one
    #[arg(long, env = "LIVEKIT_AGENT_DEPLOYMENT", value_name = "NAME", default_value = "", hide_default_value = true, value_parser = deployment, help_heading = "Jobs")]
    pub(crate) deployment: String,
    /// Slots: jobs running and accepted at most [default: as many as the load allows]
    #[arg(long, env = "LAST_CALL_MAX_JOBS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Jobs")]
    pub(crate) max_jobs: Option<u32>,
    /// The load, 0 to 1, at which the worker is full; "off" is never [default: 0.7, in dev off]
    #[arg(long, env = "LAST_CALL_LOAD_THRESHOLD", value_name = "LOAD", help_heading = "Jobs")]
    pub(crate) load_threshold: Option<Threshold>,
    /// The server's agents.target_load, on whose scale the load is reported
    #[arg(long, env = "LAST_CALL_SERVER_TARGET_LOAD", value_name = "LOAD", default_value = "0.7", value_parser = fraction, help_heading = "Jobs")]
    pub(crate) server_target_load: f64,
    /// Decline an offer that the request handler has not decided on by then; the server waits 2.8 s in all
    #[arg(long, env = "LAST_CALL_ANSWER_WITHIN", value_name = "TIME", default_value = "2s", value_parser = duration, help_heading = "Jobs")]
    pub(crate) answer_within: Duration,
    /// Threads of the runtime that user code runs on [default: one a core]
    #[arg(long, env = "LAST_CALL_USER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Jobs")]
    pub(crate) user_threads: Option<u16>,
    /// Where jobs run: as tasks of the worker, or each in a process of its own, which is this program run again
    #[arg(
        long,
        env = "LAST_CALL_RUNNER",
        value_name = "RUNNER",
        default_value = "tasks",
        help_heading = "Jobs"
    )]
    pub(crate) runner: Runner,
    /// With --runner process: processes kept warm for jobs to come [default: one a core, at most 4]
    #[arg(long, env = "LAST_CALL_IDLE_PROCESSES", value_name = "N", value_parser = clap::value_parser!(u16).range(..=1000), help_heading = "Jobs")]
    pub(crate) idle_processes: Option<u16>,
    /// With --runner process: how long a process may take from its start to the end of prewarming
    #[arg(long, env = "LAST_CALL_INITIALIZE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Jobs")]
    pub(crate) initialize_timeout: Duration,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Stay as a tiny init and run the worker as its child: orphans are reaped, and whatever a killed worker leaves
    /// behind is killed (Linux). Process 1 does so unasked
    #[arg(long, env = "LAST_CALL_REAP", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Processes")]
    pub(crate) reap: bool,

    #[command(flatten)]
    pub(crate) rescue: RescueOptions,

    /// Where probes and metrics are served, read-only; "off" is nowhere [default: 0.0.0.0:8081, in dev
    /// 127.0.0.1:0]
    #[arg(long, env = "LAST_CALL_HTTP", value_name = "ADDRESS", help_heading = "Operations")]
    pub(crate) http: Option<Http>,
    /// A unix socket, for this user only, that takes POST /drain, POST and DELETE /quiet, GET /status; in a
    /// directory that is there it is called by the process number, as 4711.sock
    #[arg(long, env = "LAST_CALL_ADMIN_SOCKET", value_name = "PATH", help_heading = "Operations")]
    pub(crate) admin_socket: Option<PathBuf>,
}

/// Where the server is, and the keys for it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// The LiveKit server
    #[arg(
        long,
        env = "LIVEKIT_URL",
        // Its query may hold a token.
        hide_env_values = true,
        value_name = "URL",
        default_value = "ws://localhost:7880",
        help_heading = "Server"
    )]
    pub(crate) url: String,
    /// The API key
    #[arg(
        long,
        env = "LIVEKIT_API_KEY",
        value_name = "KEY",
        default_value = "",
        hide_default_value = true,
        help_heading = "Server"
    )]
    pub(crate) api_key: String,
    /// A file with the API secret, in place of LIVEKIT_API_SECRET
    #[arg(long, env = "LAST_CALL_API_SECRET_FILE", value_name = "PATH", help_heading = "Server")]
    pub(crate) api_secret_file: Option<PathBuf>,
    /// Allow ws:// to another machine: tokens cross the network in the clear
    #[arg(long, env = "LAST_CALL_INSECURE_WS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Server")]
    pub(crate) insecure_ws: bool,
}

/// How a drain and the stop of a job go.
#[derive(Args, Clone, Debug)]
pub(crate) struct StopOptions {
    /// The whole drain, from the signal to the exit; give the platform's grace period a little more
    #[arg(long, env = "LAST_CALL_DRAIN_TIMEOUT", value_name = "TIME", default_value = "1h", value_parser = duration, help_heading = "Stopping")]
    pub(crate) drain_timeout: Duration,
    /// The end of the drain that is kept for stopping jobs which still run: told, cancelled, ended. At most
    /// half of the drain
    #[arg(long, env = "LAST_CALL_DRAIN_RESERVE", value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Stopping")]
    pub(crate) drain_reserve: Duration,
    /// How long a job may take to stop once told, and again for its shutdown callbacks
    #[arg(long, env = "LAST_CALL_STOP_GRACE", value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Stopping")]
    pub(crate) stop_grace: Duration,
}

/// What is logged, and how: `--log-level` and `--log-format`, for a program's own clap parser.
#[derive(Args, Clone, Debug)]
pub struct LogOptions {
    /// trace, debug, info, warn, error, or directives such as info,my_agent=debug [default: info, in dev debug]
    #[arg(long, env = "LIVEKIT_LOG_LEVEL", value_name = "LEVEL", help_heading = "Logs")]
    pub(crate) log_level: Option<String>,
    /// How log lines look [default: pretty on a terminal and in dev, json else]
    #[arg(long, env = "LAST_CALL_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logs")]
    pub(crate) log_format: Option<Format>,
}

/// What `connect` can be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) stop: StopOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
    /// The room to join; the server makes it if it is not there
    #[arg(long, value_name = "ROOM")]
    pub(crate) room: String,
    /// The agent's identity in the room [default: agent- and a random number]
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) identity: Option<String>,
}

/// Where jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Runner {
    Tasks,
    Process,
    /// As tasks that have a process each, of their own making.
    #[value(skip)]
    Program,
}

impl Options {
    /// What a job's process may use: for a program that starts one itself.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// A load threshold, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold(pub(crate) Option<f64>);

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { fraction(text).map(|load| Self(Some(load))) }
    }
}

/// A listening address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http(pub(crate) Option<SocketAddr>);

impl FromStr for Http {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let any = text.parse::<u16>().map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
        let address = any.or_else(|_| text.parse());
        address
            .map(|address| Self(Some(address)))
            .map_err(|_| "an address such as 0.0.0.0:8081 or [::]:8081, a port, or off".to_owned())
    }
}

/// A load between 0 (not) and 1.
pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    let wanted = "a number above 0, at most 1, such as 0.7".to_owned();
    text.parse().ok().filter(|load| (0.001..=1.0).contains(load)).ok_or(wanted)
}

/// A time as the options take it, for a program's own clap parser: with a unit, or a number of seconds; at most a
/// year.
///
/// # Errors
/// Where it is none: what is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "a time such as 90s, 15m, 1h or a number of seconds, at most a year".to_owned();
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let year = Duration::from_secs(366 * 24 * 3600);
    seconds.or_else(|| humantime::parse_duration(text).ok()).filter(|time| *time <= year).ok_or(wanted)
}

/// The server's own rule: short, no `_`, no white space, no control characters.
fn deployment(text: &str) -> Result<String, String> {
    let bad = |c: char| c == '_' || c.is_whitespace() || c.is_control();
    match text.chars().find(|c| bad(*c)) {
        Some(c) => Err(format!("it must not contain {c:?}")),
        None if text.len() > 64 => Err("it must not be longer than 64 bytes".to_owned()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Program::command().debug_assert();
    }

    #[test]
    fn times_are_numbers_of_seconds_or_have_a_unit() {
        for (text, seconds) in
            [("90", 90.0), ("90s", 90.0), ("1.5", 1.5), ("15m", 900.0), ("1h 30m", 5400.0), ("0", 0.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "nan", "inf", "soon", "1e30", "99999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wire_1_no_value_of_an_option_panics() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let _ = (duration(text), fraction(text), deployment(text));
            let _ = (text.parse::<Http>(), text.parse::<Threshold>());
        });
    }
}
