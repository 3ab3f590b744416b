//! What every test here sets up: a server, a probe, and the diaries of its jobs.
//!
//! Owns how they are started and looked at. Refuses to judge: the assertions are the test's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use last_call_testkit::{Child, Exit, Launch, Line, LiveKit, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::server_log;

/// Ends a hang; nothing here takes half as long.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// How long a dispatch may wait for its job before it counts as lost; the server itself gives up after 3 s.
const LOST_AFTER: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is something.
pub(crate) fn eventually<R>(what: &str, mut look: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {LONG:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A probe to be started.
pub(crate) struct Setup {
    launch: Launch,
    diaries: TempDir,
}

/// A probe for dispatches to `agent`, with a load that a busy machine does not change.
pub(crate) fn probe(server: &LiveKit, agent: &str) -> Result<Setup> {
    let diaries = TempDir::new().context("no room for diaries")?;
    let launch = Launch::new(env!("CARGO_BIN_EXE_probe")).args(["start", "--http", "off"]);
    let launch = launch.env("PROBE_AGENT_NAME", agent).env("PROBE_LOAD", "0.1");
    let launch = launch.env("PROBE_JOB_DIR", diaries.path());
    let launch = server.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
    Ok(Setup { launch, diaries })
}

impl Setup {
    pub(crate) fn with(self, change: impl FnOnce(Launch) -> Launch) -> Self {
        Self { launch: change(self.launch), ..self }
    }

    /// Starts it and waits until the server has registered it.
    pub(crate) fn start(self) -> Result<Probe> {
        let probe = Probe { child: self.launch.spawn()?, diaries: self.diaries };
        probe.said_after(0, "registered")?;
        Ok(probe)
    }
}

/// A running, or ended, probe.
pub(crate) struct Probe {
    child: Child,
    diaries: TempDir,
}

impl Probe {
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for the log line with this message, behind the first `mark` lines.
    pub(crate) fn said_after(&self, mark: usize, message: &str) -> Result<Line> {
        self.child.wait_for_line_after(mark, |line| is_message(line, message), LONG)
    }

    /// How many log lines so far have this message.
    pub(crate) fn count_said(&self, message: &str) -> usize {
        self.child.lines().iter().filter(|line| is_message(&line.text, message)).count()
    }

    /// Whether no log line behind the start of the drain has this message.
    pub(crate) fn said_none_in_the_drain(&self, message: &str) -> bool {
        let lines = self.child.lines();
        let draining = |line: &&Line| !is_message(&line.text, "draining: taking no jobs");
        !lines.iter().skip_while(draining).any(|line| is_message(&line.text, message))
    }

    /// SIGTERM.
    pub(crate) fn drain(&self) -> Result<()> {
        self.child.signal(Signal::SIGTERM)
    }

    pub(crate) fn ended(&self) -> Result<Exit> {
        self.child.wait(LONG)
    }

    /// The id of each job so far, and the events of its life in their order.
    pub(crate) fn diaries(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut diaries = BTreeMap::new();
        for file in std::fs::read_dir(self.diaries.path())? {
            let path = file?.path();
            if path.extension().is_none() {
                let events = std::fs::read_to_string(&path)?;
                let events = events.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
                diaries.insert(file_name(&path), events.collect());
            }
        }
        Ok(diaries)
    }

    /// How many jobs have had this event.
    pub(crate) fn count(&self, event: &str) -> Result<usize> {
        Ok(self.diaries()?.values().filter(|events| events.iter().any(|one| one == event)).count())
    }

    /// Waits until `count` jobs have had this event.
    pub(crate) fn wait(&self, count: usize, event: &str) -> Result<()> {
        let reached = || Ok((self.count(event)? >= count).then_some(()));
        eventually(&format!("{count} jobs {event}"), reached)
    }

    /// What the jobs so far wrote down because their orders said `tell`, by room.
    pub(crate) fn told(&self) -> Result<BTreeMap<String, Value>> {
        let mut told = BTreeMap::new();
        for (job, events) in self.diaries()? {
            let path = self.diaries.path().join(job).with_extension("json");
            if !events.is_empty() && path.exists() {
                let job: Value = serde_json::from_slice(&std::fs::read(path)?)?;
                told.insert(job["room"].as_str().context("no room")?.to_owned(), job);
            }
        }
        Ok(told)
    }
}

fn is_message(line: &str, message: &str) -> bool {
    line.contains(&format!("\"message\":\"{message}\""))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Dispatches `agent` to `count` new rooms, whose names begin with `prefix`; their names.
pub(crate) fn dispatch(
    server: &LiveKit,
    agent: &str,
    prefix: &str,
    count: usize,
    orders: &str,
) -> Result<Vec<String>> {
    let rooms: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    for room in &rooms {
        server.api().create_dispatch(room, agent, orders, &[])?;
    }
    Ok(rooms)
}

/// Those of `rooms` in which no job of `probes` has started, after the server has long given up on them.
pub(crate) fn lost(server: &LiveKit, rooms: &[String], probes: &[&Probe]) -> Result<Vec<String>> {
    let deadline = Instant::now() + LOST_AFTER;
    loop {
        let mut started = BTreeSet::new();
        for probe in probes {
            started.extend(
                probe.diaries()?.into_iter().filter(|(_, events)| !events.is_empty()).map(|(job, _)| job),
            );
        }
        let jobs = server_log::assigned(server);
        let served: BTreeSet<&str> =
            jobs.iter().filter(|one| started.contains(&one.job)).map(|one| one.room.as_str()).collect();
        let lost: Vec<String> =
            rooms.iter().filter(|room| !served.contains(room.as_str())).cloned().collect();
        if lost.is_empty() || Instant::now() > deadline {
            return Ok(lost);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
