//! The demo's own worker: `last-call demo-agent start`, hidden, with all the options of a worker.
//!
//! Owns an agent that does nothing but stay until its call is over, and what holds every thread of its code for a while: a
//! SIGUSR1. Refuses to join a room: the demo's callers are not people.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use last_call_worker::{Error, JobContext, JobRequest, Worker};
use nix::unistd::{Pid, getppid};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;
use tokio::runtime::Handle;

/// Threads of user code in a worker that the demo starts.
pub(crate) const USER_THREADS: u16 = 2;
/// How long they are held.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(3);
/// Names the demo's process, with which the worker ends.
pub(crate) const PARENT: &str = "LAST_CALL_DEMO";

/// The runtime of user code, known from the first job on.
static USER: OnceLock<Handle> = OnceLock::new();

/// The worker.
pub(crate) fn worker() -> Worker {
    if let Some(parent) = std::env::var(PARENT).ok().and_then(|text| text.parse().ok()) {
        end_with(Pid::from_raw(parent));
    }
    if let Ok(mut signals) = Signals::new([SIGUSR1]) {
        thread::spawn(move || signals.forever().for_each(|_| hold()));
    }
    // Offers are answered by its own code too, so that they wait while that is held.
    Worker::new("last-call-demo").on_request(async |offer: JobRequest| offer.accept()).entrypoint(answer)
}

/// A demo that is killed cannot clean up.
fn end_with(parent: Pid) {
    // Without it the demo cleans up only where it is not killed.
    let _ = last_call_worker::process::end_with_the_parent();
    // It may be gone already.
    if getppid() != parent {
        std::process::exit(1);
    }
}

/// Does to user code what a model, a database driver or a tight loop does.
fn hold() {
    if let Some(user) = USER.get() {
        for _ in 0..USER_THREADS {
            user.spawn(async { thread::sleep(HELD_FOR) });
        }
    }
}

async fn answer(job: JobContext) -> Result<(), Error> {
    USER.get_or_init(Handle::current);
    job.stopping().await;
    Ok(())
}
