//! Signals: a thread that waits for them and tells the link.
//!
//! Owns the handlers, the masks, and what each signal means. Refuses to stand behind anything: no lock, no
//! runtime and no user code lies between the handler and the link's channel.
//!
//! A handler, and not a mask with `sigwait`: a thread that existed before `run` may have the signal
//! unblocked, and without a handler it would end the process. The mask is emptied, because a parent's
//! blocked one survives `exec`, and because children of user code inherit it.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use crate::exit::Exit;
use crate::link::Control;

/// Wrappers deliver one Ctrl-C twice (uvicorn#1069, uv#11009); a person is slower.
const ONE_KEYSTROKE: Duration = Duration::from_millis(300);

/// Installs the handlers, empties this thread's mask, and starts the thread that waits. From here on no
/// signal of these ends the process by itself.
///
/// Until `serving` is set there is no link to tell: then the process has nothing to drain, and leaves.
pub(crate) fn watch(control: mpsc::UnboundedSender<Control>, serving: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])?;
    SigSet::empty().thread_set_mask()?;
    std::thread::Builder::new().name("last-call-signal".to_owned()).spawn(move || {
        let mut escalation = Escalation::new(io::stdin().is_terminal());
        for signal in signals.forever() {
            if !serving.load(Ordering::Acquire) {
                std::process::exit(Exit::Finished as i32);
            }
            let now = Instant::now();
            // A link that is gone has left already.
            let _ = control.send(escalation.meaning(signal, now));
        }
    })?;
    Ok(())
}

/// What a signal means, given those before it (DRAIN-9).
struct Escalation {
    terminal: bool,
    interrupted: Option<Instant>,
}

impl Escalation {
    fn new(terminal: bool) -> Self {
        Self { terminal, interrupted: None }
    }

    fn meaning(&mut self, signal: i32, now: Instant) -> Control {
        if signal == SIGQUIT {
            return Control::Force;
        }
        if signal == SIGINT && self.terminal {
            let first = *self.interrupted.get_or_insert(now);
            if now.duration_since(first) > ONE_KEYSTROKE {
                return Control::Force;
            }
        }
        Control::Drain(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forces(terminal: bool, signals: &[(i32, u64)]) -> bool {
        let start = Instant::now();
        let mut escalation = Escalation::new(terminal);
        let mut meanings = signals
            .iter()
            .map(|(signal, at)| escalation.meaning(*signal, start + Duration::from_millis(*at)));
        meanings.any(|meaning| matches!(meaning, Control::Force))
    }

    #[test]
    fn drain_9_only_quit_and_a_second_ctrl_c_on_a_terminal_force() {
        let sigterms: Vec<_> = (0..1000).map(|n| (SIGTERM, n * 10)).collect();
        assert!(!forces(true, &sigterms));
        assert!(!forces(false, &[(SIGINT, 0), (SIGINT, 5_000), (SIGHUP, 6_000)]));
        assert!(!forces(true, &[(SIGINT, 0), (SIGTERM, 1_000)]));
        assert!(!forces(true, &[(SIGINT, 0), (SIGINT, 2)]), "one keystroke delivered twice");
        assert!(forces(true, &[(SIGINT, 0), (SIGINT, 1_000)]));
        assert!(forces(false, &[(SIGQUIT, 0)]));
    }
}
