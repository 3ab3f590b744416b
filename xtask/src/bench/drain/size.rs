//! What a worker takes: memory, threads, file descriptors, idle and with a thousand waiting jobs.
//!
//! Owns the moments at which it is looked at. Refuses shared memory arithmetic: it is one process, so resident memory is all there is.

use std::time::Duration;

use anyhow::Result;
use last_call_testkit::Stub;
use serde_json::json;

use crate::bench::report::Report;
use crate::bench::rig::{Subject, rest};
use crate::bench::seen;

const JOBS: u32 = 1000;
const IDLE_MIB: f64 = 15.0;
const JOB_KIB: f64 = 64.0;
/// A few rounds of the worker's own timers.
const SETTLE: Duration = Duration::from_secs(6);

pub(super) fn measure(probe: &Subject, report: &mut Report) -> Result<()> {
    report.section("size");
    let stub = Stub::auto()?;
    // Without diaries: a file descriptor a job is the probe's, not the framework's.
    let worker = probe.serve(&stub, &[("PROBE_JOB_DIR", "")])?;
    rest(SETTLE);
    let idle = worker.rss_kib()?;
    report.size(probe.name, "resident memory, idle", mib(idle), "MiB", Some(IDLE_MIB));
    report.size(probe.name, "threads", worker.threads()? as f64, "", None);
    report.size(probe.name, "file descriptors, idle", worker.open_fds()? as f64, "", None);
    let jobs: Vec<_> = (0..JOBS).map(|number| (format!("wait-{number}"), json!({"sleep": 3600}))).collect();
    seen::run_jobs(&stub, &jobs)?;
    rest(SETTLE);
    let full = worker.rss_kib()?;
    let each = full.saturating_sub(idle) as f64 / f64::from(JOBS);
    report.size(probe.name, "resident memory for each of 1,000 waiting jobs", each, "KiB", Some(JOB_KIB));
    report.size(probe.name, "resident memory with 1,000 waiting jobs", mib(full), "MiB", None);
    report.size(probe.name, "file descriptors with 1,000 waiting jobs", worker.open_fds()? as f64, "", None);
    Ok(())
}

pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
