//! A worker whose agent is a shell script, the server that it registers with, and the patience with both.
//!
//! Owns their environment. Refuses to return an error: what does not come fails the test here, with all that was said.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use last_call_testkit::{Answer, Child, Event, Exit, Job, Launch, Signal, Stub, proto};
use proto::worker_message::Message;
use proto::{JobStatus, UpdateJobStatus};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "a-secret-of-thirty-two-characters";

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_last-call");

/// Variables of this machine that nobody here may see.
const FOREIGN: [&str; 5] = [
    "LAST_CALL_ADMIN_SOCKET",
    "LAST_CALL_CONFIG",
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_LOG_LEVEL",
];

/// A server, a directory, and a worker.
pub(crate) struct Rig {
    pub(crate) stub: Stub,
    pub(crate) directory: TempDir,
    pub(crate) worker: Child,
}

/// A worker that runs `program`, not started yet.
pub(crate) fn launch(program: &Path, url: &str) -> Launch {
    let launch = FOREIGN.iter().fold(Launch::new(program), Launch::env_remove);
    launch
        .env("LIVEKIT_URL", url)
        .env("LIVEKIT_API_KEY", "devkey")
        .env("LIVEKIT_API_SECRET", SECRET)
        .env("LAST_CALL_HTTP", "off")
        .env("LAST_CALL_LOAD_THRESHOLD", "off")
        .env("LAST_CALL_LOG_FORMAT", "json")
}

impl Rig {
    /// A registered worker with this script; `$DIR` in it is a directory of its own.
    #[track_caller]
    pub(crate) fn new(options: &[&str], script: &str) -> Self {
        Self::from(options, script, |worker| worker)
    }

    #[track_caller]
    pub(crate) fn of(program: &Path, options: &[&str], script: &str) -> Self {
        Self::from(options, script, |worker| worker.program(program))
    }

    /// As [`Rig::new`], with the worker changed before it starts.
    #[track_caller]
    pub(crate) fn from(options: &[&str], script: &str, change: impl FnOnce(Launch) -> Launch) -> Self {
        let directory = TempDir::new().expect("a directory");
        let stub = Stub::auto().expect("a stub");
        let launch = launch(Path::new(PROGRAM), &stub.url()).env("DIR", directory.path()).arg("run");
        let worker =
            change(launch).args(options).args(["--", "sh", "-c", script]).spawn().expect("the worker starts");
        let rig = Self { stub, directory, worker };
        if let Err(error) = rig.stub.wait_registered(0, SOON) {
            panic!("no registration: {error:#}\n{}", rig.worker.output());
        }
        rig
    }

    #[track_caller]
    pub(crate) fn offer(&self, job: Job) {
        self.stub.offer(job).expect("a worker is registered");
    }

    /// Offers a job with this id, and waits for the file `ready` that its script makes.
    #[track_caller]
    pub(crate) fn call(&self, id: &str) {
        self.offer(Job::new(id));
        self.file("ready");
    }

    /// Waits for the report of a job's end: its status and error.
    #[track_caller]
    pub(crate) fn end(&self, id: &str) -> (JobStatus, String) {
        let over = |report: &UpdateJobStatus| report.job_id == id && report.status() != JobStatus::JsRunning;
        let seek = |event: &Event| match event.message() {
            Some(Message::UpdateJob(report)) if over(report) => Some((report.status(), report.error.clone())),
            _ => None,
        };
        match self.stub.wait_for(seek, SOON) {
            Ok(end) => end,
            Err(error) => panic!("{id} does not end: {error:#}\n{}", self.worker.output()),
        }
    }

    /// Waits for the answer to the first offer of `id`.
    #[track_caller]
    pub(crate) fn answer(&self, id: &str) -> Answer {
        let deadline = Instant::now() + SOON;
        loop {
            let offers = self.stub.offers();
            if let Some(answer) =
                offers.iter().find(|offer| offer.job_id == id).and_then(|offer| offer.answer)
            {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer for {id}\n{}", self.worker.output());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a file is there and ends with a line end; its text without that.
    #[track_caller]
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.path(name);
        let read = || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
        let mut text = None;
        until(&format!("{name}; the worker said:\n{}", self.worker.output()), || {
            text = read();
            text.is_some()
        });
        text.unwrap_or_default().trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn send(&self, signal: Signal) {
        self.worker.signal(signal).expect("the worker is alive");
    }

    /// Waits for the worker's end, which must be this exit code.
    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) -> Exit {
        let exit = self.worker.wait(SOON).expect("the worker leaves");
        assert_eq!((exit.code, exit.signal), (Some(code), None), "{}", self.worker.output());
        exit
    }

    /// Waits for the log line with this message.
    #[track_caller]
    pub(crate) fn log(&self, message: &str) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let says = |line: &str| parse(line).is_some_and(|line| line["message"] == message);
        let line = self.worker.wait_for_line(says, SOON);
        parse(&line.unwrap_or_else(|error| panic!("{error:#}")).text).expect("JSON, as it was a moment ago")
    }
}

/// Asks again and again, until it is so.
#[track_caller]
pub(crate) fn until(what: &str, so: impl FnMut() -> bool) {
    last_call_testkit::until(what, SOON, so);
}
