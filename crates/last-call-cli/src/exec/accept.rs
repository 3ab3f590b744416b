//! `--accept-if`: a command that decides on offers.
//!
//! Owns its start and the reading of its exit code. Refuses a time limit of its own: an offer has `--answer-within`,
//! and the command is killed when that is over.

use std::ffi::OsString;

use last_call_worker::process::{Ended, Said, Supervised};
use last_call_worker::{JobRequest, Reply};
use tokio::io::AsyncWriteExt;

use super::document::{self, Job};
use super::{job, launch};
use crate::failure::Failure;

/// The command, split into words.
#[derive(Debug)]
pub(super) struct Command(Vec<OsString>);

impl Command {
    pub(super) fn new(text: &str) -> Result<Self, Failure> {
        let words = shell_words::split(text)
            .map_err(|error| Failure::Usage(format!("--accept-if {text:?}: {error}")))?;
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        job::found(&words).map_err(|why| Failure::Usage(format!("--accept-if {text:?}: {why}")))?;
        Ok(Self(words))
    }

    /// Cancel safe: dropped, the command is killed.
    pub(super) async fn decide(&self, request: JobRequest) -> Reply {
        match self.ask(&request).await {
            Ok((Ended::Exit(0), _)) => return request.accept().into(),
            Ok((Ended::Exit(1), _)) => {}
            Ok((ended, last_error)) => {
                let ended = ended.text(&last_error);
                tracing::warn!(
                    job_id = request.id(),
                    ended,
                    "--accept-if failed: the offer is left to others"
                );
            }
            Err(error) => {
                tracing::warn!(job_id = request.id(), %error, "--accept-if cannot be run: the offer is left to others");
            }
        }
        request.reject()
    }

    async fn ask(&self, request: &JobRequest) -> std::io::Result<(Ended, String)> {
        let (stdin, theirs) = job::pipe()?;
        let mut command = launch::command(&self.0, None)?;
        job::environment(&mut command);
        command.stdin(theirs);
        let hear = |said: Said<'_>| tracing::debug!(?said, "--accept-if");
        let asked = Supervised::spawn(command, hear).await?;
        let offer = document::json(&Job::of(request));
        let tell = async move {
            let mut stdin = stdin;
            // A command that does not read has decided by something else.
            let _ = stdin.write_all(&offer).await;
        };
        let (ended, ()) = tokio::join!(asked.ended(), tell);
        Ok((ended, asked.last_error()))
    }
}
