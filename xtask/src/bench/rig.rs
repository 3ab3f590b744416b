//! The worker program that is measured: how it is built, started, watched and ended.
//!
//! Owns its environment and its files. Refuses to know which framework it is made with: what is measured is what a server and a
//! process table see.

use std::env;
use std::ffi::OsString;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use last_call_testkit::{Child, Exit, Launch, Stub};
use tempfile::TempDir;

use super::seen;
use crate::step;

/// How long anything may take before the run is given up: a busy machine is slow, and a figure of minutes is no figure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what jobs write; they write the time themselves.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What the machine may have set, and no worker here may see.
const FOREIGN: &[&str] = &[
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_LOG_LEVEL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// A worker program.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    pid_1: bool,
}

impl Subject {
    /// Probe.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(crate) fn probe() -> Result<Self> {
        Self::ours("last-call", "last-call-examples", "probe", vec!["start".into()])
    }

    /// Probe behind `last-call guard`.
    ///
    /// # Errors
    /// When they cannot be built.
    pub(crate) fn guarded() -> Result<Self> {
        Self::behind_guard(vec![Self::probe()?.program.into(), "start".into()])
    }

    /// The program with these arguments behind `last-call guard`.
    ///
    /// # Errors
    /// When guard cannot be built.
    pub(crate) fn behind_guard(program: Vec<OsString>) -> Result<Self> {
        let arguments = ["guard".into(), "--".into()].into_iter().chain(program).collect();
        Self::ours("last-call guard", "last-call-cli", "last-call", arguments)
    }

    /// The program's file.
    pub(crate) fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The size of the program's file.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn mib(&self) -> Result<f64> {
        let file = std::fs::metadata(&self.program).context("the program's file is gone")?;
        Ok(file.len() as f64 / 1024.0 / 1024.0)
    }

    /// A program of this workspace, built as xtask itself is, beside it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(crate) fn ours(
        name: &'static str,
        package: &str,
        binary: &str,
        arguments: Vec<OsString>,
    ) -> Result<Self> {
        let mut build = step::cargo("build");
        build.args(["--quiet", "--package", package, "--bin", binary]);
        build.args((!cfg!(debug_assertions)).then_some("--release"));
        step::run(&format!("build of {binary}"), &mut build)?;
        let program =
            env::current_exe().context("the place of this program is not known")?.with_file_name(binary);
        Ok(Self { name, program, arguments, pid_1: false })
    }

    /// Another framework's worker, which reads the variables of docs/probe.md as far as it is asked for them.
    pub(crate) fn peer(name: &'static str, program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { name, program, arguments, pid_1: false }
    }

    /// The same as process 1 of a PID namespace, as in a container; see [`last_call_testkit::pid_1_possible`].
    pub(crate) fn as_process_1(&self) -> Self {
        Self { pid_1: true, ..self.clone() }
    }

    /// Starts it against `url` with further variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, url: &str, variables: &[(&str, &str)]) -> Result<Running> {
        let dir = TempDir::new().context("no directory for the worker's files")?;
        let launch = FOREIGN.iter().fold(Launch::new(&self.program), Launch::env_remove);
        let launch = launch
            .args(&self.arguments)
            .env("LIVEKIT_URL", url)
            .env("LIVEKIT_API_KEY", "devkey")
            .env("LIVEKIT_API_SECRET", "a-secret-of-thirty-two-characters")
            .env("LAST_CALL_HTTP", "127.0.0.1:0")
            .env("LAST_CALL_GUARD_HTTP", "127.0.0.1:0")
            .env("PROBE_JOB_DIR", dir.path())
            // The machine's own load says nothing of this worker, and any load makes it decline some of many jobs at once.
            .env("PROBE_LOAD", "0");
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let launch = if self.pid_1 { launch.pid_1() } else { launch };
        Ok(Running { child: launch.spawn()?, dir })
    }

    /// Starts it, and waits until it takes jobs of `stub`.
    ///
    /// # Errors
    /// When it cannot be started, or does not get there: with all that it said.
    pub(crate) fn serve(&self, stub: &Stub, variables: &[(&str, &str)]) -> Result<Running> {
        let mark = stub.mark();
        let worker = self.start(&stub.url(), variables)?;
        let available = stub.wait_for_after(mark, |event| seen::is_available(event).then_some(()), PATIENCE);
        available.with_context(|| format!("the worker did not become available:\n{}", worker.output()))?;
        Ok(worker)
    }
}

/// A worker that was started; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    dir: TempDir,
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still there after [`PATIENCE`].
    pub(crate) fn end(&self) -> Result<Exit> {
        self.child.wait(PATIENCE)
    }

    /// Waits until so many jobs have written that they started; when the latest of them did.
    ///
    /// # Errors
    /// When they have not after [`PATIENCE`].
    pub(crate) fn await_started(&self, jobs: usize) -> Result<SystemTime> {
        self.await_event("started", jobs)
    }

    /// Waits until so many jobs have written this; when the latest of them did.
    ///
    /// # Errors
    /// When they have not after [`PATIENCE`].
    pub(crate) fn await_event(&self, what: &str, jobs: usize) -> Result<SystemTime> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let lines = self.diaries().into_iter().flatten();
            let times: Vec<_> = lines.filter(|(event, _)| event == what).map(|(_, at)| at).collect();
            if times.len() >= jobs {
                return times.into_iter().max().context("no job was waited for");
            }
            rest(LOOK_EVERY);
        }
        bail!("fewer than {jobs} jobs {what} in {PATIENCE:?}:\n{}", self.child.output())
    }

    /// The process that a job has written from, once it has.
    pub(crate) fn process_of(&self, job: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.dir.path().join(job)).ok()?;
        text.lines().next()?.split(' ').nth(2)?.parse().ok()
    }

    /// What the jobs have written so far: each job's lines of event and time.
    pub(crate) fn diaries(&self) -> Vec<Vec<(String, SystemTime)>> {
        let Ok(files) = std::fs::read_dir(self.dir.path()) else { return Vec::new() };
        let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        texts.map(|text| text.lines().filter_map(diary_line).collect()).collect()
    }
}

fn diary_line(line: &str) -> Option<(String, SystemTime)> {
    let mut words = line.split(' ');
    let (event, seconds) = (words.next()?, words.next()?.parse().ok()?);
    Some((event.to_owned(), SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?))
}

/// The moment `at` on the clock that jobs write down.
pub(crate) fn on_the_wall(at: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    if at > now { wall + (at - now) } else { wall - (now - at) }
}

/// Lets the worker come to rest before it is measured, or takes turns in when it is met.
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}
