//! `cargo xtask soak guard-crash`: a worker with many calls is killed beside another one, and each call has one agent again.
//!
//! Owns the scene: livekit-agents behind guard, the real server, a caller in each room. Refuses guard's word: who is in a room, its
//! caller and the server say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use last_call_testkit::proto::ParticipantInfo;
use last_call_testkit::proto::participant_info::Kind;
use last_call_testkit::{LiveKit, Participant, Peer, Python, Signal};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::bench::rig::{PATIENCE, Running, Subject, rest};
use crate::bench::soak::{Notes, Plan};
use crate::bench::tree::Tree;

/// Calls of the promise.
const FULL: usize = 50;
/// The promise.
const WITHIN: Duration = Duration::from_secs(5);
/// After that a second agent would have come.
const AFTERWARDS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The worker that has all calls is killed with its processes; another one is there.
pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    let guarded = Subject::behind_guard(Peer::Python1_8_9.command()?)?;
    let plan = Plan { name: "guard-crash", full: FULL, batch: FULL, lanes: 1 };
    plan.carry_out(arguments, |trial| Scene::new(&guarded, trial.size)?.crash(trial.notes))
}

struct Scene {
    server: LiveKit,
    rooms: Vec<String>,
    callers: Participant,
    dies: Running,
    stays: Running,
}

impl Scene {
    /// So many calls that run, and a second worker that is warm for as many.
    fn new(guarded: &Subject, calls: usize) -> Result<Self> {
        let (server, python) = (LiveKit::start()?, Python::find()?);
        let start = |idle: usize| -> Result<Running> {
            let variables = [
                ("LIVEKIT_API_KEY", server.key()),
                ("LIVEKIT_API_SECRET", server.secret()),
                ("LIVEKIT_AGENT_NAME", "bar"),
                ("PEER_IDLE", &idle.to_string()),
                // 50 processes that join at once are more than two cores do in the time: that would be measured.
                ("PEER_JOBS", "THREAD"),
            ];
            let guard = guarded.start(&server.url(), &variables)?;
            guard.wait_for_line(|line| line.contains("\"registered"), PATIENCE)?;
            let warm = || guard.lines().iter().filter(|line| line.text.contains(" initialized\"")).count();
            wait("warm places for jobs", || Ok(warm() >= idle))?;
            Ok(guard)
        };
        let dies = start(4)?;
        let rooms: Vec<_> = (0..calls).map(|room| format!("room-{room}")).collect();
        let callers = python.join_all(&server, &rooms, "caller")?;
        for room in &rooms {
            server.api().create_dispatch(room, "bar", "connect, ignore", &[])?;
        }
        wait("an agent in every room", || Ok(came(&callers, 0).len() == calls))?;
        let stays = start(calls)?;
        Ok(Self { server, rooms, callers, dies, stays })
    }

    fn crash(&self, notes: &Notes) -> Result<()> {
        let calls = self.rooms.len();
        let (seen, began) = (self.callers.child().mark(), [self.dies.mark(), self.stays.mark()]);
        let killed = (Instant::now(), SystemTime::now());
        for pid in Tree(self.dies.pid()).pids().into_iter().filter(|pid| *pid != self.dies.pid()) {
            // Who is gone with the worker is gone.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL);
        }
        let all = wait("agent for every caller", || Ok(came(&self.callers, seen).len() == calls));
        let first = self.agents()?;
        rest(AFTERWARDS);
        let last = self.agents()?;
        let started =
            [&self.dies, &self.stays].into_iter().zip(began).flat_map(|(guard, mark)| started(guard, mark));
        let started: Vec<_> = started.map(|at| at - killed.0).collect();
        let joined: Vec<_> = first.iter().filter_map(|agents| since(killed.1, agents.first()?)).collect();
        started.iter().for_each(|time| notes.time("kill → job runs", *time));
        joined.iter().for_each(|time| notes.time("kill → agent in the room", *time));
        came(&self.callers, seen)
            .values()
            .for_each(|at| notes.time("kill → caller hears of it", *at - killed.0));

        let rooms = |so: fn(usize) -> bool| {
            let wrong = |(one, other): &(&Vec<_>, &Vec<_>)| so(one.len()) || so(other.len());
            first.iter().zip(&last).filter(wrong).count()
        };
        let (lost, doubled) = (rooms(|agents| agents == 0), rooms(|agents| agents > 1));
        let late = joined.iter().filter(|time| **time > WITHIN).count();
        notes.add("calls", calls);
        notes.add("calls lost", lost);
        notes.add("calls with two agents", doubled);
        notes.add("calls later than 5 s", late);
        notes.add("jobs started too many", started.len().saturating_sub(calls));
        Tree(self.stays.pid()).kill();
        Tree(self.dies.pid()).kill();
        all?;
        // Of a few calls, as tests make them, the time is no matter.
        let late = if calls < FULL { 0 } else { late };
        ensure!(
            (lost, doubled, started.len(), late) == (0, 0, calls, 0),
            "of {calls} calls {lost} lost, {doubled} with two agents, {late} late; {} jobs started",
            started.len()
        );
        Ok(())
    }

    /// The agents in each room.
    fn agents(&self) -> Result<Vec<Vec<ParticipantInfo>>> {
        let agents = |room: &String| {
            let people = self.server.api().list_participants(room)?;
            Ok(people.into_iter().filter(|one| one.kind() == Kind::Agent).collect())
        };
        self.rooms.iter().map(agents).collect()
    }
}

/// How long after `killed` the server says that the agent joined; `None` where it was there before.
fn since(killed: SystemTime, agent: &ParticipantInfo) -> Option<Duration> {
    let joined = SystemTime::UNIX_EPOCH + Duration::from_millis(agent.joined_at_ms.try_into().ok()?);
    joined.duration_since(killed).ok()
}

/// The rooms into which agents have come, and when the first one did, as the callers say it after `mark`.
fn came(callers: &Participant, mark: usize) -> BTreeMap<String, Instant> {
    let mut came = BTreeMap::new();
    for line in callers.child().lines().iter().skip(mark) {
        if let Some(said) = line.text.strip_prefix("event connected agent-")
            && let Some((_, room)) = said.split_once(' ')
        {
            came.entry(room.to_owned()).or_insert(line.at);
        }
    }
    came
}

/// When jobs have started, of those that say so after `mark`.
fn started(guard: &Running, mark: usize) -> Vec<Instant> {
    let lines = guard.lines().into_iter().skip(mark);
    lines.filter(|line| line.text.starts_with("peer {\"event\": \"started\"")).map(|line| line.at).collect()
}

fn wait(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < deadline, "no {what} in {PATIENCE:?}");
        rest(LOOK_EVERY);
    }
    Ok(())
}
