//! `--accept-if`: a command or a service that decides on offers.
//!
//! Owns what their answers mean. Refuses a time limit of its own: an offer has `--answer-within`, and whoever was asked
//! is let go when that is over.

mod command;
mod hook;

use last_call_worker::{JobRequest, Reply};

use self::command::Command;
use self::hook::Hook;
use crate::failure::Failure;

/// Who is asked.
pub(super) enum AcceptIf {
    Command(Command),
    Hook(Box<Hook>),
}

impl AcceptIf {
    pub(super) fn new(text: &str) -> Result<Self, Failure> {
        if Hook::is_meant(text) {
            return Hook::new(text)
                .map(|hook| Self::Hook(Box::new(hook)))
                .map_err(|why| Failure::Usage(format!("--accept-if: {why}")));
        }
        let command = Command::new(text);
        command.map(Self::Command).map_err(|why| Failure::Usage(format!("--accept-if {text:?}: {why}")))
    }

    /// Cancel safe: dropped, it lets go of whoever was asked.
    pub(super) async fn decide(&self, request: JobRequest) -> Reply {
        let decided = match self {
            Self::Command(command) => command.ask(&request).await,
            Self::Hook(hook) => hook.ask(&request).await,
        };
        match decided {
            Ok(true) => return request.accept().into(),
            Ok(false) => {}
            Err(error) => {
                let job_id = request.id();
                tracing::warn!(job_id, error, "--accept-if has not decided: the offer is left to others");
            }
        }
        request.reject()
    }
}
