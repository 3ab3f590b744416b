//! One job: one process, from its document to its end.
//!
//! Owns what the process is told when, and what its end means. Refuses to decide when it must stop: the worker does.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use last_call_worker::process::{self, Ended, Groups, Limits, Pings, Said, Start, Stream, Supervised};
use last_call_worker::{JobContext, Stopping};
use nix::unistd::{AccessFlags, access};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Sender as PipeSender;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::control::{Heard, ToProgram};
use super::document::{self, Document};
use super::launch;
use super::options::{AgentOptions, TokenBy};
use crate::failure::Failure;

/// Where a program finds its job, and its worker. Fixed, so that no program needs to look.
const DOCUMENT: i32 = 3;
const CONTROL: i32 = 4;

/// Lines to a program that does not read; each is short.
const UNREAD: usize = 16;
/// The last lines on file descriptor 4, after the end.
const LAST_LINES: Duration = Duration::from_secs(1);
const SIGTERM: i32 = nix::sys::signal::Signal::SIGTERM as i32;
/// What a shell exits with when SIGTERM ended its command.
const TERMINATED: i32 = 128 + SIGTERM;

/// The program and what was said of it on the command line.
#[derive(Debug)]
pub(super) struct Agent {
    options: AgentOptions,
    limits: Limits,
    groups: Option<Groups>,
}

/// A job failed; why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(String);

impl Agent {
    pub(super) fn new(options: AgentOptions, limits: &Limits) -> Result<Self, Failure> {
        found(&options.program).map_err(Failure::Usage)?;
        let groups = limits.groups().map_err(Failure::Usage)?;
        Ok(Self { options, limits: limits.clone(), groups })
    }

    /// Once there is a log, and threads may be: says what is not as it was asked for, and makes ready for processes.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.groups.iter().for_each(Groups::warn);
        process::begin()
    }

    /// Runs the program for one job. Dropped, it leaves the process to the job's shutdown callback, and dropped with
    /// that it is killed.
    pub(super) async fn answer(&self, job: JobContext) -> Result<(), Failed> {
        let cannot = |error: io::Error| Failed(format!("cannot start a process: {error}"));
        let (document, theirs) = pipe().map_err(cannot)?;
        let (control, program) = std::os::unix::net::UnixStream::pair().map_err(cannot)?;
        control.set_nonblocking(true).map_err(cannot)?;
        let control = UnixStream::from_std(control).map_err(cannot)?;
        let command = self.command(&job, theirs, program.into()).map_err(cannot)?;
        let (say, said) = mpsc::unbounded_channel();
        let start = Start { groups: self.groups.clone(), deaf: true, ..command.into() };
        let child = Supervised::spawn(start, move |line| drop(say.send(Line::from(line)))).await;
        let child = child.map_err(cannot)?;
        tracing::info!(pid = child.pid(), "the program runs");
        let (hears, speaks) = control.into_split();
        job.spawn(write_document(document, document::json(&Document::of(&job))));
        let (tell, lines) = mpsc::channel(UNREAD);
        job.spawn(write_lines(speaks, lines));
        let process = Process { child, said: Mutex::new(said), asked_to_end: AtomicBool::new(false) };
        let process = Arc::new(process);
        let stopped = process.clone();
        // Runs when the program has ended, where there is nothing left to do, and when it was to and has not.
        job.add_shutdown_callback(move |_reason| async move {
            stopped.terminate();
            stopped.ended().await;
        });
        Watch { agent: self, job: &job, process: &process, tell }.run(hears).await
    }

    fn command(&self, job: &JobContext, document: OwnedFd, control: OwnedFd) -> io::Result<Command> {
        let mut command = launch::command(&self.options.program, &self.limits)?;
        environment(&mut command);
        command.stdin(Stdio::null());
        command.env("LIVEKIT_URL", job.url());
        command.env("LAST_CALL_JOB_FD", DOCUMENT.to_string());
        command.env("LAST_CALL_CONTROL_FD", CONTROL.to_string());
        if self.options.token == TokenBy::Env {
            command.env("LAST_CALL_TOKEN", job.token());
        }
        let mappings = vec![
            FdMapping { parent_fd: document, child_fd: DOCUMENT },
            FdMapping { parent_fd: control, child_fd: CONTROL },
        ];
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(command)
    }
}

