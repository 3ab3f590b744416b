//! `cargo xtask bench rooms`: what a call costs in its room, and how long it takes to be heard, beside LiveKit's SDKs.
//!
//! Owns the scenes. Refuses to count the caller: it is another process, the same for all.

mod ramp;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use last_call_testkit::{Child, Histogram, Launch, LiveKit, Node, Python};
use serde::Deserialize;

use super::report::{Promise, Report};
use super::rig::{PATIENCE, Subject, rest};
use super::runners::contestant::Contestant;
use super::tree::Tree;
use super::{dispatch, plot, results};
use crate::workspace;

const OURS: &str = "last-call";
const PYTHON: &str = "livekit (Python)";
const NODE: &str = "@livekit/rtc-node";
/// Of each call but a process's first.
const MIB: f64 = 0.8;
/// Of what the Python SDK takes, for the same call.
const SHARE: f64 = 1.0 / 8.0;
/// From a dispatch to the room, in the middle of all.
const CONNECTED_MS: f64 = 260.0;
/// In which a worker of the SDKs has made its next process ready.
const READY_AGAIN: Duration = Duration::from_secs(3);
/// How long a call is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// Measures rooms on the real livekit-server: memory and processor time of an agent that echoes its caller, how many calls a core
/// carries, the time of a join and from a dispatch to the room, and the way of a sound from the source of one participant to the
/// stream of another, jitter buffer included; beside LiveKit's SDKs for Python and Node, which do the same, on the same server.
///
/// The results are kept as bench/results/rooms.json and drawn as bench/results/rooms.svg, unless the run is quick.
#[derive(Parser)]
#[command(name = "cargo xtask bench rooms", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// A fifth of the calls and joins, and nothing is kept.
    #[arg(long)]
    quick: bool,
}

/// What a program of rooms is started with.
struct Program {
    name: &'static str,
    launch: Rc<dyn Fn(&str) -> Launch>,
}

#[derive(Deserialize)]
struct Pairs {
    connect_ms: Vec<f64>,
    way_ms: Vec<f64>,
}

#[derive(Deserialize)]
struct Heard {
    frames: usize,
    silent: usize,
}

/// What `calls` calls cost: MiB and thousandths of a core, each.
struct Cost {
    mib: f64,
    cpu: f64,
}

/// Runs every section.
///
/// # Errors
/// When a program cannot be built or started, or a call is not heard.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let Arguments { quick } = Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let (calls, joins, dispatches) = if quick { (4, 10, 4) } else { (10, 50, 20) };
    let ours = Subject::ours(OURS, "last-call-examples", "rooms", Vec::new())?;
    let program = ours.program().to_owned();
    let ours = Program { name: OURS, launch: Rc::new(move |mode| Launch::new(&program).arg(mode)) };
    let (python, node) = (python()?, node()?);
    let server = LiveKit::start()?;
    let mut report = Report::begin();
    report.section("a join, and the way of a sound");
    for program in [&ours, &python, &node] {
        pairs(program, &server, joins, &mut report)?;
    }
    report.section("from a dispatch to the room");
    dispatched(&server, dispatches, &mut report)?;
    report.section("calls, each with an agent that echoes its caller");
    let our_cost = cost(&ours, &ours, &server, calls, &mut report)?;
    let peers = [(&python, "the Python SDK's", Some(SHARE * 100.0)), (&node, "the Node SDK's", None)];
    for (program, whose, at_most) in peers {
        let theirs = cost(program, &ours, &server, calls, &mut report)?;
        let (cpu, mib) = (our_cost.cpu / theirs.cpu * 100.0, our_cost.mib / theirs.mib * 100.0);
        report.size(OURS, &format!("a call's processor time, of {whose}"), cpu, "%", at_most);
        report.size(OURS, &format!("a further call's memory, of {whose}"), mib, "%", None);
    }
    report.section("more and more calls on one core");
    for program in [&ours, &python] {
        ramp::measure(program, &ours, &server, quick.then_some(10), &mut report)?;
    }
    report.end();
    if !quick {
        results::keep("rooms", &report)?;
        results::keep_text("rooms.svg", &plot::draw("Last Call: rooms in figures", &report.figures))?;
    }
    report.verdict()
}

fn python() -> Result<Program> {
    let python = Python::find()?;
    let script =
        move |mode: &str| python.source(include_str!("../../../bench/peers/python_rooms.py")).arg(mode);
    Ok(Program { name: PYTHON, launch: Rc::new(script) })
}

fn node() -> Result<Program> {
    let node = Node::find("@livekit/rtc-node")?;
    let script = workspace::root().join("bench/peers/node_rooms.mjs");
    // Otherwise it writes a log of everything, to standard output.
    let production = move |mode: &str| node.script(&script).env("NODE_ENV", "production").arg(mode);
    Ok(Program { name: NODE, launch: Rc::new(production) })
}

/// Starts the program, and gives it these tokens.
fn start(program: &Program, mode: &str, server: &LiveKit, tokens: &[String]) -> Result<Child> {
    let launch = (program.launch)(mode).env("LIVEKIT_URL", server.url()).stdin();
    let mut child = launch.spawn()?;
    child.wait_for_line(|line| line == "up", PATIENCE)?;
    rest(Duration::from_millis(500));
    if !tokens.is_empty() {
        child.write_stdin(format!("{}\n\n", tokens.join("\n")).as_bytes())?;
    }
    Ok(child)
}

