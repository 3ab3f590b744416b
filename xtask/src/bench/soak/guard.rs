//! What guard promises for the worker behind it: drains that cut no call, reconnects that leave no file open, dispatches of
//! which a stopped worker loses none, signals that a busy worker would swallow.
//!
//! Owns the scenes. Refuses the worker's word: a call ran to its end when probe's own diary says so.

mod crash;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Cut, LiveKit, Peer, Signal, Stub};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

pub(in crate::bench) use self::crash::run as crash;
use super::{Plan, computing_lanes};
use crate::bench::drain::end_job;
use crate::bench::rig::{PATIENCE, Running, Subject, rest};
use crate::bench::seen;
use crate::bench::tree::Tree;

/// Calls of one drain.
const CALLS: usize = 50;
/// Words of the log lines that tell why a worker did not take a job.
const WHY: [&str; 4] = ["declin", "WARN", "ERROR", "user code does not run"];
/// A worker alone that says WS_FULL does so within a quarter of a second, on a busy machine too.
const SWALLOWED_AFTER: Duration = Duration::from_secs(5);
/// Reconnects of one guard; its backoff starts anew with each connection that stood.
const ROW: usize = 25;

/// Drains with calls under way: each comes to its own end and is reported.
pub(in crate::bench) fn drains(arguments: &[String]) -> Result<()> {
    let guarded = Subject::guarded()?;
    let plan = Plan { name: "guard-drains", full: 100, batch: 1, lanes: 2 };
    plan.carry_out(arguments, |trial| {
        let stub = Stub::auto()?;
        let guard = guarded.serve(&stub, &[])?;
        let jobs: Vec<_> = (0..CALLS).map(|job| (format!("job-{job}"), json!({"sleep": 2.0}))).collect();
        seen::run_jobs(&stub, &jobs)?;
        guard.signal(Signal::SIGTERM)?;
        let exit = guard.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", guard.output());
        let events = stub.events();
        let ends = events.iter().filter_map(seen::end_of_job);
        let reported = ends.filter(|(_, status)| *status == JobStatus::JsSuccess).count();
        let diaries = guard.diaries();
        let finished = diaries.iter().flatten().filter(|(event, _)| event == "finished").count();
        trial.notes.add("calls", CALLS);
        trial.notes.add("calls that were cut", CALLS - finished.min(CALLS));
        ensure!((finished, reported) == (CALLS, CALLS), "{finished} finished, {reported} reported");
        Ok(())
    })
}

/// Connections cut under a running call: guard has no more files open behind a row than before it.
pub(in crate::bench) fn reconnects(arguments: &[String]) -> Result<()> {
    let guarded = Subject::guarded()?;
    let plan = Plan { name: "guard-reconnects", full: 10_000, batch: ROW, lanes: computing_lanes() * 25 };
    plan.carry_out(arguments, |trial| {
        let stub = Stub::auto()?;
        let guard = guarded.serve(&stub, &[])?;
        seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
        // The first brings what stays open for good.
        cut(&stub)?;
        let before = files(&guard)?;
        for _ in 0..trial.size {
            cut(&stub)?;
            trial.notes.add("reconnects", 1);
        }
        // A connection that was cut is closed a moment later.
        let deadline = Instant::now() + PATIENCE;
        while files(&guard)? > before && Instant::now() < deadline {
            rest(Duration::from_millis(50));
        }
        let behind = files(&guard)?;
        trial.notes.add("files left open", behind.saturating_sub(before));
        ensure!(behind <= before, "{behind} files are open, {before} were before");
        end_job(&stub, "long")?;
        guard.signal(Signal::SIGTERM)?;
        let exit = guard.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", guard.output());
        Ok(())
    })
}

/// The files that it has open, but for those of processes: of each that its worker starts it has one, and finds some late.
fn files(guard: &Running) -> Result<usize> {
    let mut count = 0;
    for file in std::fs::read_dir(format!("/proc/{}/fd", guard.pid()))? {
        // One that is closed meanwhile is not open.
        let link = std::fs::read_link(file?.path());
        count += usize::from(link.is_ok_and(|link| link != Path::new("anon_inode:[pidfd]")));
    }
    Ok(count)
}

fn cut(stub: &Stub) -> Result<()> {
    let (mark, connection) = (stub.mark(), stub.registered().context("it is registered")?);
    stub.drop_connection(connection, Cut::Rst)?;
    stub.wait_registered(mark, PATIENCE).map(drop)
}

