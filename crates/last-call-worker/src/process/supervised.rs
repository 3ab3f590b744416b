//! One supervised child and its process group.
//!
//! Owns the child from its start until it is reaped, and the kill of everything that it started. Refuses to outlive
//! its owner: dropped, it kills the group at once, and reaps in the background.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cgroup::{Group, Groups};
use super::ended::Ended;
use super::lines::{self, Rate, Said, Stream};
use super::{system, threads};
use crate::jobs::Usage;

/// The variable by which whatever a child started is found again. Its value is one for each child.
pub const MARK: &str = "LAST_CALL_JOB_MARK";

/// Lines that are still on their way when a child has ended are waited for this long: a stray that was not found
/// may hold the pipe open for ever.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Characters of the last error line that are kept.
const LAST_ERROR: usize = 512;
/// The look for strays before the process leaves; the kernel has the cgroup or the container for the rest.
pub(crate) const STRAYS_WITHIN: Duration = Duration::from_millis(40);
/// Before the next look at a child whose end cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Between two looks whether every child is reaped.
const LOOK_FOR_THE_LAST: Duration = Duration::from_millis(2);

/// Every child that is not reaped yet.
static LIVE: Mutex<BTreeMap<i32, Arc<Life>>> = Mutex::new(BTreeMap::new());
static STARTED: AtomicU64 = AtomicU64::new(0);
static MARKS: OnceLock<String> = OnceLock::new();
/// The kernel's kills for want of memory that were put down to a child, or came before the first.
static OOM_KILLS_KNOWN: Mutex<Option<u64>> = Mutex::new(None);

/// How a child starts.
#[derive(Debug)]
pub struct Start {
    /// What it runs.
    pub command: Command,
    /// Where it joins its group by [`confine`](super::confine), if it has one.
    pub groups: Option<Groups>,
    /// What it prints goes where this process's own output goes, and nobody here hears it.
    pub prints_by_itself: bool,
    /// It starts with SIGTERM and its like blocked, and lets them through by [`confine`](super::confine): until it
    /// knows what to do with one, it may not die of it.
    pub deaf: bool,
}

impl From<Command> for Start {
    fn from(command: Command) -> Self {
        Self { command, groups: None, prints_by_itself: false, deaf: false }
    }
}

/// A child process, the leader of a process group of its own. Dropped, it is killed with its group.
#[derive(Debug)]
pub struct Supervised {
    life: Arc<Life>,
    ended: watch::Receiver<Option<Ended>>,
}

#[derive(Debug)]
struct Life {
    pid: Pid,
    started: system::Started,
    mark: String,
    group: Option<Group>,
    state: Mutex<State>,
    last_error: Mutex<String>,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// Its number may belong to another process.
    reaped: bool,
    killed: bool,
    /// The kernel has killed in its group for want of memory.
    out_of_memory: bool,
    /// Why it was killed, where that says more than its status does.
    cause: Option<Ended>,
}

