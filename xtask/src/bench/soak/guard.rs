//! What guard promises for the worker behind it: drains that cut no call, reconnects that leave no file open, dispatches of
//! which a stopped worker loses none, signals that a busy worker would swallow.
//!
//! Owns the scenes. Refuses the worker's word: a call ran to its end when probe's own diary says so.

mod crash;

use std::time::Duration;

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
/// Reconnects of one guard; its backoff starts anew with each connection that stood.
const ROW: usize = 100;

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
    let plan = Plan { name: "guard-reconnects", full: 10_000, batch: ROW, lanes: computing_lanes() * 4 };
    plan.carry_out(arguments, |trial| {
        let stub = Stub::auto()?;
        let guard = guarded.serve(&stub, &[])?;
        seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
        // The first brings what stays open for good.
        cut(&stub)?;
        let before = guard.open_fds()?;
        for _ in 0..trial.size {
            cut(&stub)?;
            trial.notes.add("reconnects", 1);
        }
        // A connection that was cut is closed a moment later.
        let deadline = std::time::Instant::now() + PATIENCE;
        while guard.open_fds()? > before && std::time::Instant::now() < deadline {
            rest(Duration::from_millis(50));
        }
        let behind = guard.open_fds()?;
        trial.notes.add("files left open", behind.saturating_sub(before));
        ensure!(behind <= before, "{behind} files are open, {before} were before");
        end_job(&stub, "long")?;
        guard.signal(Signal::SIGTERM)?;
        let exit = guard.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", guard.output());
        Ok(())
    })
}

fn cut(stub: &Stub) -> Result<()> {
    let (mark, connection) = (stub.mark(), stub.registered().context("it is registered")?);
    stub.drop_connection(connection, Cut::Rst)?;
    stub.wait_registered(mark, PATIENCE).map(drop)
}

/// One healthy worker, and others that stand still: every dispatch has its agent.
pub(in crate::bench) fn wedged(arguments: &[String]) -> Result<()> {
    let guarded = Subject::guarded()?;
    let plan = Plan { name: "guard-wedged", full: 1300, batch: 1300, lanes: 1 };
    plan.carry_out(arguments, |trial| {
        // Of 1,300 the last 300 meet six that stand still.
        let many = trial.size * 3 / 13;
        for (stopped, dispatches) in [(1, trial.size - many), (6, many)] {
            let lost = beside_stopped(&guarded, stopped, dispatches)?;
            trial.notes.add("dispatches", dispatches);
            trial.notes.add("dispatches without an agent", lost);
            ensure!(lost == 0, "{lost} of {dispatches} dispatches lost beside {stopped} that stand still");
        }
        Ok(())
    })
}

fn beside_stopped(guarded: &Subject, stopped: usize, dispatches: usize) -> Result<usize> {
    let server = LiveKit::start()?;
    let keys = [
        ("LIVEKIT_API_KEY", server.key()),
        ("LIVEKIT_API_SECRET", server.secret()),
        ("PROBE_AGENT_NAME", "soak"),
    ];
    let start = || -> Result<Running> {
        let guard = guarded.start(&server.url(), &keys)?;
        guard.wait_for_line(|line| line.contains("\"registered"), PATIENCE)?;
        Ok(guard)
    };
    let healthy = start()?;
    let wedged = (0..stopped).map(|_| start()).collect::<Result<Vec<_>>>()?;
    for guard in &wedged {
        for pid in Tree(guard.pid()).pids().into_iter().filter(|pid| *pid != guard.pid()) {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGSTOP).context("the worker runs")?;
        }
    }
    let orders = json!({"sleep": 0.1}).to_string();
    for room in 0..dispatches {
        server.api().create_dispatch(&format!("room-{room}"), "soak", &orders, &[])?;
    }
    let began = healthy.await_started(dispatches);
    let lost = if began.is_ok() { 0 } else { dispatches - healthy.diaries().len().min(dispatches) };
    wedged.iter().for_each(|guard| Tree(guard.pid()).kill());
    Tree(healthy.pid()).kill();
    Ok(lost)
}

/// agents#5856: a busy worker of livekit-agents 1.5.7 swallows SIGTERM; guard in front of it does not.
pub(in crate::bench) fn swallowed(arguments: &[String]) -> Result<()> {
    let guarded = Subject::behind_guard(Peer::Python1_5_7.command()?)?;
    let plan = Plan { name: "guard-5856", full: 200, batch: 1, lanes: 1 };
    plan.carry_out(arguments, |trial| {
        let stub = Stub::auto()?;
        let guard = guarded.serve(&stub, &[("PEER_BUSY", "0.95"), ("PEER_IDLE", "0")])?;
        rest(Duration::from_micros(fastrand::u64(..50_000)));
        let (mark, signalled) = (stub.mark(), std::time::Instant::now());
        guard.signal(Signal::SIGTERM)?;
        let full = seen::first(&stub, mark, PATIENCE, seen::is_full);
        trial.notes.add("signals swallowed", usize::from(full.is_none()));
        let full = full.with_context(|| format!("no WS_FULL:\n{}", guard.output()))?;
        trial.notes.time("SIGTERM → WS_FULL", full.at.saturating_duration_since(signalled));
        let exit = guard.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", guard.output());
        Ok(())
    })
}
