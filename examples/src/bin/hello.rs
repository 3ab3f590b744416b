//! The smallest agent: it says hello in the log, and stays until the call is told to stop.
//!
//! Needs LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET. Run it as `hello start`.

use std::process::ExitCode;

use last_call::prelude::*;

fn main() -> ExitCode {
    last_call::run(Worker::new("hello").entrypoint(answer))
}

async fn answer(job: JobContext) -> Result<(), Error> {
    tracing::info!(room = job.room().name(), "hello");
    let stopping = job.stopping().await;
    tracing::info!(reason = %stopping.reason, "goodbye");
    Ok(())
}