impl Supervised {
    /// Starts a command on a thread that lives as long as this process, in a process group of its own, with pipes as
    /// standard output and standard error. `hear` gets what comes out of them, and must not block. Its watch runs on
    /// the runtime that this is called on.
    ///
    /// Cancel safe: dropped before it is done, the child is killed as soon as it is there.
    ///
    /// # Errors
    /// If the system starts no process: no such program, no memory, too many processes.
    pub async fn spawn(
        start: impl Into<Start>,
        hear: impl Fn(Said<'_>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let Start { mut command, groups, prints_by_itself, deaf } = start.into();
        let mark = next_mark();
        let group = groups.map(|groups| groups.create(&mark)).transpose()?;
        let printed = || if prints_by_itself { Stdio::inherit() } else { Stdio::piped() };
        command.env(MARK, &mark).process_group(0).stdout(printed()).stderr(printed());
        count_oom_kills_so_far();
        let runtime = Handle::current();
        super::reaping::keep_exit_codes()?;
        let start = move || {
            let child = threads::start(command, deaf)?;
            Ok(Self::watched(child, mark, group, hear, &runtime))
        };
        threads::SUPERVISOR.run(start).await?
    }

    fn watched(
        mut child: Child,
        mark: String,
        group: Option<Group>,
        hear: impl Fn(Said<'_>) + Send + Sync + 'static,
        runtime: &Handle,
    ) -> Self {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let number = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let state = State { child, reaped: false, killed: false, out_of_memory: false, cause: None };
        let state = Mutex::new(state);
        let pid = Pid::from_raw(number);
        let started = system::started(pid);
        let life = Arc::new(Life { pid, started, mark, group, state, last_error: Mutex::default() });
        lock(&LIVE).insert(number, life.clone());
        let (tell, ended) = watch::channel(None);
        let watched = life.clone();
        runtime.spawn(async move {
            let reading = async {
                tokio::join!(
                    watched.read(stdout.map(OwnedFd::from), Stream::Stdout, &hear),
                    watched.read(stderr.map(OwnedFd::from), Stream::Stderr, &hear),
                );
            };
            let ended = watched.watch(reading).await;
            tell.send_replace(Some(ended));
        });
        Self { life, ended }
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.life.pid.as_raw().unsigned_abs()
    }

    /// Asks the whole group to end (SIGTERM). Nothing, once the child has ended.
    pub fn terminate(&self) {
        self.life.signal(Signal::SIGTERM);
    }

    /// Asks the child to end (SIGTERM), and nothing that it started.
    pub fn terminate_alone(&self) {
        self.life.signal_alone(Signal::SIGTERM);
    }

    /// Ends the whole group at once (SIGKILL), and whatever else bears the child's mark soon after. With a `cause`,
    /// that is what [`Supervised::ended`] says.
    pub fn kill(&self, cause: Option<Ended>) {
        self.life.kill(cause);
    }

    /// Waits until it has ended, its last lines are heard, and whatever it left behind is killed. Cancel safe; may be
    /// called again, and by several.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Unknown),
            // The runtime that watched it is gone.
            Err(_) => Ended::Unknown,
        }
    }

    /// The last line that it wrote to standard error and that is not empty, or the beginning of it.
    #[must_use]
    pub fn last_error(&self) -> String {
        lock(&self.life.last_error).clone()
    }

    /// What it and its descendants use. `None` where the system does not tell. Cancel safe.
    pub async fn usage(&self) -> Option<Usage> {
        let pid = self.life.pid;
        // A large process has a long table.
        threads::ERRANDS.run(move || system::usage(pid)).await.ok().flatten()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.life.kill(None);
    }
}

/// Kills every child that is left, and what they started: the last thing before the process leaves. For strays it looks
/// once, and no longer than for `STRAYS_WITHIN`.
pub(crate) fn kill_all() {
    static LOOKED: AtomicBool = AtomicBool::new(false);
    let left: Vec<_> = lock(&LIVE).values().cloned().collect();
    for life in &left {
        life.kill(None);
    }
    if let Some(oldest) = left.iter().map(|life| life.started).min()
        && !LOOKED.swap(true, Ordering::Relaxed)
    {
        let deadline = Instant::now() + STRAYS_WITHIN;
        system::kill_marked(&format!("{MARK}={}", marks()), oldest, Some(deadline));
    }
}

/// Waits until no child is left that is not reaped.
pub(crate) async fn all_reaped() {
    while !lock(&LIVE).is_empty() {
        tokio::time::sleep(LOOK_FOR_THE_LAST).await;
    }
}

