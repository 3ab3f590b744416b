//! A tiny init without user code, whose child is the worker: as process 1, as in a container, and elsewhere by `--reap`;
//! and between guard and its worker.
//!
//! Owns who becomes one, and the tie between it and its worker. Refuses a process with threads or ports of user code:
//! `waitpid(-1)` there would take the exit statuses of that code's own children.

#[cfg(target_os = "linux")]
#[path = "init/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "init/unix.rs"]
mod system;

use std::convert::Infallible;
use std::io;
use std::os::unix::process::parent_id;
use std::process::Command;

use crate::error::StartError;
use crate::job_process::{listening, other_threads};
use crate::process::{Executable, end_with_the_parent, restore_name};

/// Tells a worker the process number of its init. Whatever the worker starts inherits it, and has another parent.
const VARIABLE: &str = "LAST_CALL_INIT";

/// Where this process is the first of its namespace and nothing of the program runs in it yet: starts the worker,
/// serves as its init, and says how it ended. Else, or where nothing can be started, this process is the worker.
///
/// When process 1 leaves, the kernel ends all others (DRAIN-10).
pub(crate) fn as_process_1() -> Option<u8> {
    if std::process::id() != 1 || !is_bare() {
        return None;
    }
    system::serve(worker, None).ok().map(system::End::code)
}

/// Is an init for a program that the process `parent` has started it for, and ends as that program ends; with the
/// parent, even one that is killed, everything ends that the program has started. For Linux, and for a process that
/// does nothing else.
///
/// # Errors
/// If the program cannot be started, the parent is gone, or the system has no such thing.
pub fn look_after(parent: u32, program: impl FnOnce() -> io::Result<Command>) -> io::Result<Infallible> {
    restore_name();
    system::end_as(system::serve(program, Some(parent))?)
}

/// Where `--reap` asks for it: as [`as_process_1`]. `None` in the worker itself, which from here on ends with its init.
///
/// By SIGKILL, as everything ends with process 1: who kills the one process that a supervisor knows wants all of it
/// gone. A worker that drained instead would talk on unseen for an hour, and hold the port that its successor needs.
/// For a drain there is SIGTERM, which the init passes on.
pub(crate) fn by_choice(wanted: bool) -> Result<Option<u8>, StartError> {
    let system = |what| move |error| StartError::System { what, error };
    if number().is_some() {
        end_with_the_parent().map_err(system("way to end with its init"))?;
        // In this order: an init that dies between the two is seen here.
        return number().map(|_| None).ok_or_else(init_is_gone);
    }
    if !wanted {
        return Ok(None);
    }
    if !cfg!(target_os = "linux") {
        return Err(StartError::Usage("--reap: only Linux has what it needs; leave it out".to_owned()));
    }
    if named().is_some_and(|init| !system::is_there(init)) {
        return Err(init_is_gone());
    }
    if !is_bare() {
        let advice = "--reap: main has started threads or opened ports before run, and an init must have none; do it in \
                      prewarm, or leave --reap out";
        return Err(StartError::Usage(advice.to_owned()));
    }
    let ended = system::serve(worker, None);
    ended.map(|end| Some(end.code())).map_err(system("process for the worker"))
}

/// The process number of this worker's init, if it has one.
pub(crate) fn number() -> Option<u32> {
    named().filter(|init| *init == parent_id())
}

/// Says it in the log where the worker is process 1 itself. Call it before the worker has threads or ports of its own.
pub(crate) fn warn_without_one(threads: usize) {
    if std::process::id() == 1 {
        tracing::warn!(
            threads,
            listening = listening(),
            "the worker is process 1 itself, and reaps no orphans: main has started threads or opened ports before run, \
             or its init could not be started (is /proc there?)"
        );
    }
}

fn named() -> Option<u32> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

/// Threads are user code, and a port that `main` has opened could not be opened again.
fn is_bare() -> bool {
    other_threads() == 0 && listening() == 0
}

fn init_is_gone() -> StartError {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    StartError::Usage(format!("{VARIABLE}={named} names an init that is gone; unset it to start without"))
}

/// The command that is the worker: this program once more, told who its init is.
fn worker() -> io::Result<Command> {
    let mut command = Executable::own()?.command();
    command.args(std::env::args_os().skip(1)).env(VARIABLE, std::process::id().to_string());
    Ok(command)
}
