//! Workers with admin sockets, and commands to them.
//!
//! Owns their environment and the patience with them. Refuses to return an error: what does not come fails the test here,
//! with all that was said.

use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use last_call_testkit::{Child, Job, Launch, Stub, proto};
use proto::worker_message::Message;
use tempfile::TempDir;

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_last-call");
const VARIABLE: &str = "LAST_CALL_ADMIN_SOCKET";

/// A server and a directory for sockets.
pub(crate) struct Rig {
    pub(crate) stub: Stub,
    pub(crate) directory: TempDir,
}

/// Variables of this machine that nobody here may see.
const FOREIGN: [&str; 4] = [VARIABLE, "LAST_CALL_CONFIG", "LIVEKIT_AGENT_NAME", "LIVEKIT_LOG_LEVEL"];

impl Rig {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self { stub: Stub::auto().expect("a stub"), directory: TempDir::new().expect("a directory") }
    }

    /// A path for a socket.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A worker that is registered and has its admin socket there.
    #[track_caller]
    pub(crate) fn worker(&self, socket: &Path, options: &[&str]) -> Child {
        let mark = self.stub.mark();
        let launch = FOREIGN.iter().fold(Launch::new(PROGRAM), Launch::env_remove);
        let worker = launch
            .env("LIVEKIT_URL", self.stub.url())
            .env("LIVEKIT_API_KEY", "devkey")
            .env("LIVEKIT_API_SECRET", "a-secret-of-thirty-two-characters")
            .env("LAST_CALL_HTTP", "off")
            .env("LAST_CALL_LOAD_THRESHOLD", "off")
            .env("LAST_CALL_USER_THREADS", "1")
            .env(VARIABLE, socket)
            .args(["demo-agent", "start", "--log-format=json"])
            .args(options)
            .spawn()
            .expect("the worker starts");
        self.stub.wait_registered(mark, SOON).expect("a registration");
        worker.wait_for_line(|line| line.contains("\"registered\""), SOON).expect("the log line");
        worker
    }

    /// A call that the newest worker takes, and that lasts until [`Stub::terminate`].
    #[track_caller]
    pub(crate) fn call(&self, job: &str) {
        let mark = self.stub.mark();
        self.stub.offer(Job::new(job)).expect("a worker is registered");
        let running =
            |message: &Message| matches!(message, Message::UpdateJob(update) if update.job_id == job);
        let seen = |event: &last_call_testkit::Event| event.message().is_some_and(running).then_some(());
        self.stub.wait_for_after(mark, seen, SOON).expect("the job runs");
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command in an environment that has `variable` as the place of the socket.
#[track_caller]
pub(crate) fn last_call(arguments: &[&str], variable: Option<&Path>) -> Said {
    let mut command = Command::new(PROGRAM);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command.args(arguments).envs(variable.map(|path| (VARIABLE, path)));
    said(command)
}

/// Runs it as it is.
#[track_caller]
pub(crate) fn said(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("last-call runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The program, started and not waited for.
#[track_caller]
pub(crate) fn started(arguments: &[&str]) -> Child {
    FOREIGN.iter().fold(Launch::new(PROGRAM), Launch::env_remove).args(arguments).spawn().expect("it starts")
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Takes one request to a socket of the test's own.
#[track_caller]
pub(crate) fn asked(listener: &UnixListener) -> UnixStream {
    let (caller, _) = listener.accept().expect("a caller");
    let mut head = BufReader::new(caller.try_clone().expect("a second handle")).lines();
    while head.next().is_some_and(|line| !line.expect("a line").is_empty()) {}
    caller
}
