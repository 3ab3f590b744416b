//! An agent that sees the drain coming: it looks each caller up before it accepts, keeps what all calls
//! share in one state, and ends a long call early when the worker drains.
//!
//! Needs LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET. Run it as `drain_aware start`.

use std::process::ExitCode;
use std::time::Duration;

use last_call::prelude::*;

struct Greetings(Vec<&'static str>);

fn main() -> ExitCode {
    last_call::run(Worker::new("drain-aware").prewarm(load).on_request(screen).entrypoint(answer))
}

/// Runs once, before the worker registers.
async fn load() -> Result<Greetings, Error> {
    Ok(Greetings(vec!["hello", "hallo", "hola"]))
}

/// Runs for each offer. It has two seconds; what it returns is the answer.
async fn screen(request: JobRequest) -> Reply {
    if request.metadata().contains("spam") {
        return request.reject();
    }
    request.accept().name("Concierge").attribute("greeting", "hello").into()
}

/// Runs for each call, as a task of its own.
async fn answer(job: JobContext) -> Result<(), Error> {
    let greetings = job.state::<Greetings>();
    job.log_field("greetings", greetings.0.len());
    job.add_shutdown_callback(|reason| async move { tracing::info!(reason, "the call is over") });
    tokio::select! {
        () = converse() => {}
        draining = job.draining() => {
            // The deadline is an hour away by default; callers deserve a goodbye well before.
            tracing::info!(deadline = ?draining.deadline, "wrapping up");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        stopping = job.stopping() => tracing::info!(reason = %stopping.reason, "told to stop"),
    }
    Ok(())
}

async fn converse() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}
