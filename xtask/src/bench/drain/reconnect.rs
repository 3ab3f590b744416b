//! From a lost connection to the next registration: reset, and half open (REG-2).
//!
//! Owns the ways to lose one. Refuses to call the backoff a delay: after a reset it is a random half second by design.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use last_call_testkit::{Cut, Stub};

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{PATIENCE, Subject};
use crate::bench::seen;

const REPLACED: Promise = Promise::max(Duration::from_secs(10));
/// Workers that lose their server at once; they wait, so they disturb each other little.
const HALF_OPEN: usize = 10;

pub(super) fn measure(probe: &Subject, cuts: usize, report: &mut Report) -> Result<()> {
    report.section("connection lost");
    let mut times = Vec::new();
    for _ in 0..cuts {
        // A worker each: the backoff of one grows with every loss in a row.
        let stub = Stub::auto()?;
        let _worker = probe.serve(&stub, &[])?;
        let connection = stub.registered().context("it has registered")?;
        let mark = stub.mark();
        let cut = Instant::now();
        stub.drop_connection(connection, Cut::Rst)?;
        let again = seen::first(&stub, mark, PATIENCE, seen::is_registration)
            .context("no registration after a reset")?;
        times.push(again.at.saturating_duration_since(cut));
    }
    let what = "connection reset → registered again (first backoff: 0 to 0.5 s)";
    report.times(probe.name, what, times.into_iter().collect(), Promise::NONE);

    let replaced = half_open(probe)?;
    report.times(
        probe.name,
        "half-open connection → registered again",
        replaced.into_iter().collect(),
        REPLACED,
    );
    Ok(())
}

/// The server neither reads nor answers any more, and no socket ends.
fn half_open(probe: &Subject) -> Result<Vec<Duration>> {
    let mut served = Vec::new();
    for _ in 0..HALF_OPEN {
        let stub = Stub::auto()?;
        let worker = probe.serve(&stub, &[])?;
        served.push((stub, worker));
    }
    let mut frozen = Vec::new();
    for (stub, _) in &served {
        let connection = stub.registered().context("it has registered")?;
        let (mark, at) = (stub.mark(), Instant::now());
        stub.stop_pongs();
        stub.freeze(connection)?;
        frozen.push((stub, mark, at));
    }
    let again = frozen.into_iter().map(|(stub, mark, at)| {
        let again = seen::first(stub, mark, PATIENCE, seen::is_registration);
        Ok(again.context("a half-open connection was not replaced")?.at.saturating_duration_since(at))
    });
    again.collect()
}
