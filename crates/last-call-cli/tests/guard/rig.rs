//! A worker of an SDK behind guard, the server that it is registered with, and the patience with all of them.
//!
//! Owns their environment. Refuses to return an error: what does not come fails the test here, with all that was said.

use std::path::PathBuf;
use std::time::Duration;

use last_call_testkit::{Child, Event, Job, Launch, LiveKit, Peer, Signal, Stub, processes, proto, skip};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use proto::participant_info::Kind;
use proto::worker_message::Message;
use proto::{JobStatus, WorkerStatus};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take: a worker of Python alone starts in three seconds.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_last-call");
pub(crate) const SECRET: &str = "a-secret-of-thirty-two-characters";

/// Variables of this machine that nobody here may see.
const FOREIGN: [&str; 13] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LAST_CALL_CONFIG",
    "LAST_CALL_GUARD_ADMIN_SOCKET",
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_LOG_LEVEL",
    "NO_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The worker on this SDK, for this server; `None` where the SDK is missing.
pub(crate) fn worker(peer: Peer, url: &str) -> Option<Launch> {
    Some(settled(peer.worker().map_err(skip).ok()?, url))
}

/// The program with all that it and guard have in common, for this server.
pub(crate) fn settled(program: Launch, url: &str) -> Launch {
    FOREIGN
        .iter()
        .fold(program, Launch::env_remove)
        .env("LIVEKIT_URL", url)
        .env("LIVEKIT_API_KEY", "devkey")
        .env("LIVEKIT_API_SECRET", SECRET)
        .env("LAST_CALL_GUARD_HTTP", "127.0.0.1:0")
        .env("LAST_CALL_LOG_FORMAT", "json")
}

/// The same for this server, by its own keys.
pub(crate) fn on(server: &LiveKit, program: Launch) -> Launch {
    server.env().into_iter().fold(program, |program, (name, value)| program.env(name, value))
}

/// The agents in a room, as the server says.
pub(crate) fn agents(server: &LiveKit, room: &str) -> Vec<proto::ParticipantInfo> {
    let mut people = server.api().list_participants(room).unwrap_or_default();
    people.retain(|one| one.kind() == Kind::Agent);
    people
}

/// The same behind guard, which is the leader of a process group, as a shell would make it.
pub(crate) fn guarded(worker: Launch, options: &[&str]) -> Launch {
    worker.behind(PROGRAM, ["guard"].iter().chain(options).chain(&["--"])).behind("setsid", [""; 0])
}

/// A server, a directory, and a worker that is registered, behind guard or alone.
pub(crate) struct Rig {
    pub(crate) stub: Stub,
    pub(crate) directory: TempDir,
    pub(crate) guard: Child,
}

impl Rig {
    /// A worker behind guard; `None` where its SDK is missing. Of `settings`, a value `$DIR/…` is in the directory.
    #[track_caller]
    pub(crate) fn new(peer: Peer, options: &[&str], settings: &[(&str, &str)]) -> Option<Self> {
        Self::start(peer, settings, |worker| guarded(worker, options))
    }

    /// A worker without guard.
    #[track_caller]
    pub(crate) fn alone(peer: Peer, settings: &[(&str, &str)]) -> Option<Self> {
        Self::start(peer, settings, |worker| worker)
    }

    #[track_caller]
    pub(crate) fn start(
        peer: Peer,
        settings: &[(&str, &str)],
        change: impl FnOnce(Launch) -> Launch,
    ) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let stub = Stub::auto().expect("a stub");
        let place = directory.path().to_str().expect("text").to_owned();
        let set =
            |launch: Launch, (name, value): &(&str, &str)| launch.env(name, value.replace("$DIR", &place));
        let launch = settings.iter().fold(worker(peer, &stub.url())?, set);
        let guard = change(launch).spawn().expect("it starts");
        let rig = Self { stub, directory, guard };
        if let Err(error) = rig.stub.wait_registered(0, SOON) {
            panic!("no registration: {error:#}\n{}", rig.guard.output());
        }
        rig.await_status(0, WorkerStatus::WsAvailable);
        Some(rig)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a file, for which a job or the worker may wait.
    pub(crate) fn make(&self, name: &str) {
        std::fs::write(self.path(name), "").expect("a file");
    }

    /// A job that ends when the file of its name is there.
    pub(crate) fn lasting(&self, id: &str) -> Job {
        Job::new(id).metadata(&format!("wait {}", self.path(id).display()))
    }

    #[track_caller]
    pub(crate) fn offer(&self, job: Job) {
        self.stub.offer(job).expect("a worker is registered");
    }

    /// Starts a call that lasts until [`Rig::make`] of its id; the process that it runs in.
    #[track_caller]
    pub(crate) fn call(&self, id: &str) -> i64 {
        self.offer(self.lasting(id));
        assert!(self.answer(id), "{id} is declined\n{}", self.guard.output());
        let process = started(&self.guard, id);
        self.await_spare();
        process
    }

    /// Waits until livekit-agents has another process warm: one that ends while another starts may be said to have failed
    /// (python/cpython#130895).
    fn await_spare(&self) {
        let warmed =
            || self.guard.lines().iter().filter(|line| line.text.contains("\"process initialized\"")).count();
        if warmed() > 0 {
            until("a spare process", || warmed() > all_started(&self.guard).len());
        }
    }

    /// Offers a job that must be declined.
    #[track_caller]
    pub(crate) fn declines(&self, id: &str) {
        self.offer(Job::new(id));
        assert!(!self.answer(id), "{id} is accepted\n{}", self.guard.output());
    }

