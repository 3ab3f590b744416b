//! A LiveKit agent worker that cannot lose its drain.
//!
//! [`run`] makes a program of a [`Worker`]; [`Worker::serve`] runs one inside a program. The decisions are
//! in `last-call-proto`; this crate has the threads, the sockets and the surface that user code sees.
//!
//! | thread | what it does | user code |
//! | --- | --- | --- |
//! | main, or `last-call-link` in [`Worker::serve`] | signals, the server's socket, the core, the timers | never |
//! | `last-call-ops` | probes, metrics, the admin socket, load samples | never |
//! | `last-call-log` | writes log lines | never |
//! | `last-call-proxy` | what a guarded worker asks of the server beside its jobs | never |
//! | `last-call-processes`, `last-call-supervisor`, `last-call-errands` | watch and start jobs' processes, read `/proc`; only where jobs are processes | never |
//! | `user` | request handlers, entrypoints, callbacks | only there |
//!
//! With the feature `otel` each job is a span, and spans and metrics are pushed over OTLP/HTTP where the
//! standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin) name a collector; docs/operations.md says more.
//! [`run`] exports; under [`Worker::serve`] a job's span goes to the program's global tracer provider.

mod admin;
pub mod api;
mod command_line;
mod config;
mod error;
pub mod exchange;
pub mod exit;
mod guard;
mod http;
mod init;
mod job;
mod job_process;
mod jobs;
mod link;
mod load;
mod log;
mod metrics;
mod observe;
mod offer;
mod options;
#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
#[path = "otel/off.rs"]
mod otel;
pub mod process;
mod program;
mod rescue;
mod run;
mod runner;
mod secret;
mod serve;
mod signal;
mod socket;
mod start;
mod systemd;
mod timers;
mod token;
mod wire;

pub use command_line::{matches, no_file, parse};
pub use config::api_secret;
pub use error::{DialError, StartError, UrlError};
pub use exit::Exit;
pub use guard::{GuardOptions, run_guard};
pub use init::look_after;
pub use job::{
    Draining, Error, JobContext, JobInfo, JobType, ParticipantInfo, RoomInfo, StopReason, Stopping,
};
pub use jobs::Usage;
pub use last_call_proto::{JobId, Outcome};
pub use log::Logs;
pub use offer::{Acceptance, JobRequest, Reply};
pub use options::{Cli, LogOptions, Options, duration};
pub use program::{Permissions, Worker};
pub use run::{run, run_start, run_with};
pub use socket::{Dialler, Endpoint, Transport};
pub use token::Keys;
