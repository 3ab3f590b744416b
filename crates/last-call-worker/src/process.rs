//! A child process that is watched to its end: what a job in a process, and a job that is any program, have in common.
//!
//! | file | owns |
//! | --- | --- |
//! | `supervised.rs` | [`Supervised`]: the start, the signals to its group, its end; none outlives its owner |
//! | `spawner.rs` | the one thread that starts children, `last-call-supervisor` |
//! | `lines.rs` | what it prints, bounded in length and rate |
//! | `ended.rs` | how it ended, in words for people |
//! | `executable.rs` | this program's own file, opened before a deploy replaces it |
//! | `limits.rs` | what it may use, by the options of every worker |
//! | `confine.rs` | what it takes on itself before foreign code runs in it |
//! | `cgroup.rs` | its group of cgroup v2, where the worker was given a place for groups |
//! | `linux.rs`, `unix.rs` | what differs between systems: the wait, the search for strays, memory |
//!
//! Refuses SIGCHLD and `waitpid(-1)`: user code's own children keep their exit statuses. Refuses to know what a job
//! is: whoever starts a child decides when it is told, asked and ended.

mod cgroup;
mod confine;
mod ended;
mod executable;
mod limits;
mod lines;
mod spawner;
mod supervised;
#[cfg(target_os = "linux")]
#[path = "process/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "process/unix.rs"]
mod system;
#[cfg(test)]
mod tests;

pub use cgroup::Groups;
pub use confine::{confine, end_with_the_parent};
pub use ended::Ended;
pub use executable::Executable;
pub(crate) use executable::restore_name;
pub use limits::{Limits, Pings};
pub use lines::{Rate, Said, Stream, read as read_lines};
pub use supervised::{MARK, Start, Supervised};
pub(crate) use supervised::{all_reaped, kill_all};
