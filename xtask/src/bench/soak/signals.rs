//! SIGTERM in every state (DRAIN-1): connecting, registering, registered, reconnecting, user code blocked, amid offers.
//!
//! Owns the states. Refuses an exit alone as proof where the worker is registered: WS_FULL must have come.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::{Cut, Event, Options, Signal, Stub, What};
use serde_json::json;

use super::{Plan, Trial, computing_lanes};
use crate::bench::drain::end_job;
use crate::bench::rig::{PATIENCE, Running, rest};
use crate::bench::seen;

type State = fn(&Trial<'_>) -> Result<()>;

const STATES: [(&str, State); 6] = [
    ("connecting", connecting),
    ("registering", registering),
    ("registered", registered),
    ("reconnecting", reconnecting),
    ("user code blocked", blocked),
    ("amid offers", amid_offers),
];

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    let plan = Plan { name: "signals", full: 10_000, batch: 1, lanes: computing_lanes() };
    plan.carry_out(arguments, |trial| {
        let (name, state) = STATES[trial.turn % STATES.len()];
        trial.notes.add(name, 1);
        state(trial).with_context(|| format!("trial {}, {name}", trial.turn))
    })
}

/// Up to 50 ms, to meet the worker at another moment each time.
fn moment() {
    rest(Duration::from_micros(fastrand::u64(..50_000)));
}

fn leaves(worker: &Running) -> Result<()> {
    let exit = worker.end()?;
    ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", worker.output());
    Ok(())
}

/// Signals, and requires WS_FULL and an exit with 0.
fn full_and_out(trial: &Trial<'_>, stub: &Stub, worker: &Running, what: &'static str) -> Result<usize> {
    let (mark, signalled) = (stub.mark(), Instant::now());
    worker.signal(Signal::SIGTERM)?;
    let full = seen::first(stub, mark, PATIENCE, is_drain);
    let full = full.with_context(|| format!("no WS_FULL with draining:\n{}", worker.output()))?;
    trial.notes.time(what, full.at.saturating_duration_since(signalled));
    leaves(worker)?;
    Ok(full.mark)
}

/// WS_FULL of a drain, not of a load.
fn is_drain(event: &Event) -> bool {
    matches!(event.message(), Some(FromWorker::UpdateWorker(status)) if status.draining)
        && seen::is_full(event)
}

fn connecting(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    stub.hang_upgrade();
    let worker = trial.subject.start(&stub.url(), &[])?;
    let hung = |event: &Event| matches!(event.what, What::Hung(_));
    seen::first(&stub, 0, PATIENCE, hung).context("it does not connect")?;
    moment();
    worker.signal(Signal::SIGTERM)?;
    leaves(&worker)?;
    ensure!(!stub.events().iter().any(seen::is_registration), "it registered");
    Ok(())
}

fn registering(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::start(Options { register: false, ..Options::auto() })?;
    let worker = trial.subject.start(&stub.url(), &[])?;
    seen::first(&stub, 0, PATIENCE, seen::is_registration).context("it does not register")?;
    moment();
    worker.signal(Signal::SIGTERM)?;
    leaves(&worker)
}

fn registered(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    moment();
    full_and_out(trial, &stub, &worker, "SIGTERM → WS_FULL, registered").map(drop)
}

fn blocked(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[("PROBE_BUSY", "block")])?;
    moment();
    full_and_out(trial, &stub, &worker, "SIGTERM → WS_FULL, user code blocked").map(drop)
}

fn amid_offers(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    let storm = stub.storm(1000, u64::MAX);
    moment();
    let full = full_and_out(trial, &stub, &worker, "SIGTERM → WS_FULL, amid offers")?;
    storm.stop();
    let late = stub.events_after(full).iter().filter(|event| seen::is_acceptance(event)).count();
    ensure!(late == 0, "{late} offers accepted after WS_FULL");
    Ok(())
}

/// With a running call, so that it has to come back.
fn reconnecting(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
    let connection = stub.registered().context("it has registered")?;
    stub.refuse(503);
    stub.drop_connection(connection, Cut::Rst)?;
    let mark = stub.mark();
    moment();
    worker.signal(Signal::SIGTERM)?;
    moment();
    stub.accept();
    register_and_full(&stub, mark).with_context(|| worker.output())?;
    end_job(&stub, "long")?;
    leaves(&worker)
}

/// Requires that the next registration and WS_FULL come in one read; the number of events with them.
pub(super) fn register_and_full(stub: &Stub, mark: usize) -> Result<usize> {
    let mut next = mark;
    let mut registration = None;
    let both = |event: &Event| {
        next += 1;
        match registration {
            None if seen::is_registration(event) => {
                registration = Some((event.connection, seen::read_of(event)))
            }
            Some((connection, read)) if event.connection == connection && event.message().is_some() => {
                return Some((is_drain(event) && seen::read_of(event) == read, next));
            }
            _ => {}
        }
        None
    };
    let (together, mark) = stub.wait_for_after(mark, both, PATIENCE)?;
    ensure!(together, "WS_FULL did not come with the registration");
    Ok(mark)
}
