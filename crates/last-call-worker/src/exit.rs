//! Exit codes: every one that a worker leaves with, and nothing else.
//!
//! Owns the numbers and their meaning. A code below 0 here does not exist; 128 + n is the kernel's.

use std::process::ExitCode;

use last_call_proto::Outcome;

use crate::error::StartError;

/// How a worker process ended (DRAIN-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Exit {
    /// 0: drained; every job that ran had its end. Also the end of a `connect` whose job succeeded.
    Finished = 0,
    /// 1: did not start: a port in use, a file that cannot be read, prewarm failed, no file descriptors. Also a `connect` whose job
    /// failed.
    Failed = 1,
    /// 2: an option is missing or makes no sense.
    Usage = 2,
    /// 3: the server refused the first registration: wrong URL, key or secret.
    Refused = 3,
    /// 4: the drain budget ran out, and jobs were cut off; the last log line names them.
    CutOff = 4,
    /// 5: forced to leave by SIGQUIT or a second Ctrl-C, and jobs were cut off.
    Forced = 5,
    /// 70: a fault in Last Call itself.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Outcome> for Exit {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::Finished,
            Outcome::CutOff(_) => Self::CutOff,
            Outcome::Forced(cut) if cut.is_empty() => Self::Finished,
            Outcome::Forced(_) => Self::Forced,
            Outcome::Refused => Self::Refused,
        }
    }
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Usage(_)
            | StartError::Url(_)
            | StartError::InsideRuntime
            | StartError::PanicAborts => Self::Usage,
            StartError::SecretFile { .. }
            | StartError::ConfigFile { .. }
            | StartError::Http { .. }
            | StartError::Admin(_)
            | StartError::State(_)
            | StartError::System { .. }
            | StartError::Prewarm(_) => Self::Failed,
            StartError::LinkDied => Self::Internal,
        }
    }
}
