//! Drains with random jobs (DRAIN-4, DRAIN-5, DRAIN-9): each runs to its own end, each end is reported, the worker leaves with 0.
//!
//! Owns the dice. Refuses luck: a drain's jobs follow from its number.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Signal, Stub};
use serde_json::{Value, json};

use super::{Plan, Trial, computing_lanes};
use crate::bench::rig::{Running, on_the_wall, rest};
use crate::bench::seen;

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    let plan = Plan { name: "drains", full: 1000, batch: 1, lanes: computing_lanes() };
    plan.carry_out(arguments, |trial| drain(trial).with_context(|| format!("drain {}", trial.turn)))
}

fn drain(trial: &Trial<'_>) -> Result<()> {
    let mut dice = fastrand::Rng::with_seed(trial.turn as u64);
    let jobs: Vec<_> =
        (0..dice.usize(1..=10)).map(|number| (format!("job-{number}"), orders(&mut dice))).collect();
    let stub = Stub::auto()?;
    let worker = trial.subject.serve(&stub, &[])?;
    seen::run_jobs(&stub, &jobs)?;
    rest(Duration::from_millis(dice.u64(..100)));
    for _ in 0..dice.usize(1..=3) {
        worker.signal(Signal::SIGTERM)?;
        rest(Duration::from_millis(dice.u64(..30)));
    }
    let exit = worker.end()?;
    ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", worker.output());

    let mut reported: BTreeMap<String, Vec<JobStatus>> = BTreeMap::new();
    for event in stub.events() {
        if let Some((job, status)) = seen::end_of_job(&event) {
            reported.entry(job.to_owned()).or_default().push(status);
        }
    }
    let expected = jobs.iter().map(|(job, orders)| (job.clone(), vec![end_of(orders)])).collect();
    ensure!(reported == expected, "reported: {reported:?}, expected: {expected:?}\n{}", worker.output());
    let ended = ends(&worker);
    ensure!(ended.len() == jobs.len(), "{} of {} jobs came to their own end", ended.len(), jobs.len());
    trial.notes.add("jobs", jobs.len());
    if let Some(last) = ended.into_iter().max() {
        let to_exit = on_the_wall(exit.at).duration_since(last).unwrap_or_default();
        trial.notes.time("last job's end → exit", to_exit);
    }
    Ok(())
}

/// A job of 0.25 to 0.75 s, so that the signal meets it; one in ten returns an error, one in twenty panics.
fn orders(dice: &mut fastrand::Rng) -> Value {
    let sleep = 0.25 + dice.f64() * 0.5;
    match dice.u8(..20) {
        0 | 1 => json!({"sleep": sleep, "raise": true}),
        2 => json!({"sleep": sleep, "panic": true}),
        _ => json!({"sleep": sleep}),
    }
}

fn end_of(orders: &Value) -> JobStatus {
    let fails = orders.get("raise").or(orders.get("panic")).is_some();
    if fails { JobStatus::JsFailed } else { JobStatus::JsSuccess }
}

/// When each job wrote that it had come to its own end.
fn ends(worker: &Running) -> Vec<std::time::SystemTime> {
    let lines = worker.diaries().into_iter().flatten();
    lines.filter(|(event, _)| event == "finished" || event == "raised").map(|(_, at)| at).collect()
}
