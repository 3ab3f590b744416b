//! Why a command failed, for a person and for a script.
//!
//! Owns the exit codes of the commands: 1 it could not be done, 2 the command line makes no sense. Refuses those of
//! workers, which are the worker's.

use std::io::{self, Write};
use std::process::ExitCode;

use last_call_server::BindError;
use last_call_worker::{Exit, StartError};

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An option makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An option that workers have too makes no sense, or the system is short of something.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The embedded server cannot start.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The terminal, or what stands for it, takes no more.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn say(&self) -> ExitCode {
        // Nobody may be left to read it.
        let _ = writeln!(io::stderr(), "error: {self}");
        match self {
            Self::Usage(_) | Self::Bind(BindError::NoKeys { .. } | BindError::TargetLoad(_)) => Exit::Usage,
            Self::Start(error) => Exit::from(error),
            Self::Bind(BindError::Url { .. } | BindError::Scheme { .. } | BindError::Credentials { .. }) => {
                Exit::Usage
            }
            // Whoever reads has read enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Finished,
            Self::Bind(_) | Self::Output(_) => Exit::Failed,
        }
        .into()
    }
}