/// The process of a job.
struct Process {
    child: Supervised,
    said: Mutex<mpsc::UnboundedReceiver<Line>>,
    asked_to_end: AtomicBool,
}

impl Process {
    fn terminate(&self) {
        self.asked_to_end.store(true, Ordering::Relaxed);
        self.child.terminate();
    }

    /// Waits for its end, and logs what it prints until then. Cancel safe.
    async fn ended(&self) -> Ended {
        let mut said = self.said.lock().await;
        let ended = self.child.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                Some(line) = said.recv() => line.log(),
                ended = &mut ended => {
                    while let Ok(line) = said.try_recv() {
                        line.log();
                    }
                    return ended;
                }
            }
        }
    }

    /// What its end means for the job.
    fn verdict(&self, ended: &Ended, failure: Option<String>) -> Result<(), Failed> {
        let as_asked = self.asked_to_end.load(Ordering::Relaxed)
            && [Ended::Signal(SIGTERM), Ended::Exit(TERMINATED)].contains(ended);
        match failure {
            Some(error) => Err(Failed(error)),
            None if ended.success() || as_asked => Ok(()),
            None => Err(Failed(ended.text(&self.child.last_error()))),
        }
    }
}

/// A job while its process runs.
struct Watch<'j> {
    agent: &'j Agent,
    job: &'j JobContext,
    process: &'j Process,
    tell: mpsc::Sender<ToProgram>,
}

impl Watch<'_> {
    async fn run(self, hears: OwnedReadHalf) -> Result<(), Failed> {
        let heard = Heard::new(Instant::now());
        let ended = {
            let listening = heard.listen(hears, self.job);
            let ended = self.process.ended();
            let told = self.pass_on(&heard);
            tokio::pin!(listening, ended, told);
            let mut hung_up = false;
            let ended = loop {
                tokio::select! {
                    () = &mut listening, if !hung_up => hung_up = true,
                    ended = &mut ended => break ended,
                    () = &mut told => {}
                }
            };
            if !hung_up {
                let _ = timeout(LAST_LINES, listening).await;
            }
            ended
        };
        tracing::info!(%ended, "the program has ended");
        let failure = heard.failure();
        // A program that exits, or says that it failed, has had an end of its own.
        let died = failure.is_none() && !matches!(ended, Ended::Exit(_));
        let verdict = self.process.verdict(&ended, failure);
        if died && verdict.is_err() {
            self.job.process_died();
        }
        verdict
    }

    /// Tells the program what the job is told, and looks after it. Never done.
    async fn pass_on(&self, heard: &Heard) {
        let memory = self.agent.limits.watch_memory(&self.process.child, self.job);
        tokio::join!(self.drains(), self.stops(heard), self.pings(heard), memory);
    }

    async fn drains(&self) {
        let draining = self.job.draining().await;
        self.say(ToProgram::Draining { seconds: seconds_until(draining.deadline) });
        std::future::pending().await
    }

    async fn stops(&self, heard: &Heard) {
        let Stopping { reason, deadline, .. } = self.job.stopping().await;
        self.say(ToProgram::Shutdown { reason: reason.to_string(), seconds: seconds_until(deadline) });
        // Who listens is asked once more when the time is over.
        if !heard.listens() {
            self.process.terminate();
        }
    }

    async fn pings(&self, heard: &Heard) {
        let Some(mut pings) = self.agent.limits.ping_limit.map(Pings::new) else { return };
        loop {
            match pings.next(|| heard.answers()).await {
                Ok(()) => self.say(ToProgram::Ping),
                Err(ended) => return self.process.child.kill(Some(ended)),
            }
        }
    }

    fn say(&self, message: ToProgram) {
        // Full or closed: it does not listen, and that is its right.
        let _ = self.tell.try_send(message);
    }
}

