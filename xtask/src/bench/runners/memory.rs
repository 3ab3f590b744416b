//! What a process takes that waits for a job, and what it takes with one.
//!
//! Owns the two looks at the same ten processes. Refuses resident memory: every process has the pages of the program, which
//! are there once. Private pages are what one more process costs; PSS adds its share of the others.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::contestant::Contestant;
use super::stage::Stage;
use crate::bench::report::Report;
use crate::bench::tree::Memory;

/// Processes that are looked at.
pub(super) const PROCESSES: usize = 10;
const IDLE_MIB: f64 = 2.0;
const RUNNING_MIB: f64 = 3.0;

pub(super) fn measure(contestant: &Contestant, report: &mut Report) -> Result<()> {
    let mut stage = Stage::set(contestant, PROCESSES)?;
    let idle = stage.tree().memory();
    let ran = stage.run(PROCESSES, true)?;
    stage.rest()?;
    let running = stage.tree().memory();
    let pids: Vec<u32> = ran.starts.iter().map(|start| start.pid).collect();
    ensure!(
        pids.iter().all(|pid| idle.contains_key(pid) && running.contains_key(pid)),
        "the jobs ran in {pids:?}, and not in the processes that were warm: {:?}",
        idle.keys()
    );
    let name = contestant.subject.name;
    let whole: u64 = idle.values().map(|memory| memory.pss).sum();
    for (state, looks, limit) in [("idle warm", idle, IDLE_MIB), ("running a job", running, RUNNING_MIB)] {
        let limit = contestant.ours.then_some(limit);
        let private = largest(&looks, &pids, |memory| memory.private)?;
        let what = format!("process {state}, over the shared pages (private; the largest of {PROCESSES})");
        report.size(name, &what, private, "MiB", limit);
        let pss = largest(&looks, &pids, |memory| memory.pss)?;
        report.size(name, &format!("process {state}, PSS (the largest of {PROCESSES})"), pss, "MiB", None);
    }
    report.size(
        name,
        &format!("the worker with {PROCESSES} idle processes, PSS of all"),
        mib(whole),
        "MiB",
        None,
    );
    Ok(())
}

fn largest(looks: &BTreeMap<u32, Memory>, pids: &[u32], of: fn(&Memory) -> u64) -> Result<f64> {
    let largest = pids.iter().filter_map(|pid| looks.get(pid)).map(of).max();
    largest.map(mib).context("no process was looked at")
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
