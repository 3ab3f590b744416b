//! The options of `last-call guard`, which are its help page.
//!
//! Owns the definitions. Refuses what the worker behind guard decides: its name, its type, its request handler.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::secrets::Right;
use crate::options::{Http, LogOptions, ServerOptions, StopOptions, Threshold, duration, fraction};
use crate::rescue::RescueOptions;

/// Put a guard in front of an unchanged Python or Node worker: no SIGTERM swallowed, no offer unanswered, no call
/// lost with its worker
///
/// Guard starts the worker as its child and stands between it and the LiveKit server. On SIGTERM it says at once that
/// the worker is full, declines every new offer, lets every running call finish, tells the worker only then, and
/// exits with 0. It answers offers that the worker leaves unanswered, keeps the worker registered over network
/// blips, starts it again when it crashes, and has the calls of a crashed worker dispatched again.
///
/// Media never passes through guard: agents connect to the server by themselves.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The worker finds guard by LIVEKIT_URL, which guard sets for it; a URL in its code or its flags passes guard by.
docs/guard.md says what to change in a Dockerfile and a Deployment, what guard costs, and what it cannot do.

Examples:
    last-call guard -- python agent.py start
    last-call guard --drain-timeout 15m --max-jobs 20 -- node agent.js start

Exit codes: 0 drained, every job had its end; 1 did not start; 2 usage; 3 refused by the server;
4 the drain budget ran out, or the worker ended with calls under --rescue off; 5 forced to leave;
70 a fault of last-call. Where the worker ended by itself and is not to be started again, guard leaves
with the worker's own code, or 128 and the number of its signal; 1 in place of 3, 4, 5 and 70, and 4 in
place of 0 where calls were cut off.")]
pub struct GuardOptions {
    #[command(flatten)]
    pub(super) server: ServerOptions,
    #[command(flatten)]
    pub(super) stop: StopOptions,
    #[command(flatten)]
    pub(super) log: LogOptions,

    /// Slots: jobs running and accepted at most, for each registration [default: as many as the worker takes]
    #[arg(long, env = "LAST_CALL_MAX_JOBS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Jobs")]
    pub(super) max_jobs: Option<u32>,
    /// Measure the load here, of the container where there is one, and be full at this much, 0 to 1; what the worker
    /// says of its load counts no more [default: the worker's own word]
    #[arg(long, env = "LAST_CALL_LOAD_THRESHOLD", value_name = "LOAD", help_heading = "Jobs")]
    pub(super) load_threshold: Option<Threshold>,
    /// The server's agents.target_load, on whose scale the load is reported
    #[arg(long, env = "LAST_CALL_SERVER_TARGET_LOAD", value_name = "LOAD", default_value = "0.7", value_parser = fraction, help_heading = "Jobs")]
    pub(super) server_target_load: f64,
    /// Decline an offer that the worker has not decided on by then; the server waits 2.8 s in all
    #[arg(long, env = "LAST_CALL_ANSWER_WITHIN", value_name = "TIME", default_value = "2s", value_parser = duration, help_heading = "Jobs")]
    pub(super) answer_within: Duration,

    /// When the worker is told of a drain: with the signal, or when its last call is over [default: now for
    /// workers of Last Call, when-idle for all others]
    #[arg(long, env = "LAST_CALL_FORWARD", value_name = "WHEN", help_heading = "Worker")]
    pub(super) forward: Option<ForwardWhen>,
    /// When a worker that ended is started again; one that never registered is not
    #[arg(
        long,
        env = "LAST_CALL_RESTART",
        value_name = "WHEN",
        default_value = "on-failure",
        help_heading = "Worker"
    )]
    pub(super) restart: RestartWhen,
    /// Say that the worker passes guard by, where it has not registered by then
    #[arg(long, env = "LAST_CALL_REGISTER_WITHIN", value_name = "TIME", default_value = "30s", value_parser = duration, help_heading = "Worker")]
    pub(super) register_within: Duration,
    /// How long a worker without calls may take to end once told, before it is ended
    #[arg(long, env = "LAST_CALL_EXIT_WITHIN", value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Worker")]
    pub(super) exit_within: Duration,
    /// A shell command to run when the worker is found wedged, such as 'py-spy dump --pid $LAST_CALL_WORKER_PID'; what
    /// it prints becomes log lines
    #[arg(long, env = "LAST_CALL_ON_WEDGED", value_name = "COMMAND", help_heading = "Worker")]
    pub(super) on_wedged: Option<String>,
    /// Leave job processes guard's address: their calls of the server's API then pass through guard
    #[arg(long, env = "LAST_CALL_NO_SHIM", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Worker")]
    pub(super) no_shim: bool,
    /// Stay as a tiny init and run guard as its child: orphans are reaped, and whatever a killed guard leaves behind
    /// is killed (Linux). Process 1 does so unasked
    #[arg(long, env = "LAST_CALL_REAP", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Worker")]
    pub(super) reap: bool,

    /// Whether the worker has the real API key and secret, or a pair that counts with guard alone. Under hold guard
    /// signs for it what --allow lists; what calls other services with the secret stops working: docs/guard.md
    #[arg(
        long,
        env = "LAST_CALL_SECRETS",
        value_name = "MODE",
        default_value = "pass",
        help_heading = "Secrets"
    )]
    pub(super) secrets: SecretsMode,
    /// What guard signs for the worker under --secrets hold, of the server's API [default: room:own,dispatch:own]
    #[arg(
        long,
        env = "LAST_CALL_ALLOW",
        value_name = "RIGHTS",
        value_delimiter = ',',
        help_heading = "Secrets"
    )]
    pub(super) allow: Option<Vec<Right>>,

    #[command(flatten)]
    pub(super) rescue: RescueOptions,

    /// Where probes and metrics are served, read-only; "off" is nowhere [default: 0.0.0.0:8082]
    #[arg(long, env = "LAST_CALL_GUARD_HTTP", value_name = "ADDRESS", help_heading = "Operations")]
    pub(super) http: Option<Http>,
    /// A unix socket, for this user only, that takes POST /drain, POST and DELETE /quiet, GET /status; in a
    /// directory that is there it is called by the process number, as 4711.sock
    #[arg(long, env = "LAST_CALL_GUARD_ADMIN_SOCKET", value_name = "PATH", help_heading = "Operations")]
    pub(super) admin_socket: Option<PathBuf>,

    /// The worker: a program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(super) program: Vec<OsString>,
}

impl GuardOptions {
    /// The worker: a program and its arguments.
    #[must_use]
    pub fn program(&self) -> &[OsString] {
        &self.program
    }
}

/// When the worker hears of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ForwardWhen {
    /// With the signal
    Now,
    /// When its last call is over
    WhenIdle,
}

/// Who knows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SecretsMode {
    /// The worker has the real pair
    Pass,
    /// The worker has a pair of its own, of which guard makes what the server takes
    Hold,
}

/// When the worker is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RestartWhen {
    /// After a signal, or an exit code other than 0
    OnFailure,
    /// However it ended
    Always,
    /// Not at all: guard leaves with it
    Never,
}