/// A line that a program printed.
enum Line {
    Text { stream: Stream, text: String, cut: u64 },
    Dropped { stream: Stream, lines: u64 },
}

impl From<Said<'_>> for Line {
    fn from(said: Said<'_>) -> Self {
        match said {
            Said::Line { stream, text, cut } => Self::Text { stream, text: text.to_owned(), cut },
            Said::Dropped { stream, lines } => Self::Dropped { stream, lines },
        }
    }
}

impl Line {
    fn log(self) {
        match self {
            Self::Text { text, cut: 0, .. } if text.is_empty() => {}
            Self::Text { stream, text, cut: 0 } => tracing::info!(stream = stream.as_str(), "{text}"),
            Self::Text { stream, text, cut } => {
                tracing::info!(stream = stream.as_str(), bytes_cut = cut, "{text}");
            }
            Self::Dropped { stream, lines } => {
                tracing::warn!(stream = stream.as_str(), lines, "the program prints too fast: lines dropped");
            }
        }
    }
}

async fn write_document(mut pipe: PipeSender, document: Vec<u8>) {
    // A program that does not read it needs none.
    let _ = pipe.write_all(&document).await;
}

async fn write_lines(mut control: OwnedWriteHalf, mut lines: mpsc::Receiver<ToProgram>) {
    while let Some(line) = lines.recv().await {
        if control.write_all(&document::json(&line)).await.is_err() {
            return;
        }
    }
}

fn seconds_until(deadline: Instant) -> f64 {
    deadline.saturating_duration_since(Instant::now()).as_secs_f64()
}

/// A pipe of which the far end is a child's.
pub(super) fn pipe() -> io::Result<(PipeSender, OwnedFd)> {
    let (theirs, ours) = io::pipe()?;
    Ok((PipeSender::from_owned_fd(ours.into())?, theirs.into()))
}

/// What a worker is told by variables is not for its programs, which may be workers themselves; nor is a socket of
/// the service that the worker is.
pub(super) fn environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("LAST_CALL_"));
        if ours || ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"].iter().any(|known| name == *known) {
            command.env_remove(name);
        }
    }
}

/// Whether there is such a program, as `exec` would look for it; why not, in words for people.
pub(super) fn found(words: &[OsString]) -> Result<(), String> {
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err("no program is named".to_owned());
    };
    let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let path = Path::new(program);
    if path.components().count() > 1 || path.is_absolute() {
        return if runs(path) {
            Ok(())
        } else if path.exists() {
            Err(format!("{} cannot be run: is it a program, and executable by this user?", path.display()))
        } else {
            Err(format!("there is no program {}", path.display()))
        };
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&places).any(|place| runs(&place.join(path)));
    let advice =
        || format!("there is no program {0} in PATH; for one in this directory say ./{0}", path.display());
    if known { Ok(()) } else { Err(advice()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_found_out_before_any_call() {
        let found = |name: &str| found(&[name.into()]);
        assert_eq!(found("sh"), Ok(()));
        assert_eq!(found("/bin/sh"), Ok(()));
        assert_eq!(found("/no/such/agent"), Err("there is no program /no/such/agent".to_owned()));
        let text = tempfile::NamedTempFile::new().expect("a file");
        let text = text.path().to_str().expect("a path of text");
        assert!(found(text).is_err_and(|why| why.contains("cannot be run")));
        assert!(found("no-such-agent").is_err_and(|why| why.contains("./no-such-agent")));
        assert!(found("").is_err());
        assert!(super::found(&[]).is_err());
    }
}
