//! The same questions to livekit-agents, the framework that most workers run on.
//!
//! Owns its environment, apart from that of the tests: the two need other versions of LiveKit's packages. Refuses to make it fail a run: its
//! counts are shown.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use last_call_testkit::Stub;

use super::signal::{self, IDLE, Scene};
use super::{exit, size};
use crate::bench::report::{Promise, Report};
use crate::bench::rig::{Subject, rest};
use crate::cache::Cache;
use crate::{step, workspace};

const PACKAGE: &str = "livekit-agents==1.8.9";
const NAME: &str = "livekit-agents 1.8.9";
const BUSY: Scene =
    Scene { what: "user code in slices of 10 ms", busy_cores: false, busy: Some("1"), storm: 0 };
/// Its spare process and its preloaded one are there by then.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    let script = workspace::root().join("bench/peers/python_worker.py");
    let python = Subject::peer(NAME, environment()?, vec![script.into(), "start".into()]);
    report.section("side by side");
    for subject in [probe, &python] {
        for scene in [IDLE, BUSY] {
            let epochs = signal::epochs(subject, scene, count)?;
            let to_full = epochs.iter().filter_map(|epoch| epoch.to_full);
            let what = format!("side by side: SIGTERM → WS_FULL, {}", scene.what);
            report.times(subject.name, &what, to_full.collect(), Promise::NONE);
            let missed = epochs.iter().filter(|epoch| epoch.to_full.is_none()).count();
            report.count(subject.name, &format!("{what}: missed"), missed, count, false);
            if scene.busy.is_none() {
                let available = epochs.iter().map(|epoch| epoch.start_to_available);
                report.times(
                    subject.name,
                    "side by side: start → available",
                    available.collect(),
                    Promise::NONE,
                );
            }
        }
        let exits = exit::drains(subject, count, 1.0)?;
        let after = exits.after_report.into_iter().collect();
        report.times(subject.name, "side by side: last report at the server → exit", after, Promise::NONE);
        let stub = Stub::auto()?;
        let worker = subject.serve(&stub, &[])?;
        rest(SETTLE);
        report.size(
            subject.name,
            "side by side: memory of the whole tree, idle",
            size::mib(tree_kib(worker.pid())),
            "MiB",
            None,
        );
    }
    Ok(())
}

/// The interpreter of the peer's environment, which is made where it is missing.
fn environment() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let place = cache.path("peer-livekit-agents-1.8.9");
    let interpreter = place.join("bin/python");
    let stamp = place.join("complete");
    if !stamp.exists() {
        let mut make = Command::new("python3");
        step::run("environment of livekit-agents", make.args(["-m", "venv", "--clear"]).arg(&place))?;
        let mut fill = Command::new(&interpreter);
        fill.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", PACKAGE]);
        step::run(PACKAGE, &mut fill)?;
        // Written last: an environment without it is made again.
        std::fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(interpreter)
}

/// The proportional memory of a process and all below it, so that what they share counts once. Ended ones count nothing.
fn tree_kib(pid: u32) -> u64 {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let own = read(format!("/proc/{pid}/smaps_rollup"));
    let own = own.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.map(|thread| read(thread.path().join("children").to_string_lossy().into_owned()));
    let below = children
        .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
    own.unwrap_or(0) + below.map(tree_kib).sum::<u64>()
}
