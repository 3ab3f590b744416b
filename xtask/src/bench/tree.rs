//! A worker and all processes below it, as /proc has them: who they are, what memory each takes, whether they rest.
//!
//! Owns the reading. Refuses to know which process is for what: a bench learns from a job in which process it ran.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use last_call_testkit::processes::{below, threads};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::{PATIENCE, rest};

/// Between two looks whether the processes rest.
const LOOK: Duration = Duration::from_millis(100);
/// Who takes less of a core's time between two looks rests: pings and timers go on. A process that starts takes a core.
const AT_REST: Duration = Duration::from_millis(20);

/// A process and all below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree(pub(crate) u32);

/// What one process takes, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that several processes have count by their share.
    pub(crate) pss: u64,
    /// Pages that no other process has.
    pub(crate) private: u64,
}

impl Tree {
    /// Every process, in the order of their numbers.
    pub(crate) fn pids(self) -> Vec<u32> {
        let mut found = below(self.0);
        found.push(self.0);
        found.sort_unstable();
        found
    }

    /// What each takes. One that ended meanwhile takes nothing.
    pub(crate) fn memory(self) -> BTreeMap<u32, Memory> {
        self.pids().into_iter().map(|pid| (pid, memory(pid))).collect()
    }

    /// Waits until those that are there are `wanted`, and rest for so many looks in a row; who they are.
    ///
    /// # Errors
    /// When that is not so after [`PATIENCE`].
    pub(crate) fn settle(self, looks: u32, wanted: impl Fn(&[u32]) -> bool) -> Result<Vec<u32>> {
        let deadline = Instant::now() + PATIENCE;
        let (mut pids, mut used, mut quiet) = (self.pids(), Duration::ZERO, 0);
        while Instant::now() < deadline {
            rest(LOOK);
            let (pids_now, used_now) = (self.pids(), self.cpu());
            let rests = pids_now == pids && wanted(&pids) && used_now.saturating_sub(used) < AT_REST;
            (pids, used, quiet) = (pids_now, used_now, if rests { quiet + 1 } else { 0 });
            if quiet == looks {
                return Ok(pids);
            }
        }
        bail!("the worker's processes {pids:?} did not come to rest in {PATIENCE:?}")
    }

    /// The time on a core of all of them.
    pub(crate) fn cpu(self) -> Duration {
        let threads = self.pids().into_iter().flat_map(threads);
        let nanos = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Ends all of them: a framework's processes may outlive its worker.
    pub(crate) fn kill(self) {
        for pid in self.pids().into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            // Who has ended needs no signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn memory(pid: u32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let value =
            rollup.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.unwrap_or(0)
    };
    Memory { pss: field("Pss:"), private: field("Private_Clean:") + field("Private_Dirty:") }
}

#[cfg(test)]
mod tests {
    use last_call_testkit::Launch;

    use super::*;

    #[test]
    fn a_grandchild_is_found_weighed_and_ended() {
        let shell = Launch::new("sh").args(["-c", "sleep 3600 & echo $!; wait"]).spawn().expect("sh starts");
        let line = shell.wait_for_line(|_| true, PATIENCE).expect("its child's number");
        let sleeper: u32 = line.text.parse().expect("a number");
        let tree = Tree(std::process::id());
        let pids = Tree(shell.pid()).settle(1, |pids| pids.len() == 2).expect("they rest");
        assert_eq!(pids, [shell.pid(), sleeper]);
        let memory = tree.memory();
        assert!(memory.contains_key(&shell.pid()), "{memory:?}");
        let sleeper = memory.get(&sleeper).copied().unwrap_or_default();
        assert!(sleeper.private > 0 && sleeper.pss >= sleeper.private, "{sleeper:?}");
        Tree(shell.pid()).kill();
        let exit = shell.wait(PATIENCE).expect("the shell ends");
        assert_eq!(exit.signal, Some(Signal::SIGKILL as i32));
    }
}
