//! That a child leaves its status to whoever waits for it.
//!
//! Owns the one change to SIGCHLD, where a parent has left it ignored. Refuses to handle that signal.

use std::io;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::SIGCHLD;

/// Where SIGCHLD is ignored, as a parent may have left it, the kernel reaps by itself and keeps no status. Any handler
/// mends that, and is none in children. Looks once.
pub(crate) fn keep_exit_codes() -> io::Result<()> {
    static KEPT: OnceLock<()> = OnceLock::new();
    if KEPT.get().is_some() {
        return Ok(());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_ignored(&status, SIGCHLD) {
        signal_hook::flag::register(SIGCHLD, Arc::default())?;
    }
    KEPT.get_or_init(|| ());
    Ok(())
}

/// Whether a process with this `/proc/PID/status` ignores a signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_found() {
        let status =
            "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000011000\nSigCgt:\t0000000000000000\n";
        assert!(is_ignored(status, SIGCHLD) && is_ignored(status, 13));
        assert!(!is_ignored(status, 15) && !is_ignored("", SIGCHLD));
    }
}
