//! The init itself: what it does from the start of the worker to its own end.
//!
//! Owns the reaping of orphans, the passing on of signals, and the end of what a worker leaves behind. Refuses to judge
//! a signal: what it means is the worker's.

use std::fs;
use std::io;
use std::os::unix::process::parent_id;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::SI_KERNEL;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, set_parent_process_death_signal};

use crate::process::keep_exit_codes;

/// What an orchestrator, or a person, may send.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// What is killed is waited for this long: a process that hangs in the kernel must not hold the exit code.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks whether all of it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How the worker of an init ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Code(u8),
    Signal(Signal),
}

impl End {
    /// As a shell says it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal as i32).unwrap_or(u8::MAX),
        }
    }
}

/// Starts `worker`, and returns with its end once it has ended and nothing is left below this process. Where it is to
/// end with its `parent`, nothing is left either once that is gone. Nobody else may start or reap children here.
pub(super) fn serve(worker: impl FnOnce() -> io::Result<Command>, parent: Option<u32>) -> io::Result<End> {
    let mut signals = PASSED_ON.into_iter().collect::<SigSet>();
    signals.add(Signal::SIGCHLD);
    keep_exit_codes()?;
    // Before there is a child: it inherits the mask, so that no signal ends it before it has its handlers.
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    set_child_subreaper(true)?;
    if let Some(parent) = parent {
        // One of those that are caught: what is below is to be killed first.
        set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        // In this order: a parent that dies between the two is seen here.
        if parent_id() != parent {
            return Err(io::Error::other("its parent has ended"));
        }
    }
    let worker = worker()?.spawn()?;
    // The worker's secrets are in this environment too, and it may keep them from its own children, under one user with
    // both. Behind the start, which needs this process's open files; where it is refused here, it is in the worker.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let worker = Pid::from_raw(i32::try_from(worker.id()).map_err(io::Error::other)?);
    let end = watch(worker, &signals, parent);
    end_the_rest();
    Ok(end)
}

/// Ends this process as its worker ended, for whoever looks at its status.
pub(super) fn end_as(end: End) -> ! {
    if let End::Signal(signal) = end {
        // One that is ignored here does nothing.
        let _ = SigSet::empty().thread_set_mask();
        let _ = raise(signal);
    }
    std::process::exit(end.code().into())
}

/// Whether a process of this number is there.
pub(super) fn is_there(number: u32) -> bool {
    i32::try_from(number).is_ok_and(|number| kill(Pid::from_raw(number), None) != Err(Errno::ESRCH))
}

fn watch(worker: Pid, signals: &SignalFd, parent: Option<u32>) -> End {
    loop {
        let Ok(Some(received)) = signals.read_signal() else { continue };
        let Some(signal) =
            i32::try_from(received.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
        else {
            continue;
        };
        if signal == Signal::SIGCHLD {
            if let Some(end) = reap(worker) {
                return end;
            }
        } else if parent.is_some_and(|parent| parent != parent_id()) {
            return End::Signal(Signal::SIGKILL);
        } else if !has_it_already(signal, received.ssi_code, getpgid(Some(worker)) == Ok(getpgrp())) {
            // One that has ended is about to be reaped.
            let _ = kill(worker, signal);
        }
    }
}

/// Whether the worker got this signal itself: a key of the terminal is sent by the kernel to the whole foreground
/// group. Passed on late, as on a busy machine, one Ctrl-C would be two, and would force (DRAIN-9).
fn has_it_already(signal: Signal, code: i32, one_group: bool) -> bool {
    code == SI_KERNEL && one_group && [Signal::SIGINT, Signal::SIGQUIT].contains(&signal)
}

/// Takes the status of whoever has ended; the worker's end, if it was among them.
fn reap(worker: Pid) -> Option<End> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => {
                return Some(End::Code(u8::try_from(code).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => return Some(End::Signal(signal)),
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child at all cannot be: the worker is one until it is reaped.
            Err(_) => return Some(End::Code(u8::MAX)),
        }
    }
}

/// Kills and reaps until nothing is left: the children of whatever is killed become this process's own.
fn end_the_rest() {
    let deadline = Instant::now() + END_WITHIN;
    loop {
        // Nobody else reaps here, so that no number of these is another's by now.
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
        if Instant::now() > deadline {
            return;
        }
        // Who loses its parent becomes this process's child without a word.
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The children of this process, whichever numbers /proc lists.
fn children() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let numbers =
        entries.filter_map(|entry| Some(Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?)));
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    numbers.filter(move |pid| waitid(Id::Pid(*pid), look).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_9_a_key_of_the_terminal_is_not_passed_on_to_its_own_group() {
        const SI_USER: i32 = nix::libc::SI_USER;
        for (signal, code, one_group, already) in [
            (Signal::SIGINT, SI_KERNEL, true, true),
            (Signal::SIGQUIT, SI_KERNEL, true, true),
            (Signal::SIGINT, SI_USER, true, false),
            (Signal::SIGINT, SI_KERNEL, false, false),
            // The kernel sends it to the leader of a session alone.
            (Signal::SIGHUP, SI_KERNEL, true, false),
            (Signal::SIGTERM, SI_USER, true, false),
        ] {
            assert_eq!(has_it_already(signal, code, one_group), already, "{signal} {code} {one_group}");
        }
    }
}
