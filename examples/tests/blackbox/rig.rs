//! A worker program under test: how it is started, and what can be asked of it while it runs.
//!
//! Owns its environment, its files and the patience with it. Refuses to return an error: a worker that does
//! not do what is awaited fails the test here, with all that it said.

use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use last_call_testkit::processes::children;
use last_call_testkit::{Child, Decided, Decider, Exit, Launch, Signal, Stub};
use serde_json::Value;
use tempfile::TempDir;

use crate::page::{self, Page};
use crate::seen::Seen;

/// How long anything may take that should happen at once: a busy machine is slow, a broken worker is slower.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The key and secret of every worker under test.
pub(crate) const KEY: &str = "devkey";
pub(crate) const SECRET: &str = "a-secret-of-thirty-two-characters";

/// What `last-call run` runs for each job: probe's orders carried out by a program of its own.
const PROGRAM: [&str; 4] = ["sh", "-c", "exec \"$0\" <&4", env!("CARGO_BIN_EXE_probe_program")];

const SUBREAPER: &str = include_str!("subreaper.py");
const TERMINAL: &str = include_str!("terminal.py");

/// What the machine that runs the tests may have set, and no worker under test may see.
const FOREIGN: &[&str] = &[
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "LAST_CALL_CONFIG",
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_LOG_LEVEL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SDK_DISABLED",
    "NOTIFY_SOCKET",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    Tasks,
    Processes,
    /// Programs under `last-call run`.
    Programs,
    /// Tasks of a worker behind `last-call guard`, which is what the test speaks to.
    Guarded,
}

impl Jobs {
    /// What they are in this run of the suite, by `LAST_CALL_TEST_RUNNER`: in a test that does not say otherwise.
    pub(crate) fn of_the_suite() -> Self {
        match std::env::var("LAST_CALL_TEST_RUNNER").as_deref() {
            Err(_) | Ok("tasks") => Self::Tasks,
            Ok("process") => Self::Processes,
            Ok("program") => Self::Programs,
            Ok("guard") => Self::Guarded,
            Ok(other) => panic!("LAST_CALL_TEST_RUNNER={other}: not tasks, process, program or guard"),
        }
    }
}

/// A worker about to start.
pub(crate) struct Start {
    launch: Launch,
    dir: TempDir,
    jobs: Jobs,
    decider: Option<Decider>,
}

/// Probe, which does what a job's metadata says; or a program that does, under `last-call run`.
pub(crate) fn probe(url: impl AsRef<str>) -> Start {
    let jobs = Jobs::of_the_suite();
    Start::of(worker_program(jobs), url.as_ref(), jobs)
}

/// The program of a worker whose jobs are these.
pub(crate) fn worker_program(jobs: Jobs) -> PathBuf {
    let probe = PathBuf::from(env!("CARGO_BIN_EXE_probe"));
    if matches!(jobs, Jobs::Tasks | Jobs::Processes) {
        return probe;
    }
    let run = probe.with_file_name("last-call");
    assert!(run.exists(), "{} is not built: run `cargo build -p last-call-cli`", run.display());
    run
}

/// The program with threads before `run`.
pub(crate) fn early_threads(url: impl AsRef<str>) -> Start {
    let jobs = match Jobs::of_the_suite() {
        Jobs::Processes => Jobs::Processes,
        Jobs::Tasks | Jobs::Programs | Jobs::Guarded => Jobs::Tasks,
    };
    Start::of(env!("CARGO_BIN_EXE_early_threads"), url.as_ref(), jobs)
}

/// Probe as the orphan of a process that has ended, under a subreaper; the worker's own number is in its first line.
pub(crate) fn probe_under_a_subreaper(url: impl AsRef<str>) -> Start {
    under_python(SUBREAPER, url.as_ref())
}

/// Probe on a terminal, where SIGUSR1 to what is started presses Ctrl-C.
pub(crate) fn probe_on_a_terminal(url: impl AsRef<str>) -> Start {
    under_python(TERMINAL, url.as_ref())
}

fn under_python(script: &str, url: &str) -> Start {
    let jobs = Jobs::of_the_suite();
    let start = Start::of("python3", url, jobs).arg("-c").arg(script);
    start.launch(|launch| launch.arg(worker_program(jobs)))
}

/// A copy of probe at `path`, which the test may replace.
pub(crate) fn probe_at(path: &Path, url: impl AsRef<str>) -> Start {
    std::fs::copy(env!("CARGO_BIN_EXE_probe"), path).expect("a copy of probe");
    let jobs = Jobs::of_the_suite();
    assert_ne!(jobs, Jobs::Programs, "last-call is no probe");
    Start::of(path, url.as_ref(), jobs)
}

