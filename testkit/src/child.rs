//! Owns a child process as a black-box test sees it: its lines with their times, its signals, its end, its size. Refuses to leave one
//! behind: a child that goes out of scope is killed and reaped, what it has started is killed too, and its lines are shown when the test
//! fails.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::launch::Launch;
use crate::log::Log;
use crate::processes;

/// How long the end of a process waits for the last lines of its pipes, which a grandchild may hold open for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Which pipe a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a child, without its line end.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read; on a busy machine that may be after the child's end.
    pub at: Instant,
    /// Where from.
    pub source: Source,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When it ended.
    pub at: Instant,
    /// Time from its start to its end.
    pub after: Duration,
}

/// A running or ended child process.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    started: Instant,
    lines: Arc<Log<Line>>,
    life: Arc<Life>,
    stdin: Option<ChildStdin>,
}

/// The process and its end under one lock, so that no signal goes to a number that is reaped and may belong to another.
#[derive(Debug)]
struct Life {
    state: Mutex<(std::process::Child, Option<(ExitStatus, Instant)>)>,
    ended: Condvar,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, (std::process::Child, Option<(ExitStatus, Instant)>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs on a thread of its own until the process has ended. The first wait leaves the zombie, so that its number stays taken.
    fn watch(&self, pid: Pid) {
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let at = Instant::now();
        let mut state = self.lock();
        // Only a `waitpid(-1)` in the test's own process can take the status away: then neither code nor signal is known.
        state.1 = Some((state.0.wait().unwrap_or(ExitStatus::from_raw(0x7f)), at));
        drop(state);
        self.ended.notify_all();
    }
}

impl Child {
    /// Starts `program`; [`Launch`] has more to choose.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Result<Self> {
        let launch = Launch::new(program).args(args);
        env.into_iter().fold(launch, |launch, (name, value)| launch.env(name, value)).spawn()
    }

