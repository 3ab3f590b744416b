//! The signals that end a command which runs until told to: SIGTERM, Ctrl-C, a closed terminal, SIGQUIT.
//!
//! Owns the one thread that waits for them. Refuses a second one: that does what it does to any program, so that nothing
//! can hang for good. A worker's signals are the worker's own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;

use last_call_worker::StartError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

const ALL: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// Ready once a signal has come. Cancel safe. Dropped, it leaves the signals to the system.
#[derive(Debug)]
pub(crate) struct Told {
    told: oneshot::Receiver<()>,
    done: Arc<AtomicBool>,
}

/// Watches from now on.
pub(crate) fn to_end() -> Result<Told, StartError> {
    let lacks = |error| StartError::System { what: "signal handlers", error };
    let done = Arc::new(AtomicBool::new(false));
    // Handlers run in the order of their registration: the first signal finds this one unarmed.
    for signal in ALL {
        register_conditional_default(signal, Arc::clone(&done)).map_err(lacks)?;
    }
    let mut signals = Signals::new(ALL).map_err(lacks)?;
    let (tell, told) = oneshot::channel();
    let armed = Arc::clone(&done);
    let wait = move || {
        signals.forever().next();
        armed.store(true, Ordering::Release);
        // Whoever has ended by itself is not there to be told.
        let _ = tell.send(());
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(lacks)?;
    Ok(Told { told, done })
}

impl Future for Told {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.told).poll(context).map(|_| ())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
    }
}