    /// Waits for the answer to an offer: whether the worker takes it.
    #[track_caller]
    pub(crate) fn answer(&self, id: &str) -> bool {
        let mut answer = None;
        until(&format!("an answer for {id}"), || {
            let offers = self.stub.offers();
            answer = offers.iter().find(|offer| offer.job_id == id).and_then(|offer| offer.answer);
            answer.is_some()
        });
        answer.is_some_and(|answer| answer.available)
    }

    /// Waits for this status, told after so many events.
    #[track_caller]
    pub(crate) fn await_status(&self, mark: usize, status: WorkerStatus) {
        let told = |event: &Event| (told(event) == Some(status)).then_some(());
        if let Err(error) = self.stub.wait_for_after(mark, told, SOON) {
            panic!("no {status:?}: {error:#}\n{}", self.guard.output());
        }
    }

    /// The statuses that were told after so many events.
    pub(crate) fn statuses(&self, mark: usize) -> Vec<WorkerStatus> {
        self.stub.events_after(mark).iter().filter_map(told).collect()
    }

    /// Waits for the report of a job's end.
    #[track_caller]
    pub(crate) fn end(&self, id: &str) -> JobStatus {
        let seek = |event: &Event| match event.message() {
            Some(Message::UpdateJob(report)) if report.job_id == id => {
                Some(report.status()).filter(|status| *status != JobStatus::JsRunning)
            }
            _ => None,
        };
        match self.stub.wait_for(seek, SOON) {
            Ok(end) => end,
            Err(error) => panic!("{id} does not end: {error:#}\n{}", self.guard.output()),
        }
    }

    /// Lets a call end, and waits for the report of it.
    #[track_caller]
    pub(crate) fn finish(&self, id: &str) {
        self.make(id);
        assert_eq!(self.end(id), JobStatus::JsSuccess, "{}", self.guard.output());
    }

    #[track_caller]
    pub(crate) fn send(&self, signal: Signal) {
        self.guard.signal(signal).expect("it is alive");
    }

    #[track_caller]
    pub(crate) fn leaves_with(&self, code: i32) {
        leaves_with(&self.guard, code);
    }

    /// A page of guard's.
    #[track_caller]
    pub(crate) fn status_of(&self, path: &str) -> u16 {
        use std::io::{Read, Write};
        let line = log(&self.guard, "probes and metrics");
        let address = line["address"].as_str().expect("an address").to_owned();
        let mut stream = std::net::TcpStream::connect(address).expect("guard answers");
        stream.set_read_timeout(Some(SOON)).expect("a limit");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

/// The status that an event tells.
fn told(event: &Event) -> Option<WorkerStatus> {
    match event.message() {
        Some(Message::UpdateWorker(update)) if update.status.is_some() => Some(update.status()),
        _ => None,
    }
}

/// The process of the worker that started last.
#[track_caller]
pub(crate) fn main_process(guard: &Child) -> i64 {
    let said = guard.lines().iter().rev().find_map(|line| event(&line.text, "main"));
    said.expect("a worker has started")["pid"].as_i64().expect("a number")
}

/// What a line says, if it is of this event.
pub(crate) fn event(line: &str, event: &str) -> Option<Value> {
    let said: Value = serde_json::from_str(line.strip_prefix("peer ")?).ok()?;
    (said["event"] == event).then_some(said)
}

/// The processes of all jobs that have started, in order.
pub(crate) fn all_started(guard: &Child) -> Vec<i64> {
    guard.lines().iter().filter_map(|line| event(&line.text, "started")?["pid"].as_i64()).collect()
}

/// Waits until a job runs; the process that it runs in.
#[track_caller]
pub(crate) fn started(guard: &Child, job: &str) -> i64 {
    match Peer::event(guard, "started", Some(job), SOON) {
        Ok((_, said)) => said["pid"].as_i64().expect("a number"),
        Err(error) => panic!("{job} does not run: {error:#}"),
    }
}

/// Waits for the end of guard, or of a worker alone, which must be this exit code.
#[track_caller]
pub(crate) fn leaves_with(guard: &Child, code: i32) {
    let exit = guard.wait(SOON).expect("it leaves");
    assert_eq!((exit.code, exit.signal), (Some(code), None), "{}", guard.output());
}

/// Waits for guard's log line with this message.
#[track_caller]
pub(crate) fn log(guard: &Child, message: &str) -> Value {
    let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
    let says = |line: &str| parse(line).is_some_and(|line| line["message"] == message);
    let line = guard.wait_for_line(says, SOON);
    parse(&line.unwrap_or_else(|error| panic!("{error:#}")).text).expect("JSON, as it was a moment ago")
}

/// How often guard has logged this so far.
pub(crate) fn logged(guard: &Child, message: &str) -> usize {
    let message = format!("\"message\":\"{message}");
    guard.lines().iter().filter(|line| line.text.contains(&message)).count()
}

/// Sends a signal to a process that is not the test's own child.
#[track_caller]
pub(crate) fn signal(pid: i64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process")), signal).expect("it runs");
}

#[track_caller]
pub(crate) fn gone(pid: i64) {
    until(&format!("process {pid} to be gone"), || !processes::runs(pid));
}

/// Asks again and again, until it is so.
#[track_caller]
pub(crate) fn until(what: &str, so: impl FnMut() -> bool) {
    last_call_testkit::until(what, SOON, so);
}
