//! Offers before, at and after the signal (DRAIN-3): none accepted behind WS_FULL, none unanswered.
//!
//! Owns the storms. Refuses clocks: what counts is the order on the wire.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::{Signal, Stub};
use serde_json::json;

use super::{Plan, Trial};
use crate::bench::drain::end_job;
use crate::bench::rig::{PATIENCE, rest};
use crate::bench::seen;

const RATE: u32 = 5000;

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    let plan = Plan { name: "offers", full: 100_000, batch: 5000, lanes: 1 };
    plan.carry_out(arguments, drain)
}

fn drain(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
    let around = stub.storm(RATE, u64::MAX);
    rest(Duration::from_millis(fastrand::u64(20..120)));
    let mark = stub.mark();
    worker.signal(Signal::SIGTERM)?;
    let full = seen::first(&stub, mark, PATIENCE, seen::is_full).context("no WS_FULL")?;
    around.stop();
    let around = around.finish(PATIENCE, PATIENCE)?;
    let inside = stub.storm(RATE, trial.size as u64).finish(PATIENCE, PATIENCE)?;
    end_job(&stub, "long")?;
    let exit = worker.end()?;
    let late = stub.events_after(full.mark).iter().filter(|event| seen::is_acceptance(event)).count();
    trial.notes.add("offers in the drain", inside.offered);
    trial.notes.add("offers around the signal", around.offered);
    trial.notes.add("accepted behind WS_FULL", late);
    for tally in [&around, &inside] {
        trial.notes.add("unanswered", tally.unanswered);
        trial.notes.add("answered twice", tally.repeated);
        trial.notes.add("declined with terminate", tally.terminated);
        ensure!(tally.unanswered + tally.repeated + tally.terminated == 0, "round {}: {tally}", trial.turn);
    }
    trial.notes.time("99 of 100 offers in a drain answered, by round", inside.latencies.p99());
    trial.notes.time("slowest answer in a drain, by round", inside.latencies.max());
    ensure!(late == 0, "round {}: {late} offers accepted behind WS_FULL", trial.turn);
    ensure!(exit.code == Some(0), "round {}: it left with {exit:?}", trial.turn);
    Ok(())
}