impl Start {
    /// With jobs as tasks whatever the suite is run with: user code that holds the worker's own threads is the
    /// subject, or a thousand offers a second are, which would be as many processes.
    pub(crate) fn with_tasks(self) -> Self {
        let start = Self { jobs: Jobs::Tasks, ..self };
        match self.jobs {
            Jobs::Tasks => start,
            Jobs::Processes => start.env("LAST_CALL_RUNNER", "tasks"),
            // Behind guard they are tasks already.
            Jobs::Guarded => Self { jobs: Jobs::Guarded, ..start },
            Jobs::Programs => start.launch(|launch| launch.program(worker_program(Jobs::Tasks))),
        }
    }

    /// With jobs as processes at least: programs are some.
    pub(crate) fn with_processes(self) -> Self {
        match self.jobs {
            Jobs::Processes | Jobs::Programs => self,
            Jobs::Guarded => self.env("LAST_CALL_RUNNER", "process"),
            Jobs::Tasks => Self { jobs: Jobs::Processes, ..self }.env("LAST_CALL_RUNNER", "process"),
        }
    }

    /// With code that decides on offers as they say. Probe has it; for a program it is a service.
    pub(crate) fn with_a_handler(self) -> Self {
        let rejects = |job: &Value| {
            let orders = parse(job["metadata"].as_str().unwrap_or_default()).unwrap_or_default();
            Decided::Status(if orders["reject"] == true { 409 } else { 200 })
        };
        self.deciding(rejects)
    }

    /// With code that never decides on an offer.
    pub(crate) fn with_a_handler_that_waits(self) -> Self {
        self.env("PROBE_ACCEPT_DELAY", "3600").deciding(|_| Decided::Nothing)
    }

    fn deciding(self, decide: impl Fn(&Value) -> Decided + Send + Sync + 'static) -> Self {
        if self.jobs != Jobs::Programs {
            return self;
        }
        let decider = Decider::start(None, decide).expect("a decider");
        let start = self.env("LAST_CALL_ACCEPT_IF", decider.url());
        Self { decider: Some(decider), ..start }
    }

    fn of(program: impl AsRef<OsStr>, url: &str, jobs: Jobs) -> Self {
        let dir = TempDir::new().expect("a directory for the worker's files");
        std::fs::create_dir(dir.path().join("jobs")).expect("a directory for the jobs' files");
        let launch = FOREIGN.iter().fold(Launch::new(program), Launch::env_remove);
        let launch = launch
            .env("LIVEKIT_URL", url)
            .env("LIVEKIT_API_KEY", KEY)
            .env("LIVEKIT_API_SECRET", SECRET)
            .env("LAST_CALL_HTTP", "127.0.0.1:0")
            .env("LAST_CALL_ADMIN_SOCKET", dir.path().join("admin"))
            .env("LAST_CALL_USER_THREADS", "4")
            .env("PROBE_JOB_DIR", dir.path().join("jobs"));
        // The machine's own load says nothing of this worker.
        let launch = match jobs {
            Jobs::Tasks => launch.env("PROBE_LOAD", "0.1"),
            Jobs::Guarded => {
                let admin = dir.path().join("admin");
                let launch = launch.env("PROBE_LOAD", "0.1").env("LAST_CALL_GUARD_ADMIN_SOCKET", admin);
                let launch = launch.env("LAST_CALL_GUARD_HTTP", "127.0.0.1:0").env("LAST_CALL_HTTP", "off");
                launch.env("LAST_CALL_ADMIN_SOCKET", dir.path().join("behind"))
            }
            Jobs::Processes => launch.env("PROBE_LOAD", "0.1").env("LAST_CALL_RUNNER", "process"),
            Jobs::Programs => launch.env("LAST_CALL_LOAD_THRESHOLD", "off"),
        };
        Self { launch, dir, jobs, decider: None }
    }

    pub(crate) fn env(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.launch(|launch| launch.env(name, value))
    }

    pub(crate) fn arg(self, arg: &str) -> Self {
        self.launch(|launch| launch.arg(arg))
    }

    pub(crate) fn launch(mut self, change: impl FnOnce(Launch) -> Launch) -> Self {
        self.launch = change(self.launch);
        self
    }

    /// The program as it would be started by [`Start::start`], for who starts it by himself; and its files, to be kept as long.
    pub(crate) fn unstarted(self) -> (Launch, TempDir) {
        let start = self.with_command(&[]);
        (start.launch, start.dir)
    }

