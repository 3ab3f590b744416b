//! Process 1, as in a container: a tiny init without user code, whose child is the worker.
//!
//! Owns the reaping of orphans, and passing each signal on once. Refuses everything else: `waitpid(-1)` in a process
//! with user code would take the exit statuses of that code's own children.

use std::io;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::Executable;

/// What an orchestrator, or a person, may send.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Where this process is the first of its namespace and nothing of the program runs in it yet: starts the worker,
/// serves as its init, and says how it ended. Else, or where nothing can be started, this process is the worker.
///
/// When process 1 leaves, the kernel ends all others (DRAIN-10).
pub(crate) fn serve() -> Option<ExitCode> {
    // Threads are user code, and a port that `main` has opened could not be opened again.
    let bare = || crate::job_process::other_threads() == 0 && crate::job_process::listening() == 0;
    if std::process::id() != 1 || !bare() {
        return None;
    }
    let mut signals = PASSED_ON.into_iter().collect::<SigSet>();
    signals.add(Signal::SIGCHLD);
    // Before there is a child: it inherits the mask, so that no signal ends it before it has its handlers.
    signals.thread_block().ok()?;
    let worker = start().ok()?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(worker) {
                    return Some(ExitCode::from(code));
                }
            }
            // One that has ended is about to be reaped.
            Ok(signal) => drop(kill(worker, signal)),
            Err(_) => {}
        }
    }
}

fn start() -> io::Result<Pid> {
    let child = Executable::own()?.command().args(std::env::args_os().skip(1)).spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?))
}

/// Takes the status of whoever has ended; the worker's code, if it was among them.
fn reap(worker: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => {
                return Some(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => {
                return Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child at all cannot be: the worker is one until it is reaped.
            Err(_) => return Some(u8::MAX),
        }
    }
}
