//! The options of `last-call run`, which are its help page.
//!
//! Owns their definitions. Refuses those of every worker, which are flattened in.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use last_call_worker::JobType;

/// Take jobs with any program as the agent: one process for each job
///
/// The program finds its job (url, token, room, metadata) as one JSON document on file descriptor 3, and may talk
/// with the worker by lines of JSON on file descriptor 4. What it prints becomes log lines of the job. Exit code 0 is
/// success; anything else fails the job, with the last line of standard error.
///
/// A drain lets every process finish. A job that must stop gets a line on file descriptor 4 and SIGTERM, and SIGKILL
/// when its time is over, with all that it started.
#[derive(Args, Clone, Debug)]
// Each job has a process of its own here anyway.
#[command(mut_arg("runner", |arg| arg.hide(true)))]
#[command(mut_arg("idle_processes", |arg| arg.hide(true)))]
#[command(mut_arg("initialize_timeout", |arg| arg.hide(true)))]
#[command(after_help = "\
The API secret is read from LIVEKIT_API_SECRET or --api-secret-file. docs/exec.md is the contract with the program.

Examples:
    last-call run --agent-name tone -- python3 examples/exec/tone.py
    last-call run --agent-name greeter --max-jobs 20 --memory-limit 512MiB -- ./greeter --voice ash
    last-call run --accept-if 'jq -e \".metadata != \\\"spam\\\"\"' -- ./agent

Exit codes: 0 drained, every job had its end; 1 did not start; 2 usage, also where there is no such program;
3 refused by the server; 4 the drain budget ran out; 5 forced to leave; 70 a fault of last-call.")]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(super) worker: last_call_worker::Options,
    /// What jobs are for
    #[arg(
        long,
        env = "LAST_CALL_JOB_TYPE",
        value_name = "TYPE",
        default_value = "room",
        help_heading = "Jobs"
    )]
    pub(super) job_type: Type,
    /// Who decides on offers. A command gets the job as JSON on standard input, and accepts with exit code 0. An
    /// http:// or https:// URL gets it as the body of a POST, and accepts with a status of 200 to 299. Any other
    /// answer, or none within --answer-within, leaves the job to the next worker
    #[arg(
        long,
        env = "LAST_CALL_ACCEPT_IF",
        value_name = "COMMAND|URL",
        help_heading = "Jobs",
        hide_env_values = true
    )]
    pub(super) accept_if: Option<String>,
    #[command(flatten)]
    pub(super) agent: AgentOptions,
}

/// What concerns the program.
#[derive(Args, Clone, Debug)]
pub(crate) struct AgentOptions {
    /// Where the program finds its token: only in the document on file descriptor 3, or also in LAST_CALL_TOKEN
    #[arg(
        long,
        env = "LAST_CALL_TOKEN_BY",
        value_name = "WAY",
        default_value = "fd",
        help_heading = "Program"
    )]
    pub(super) token: TokenBy,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(super) program: Vec<OsString>,
}

/// The way of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenBy {
    /// The document on file descriptor 3
    Fd,
    /// Also LAST_CALL_TOKEN, which every process of this user can read
    Env,
}

/// A job type on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// One job for each room
    Room,
    /// One job for each participant that publishes a track
    Publisher,
    /// One job for each participant that joins
    Participant,
}

impl From<Type> for JobType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Room => Self::Room,
            Type::Publisher => Self::Publisher,
            Type::Participant => Self::Participant,
        }
    }
}