    /// Starts the program with the arguments given so far and no others.
    #[track_caller]
    pub(crate) fn run(self) -> Running {
        let child = self.launch.spawn().expect("the worker program starts");
        Running { child, dir: self.dir, jobs: self.jobs, _decider: self.decider }
    }

    /// `start`, with options behind it; for programs `run`.
    #[track_caller]
    pub(crate) fn start(self, options: &[&str]) -> Running {
        self.with_command(options).run()
    }

    fn with_command(self, options: &[&str]) -> Self {
        let jobs = self.jobs;
        self.launch(|launch| match jobs {
            Jobs::Tasks | Jobs::Processes => launch.arg("start").args(options),
            Jobs::Programs => launch.arg("run").args(options).arg("--").args(PROGRAM),
            // What is read here is guard's log.
            Jobs::Guarded => {
                let quiet = "exec \"$0\" start \"$@\" >/dev/null 2>&1";
                let behind = ["--", "sh", "-c", quiet, env!("CARGO_BIN_EXE_probe")];
                let (of_guard, of_worker) = told_apart(options);
                launch.arg("guard").args(of_guard).args(behind).args(of_worker)
            }
        })
    }

    /// `start`, until the server has it registered.
    #[track_caller]
    pub(crate) fn register(self, stub: &Stub, options: &[&str]) -> Running {
        let mark = stub.mark();
        let worker = self.start(options);
        stub.registration(mark);
        worker.log("registered");
        worker
    }
}

/// Guard's options, and those that only the worker behind it has.
fn told_apart<'o>(options: &[&'o str]) -> (Vec<&'o str>, Vec<&'o str>) {
    const OF_WORKERS: [&str; 11] = [
        "--agent-name",
        "--cgroup",
        "--deployment",
        "--idle-processes",
        "--initialize-timeout",
        "--load-threshold",
        "--memory-",
        "--open-files",
        "--ping-limit",
        "--runner",
        "--user-threads",
    ];
    let (mut of_guard, mut of_worker) = (Vec::new(), Vec::new());
    let mut options = options.iter().peekable();
    while let Some(option) = options.next() {
        let of_whom = match OF_WORKERS.iter().any(|known| option.starts_with(known)) {
            true => &mut of_worker,
            false => &mut of_guard,
        };
        of_whom.push(*option);
        if !option.contains('=')
            && let Some(value) = options.next_if(|value| !value.starts_with("--"))
        {
            of_whom.push(*value);
        }
    }
    (of_guard, of_worker)
}

