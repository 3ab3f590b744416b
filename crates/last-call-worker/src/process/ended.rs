//! How a process ended, in words for people (JOB-3).
//!
//! Owns the texts. Refuses to guess: "out of memory" needs the kernel's own count, or a limit that we enforced.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

/// How a child process ended. Its `Display` is the text of a failed job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// The kernel killed it because its memory limit, or the machine's memory, was used up.
    OutOfMemory,
    /// We killed it: its memory passed the limit. Both in bytes.
    MemoryLimit {
        /// What it used when it was last looked at.
        used: u64,
        /// What it may use.
        limit: u64,
    },
    /// We killed it: it was not ready within this time.
    InitTimeout(Duration),
    /// We killed it: it did not answer for this long.
    Unresponsive(Duration),
    /// Nobody knows: another part of the program took its status away.
    Unknown,
}

impl Ended {
    /// What the status says, where `oom_killed` tells that the kernel's count of such kills has grown meanwhile.
    pub(super) fn of(status: ExitStatus, oom_killed: bool) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, Some(signal)) if oom_killed && signal == Signal::SIGKILL as i32 => Self::OutOfMemory,
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// Whether it ended by itself, with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Exit(0)
    }

    /// The text with the last line that it wrote to standard error, which mostly says why.
    #[must_use]
    pub fn text(&self, last_error: &str) -> String {
        if last_error.is_empty() { self.to_string() } else { format!("{self}: {last_error}") }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::OutOfMemory => f.write_str("out of memory: killed by the kernel (SIGKILL)"),
            Self::MemoryLimit { used, limit } => {
                write!(f, "over its memory limit: {} MiB in use, {} MiB allowed", used >> 20, limit >> 20)
            }
            Self::InitTimeout(limit) => write!(f, "not ready within {}", humantime::format_duration(*limit)),
            Self::Unresponsive(limit) => write!(f, "no answer for {}", humantime::format_duration(*limit)),
            Self::Unknown => f.write_str("ended in a way that is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_3_every_end_has_words() {
        let seconds = Duration::from_secs;
        for (ended, text) in [
            (Ended::of(ExitStatus::from_raw(3 << 8), true), "exit code 3"),
            (Ended::of(ExitStatus::from_raw(11), true), "killed by SIGSEGV"),
            (Ended::of(ExitStatus::from_raw(40), false), "killed by signal 40"),
            (Ended::of(ExitStatus::from_raw(9), false), "killed by SIGKILL"),
            (Ended::of(ExitStatus::from_raw(9), true), "out of memory: killed by the kernel (SIGKILL)"),
            (Ended::of(ExitStatus::from_raw(0x7f), true), "ended in a way that is not known"),
            (
                Ended::MemoryLimit { used: 301 << 20, limit: 256 << 20 },
                "over its memory limit: 301 MiB in use, 256 MiB allowed",
            ),
            (Ended::InitTimeout(seconds(10)), "not ready within 10s"),
            (Ended::Unresponsive(seconds(90)), "no answer for 1m 30s"),
        ] {
            assert_eq!(ended.to_string(), text);
        }
    }

    #[test]
    fn job_3_the_last_error_line_says_why() {
        assert_eq!(Ended::Exit(1).text("KeyError: 'room'"), "exit code 1: KeyError: 'room'");
        assert_eq!(Ended::Exit(1).text(""), "exit code 1");
        assert!(Ended::Exit(0).success() && !Ended::Exit(1).success() && !Ended::Signal(0).success());
    }
}