fn tokens(server: &LiveKit, prefix: &str, rooms: usize, identity: &str) -> Result<Vec<String>> {
    (0..rooms).map(|room| server.token(&format!("{prefix}-{room}"), identity)).collect()
}

fn pairs(program: &Program, server: &LiveKit, joins: usize, report: &mut Report) -> Result<()> {
    let (speakers, listeners) = (
        tokens(server, program.name, joins / 2, "speaker")?,
        tokens(server, program.name, joins / 2, "listener")?,
    );
    let both: Vec<String> = speakers.into_iter().zip(listeners).flat_map(<[String; 2]>::from).collect();
    let child = start(program, "pair", server, &both)?;
    let line = child.wait_for_line(
        |line| line.starts_with("{\"connect_ms\"") || line.starts_with("failed"),
        PATIENCE * 3,
    )?;
    let Pairs { connect_ms, way_ms } = serde_json::from_str(&line.text).with_context(|| line.text.clone())?;
    let times = |all: Vec<f64>| -> Histogram {
        all.into_iter().map(|ms| Duration::from_secs_f64(ms / 1000.0)).collect()
    };
    report.times(program.name, "a join, until media is connected", times(connect_ms), Promise::NONE);
    report.times(program.name, "a sound, from the source to the stream", times(way_ms), Promise::NONE);
    Ok(())
}

/// From CreateDispatch until the agent is in its room.
fn dispatched(server: &LiveKit, count: usize, report: &mut Report) -> Result<()> {
    let what = "CreateDispatch → connected (200 ms are the server's)";
    for contestant in [Contestant::tasks()?].into_iter().chain(Contestant::peers()?) {
        let Contestant { subject, ours, .. } = &contestant;
        let times =
            dispatch::until("connected", subject, &contestant.variables(), server, count, READY_AGAIN)?;
        let median = times.p50();
        report.times(subject.name, what, times, Promise::NONE);
        let promise = ours.then_some(CONNECTED_MS);
        report.size(subject.name, "the same, median", median.as_secs_f64() * 1000.0, "ms", promise);
    }
    Ok(())
}

/// An agent in a process of its own, and the callers that it echoes, from when they hear themselves.
struct Calls {
    agent: Child,
    callers: Child,
    /// What the agent's process took before the first.
    base: u64,
}

impl Calls {
    fn begin(
        program: &Program,
        caller: &Program,
        server: &LiveKit,
        prefix: &str,
        calls: usize,
    ) -> Result<Self> {
        let mut agent = start(program, "echo", server, &[])?;
        let base = agent.rss_kib()?;
        let rooms = tokens(server, prefix, calls, "agent")?;
        agent.write_stdin(format!("{}\n\n", rooms.join("\n")).as_bytes())?;
        agent.wait_for_line(|line| line.starts_with("joined "), PATIENCE)?;
        let callers = start(caller, "call", server, &tokens(server, prefix, calls, "caller")?)?;
        callers.wait_for_line(|line| line.starts_with("hears "), PATIENCE)?;
        rest(Duration::from_secs(3));
        Ok(Self { agent, callers, base })
    }

    /// What the agent's process has grown by.
    fn grown(&self) -> Result<u64> {
        Ok(self.agent.rss_kib()?.saturating_sub(self.base))
    }
}

/// What the calls of `program` cost, called by `caller`. The first one of a process brings the program's own pages into memory,
/// once for all calls.
fn cost(
    program: &Program,
    caller: &Program,
    server: &LiveKit,
    calls: usize,
    report: &mut Report,
) -> Result<Cost> {
    let first = Calls::begin(program, caller, server, &format!("first-{}", program.name), 1)?.grown()?;
    let mut all = Calls::begin(program, caller, server, &format!("calls-{}", program.name), calls)?;
    let tree = Tree(all.agent.pid());
    let before = tree.cpu();
    rest(WATCHED);
    let used = tree.cpu().saturating_sub(before);
    let further = all.grown()?.saturating_sub(first);
    all.callers.close_stdin();
    let line = all.callers.wait_for_line(|line| line.starts_with('{'), PATIENCE)?;
    let Heard { frames, silent } = serde_json::from_str(&line.text)?;
    if frames == 0 {
        bail!("{} echoes nothing:\n{}", program.name, all.agent.output());
    }
    let cost = Cost {
        mib: further as f64 / 1024.0 / (calls - 1) as f64,
        cpu: used.as_secs_f64() / WATCHED.as_secs_f64() * 1000.0 / calls as f64,
    };
    let ours = program.name == OURS;
    report.size(
        program.name,
        "memory of a process's first call, over the process",
        first as f64 / 1024.0,
        "MiB",
        None,
    );
    report.size(program.name, "memory of each further call", cost.mib, "MiB", ours.then_some(MIB));
    report.size(program.name, "processor time of a call, of a core", cost.cpu / 10.0, "%", None);
    report.count(program.name, "frames of echo that were silent", silent, frames, false);
    Ok(cost)
}
