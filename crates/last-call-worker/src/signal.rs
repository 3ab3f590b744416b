//! Signals: the handlers, and the way from them to the link.
//!
//! Owns the handlers, the masks, and what each signal means. Refuses to stand behind anything: a handler sets a
//! flag and wakes the link, and no lock, no thread and no user code lies between.
//!
//! A handler, and not a mask with `sigwait`: a thread that existed before `run` may have the signal
//! unblocked, and without a handler it would end the process. The mask is emptied, because a parent's
//! blocked one survives `exec`, and because children of user code inherit it.
//!
//! The kernel runs handlers on the main thread where it can. `run` has the link there too, so that one wake-up
//! lies between a signal and the link, and not two.

use std::future;
use std::io::{self, IsTerminal};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::exit::Exit;
use crate::link::Control;

const SIGNALS: [i32; 4] = [SIGQUIT, SIGTERM, SIGINT, SIGHUP];
/// What a terminal sends to everybody in front of it.
const OF_A_TERMINAL: [i32; 3] = [SIGQUIT, SIGINT, SIGHUP];

/// Wrappers deliver one Ctrl-C twice (uvicorn#1069, uv#11009); a person is slower.
const ONE_KEYSTROKE: Duration = Duration::from_millis(300);

/// The process's signals, before there is a link to tell.
pub(crate) struct Signals {
    /// Until it is cleared the process has nothing to drain, and a signal ends it.
    idle: Arc<AtomicBool>,
    raised: [Arc<AtomicBool>; SIGNALS.len()],
    wake_up: UnixDatagram,
}

impl Signals {
    /// Installs the handlers and empties this thread's mask. From here on no signal of these ends the process by
    /// itself.
    pub(crate) fn catch() -> io::Result<Self> {
        // Datagrams: a stream without a reader, as after the link's end, would raise SIGPIPE.
        let (wake_up, waker) = UnixDatagram::pair()?;
        wake_up.set_nonblocking(true)?;
        let signals = Self { idle: Arc::new(AtomicBool::new(true)), raised: Default::default(), wake_up };
        for (signal, raised) in SIGNALS.into_iter().zip(&signals.raised) {
            // In this order: who is woken finds the flag set.
            flag::register_conditional_shutdown(signal, Exit::Finished as i32, signals.idle.clone())?;
            flag::register(signal, raised.clone())?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        SigSet::empty().thread_set_mask()?;
        Ok(signals)
    }

    /// From here on signals are for a link to take. Call it within the link's runtime.
    pub(crate) fn hand_over(self) -> io::Result<ToLink> {
        let Self { idle, raised, wake_up } = self;
        let wake_up = tokio::net::UnixDatagram::from_std(wake_up)?;
        idle.store(false, Ordering::SeqCst);
        Ok(ToLink { raised, wake_up, escalation: Escalation::new(io::stdin().is_terminal()) })
    }
}

/// The set of them.
pub(crate) fn ours() -> SigSet {
    SIGNALS.into_iter().filter_map(|signal| Signal::try_from(signal).ok()).collect()
}

/// In a job's process: signals that reach it beside the worker, as where a supervisor signals every process, do
/// nothing. By handlers, since what is ignored would be ignored in what the job starts, too.
pub(crate) fn leave_to_the_worker() -> io::Result<()> {
    do_nothing_on(&SIGNALS)
}

/// In a process that is about to become a job's program: what a terminal has sent to everybody before the process had a
/// group of its own, and what waits for it since, does nothing. SIGTERM stays: the worker may have sent it. The program
/// finds all signals as the system has them.
///
/// # Errors
/// If the system refuses.
pub fn leave_the_terminal_to_the_worker() -> io::Result<()> {
    do_nothing_on(&OF_A_TERMINAL)
}

fn do_nothing_on(signals: &[i32]) -> io::Result<()> {
    let nothing = Arc::new(AtomicBool::new(false));
    for signal in signals {
        flag::register(*signal, nothing.clone())?;
    }
    Ok(())
}

/// The process's signals, as a link takes them.
pub(crate) struct ToLink {
    raised: [Arc<AtomicBool>; SIGNALS.len()],
    wake_up: tokio::net::UnixDatagram,
    escalation: Escalation,
}

impl ToLink {
    /// What the next signal asks for. Those of one kind that came since the last look are one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Control {
        loop {
            // Before any waiting: a busy link looks here at every turn, and not only when it has time to wait.
            let raised = SIGNALS
                .into_iter()
                .zip(&self.raised)
                .find(|(_, raised)| raised.swap(false, Ordering::SeqCst));
            if let Some((signal, _)) = raised {
                return self.escalation.meaning(signal, Instant::now());
            }
            if self.wake_up.recv(&mut [0]).await.is_err() {
                // The next turn looks again.
                return future::pending().await;
            }
        }
    }
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

    #[tokio::test]
    async fn drain_1_a_signal_wakes_who_waits_for_nothing_else() {
        let mut signals = Signals::catch().expect("handlers").hand_over().expect("a runtime");
        for _ in 0..3 {
            let sender = std::thread::spawn(|| low_level::raise(SIGHUP));
            let woken = tokio::time::timeout(Duration::from_secs(30), signals.next()).await;
            assert!(matches!(woken, Ok(Control::Drain(_))), "{woken:?}");
            sender.join().expect("no panic").expect("sent");
        }
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
