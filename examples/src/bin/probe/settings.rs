//! What probe is told by its environment, once.
//!
//! Owns the reading of it. Refuses to guess: what makes no sense is an error that names it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use last_call::{Cli, JobType};

/// Probe's environment.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) agent_name: String,
    pub(crate) job_type: JobType,
    pub(crate) job_dir: Option<PathBuf>,
    pub(crate) accept_delay: Duration,
    pub(crate) drain_timeout: Option<Duration>,
    pub(crate) http_port: Option<u16>,
    pub(crate) load: Option<f64>,
    pub(crate) busy: Option<Busy>,
    pub(crate) listener: bool,
    pub(crate) runner: Option<&'static str>,
    pub(crate) idle: Option<u16>,
    pub(crate) prewarm: Option<Prewarm>,
}

/// What prewarming does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prewarm {
    Fails,
    Hangs,
    Exits,
}

/// How the user runtime's threads are kept busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    Slices,
    Block,
    Sleep,
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self, String> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let seconds = |name: &str| match var(name) {
            None => Ok(None),
            Some(text) => {
                match text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                    Some(time) => Ok(Some(time)),
                    None => Err(format!("{name}={text}: not a number of seconds")),
                }
            }
        };
        Ok(Self {
            agent_name: var("PROBE_AGENT_NAME").unwrap_or_default(),
            job_type: match var("PROBE_JOB_TYPE").as_deref() {
                None | Some("room") => JobType::Room,
                Some("publisher") => JobType::Publisher,
                Some("participant") => JobType::Participant,
                Some(other) => {
                    return Err(format!("PROBE_JOB_TYPE={other}: not room, publisher or participant"));
                }
            },
            job_dir: var("PROBE_JOB_DIR").map(PathBuf::from),
            accept_delay: seconds("PROBE_ACCEPT_DELAY")?.unwrap_or_default(),
            drain_timeout: seconds("PROBE_DRAIN_TIMEOUT")?,
            http_port: number(var("PROBE_HTTP_PORT"), "PROBE_HTTP_PORT")?,
            load: number(var("PROBE_LOAD"), "PROBE_LOAD")?,
            busy: match var("PROBE_BUSY").as_deref() {
                None | Some("0") => None,
                Some("1") => Some(Busy::Slices),
                Some("block") => Some(Busy::Block),
                Some("sleep") => Some(Busy::Sleep),
                Some(other) => return Err(format!("PROBE_BUSY={other}: not 1, block or sleep")),
            },
            listener: var("PROBE_LISTENER").is_some_and(|value| value != "0"),
            runner: match var("PROBE_RUNNER").as_deref() {
                None => None,
                Some("task") => Some("tasks"),
                Some("process") => Some("process"),
                Some(other) => return Err(format!("PROBE_RUNNER={other}: not task or process")),
            },
            idle: number(var("PROBE_IDLE"), "PROBE_IDLE")?,
            prewarm: match var("PROBE_PREWARM").as_deref() {
                None => None,
                Some("fails") => Some(Prewarm::Fails),
                Some("hangs") => Some(Prewarm::Hangs),
                Some("exits") => Some(Prewarm::Exits),
                Some(other) => return Err(format!("PROBE_PREWARM={other}: not fails, hangs or exits")),
            },
        })
    }
}

fn number<T: FromStr>(value: Option<String>, name: &str) -> Result<Option<T>, String> {
    value.map(|text| text.parse().map_err(|_| format!("{name}={text}: not a number in range"))).transpose()
}

/// A command line that is the worker's.
#[derive(Parser)]
struct Probe {
    #[command(flatten)]
    cli: Cli,
}

/// Parses the command line, on which probe's own variables are other defaults.
pub(crate) fn command_line(settings: &Settings, run: impl FnOnce(Cli) -> ExitCode) -> ExitCode {
    let timeout = settings.drain_timeout.map(|timeout| format!("{}s", timeout.as_secs_f64()));
    let defaults = [
        ("drain_timeout", timeout),
        ("http", settings.http_port.map(|port| port.to_string())),
        ("runner", settings.runner.map(str::to_owned)),
        ("idle_processes", settings.idle.map(|idle| idle.to_string())),
    ];
    let mut command = Probe::command();
    for (option, default) in defaults {
        let Some(default) = default else { continue };
        command = command.mut_subcommands(|command| {
            let has = command.get_arguments().any(|argument| argument.get_id() == option);
            let default = default.clone();
            if has { command.mut_arg(option, |argument| argument.default_value(default)) } else { command }
        });
    }
    match Probe::from_arg_matches(&last_call::matches(command)) {
        Ok(probe) => run(probe.cli),
        Err(error) => error.exit(),
    }
}

#[expect(clippy::print_stderr, reason = "probe did not start")]
pub(crate) fn complain(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