impl Life {
    async fn watch(self: &Arc<Self>, reading: impl Future<Output = ()>) -> Ended {
        let end = async {
            while !self.has_ended() {
                if system::wait(self.pid).await.is_err() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            // Its number is its group's, and still taken.
            self.signal(Signal::SIGKILL);
            self.clear().await;
        };
        tokio::pin!(reading);
        let mut all_read = false;
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                () = &mut reading, if !all_read => all_read = true,
            }
        }
        if !all_read {
            let _ = timeout(LAST_LINES, reading).await;
        }
        self.reap()
    }

    /// Kills whatever the child has left behind.
    async fn clear(self: &Arc<Self>) {
        if let Some(group) = &self.group {
            group.kill();
            lock(&self.state).out_of_memory = group.out_of_memory();
        }
        let life = self.clone();
        // A thread that is gone is no reason to keep the child.
        let _ = threads::ERRANDS.run(move || life.kill_strays()).await;
        if let Some(group) = &self.group {
            group.remove().await;
        }
    }

    fn kill_strays(&self) {
        system::kill_marked(&format!("{MARK}={}", self.mark), self.started, None);
    }

    /// Looks, and leaves the status where it is.
    fn has_ended(&self) -> bool {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid.as_raw()) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // Whose status somebody else has taken has ended too.
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None) | Err(rustix::io::Errno::INTR))
    }

    fn reap(&self) -> Ended {
        let mut state = lock(&self.state);
        // Before its number can be another's.
        lock(&LIVE).remove(&self.pid.as_raw());
        let status = state.child.wait();
        state.reaped = true;
        let by_us = state.killed;
        match (state.cause.take(), status) {
            (Some(cause), _) => cause,
            (None, Ok(status)) => {
                let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                let killed = !by_us && signal == Some(Signal::SIGKILL as i32);
                let oom = killed && (state.out_of_memory || take_oom_kill());
                Ended::of(status, oom)
            }
            (None, Err(_)) => Ended::Unknown,
        }
    }

    fn kill(&self, cause: Option<Ended>) {
        {
            let mut state = lock(&self.state);
            if !state.reaped {
                state.killed = true;
                state.cause = state.cause.take().or(cause);
            }
        }
        self.signal(Signal::SIGKILL);
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Signals the group, as long as its number is not another's.
    fn signal(&self, signal: Signal) {
        let state = lock(&self.state);
        if !state.reaped {
            // Who has ended needs no signal.
            let _ = killpg(self.pid, signal);
        }
    }

    /// As [`Life::signal`], for the leader alone.
    fn signal_alone(&self, signal: Signal) {
        let state = lock(&self.state);
        if !state.reaped {
            let _ = kill(self.pid, signal);
        }
    }

    async fn read(&self, pipe: Option<OwnedFd>, stream: Stream, hear: &impl Fn(Said<'_>)) {
        let Some(Ok(pipe)) = pipe.map(Receiver::from_owned_fd) else { return };
        let mut rate = Rate::new(Instant::now());
        let each = |text: &str, cut: u64| {
            if stream == Stream::Stderr && !text.trim().is_empty() {
                *lock(&self.last_error) = shortened(text);
            }
            if let Some(lines) = rate.pass(Instant::now()) {
                if lines > 0 {
                    hear(Said::Dropped { stream, lines });
                }
                hear(Said::Line { stream, text, cut });
            }
        };
        lines::read(pipe, each).await;
        let lines = rate.take_dropped();
        if lines > 0 {
            hear(Said::Dropped { stream, lines });
        }
    }
}

/// For a job's status: no control characters, and not long.
fn shortened(text: &str) -> String {
    text.trim().chars().filter(|letter| !letter.is_control()).take(LAST_ERROR).collect()
}

/// The beginning of every mark of this process.
pub(super) fn marks() -> &'static str {
    MARKS.get_or_init(|| format!("{}-{:08x}-", std::process::id(), fastrand::u32(..)))
}

fn next_mark() -> String {
    // The end makes sure that no mark begins with another.
    format!("{}{}-", marks(), STARTED.fetch_add(1, Ordering::Relaxed))
}

fn count_oom_kills_so_far() {
    let mut known = lock(&OOM_KILLS_KNOWN);
    if known.is_none() {
        *known = crate::load::oom_kills();
    }
}

/// Whether the kernel has killed for want of memory once more than is put down to a child; this one is now.
fn take_oom_kill() -> bool {
    let mut known = lock(&OOM_KILLS_KNOWN);
    match (&mut *known, crate::load::oom_kills()) {
        (Some(known), Some(now)) => {
            // With all others: the kill of a descendant is nobody's else later.
            std::mem::replace(known, now) < now
        }
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking holder leaves behind is whole: every section is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
