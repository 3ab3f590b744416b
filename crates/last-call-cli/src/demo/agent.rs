//! The demo's own worker: `last-call demo-agent start`, hidden, with all the options of a worker.
//!
//! Owns an agent that does nothing but stay until its call is over, and holds every thread of user code when it is told to.
//! Refuses to join a room: the demo's callers are not people.

use std::time::Duration;

use last_call_worker::{Error, JobContext, JobRequest, Worker};
use serde::{Deserialize, Serialize};

/// Threads of user code in a worker that the demo starts.
pub(crate) const USER_THREADS: u16 = 2;

/// What a call's metadata tells the agent: as JSON under one key, so that another's agent passes over it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Told {
    #[serde(rename = "last-call-demo")]
    pub(crate) block: Block,
}

/// After a while, hold every thread for a while. Milliseconds.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Block {
    pub(crate) after_ms: u64,
    pub(crate) for_ms: u64,
}

/// The worker.
pub(crate) fn worker() -> Worker {
    // Its parent may be killed where it cannot clean up.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    // Offers are answered by its own code too, so that they wait while that is held.
    Worker::new("last-call-demo").on_request(async |offer: JobRequest| offer.accept()).entrypoint(answer)
}

async fn answer(job: JobContext) -> Result<(), Error> {
    if let Ok(Told { block }) = serde_json::from_str(job.metadata()) {
        tokio::time::sleep(Duration::from_millis(block.after_ms)).await;
        for _ in 0..USER_THREADS {
            // What a model, a database driver or a tight loop does to a runtime.
            job.spawn(async move { std::thread::sleep(Duration::from_millis(block.for_ms)) });
        }
    }
    job.stopping().await;
    Ok(())
}
