//! What other systems have in place of what Linux has.
//!
//! Owns the poor relations. Refuses to pretend: strays are not found here, and memory is not known.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::jobs::Usage;

/// Between two looks whether a child has ended.
const EVERY: Duration = Duration::from_millis(20);

/// The caller looks whether the child has ended each time that this returns. Cancel safe.
pub(super) async fn wait(_pid: Pid) -> io::Result<()> {
    tokio::time::sleep(EVERY).await;
    Ok(())
}

/// A process by its number: there is nothing better here.
#[derive(Debug)]
pub(crate) struct Held(Pid);

impl Held {
    /// The process that has this number now.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        Ok(Self(Pid::from_raw(pid)))
    }

    /// Not known.
    pub(super) async fn ended(&self) -> io::Result<()> {
        std::future::pending().await
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        // Who has ended needs none.
        let _ = kill(self.0, Signal::SIGTERM);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        // As above.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// None is found.
pub(super) fn descendants(_root: u32, _known: &BTreeSet<u32>) -> Vec<(u32, Held)> {
    Vec::new()
}

/// None is found.
pub(super) fn oldest_child(_pid: u32) -> Option<u32> {
    None
}

/// Nothing is found.
pub(super) fn kill_marked(_mark: &str, _since: Started, _deadline: Option<Instant>) {}

/// Not known.
pub(super) type Started = u64;

/// Not known.
pub(super) fn started(_pid: Pid) -> Started {
    0
}

/// Not known.
pub(super) fn usage(_pid: Pid) -> Option<Usage> {
    None
}