    pub(crate) fn start(mut command: Command, program: &OsStr, pid_1: bool) -> Result<Self> {
        let name = program.to_string_lossy().into_owned();
        let started = Instant::now();
        let mut process =
            command.spawn().with_context(|| format!("cannot start {name} by {:?}", command.get_program()))?;
        let outer = process.id();
        let stdin = process.stdin.take();
        let lines = Arc::new(Log::new(2));
        let pipes: [(Source, Option<Box<dyn Read + Send>>); 2] = [
            (Source::Stdout, process.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
            (Source::Stderr, process.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        ];
        for (source, pipe) in pipes {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || pipe.into_iter().for_each(|pipe| copy(source, pipe, &lines)));
        }
        let life = Arc::new(Life { state: Mutex::new((process, None)), ended: Condvar::new() });
        let watched = Arc::clone(&life);
        std::thread::spawn(move || watched.watch(as_pid(outer)));
        let mut child = Self { name, pid: outer, started, lines, life, stdin };
        if pid_1 {
            child.pid = child.only_child().context("unshare started no process")?;
        }
        Ok(child)
    }

    /// The process that unshare forked, once it is there.
    fn only_child(&self) -> Result<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let children = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            if let Some(pid) = children.split_whitespace().next() {
                return pid.parse().with_context(|| format!("{path} holds {pid:?}"));
            }
            std::thread::yield_now();
        }
        bail!("{path} stayed empty for 10 s")
    }

    /// The process's number outside its PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.entries(0)
    }

    /// Every line so far, as one text; for messages of assertions.
    pub fn output(&self) -> String {
        let started = self.started;
        let show = |line: &Line| format!("{:9.3} {}\n", (line.at - started).as_secs_f64(), line.text);
        self.lines().iter().map(show).collect()
    }

    /// The number of lines so far, from where a later [`Child::wait_for_line_after`] looks on.
    pub fn mark(&self) -> usize {
        self.lines.len()
    }

    /// Waits for the first line that `wanted` takes, among those that are there already and those that come.
    ///
    /// # Errors
    /// When none came in `timeout`, or the child closed its pipes first: with all its lines.
    pub fn wait_for_line(&self, wanted: impl FnMut(&str) -> bool, timeout: Duration) -> Result<Line> {
        self.wait_for_line_after(0, wanted, timeout)
    }

    /// As [`Child::wait_for_line`], passing over the first `mark` lines.
    ///
    /// # Errors
    /// As [`Child::wait_for_line`].
    pub fn wait_for_line_after(
        &self,
        mark: usize,
        mut wanted: impl FnMut(&str) -> bool,
        timeout: Duration,
    ) -> Result<Line> {
        let found = self.lines.wait(mark, timeout, |line| wanted(&line.text).then(|| line.clone()));
        found.with_context(|| {
            let (name, waited, output) = (&self.name, self.started.elapsed(), self.output());
            format!("{name} did not print the awaited line ({timeout:?} allowed, {waited:.1?} after its start):\n{output}")
        })
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let state = self.life.lock();
        if state.1.is_some() {
            bail!("{} has ended and cannot be sent {signal}:\n{}", self.name, self.output());
        }
        kill(as_pid(self.pid), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Writes to the standard input that [`Launch::stdin`] opened.
    ///
    /// # Errors
    /// When there is no pipe, or the child has closed it.
    pub fn write_stdin(&mut self, bytes: &[u8]) -> Result<()> {
        let pipe =
            self.stdin.as_mut().with_context(|| format!("{} has no open standard input", self.name))?;
        pipe.write_all(bytes).with_context(|| format!("cannot write to {}", self.name))
    }

    /// Ends the standard input that [`Launch::stdin`] opened.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// How the child ended, if it has.
    pub fn try_wait(&self) -> Option<Exit> {
        self.life.lock().1.map(|(status, at)| self.exit(status, at))
    }

    /// Waits until the child has ended and its last lines are in. May be called again.
    ///
    /// # Errors
    /// When it still runs after `timeout`: with all its lines.
    pub fn wait(&self, timeout: Duration) -> Result<Exit> {
        let state = self.life.lock();
        let (state, _) = self
            .life
            .ended
            .wait_timeout_while(state, timeout, |(_, ended)| ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let ended = state.1;
        drop(state);
        let Some((status, at)) = ended else {
            bail!("{} still runs after {timeout:?}:\n{}", self.name, self.output());
        };
        self.lines.wait_end(LAST_LINES);
        Ok(self.exit(status, at))
    }

    fn exit(&self, status: ExitStatus, at: Instant) -> Exit {
        Exit { code: status.code(), signal: status.signal(), at, after: at - self.started }
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn rss_kib(&self) -> Result<u64> {
        self.proc_field("status", "VmRSS:")
    }

    /// Proportional memory in KiB: pages shared with other processes count by their share.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn pss_kib(&self) -> Result<u64> {
        self.proc_field("smaps_rollup", "Pss:")
    }

    /// Number of threads.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn threads(&self) -> Result<u64> {
        self.proc_field("status", "Threads:")
    }

    /// Number of open file descriptors.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn open_fds(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.pid);
        Ok(std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }

    fn proc_field(&self, file: &str, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/{file}", self.pid);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
        let value = value.with_context(|| format!("{path} has no {field} ({} may have ended)", self.name))?;
        value.parse().with_context(|| format!("{path} has {field} {value:?}"))
    }
}

impl Drop for Child {
    #[expect(clippy::print_stderr, reason = "the failed test is explained by what its child said")]
    fn drop(&mut self) {
        let mut state = self.life.lock();
        let mut held = Vec::new();
        if state.1.is_none() {
            // Frameworks leave processes behind that live on for a minute.
            held = below(self.pid);
            // Where the program is process 1 of a namespace, unshare takes it along. The watching thread reaps.
            let _ = state.0.kill();
        }
        while state.1.is_none() {
            state = self.life.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        for process in held {
            // Who has ended needs no signal.
            let _ = pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
        if std::thread::panicking() {
            self.lines.wait_end(LAST_LINES);
            eprintln!("--- {} said:\n{}---", self.name, self.output());
        }
    }
}

/// What it has started, each held: its number may be another's when it is killed.
fn below(pid: u32) -> Vec<OwnedFd> {
    let below = processes::below(pid.cast_signed()).into_iter().filter_map(rustix::process::Pid::from_raw);
    below.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).collect()
}

fn as_pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("Linux numbers processes below 2^22"))
}

fn copy(source: Source, pipe: impl Read, lines: &Log<Line>) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        lines.push(Line { at: Instant::now(), source, text });
        bytes.clear();
    }
    lines.end();
}
