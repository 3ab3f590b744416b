//! A child process that is watched to its end: what a job in a process, and a job that is any program, have in common.
//!
//! | file | owns |
//! | --- | --- |
//! | `supervised.rs` | [`Supervised`]: the start, the signals to its group, its end; none outlives its owner |
//! | `threads.rs` | the thread that starts children, and the one that reads `/proc` |
//! | `lines.rs` | what it prints, bounded in length and rate |
//! | `descendants.rs` | what a child has started, and the ends of those |
//! | `ended.rs` | how it ended, in words for people |
//! | `executable.rs` | this program's own file, opened before a deploy replaces it |
//! | `limits.rs` | what it may use, by the options of every worker |
//! | `confine.rs` | what it takes on itself before foreign code runs in it |
//! | `cgroup.rs` | its group of cgroup v2, where the worker was given a place for groups |
//! | `reaping.rs` | that there is something to reap |
//! | `linux.rs`, `unix.rs` | what differs between systems: the wait, the search for strays, memory |
//!
//! Refuses SIGCHLD and `waitpid(-1)`: user code's own children keep their exit statuses. Refuses to know what a job
//! is: whoever starts a child decides when it is told, asked and ended.

mod cgroup;
mod confine;
mod descendants;
mod ended;
mod executable;
mod limits;
mod lines;
mod reaping;
mod supervised;
#[cfg(target_os = "linux")]
#[path = "process/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "process/unix.rs"]
mod system;
#[cfg(test)]
mod tests;
mod threads;

pub use cgroup::Groups;
pub use confine::{confine, end_with_the_parent};
pub(crate) use descendants::{Descendants, program_of};
pub use ended::Ended;
pub use executable::Executable;
pub(crate) use executable::restore_name;
pub use limits::{Limits, Pings};
pub use lines::{Rate, Said, Stream, read as read_lines};
pub(crate) use reaping::keep_exit_codes;
pub use supervised::{MARK, Start, Supervised};
pub(crate) use supervised::{STRAYS_WITHIN, all_reaped, kill_all};

pub use crate::signal::leave_the_terminal_to_the_worker;
pub(crate) use system::Held;

/// Makes ready for children, before anything else takes long: opens this program's own file, which a deploy may replace,
/// and starts the threads, which the system may refuse later. Without it the first child does the same.
///
/// # Errors
/// If the system refuses either.
pub fn begin() -> std::io::Result<()> {
    Executable::own()?;
    threads::SUPERVISOR.start()?;
    threads::ERRANDS.start()?;
    keep_exit_codes()
}
