//! Why a command failed, for a person and for a script.
//!
//! Owns the exit codes of the commands: 1 it could not be done, 2 the command line makes no sense. Refuses those of
//! workers, which are the worker's.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use last_call_server::BindError;
use last_call_worker::api::ApiError;
use last_call_worker::{Exit, StartError};

use crate::shown;

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
    /// A directory of admin sockets cannot be read.
    #[error("cannot look for admin sockets in {}: {error}; is the path right and readable by this user?", shown::path(.path))]
    Search {
        /// The directory as given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The server's API said no, or nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The demo could not be played.
    #[error("{0}")]
    Demo(String),
    /// Told to end before the end.
    #[error("interrupted; everything that was started is gone")]
    Interrupted,
    /// The demo's page cannot be written.
    #[error("cannot write the timeline to {}: {error}; choose another place with --html, or --html off", shown::path(.path))]
    Html {
        /// The file as given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The terminal, or what stands for it, takes no more.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Says it on standard error, unless whoever reads has read enough.
    pub(crate) fn say(&self) -> ExitCode {
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return Exit::Finished.into();
        }
        // Nobody may be left to read it.
        let _ = writeln!(io::stderr(), "error: {self}");
        match self {
            Self::Usage(_) | Self::Bind(BindError::NoKeys { .. } | BindError::TargetLoad(_)) => Exit::Usage,
            Self::Bind(BindError::Url { .. } | BindError::Scheme { .. } | BindError::Credentials { .. }) => {
                Exit::Usage
            }
            Self::Start(error) => Exit::from(error),
            // As a shell says of Ctrl-C.
            Self::Interrupted => return ExitCode::from(130),
            Self::Api(_)
            | Self::Bind(_)
            | Self::Demo(_)
            | Self::Html { .. }
            | Self::Output(_)
            | Self::Search { .. } => Exit::Failed,
        }
        .into()
    }
}
