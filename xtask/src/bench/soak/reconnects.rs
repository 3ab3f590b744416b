//! Reconnects of draining workers under offers (REG-1, DRAIN-2): each new connection says WS_FULL in the same write, and nothing is accepted.
//!
//! Owns the cuts. Refuses long rows of them: a worker's backoff grows with each, and each row is a new worker.

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::{Cut, Event, Signal, Stub};
use serde_json::json;

use super::signals::register_and_full;
use super::{Plan, Trial, computing_lanes};
use crate::bench::drain::end_job;
use crate::bench::rig::PATIENCE;
use crate::bench::seen;

/// Reconnects of one worker.
const ROW: usize = 5;
/// Answers awaited on each connection before it is cut.
const ANSWERS: usize = 10;

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    // Workers that wait for their backoff most of the time.
    let plan = Plan { name: "reconnects", full: 1000, batch: ROW, lanes: computing_lanes() * 2 };
    plan.carry_out(arguments, |trial| row(trial).with_context(|| format!("row {}", trial.turn)))
}

fn row(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
    let storm = stub.storm(1000, u64::MAX);
    let mark = stub.mark();
    worker.signal(Signal::SIGTERM)?;
    let full = seen::first(&stub, mark, PATIENCE, seen::is_full).context("no WS_FULL")?;
    for _ in 0..trial.size {
        let connection = stub.registered().context("it is registered")?;
        let mark = stub.mark();
        stub.drop_connection(connection, Cut::Rst)?;
        let mark = register_and_full(&stub, mark)?;
        await_answers(&stub, mark)?;
        trial.notes.add("reconnects", 1);
    }
    storm.stop();
    let events = stub.events_after(full.mark);
    let accepted = events.iter().filter(|event| seen::is_acceptance(event)).count();
    trial
        .notes
        .add("offers declined", events.iter().filter(|event| seen::is_answer(event)).count() - accepted);
    trial.notes.add("accepted behind WS_FULL", accepted);
    end_job(&stub, "long")?;
    let exit = worker.end()?;
    ensure!(accepted == 0, "{accepted} offers accepted behind WS_FULL");
    ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", worker.output());
    Ok(())
}

fn await_answers(stub: &Stub, mark: usize) -> Result<()> {
    let mut answers = 0;
    let enough = |event: &Event| {
        answers += usize::from(seen::is_answer(event));
        (answers >= ANSWERS).then_some(())
    };
    stub.wait_for_after(mark, enough, PATIENCE).context("offers are not answered after a reconnect")
}