/// One healthy worker, and others that stand still: behind guard every dispatch has its agent. The same without guard, for
/// comparison.
pub(in crate::bench) fn wedged(arguments: &[String]) -> Result<()> {
    let (alone, guarded) = (Subject::probe()?, Subject::guarded()?);
    let plan = Plan { name: "guard-wedged", full: 1300, batch: 1300, lanes: 1 };
    plan.carry_out(arguments, |trial| {
        // Of 1,300 the last 300 meet six that stand still.
        let many = trial.size * 3 / 13;
        for (stopped, dispatches) in [(1, trial.size - many), (6, many)] {
            let Beside { lost, met, healthy } = beside_stopped(&guarded, stopped, dispatches)?;
            trial.notes.add("dispatches behind guard", dispatches);
            trial.notes.add("dispatches behind guard without an agent", lost);
            ensure!(
                lost == 0,
                "{lost} of {dispatches} dispatches lost beside {stopped} that stand still:\n{healthy}"
            );
            ensure!(met == stopped, "only {met} of {stopped} that stand still were offered anything");
        }
        let lost = beside_stopped(&alone, 1, many)?.lost;
        trial.notes.add("dispatches without guard", many);
        trial.notes.add("dispatches without guard and without an agent", lost);
        Ok(())
    })
}

/// How dispatches went.
struct Beside {
    /// Dispatches that had no agent.
    lost: usize,
    /// Workers that stand still, and were found to.
    met: usize,
    /// What the healthy one said of offers that it declined.
    healthy: String,
}

fn beside_stopped(worker: &Subject, stopped: usize, dispatches: usize) -> Result<Beside> {
    let server = LiveKit::start()?;
    let keys = [
        ("LIVEKIT_API_KEY", server.key()),
        ("LIVEKIT_API_SECRET", server.secret()),
        ("PROBE_AGENT_NAME", "soak"),
    ];
    let start = || -> Result<Running> {
        let worker = worker.start(&server.url(), &keys)?;
        worker.wait_for_line(|line| line.contains("\"registered"), PATIENCE)?;
        Ok(worker)
    };
    let healthy = start()?;
    let wedged = (0..stopped).map(|_| start()).collect::<Result<Vec<_>>>()?;
    for running in &wedged {
        let tree = Tree(running.pid()).pids();
        let guards_none = tree.len() == 1;
        for pid in tree.into_iter().filter(|pid| guards_none || *pid != running.pid()) {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGSTOP).context("the worker runs")?;
        }
    }
    let orders = json!({"sleep": 0.1}).to_string();
    for room in 0..dispatches {
        server.api().create_dispatch(&format!("room-{room}"), "soak", &orders, &[])?;
    }
    let began = healthy.await_started(dispatches);
    let lost = if began.is_ok() { 0 } else { dispatches - healthy.diaries().len().min(dispatches) };
    let met = wedged.iter().filter(|running| running.output().contains(WHY[3])).count();
    wedged.iter().for_each(|running| Tree(running.pid()).kill());
    Tree(healthy.pid()).kill();
    let said = healthy.output();
    let declines: Vec<&str> = said.lines().filter(|line| WHY.iter().any(|why| line.contains(why))).collect();
    Ok(Beside { lost, met, healthy: declines.join("\n") })
}

/// agents#5856: a busy worker of livekit-agents 1.5.7 swallows SIGTERM; guard in front of it does not. One alone takes its
/// turn with each five behind guard.
pub(in crate::bench) fn swallowed(arguments: &[String]) -> Result<()> {
    let command = Peer::Python1_5_7.command()?;
    let (program, rest) = command.split_first().context("it is a program")?;
    let alone = Subject::peer(Peer::Python1_5_7.name(), program.into(), rest.to_vec());
    let guarded = Subject::behind_guard(command)?;
    let plan = Plan { name: "guard-5856", full: 1000, batch: 1, lanes: computing_lanes() };
    plan.carry_out(arguments, |trial| {
        if trial.turn.is_multiple_of(5) {
            let (worker, full) = full_after_signal(&alone, SWALLOWED_AFTER)?;
            Tree(worker.pid()).kill();
            trial.notes.add("signals to a worker alone", 1);
            trial.notes.add("signals swallowed by a worker alone", usize::from(full.is_none()));
        }
        let (guard, full) = full_after_signal(&guarded, PATIENCE)?;
        trial.notes.add("signals to guard", 1);
        trial.notes.add("signals swallowed behind guard", usize::from(full.is_none()));
        let full = full.with_context(|| format!("no WS_FULL:\n{}", guard.output()))?;
        trial.notes.time("SIGTERM → WS_FULL behind guard", full);
        let exit = guard.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", guard.output());
        Ok(())
    })
}

/// At a random moment of its busy loop.
fn full_after_signal(worker: &Subject, patience: Duration) -> Result<(Running, Option<Duration>)> {
    let stub = Stub::auto()?;
    let worker = worker.serve(&stub, &[("PEER_BUSY", "0.5"), ("PEER_IDLE", "0")])?;
    rest(Duration::from_micros(fastrand::u64(..50_000)));
    let (mark, signalled) = (stub.mark(), Instant::now());
    worker.signal(Signal::SIGTERM)?;
    let full = seen::first(&stub, mark, patience, seen::is_full);
    Ok((worker, full.map(|full| full.at.saturating_duration_since(signalled))))
}
