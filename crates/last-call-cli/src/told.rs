//! SIGTERM and Ctrl-C, for commands that run until told to end.
//!
//! Owns the one thread that waits for them. Refuses a worker's signals, which are the worker's own.

use std::future::Future;
use std::thread;

use last_call_worker::StartError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

/// Watches from now on; what it returns is ready once a signal has come. Cancel safe.
pub(crate) fn to_end() -> Result<impl Future<Output = ()>, StartError> {
    let lacks = |error| StartError::System { what: "signal handlers", error };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(lacks)?;
    let (tell, told) = oneshot::channel();
    let wait = move || {
        signals.forever().next();
        // Whoever has ended by itself is not there to be told.
        let _ = tell.send(());
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(lacks)?;
    Ok(async { told.await.unwrap_or_default() })
}