/// A worker that was started; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    dir: TempDir,
    jobs: Jobs,
    _decider: Option<Decider>,
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl Running {
    /// Sends a signal that must find the worker alive.
    #[track_caller]
    pub(crate) fn send(&self, signal: Signal) {
        self.child.signal(signal).expect("the worker is alive");
    }

    /// Waits for the worker's end.
    #[track_caller]
    pub(crate) fn end(&self) -> Exit {
        self.child.wait(SOON).expect("the worker leaves")
    }

    /// Waits for the worker's end, which must be this exit code.
    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) -> Exit {
        let exit = self.end();
        assert_eq!((exit.code, exit.signal), (Some(code), None), "the way it ended:\n{}", self.output());
        exit
    }

    /// Waits for the log line with this message.
    #[track_caller]
    pub(crate) fn log(&self, message: &str) -> Value {
        self.log_after(0, message)
    }

    /// As [`Running::log`], passing over the first `mark` lines.
    #[track_caller]
    pub(crate) fn log_after(&self, mark: usize, message: &str) -> Value {
        let line = self.child.wait_for_line_after(mark, |line| says(line, message), SOON);
        parse(&line.expect("the log line").text).expect("JSON, as it was a moment ago")
    }

    /// Every log line so far that is JSON.
    pub(crate) fn logs(&self) -> Vec<Value> {
        self.child.lines().iter().filter_map(|line| parse(&line.text)).collect()
    }

    /// The last line, which must be of the log (DRAIN-8).
    #[track_caller]
    pub(crate) fn last_words(&self) -> Value {
        let lines = self.child.lines();
        let last = lines.last().and_then(|line| parse(&line.text));
        last.unwrap_or_else(|| panic!("the last line is no log line:\n{}", self.output()))
    }

    /// Asks the port for probes.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Page {
        let line = self.child.wait_for_line(|line| line.contains("probes and metrics"), SOON);
        let line = line.expect("the log line of the port").text;
        // The address stands in it as JSON has it, or as people read it.
        let port = line.split("127.0.0.1:").nth(1).map(|rest| rest.trim_end_matches(['"', '}']));
        let address = format!("127.0.0.1:{}", port.expect("an address of loopback"));
        page::tcp(&address, "GET", path).unwrap_or_else(|error| panic!("GET {path}: {error:#}"))
    }

    /// Asks the admin socket.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str) -> Page {
        let socket = self.dir.path().join("admin");
        page::unix(&socket, method, path).unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    /// A metric's value, by its name and labels as the page has them.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{page}"))
    }

    /// The offers that were declined, for whatever reason.
    #[track_caller]
    pub(crate) fn declined(&self) -> u32 {
        let page = self.get("/metrics").body;
        let counts = page.lines().filter_map(|line| {
            line.strip_prefix("last_call_offers_declined_total{")?.rsplit(' ').next()?.parse::<u32>().ok()
        });
        counts.sum()
    }

    /// Waits until a metric has this value: the worker writes first and counts then.
    #[track_caller]
    pub(crate) fn counts(&self, name: &str, value: f64) {
        until(&format!("{name} to be {value}"), || (self.metric(name) - value).abs() < f64::EPSILON);
    }

    /// Waits until a metric has at least this value.
    #[track_caller]
    pub(crate) fn await_metric(&self, name: &str, value: f64) {
        until(&format!("{name} to reach {value}"), || self.metric(name) >= value);
    }

    /// Waits until `/readyz` says this.
    #[track_caller]
    pub(crate) fn await_readiness(&self, word: &str) {
        until(&format!("/readyz to say {word}"), || self.get("/readyz").body == word);
    }

    /// Waits until this many threads of the user's runtime run and do not rest.
    #[track_caller]
    pub(crate) fn await_busy(&self, threads: usize) {
        let mut in_a_row = 0;
        until("the user's threads to be busy", || {
            in_a_row = if self.busy_user_threads() >= threads { in_a_row + 1 } else { 0 };
            in_a_row == 5
        });
    }

    /// Threads called "user" in state R, as the kernel has them.
    fn busy_user_threads(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.working())).expect("the worker runs");
        let states = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        states.filter(|state| state.contains(" (user) R ")).count()
    }

    /// The file that a job of probe writes, as its events in order.
    pub(crate) fn diary(&self, job: &str) -> Vec<String> {
        let path: PathBuf = self.dir.path().join("jobs").join(job);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }

    /// The process that a job has written from.
    #[track_caller]
    pub(crate) fn process_of(&self, job: &str) -> i32 {
        self.await_diary(job, "started");
        let text = std::fs::read_to_string(self.path("jobs").join(job)).expect("the job's file");
        let pid = text.lines().next().and_then(|line| line.split(' ').nth(2)?.parse().ok());
        pid.expect("a line ends with a process number")
    }

    /// The processes that the worker has started and that it has not reaped; behind guard, those of guard's worker.
    pub(crate) fn children(&self) -> Vec<i32> {
        children(self.working())
    }

    /// The process that has the jobs: behind guard probe, which guard and the process between them have started.
    fn working(&self) -> i32 {
        let started = i32::try_from(self.child.pid()).expect("a process number");
        let is_probe = |process: &i32| {
            std::fs::read(format!("/proc/{process}/comm")).is_ok_and(|name| name == b"probe\n")
        };
        let first = |process: &i32| children(*process).first().copied();
        let behind = || std::iter::successors(Some(started), first).find(is_probe);
        if self.jobs == Jobs::Guarded { behind().unwrap_or(started) } else { started }
    }

    /// Files that may be open for processes that run now: guard holds one for each that its worker has started, from a
    /// moment after the start on.
    pub(crate) fn seen(&self) -> usize {
        if self.jobs == Jobs::Guarded { self.children().len() + 1 } else { 0 }
    }

    /// Waits until a job has written this event.
    #[track_caller]
    pub(crate) fn await_diary(&self, job: &str, event: &str) {
        until(&format!("{job} to write {event}"), || self.diary(job).iter().any(|known| known == event));
    }

    /// A path that only this worker uses.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Asks again and again, until it is so.
#[track_caller]
pub(crate) fn until(what: &str, so: impl FnMut() -> bool) {
    last_call_testkit::until(what, SOON, so);
}

/// A line of the log. What a program says beside a message stands in one field, and here where probe's own fields do.
fn parse(line: &str) -> Option<Value> {
    let mut line: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
    let fields = line["fields"].as_str().and_then(|fields| serde_json::from_str(fields).ok());
    if let (Some(line), Some(Value::Object(fields))) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    Some(line)
}

fn says(line: &str, message: &str) -> bool {
    parse(line).is_some_and(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)))
}
