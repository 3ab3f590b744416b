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
//!     let room = job.connect().await?;
//!     let caller = room.wait_for_participant().await?;
//!     tokio::select! {
//!         () = room.left(caller.identity()) => {}
//!         draining = job.draining() => tracing::info!(deadline = ?draining.deadline, "wrapping up"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! This crate is the front door: it re-exports what an agent's author names, and adds the way from a job into its room
//! ([`Connect`]). What happens when is told in `docs/drain.md`, what a room can do in `docs/rooms.md`, what is promised in
//! `docs/protocol.md`.
//!
//! The feature `rooms`, on by default, is the room client ([`rooms`]); it needs a C compiler and cmake. Without it an agent
//! brings its own, with [`JobContext::url`] and [`JobContext::token`].
//!
//! The feature `testing`, off by default, has a room without a server for tests of agents (`rooms::testing`).
//!
//! The feature `otel`, off by default, exports spans and metrics to an OpenTelemetry collector; see
//! `docs/operations.md`.

#[cfg(feature = "rooms")]
mod callers;
#[cfg(feature = "rooms")]
mod connect;

#[cfg(feature = "rooms")]
pub use connect::{Connect, WaitError};
/// The room client: participants, tracks, audio, data.
#[cfg(feature = "rooms")]
pub use last_call_rtc as rooms;
/// The server API: [`JobContext::api`].
pub use last_call_worker::api;
pub use last_call_worker::{
    Acceptance, Cli, Draining, Error, Exit, JobContext, JobId, JobInfo, JobRequest, JobType, Options,
    Outcome, ParticipantInfo, Permissions, Reply, RoomInfo, StartError, StopReason, Stopping, UrlError,
    Worker, exit, matches, parse, run, run_with,
};

/// What nearly every agent names.
pub mod prelude {
    #[cfg(feature = "rooms")]
    pub use last_call_rtc::{
        AudioFrame, AudioSource, AudioStreamOptions, DataOptions, Participant, PublishOptions, Room,
        RoomEvent, RoomOptions, Who,
    };
    pub use last_call_worker::{
        Acceptance, Draining, Error, JobContext, JobRequest, JobType, Reply, StopReason, Stopping, Worker,
    };

    #[cfg(feature = "rooms")]
    pub use crate::connect::Connect;
}
