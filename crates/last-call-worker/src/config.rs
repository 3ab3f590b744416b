//! Options turned into what the worker needs: checked, defaults filled in, secrets read.
//!
//! Owns that step. Refuses to read anything later.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use last_call_proto::policy::DrainBudget;
use last_call_proto::{Limits, Load, Policy};

use crate::error::StartError;
use crate::job_process::Asked;
use crate::log::{Format, Logs};
use crate::options::{Http, LogOptions, Options, Runner, ServerOptions, StopOptions};
use crate::rescue::RescueOptions;
use crate::secret::Secret;
use crate::socket::Endpoint;
use crate::token::Keys;

/// Whether a worker works or is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Production,
    Development,
}

/// A worker's configuration.
pub(crate) struct Config {
    pub(crate) endpoint: Endpoint,
    pub(crate) keys: Keys,
    pub(crate) agent_name: String,
    pub(crate) deployment: String,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    pub(crate) user_threads: Option<u16>,
    /// Where jobs are processes.
    pub(crate) processes: Option<Asked>,
    pub(crate) rescue: RescueOptions,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) admin_socket: Option<PathBuf>,
    pub(crate) admin_token: Option<Secret>,
    pub(crate) admin_host: Option<String>,
}

impl Config {
    /// Checks `options`; `agent_name` is the program's own.
    pub(crate) fn new(options: &Options, mode: Mode, agent_name: &str) -> Result<Self, StartError> {
        if let (Runner::Tasks, Some(option)) = (options.runner, options.limits.given()) {
            let error = format!("{option} is for jobs that are processes: say --runner process as well");
            return Err(StartError::Usage(error));
        }
        let development = mode == Mode::Development;
        let usual = Load::from_thousandths(700);
        let threshold = options.load_threshold.map(|threshold| threshold.0.map(Load::from_fraction));
        let address = if development {
            SocketAddr::from(([127, 0, 0, 1], 0))
        } else {
            SocketAddr::from(([0, 0, 0, 0], 8081))
        };
        let agent_name = match &options.agent_name {
            Some(name) => name.clone(),
            None if agent_name.is_empty() => non_empty("LIVEKIT_AGENT_NAME").unwrap_or_default(),
            None => agent_name.to_owned(),
        };
        Ok(Self {
            endpoint: endpoint(&options.server)?,
            keys: keys(&options.server)?,
            agent_name,
            deployment: options.deployment.clone(),
            limits: Limits {
                max_jobs: options.max_jobs,
                threshold: threshold.unwrap_or((!development).then_some(usual)),
                server_target: Load::from_fraction(options.server_target_load),
                counts_itself: false,
            },
            policy: Policy { answer_within: options.answer_within, ..policy(&options.stop) },
            user_threads: options.user_threads,
            processes: (options.runner == Runner::Process).then(|| Asked {
                idle: options.idle_processes.map_or_else(usual_idle_processes, usize::from),
                initialize_within: options.initialize_timeout,
                limits: options.limits.clone(),
            }),
            rescue: options.rescue.clone(),
            http: options.http.unwrap_or(Http(Some(address))).0,
            admin_socket: options.admin_socket.clone(),
            admin_token: non_empty("LAST_CALL_ADMIN_TOKEN").map(Secret::from),
            admin_host: non_empty("LAST_CALL_ADMIN_HOST"),
        })
    }
}

/// As many as can start at once, and no more than four: each costs memory for nothing.
fn usual_idle_processes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// The server's URL, checked.
pub(crate) fn endpoint(options: &ServerOptions) -> Result<Endpoint, StartError> {
    Ok(Endpoint::parse(&options.url, options.insecure_ws)?)
}

/// The API key, and the secret from its file or its variable.
pub(crate) fn keys(options: &ServerOptions) -> Result<Keys, StartError> {
    let missing = |what: &str| {
        StartError::Usage(format!(
            "{what} is not set; it is one of the pair that the server was started with"
        ))
    };
    let secret = api_secret(options.api_secret_file.as_deref(), "LIVEKIT_API_SECRET")?;
    if options.api_key.is_empty() {
        return Err(missing("LIVEKIT_API_KEY (or --api-key)"));
    }
    let secret = secret.ok_or_else(|| missing("LIVEKIT_API_SECRET (or --api-secret-file)"))?;
    Ok(Keys { key: options.api_key.clone(), secret: Secret::from(secret) })
}

/// An API secret: what stands in `file`, else in the environment's `variable`; none where that is empty.
///
/// # Errors
/// When the file cannot be read.
pub fn api_secret(file: Option<&Path>, variable: &str) -> Result<Option<String>, StartError> {
    let Some(path) = file else { return Ok(non_empty(variable)) };
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| StartError::SecretFile { path: path.to_owned(), error })?;
    Ok(Some(text.trim().to_owned()).filter(|secret| !secret.is_empty()))
}

/// The numbers that options change.
pub(crate) fn policy(stop: &StopOptions) -> Policy {
    Policy {
        cancel_after: stop.stop_grace,
        kill_after: stop.stop_grace,
        drain: DrainBudget::split(stop.drain_timeout, stop.drain_reserve),
        ..Policy::default()
    }
}

impl LogOptions {
    /// Starts the log to stdout: text on a terminal, JSON elsewhere, unless told otherwise. A subscriber that was
    /// installed before stays, and is no error. Keep what is returned until the program's end.
    ///
    /// # Errors
    /// When the level makes no sense.
    pub fn start(&self) -> Result<Logs, StartError> {
        logging(self, Mode::Production, std::io::stdout().is_terminal())?;
        Ok(Logs(()))
    }
}

/// Starts logging as asked for.
pub(crate) fn logging(options: &LogOptions, mode: Mode, terminal: bool) -> Result<(), StartError> {
    let development = mode == Mode::Development;
    let level = options.log_level.as_deref().unwrap_or(if development { "debug" } else { "info" });
    let format = match options.log_format {
        Some(format) => format,
        None if development || terminal => Format::Pretty,
        None => Format::Json,
    };
    crate::log::init(format, level).map_err(|error| StartError::Usage(error.to_string()))
}

pub(crate) fn non_empty(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}
