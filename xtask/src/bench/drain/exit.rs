//! From the last job's end to the process's (DRAIN-5).
//!
//! Owns the drains with jobs. Refuses jobs that end together: the last one must be the last.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use last_call_testkit::{Job, Signal, Stub};
use serde_json::json;

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{Running, Subject, on_the_wall};
use crate::bench::seen;

const TO_EXIT: Promise = Promise::max(Duration::from_millis(250));

pub(super) struct Exits {
    /// From the last report at the server.
    pub(super) after_report: Vec<Duration>,
    /// From the last job's own word that it has ended.
    pub(super) after_end: Vec<Duration>,
    pub(super) reports_missing: usize,
}

pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    report.section("exit after the last of three jobs");
    let Exits { after_report, after_end, reports_missing } = drains(probe, count, 0.1)?;
    report.times(probe.name, "last job's end → exit", after_end.into_iter().collect(), TO_EXIT);
    report.times(probe.name, "last report at the server → exit", after_report.into_iter().collect(), TO_EXIT);
    report.none(probe.name, "jobs whose end was not reported", reports_missing, count * 3);
    Ok(())
}

/// Drains with three jobs, the shortest of which runs `shortest` seconds.
pub(super) fn drains(subject: &Subject, count: usize, shortest: f64) -> Result<Exits> {
    let mut exits = Exits { after_report: Vec::new(), after_end: Vec::new(), reports_missing: 0 };
    for _ in 0..count {
        let stub = Stub::auto()?;
        let worker = subject.serve(&stub, &[])?;
        let job = |number: u32| (format!("job-{number}"), json!({"sleep": shortest * f64::from(number)}));
        // One after the other, since a peer declines some of several at once; by what the jobs write, since it does not report that one runs.
        for (started, (id, orders)) in (1..).zip([3, 1, 2].map(job)) {
            stub.offer(Job::new(id).metadata(&orders.to_string()))?;
            worker.await_started(started)?;
        }
        worker.signal(Signal::SIGTERM)?;
        let exit = worker.end()?;
        let ends: Vec<_> =
            stub.events().iter().filter(|event| seen::end_of_job(event).is_some()).map(|e| e.at).collect();
        exits.reports_missing += 3_usize.saturating_sub(ends.len());
        let last = ends.last().context("no job's end was reported")?;
        exits.after_report.push(exit.at.saturating_duration_since(*last));
        if let Some(ended) = last_end(&worker) {
            exits.after_end.push(on_the_wall(exit.at).duration_since(ended).unwrap_or_default());
        }
    }
    Ok(exits)
}

fn last_end(worker: &Running) -> Option<SystemTime> {
    let lines = worker.diaries().into_iter().flatten();
    lines.filter(|(event, _)| event == "finished").map(|(_, at)| at).max()
}
