//! What a child takes on before foreign code runs in it.
//!
//! Owns the end with its parent and the limits that the kernel keeps. Refuses what the parent can do better.

use std::io;
use std::path::Path;

use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cgroup;

/// This process ends when the thread that started it does (Linux; SIGKILL). Then look whether the parent is still
/// there: it may have ended before.
///
/// # Errors
/// If the system refuses.
pub fn end_with_the_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Confines this process, a job's: its group in `cgroup`, no core files, which would hold the token, no new
/// privileges (Linux), at most so many `open_files`; and lets signals through, which are blocked at its start.
///
/// # Errors
/// If the system refuses.
pub fn confine(cgroup: Option<&Path>, open_files: Option<u64>) -> io::Result<()> {
    if let Some(dir) = cgroup {
        cgroup::join(dir)?;
    }
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    // Not 0: a program that the kernel pipes core files to gets them all the same (core(5)).
    setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
    if let Some(files) = open_files {
        let most = getrlimit(Resource::Nofile).maximum.map_or(files, |most| files.min(most));
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}
