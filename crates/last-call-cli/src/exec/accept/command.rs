//! A command that decides on offers.
//!
//! Owns its start and the reading of its exit code. Refuses a shell: the words are split here.

use std::ffi::OsString;
use std::io;

use last_call_worker::JobRequest;
use last_call_worker::process::{Ended, Limits, Said, Supervised};
use tokio::io::AsyncWriteExt;

use crate::exec::document::{self, Job};
use crate::exec::{job, launch};

/// The command, split into words.
pub(in crate::exec) struct Command(Vec<OsString>);

impl Command {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let words = shell_words::split(text).map_err(|error| error.to_string())?;
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        job::found(&words)?;
        Ok(Self(words))
    }

    /// Whether it takes the job. Cancel safe: dropped, the command is killed.
    pub(super) async fn ask(&self, request: &JobRequest) -> Result<bool, String> {
        match self.run(request).await {
            Ok((Ended::Exit(0), _)) => Ok(true),
            Ok((Ended::Exit(1), _)) => Ok(false),
            Ok((ended, last_error)) => Err(ended.text(&last_error)),
            Err(error) => Err(format!("it cannot be run: {error}")),
        }
    }

    async fn run(&self, request: &JobRequest) -> io::Result<(Ended, String)> {
        let (stdin, theirs) = job::pipe()?;
        let mut command = launch::command(&self.0, &Limits::default())?;
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
