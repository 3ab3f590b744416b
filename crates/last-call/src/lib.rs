//! LiveKit agents in Rust whose calls are never lost.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use last_call::prelude::*;
//!
//! fn main() -> ExitCode {
//!     last_call::run(Worker::new("concierge").entrypoint(answer))
//! }
//!
//! async fn answer(job: JobContext) -> Result<(), Error> {
//!     tokio::select! {
//!         draining = job.draining() => tracing::info!(deadline = ?draining.deadline, "wrapping up"),
//!         () = talk(&job) => {}
//!     }
//!     Ok(())
//! }
//! # async fn talk(_: &JobContext) {}
//! ```
//!
//! This crate is the front door: it re-exports what an agent's author names, and adds nothing. What happens when is told in
//! `docs/drain.md`, what is promised in `docs/protocol.md`.
//!
//! The feature `otel`, off by default, exports spans and metrics to an OpenTelemetry collector; see
//! `docs/operations.md`.

pub use last_call_worker::{
    Acceptance, Cli, Draining, Error, Exit, JobContext, JobId, JobInfo, JobRequest, JobType, Options,
    Outcome, ParticipantInfo, Permissions, Reply, RoomInfo, StartError, StopReason, Stopping, UrlError,
    Worker, exit, matches, parse, run, run_with,
};

/// What nearly every agent names.
pub mod prelude {
    pub use last_call_worker::{
        Acceptance, Draining, Error, JobContext, JobRequest, JobType, Reply, StopReason, Stopping, Worker,
    };
}
