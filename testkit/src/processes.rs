//! What `/proc` says of a process that is not this one's child.
//!
//! Owns the reading. Refuses to signal: a number may be another's by then.

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Whether the process with this number runs; one that has ended and that nobody has reaped does not.
#[must_use]
pub fn runs(pid: impl Display) -> bool {
    state(pid).is_some_and(|state| !"ZX".contains(state))
}

/// The kernel's letter for the state of a process: R, S, T, Z and others (proc(5)). `None` if there is none of this number.
#[must_use]
pub fn state(pid: impl Display) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The processes that this one has started and not reaped.
#[must_use]
pub fn children<P: Display + FromStr>(pid: P) -> Vec<P> {
    let lists =
        threads(pid).into_iter().filter_map(|thread| fs::read_to_string(thread.join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// All that this one has started, and what those have started, as far as their parents live.
#[must_use]
pub fn below<P: Copy + Display + FromStr>(pid: P) -> Vec<P> {
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(parent) = next.pop() {
        let more = children(parent);
        next.extend(&more);
        found.extend(more);
    }
    found
}

/// The directory of each of a process's threads.
#[must_use]
pub fn threads(pid: impl Display) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).collect()
}
