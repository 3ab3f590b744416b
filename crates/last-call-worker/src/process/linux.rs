//! What only Linux has: an end that is a readable file, `/proc`, memory by shares.
//!
//! Owns the pidfd and the reading of `/proc`. Refuses to signal a number that may belong to another by now.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::jobs::Usage;

/// Looks for strays again and again while there are any: they may fork meanwhile. This often at most.
const PASSES: usize = 10;

/// Waits until the child `pid` has ended, and leaves its status to whoever reaps it. Cancel safe.
pub(super) async fn wait(pid: Pid) -> io::Result<()> {
    Held::open(pid.as_raw())?.ended().await
}

/// A process by a handle: its own still, when its number is another's.
#[derive(Debug)]
pub(crate) struct Held(OwnedFd);

impl Held {
    /// The process that has this number now.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Waits until it has ended. Cancel safe.
    pub(super) async fn ended(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "what may change its descriptor meanwhile is refused; a borrowed one cannot"
        )]
        let pidfd = AsyncFd::with_interest(self.0.as_fd(), Interest::READABLE)?;
        pidfd.readable().await.map(drop)
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        // Who has ended needs none.
        let _ = pidfd_send_signal(&self.0, Signal::TERM);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        // As above.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// The descendants of a process that run and are not `known`. Reads files, and may take milliseconds.
pub(super) fn descendants(root: u32, known: &BTreeSet<u32>) -> Vec<(u32, Held)> {
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children(parent.cast_signed()) {
            let pid = child.cast_unsigned();
            if !known.contains(&pid) {
                // First the handle, then the look: a number that is taken again meanwhile has another parent.
                let Ok(held) = Held::open(child) else { continue };
                if !runs_under(child, parent) {
                    continue;
                }
                found.push((pid, held));
            }
            parents.push(pid);
        }
    }
    found
}

/// Whether it is a child of `parent` that has not ended.
fn runs_under(pid: i32, parent: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split_whitespace();
    !matches!(fields.next(), None | Some("Z" | "X"))
        && fields.next().and_then(|field| field.parse().ok()) == Some(parent)
}

/// Kills every process whose environment has a variable that begins with `mark`: whatever a child started, in a
/// session of its own too. None that started before `since` is looked at, and none after the `deadline`. Best effort: it misses what cleared its environment, and other users' processes.
pub(super) fn kill_marked(mark: &str, since: Started, deadline: Option<Instant>) {
    for _ in 0..PASSES {
        let mut found = false;
        for pid in numbers() {
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return;
            }
            // Cheaper than a look at the environment; most of a machine's processes are older.
            if started(Pid::from_raw(pid)) < since {
                continue;
            }
            // First the handle, then the look: a number that is taken again meanwhile is not hit.
            let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if has_mark(pid.as_raw_pid(), mark) {
                found |= pidfd_send_signal(&pidfd, Signal::KILL).is_ok();
            }
        }
        if !found {
            return;
        }
    }
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// When a process started, in ticks since the machine did.
pub(super) type Started = u64;

/// 0 for one that is gone.
pub(super) fn started(pid: Pid) -> Started {
    stat(pid.as_raw(), 19, 1).unwrap_or(0)
}

/// The sum of so many fields of `/proc/PID/stat`, the first counted from the one behind the name, which is in brackets and
/// may hold anything.
fn stat(pid: i32, first: usize, fields: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(first).take(fields);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

/// A process that has ended, and is not reaped yet, has no environment.
fn has_mark(pid: i32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
}

/// What a process and its descendants use, and what those have used that are reaped. `None` where the kernel does not
/// tell. Reads files, and may take milliseconds.
pub(super) fn usage(pid: Pid) -> Option<Usage> {
    let mut sum = Usage { memory: pss(pid.as_raw())?, cpu: cpu(pid.as_raw()).unwrap_or_default() };
    let mut parents = vec![pid.as_raw()];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            // One that ended meanwhile uses none.
            sum.memory += pss(child).unwrap_or(0);
            sum.cpu += cpu(child).unwrap_or_default();
            parents.push(child);
        }
    }
    Some(sum)
}

fn pss(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
    Some(kib?.parse::<u64>().ok()?.saturating_mul(1024))
}

fn cpu(pid: i32) -> Option<Duration> {
    // User and system time, of its own and of its reaped children.
    let ticks = stat(pid, 11, 4)?;
    let millis = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(millis))
}

/// The oldest child of a process, if it has one.
pub(super) fn oldest_child(pid: u32) -> Option<u32> {
    children(pid.cast_signed()).first().map(|child| child.cast_unsigned())
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
