//! The same questions to livekit-agents, the framework that most workers run on.
//!
//! Owns what is asked of both. Refuses to make it fail a run: its counts are shown.

use std::time::Duration;

use anyhow::Result;
use last_call_testkit::Stub;

use super::signal::{self, IDLE, Scene};
use super::{exit, size};
use crate::bench::report::{Promise, Report};
use crate::bench::rig::{Subject, rest};
use crate::bench::tree::Tree;
use crate::setup::peers;
use crate::workspace;

const BUSY: Scene =
    Scene { what: "user code in slices of 10 ms", busy_cores: false, busy: Some("1"), storm: 0 };
/// Its spare process and its preloaded one are there by then.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    let script = workspace::root().join("bench/peers/python_worker.py");
    let python = Subject::peer(peers::PYTHON, peers::python()?, vec![script.into(), "start".into()]);
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
        let pss = Tree(worker.pid()).memory().values().map(|memory| memory.pss).sum();
        let what = "side by side: memory of the whole tree, idle";
        report.size(subject.name, what, size::mib(pss), "MiB", None);
    }
    Ok(())
}
