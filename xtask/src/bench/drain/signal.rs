//! From the signal to WS_FULL at the server (DRAIN-2), and around it: start to registration, signal to exit.
//!
//! Owns the scenes in which the signal meets a worker. Refuses to subtract anything: the clock starts before kill(2) and stops when the
//! stub, on the same busy machine, has read the frame.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use last_call_testkit::{Histogram, Signal, Spinners, Stub};

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{PATIENCE, Subject, rest};
use crate::bench::seen;

const TO_FULL: Promise = Promise::p99_and_max(Duration::from_millis(10), Duration::from_millis(100));
const TO_REGISTER: Promise = Promise::max(Duration::from_millis(100));
const TO_EXIT: Promise = Promise::max(Duration::from_millis(250));

/// What goes on when the signal comes.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    pub(super) what: &'static str,
    /// Every core has twice its work.
    pub(super) busy_cores: bool,
    /// PROBE_BUSY.
    pub(super) busy: Option<&'static str>,
    /// Offers a second, which are accepted and run.
    pub(super) storm: u32,
}

pub(super) const IDLE: Scene = Scene { what: "idle", busy_cores: false, busy: None, storm: 0 };

const SCENES: [Scene; 3] = [
    IDLE,
    Scene {
        what: "all cores busy, user code blocked for ever",
        busy_cores: true,
        busy: Some("block"),
        storm: 0,
    },
    Scene { what: "all cores busy, 1,000 offers/s", busy_cores: true, busy: None, storm: 1000 },
];

/// The times of one worker's life.
pub(super) struct Epoch {
    pub(super) start_to_register: Duration,
    pub(super) start_to_available: Duration,
    pub(super) to_full: Option<Duration>,
    pub(super) to_exit: Duration,
}

/// Starts a worker and ends it by SIGTERM.
///
/// # Errors
/// When it does not become available, or does not exit.
pub(super) fn epoch(subject: &Subject, scene: Scene, turn: usize) -> Result<Epoch> {
    let stub = Stub::auto()?;
    let busy = scene.busy.map(|busy| ("PROBE_BUSY", busy));
    let worker = subject.serve(&stub, busy.as_slice())?;
    let first = |wanted: fn(&_) -> bool| seen::first(&stub, 0, PATIENCE, wanted).context("seen before");
    let (register, available) = (first(seen::is_registration)?, first(seen::is_available)?);
    let storm = (scene.storm > 0).then(|| stub.storm(scene.storm, u64::MAX));
    // Another moment of the worker's own rhythm each time.
    rest(Duration::from_millis(60 + 13 * (turn as u64 % 16)));
    let mark = stub.mark();
    let signalled = Instant::now();
    worker.signal(Signal::SIGTERM)?;
    let full = seen::first(&stub, mark, PATIENCE, seen::is_full);
    if let Some(storm) = storm {
        storm.stop();
    }
    let exit = worker.end()?;
    Ok(Epoch {
        start_to_register: register.at - worker.started(),
        start_to_available: available.at - worker.started(),
        to_full: full.map(|full| full.at.saturating_duration_since(signalled)),
        to_exit: exit.at.saturating_duration_since(signalled),
    })
}

/// `count` epochs of one scene.
///
/// # Errors
/// As [`epoch`].
pub(super) fn epochs(subject: &Subject, scene: Scene, count: usize) -> Result<Vec<Epoch>> {
    let spinners = scene.busy_cores.then(Spinners::all_cores).transpose()?;
    let epochs = (0..count).map(|turn| epoch(subject, scene, turn)).collect();
    drop(spinners);
    epochs
}

/// How long a thread that the clock wakes waits for a core meanwhile. A signal's way to WS_FULL at the stub is two such waits in a row, the
/// second of which is the stub's own.
fn wake_ups(count: usize) -> Result<Histogram> {
    let _spinners = Spinners::all_cores()?;
    let late = (0..count).map(|turn| {
        let due = Instant::now() + Duration::from_millis(60 + 13 * (turn as u64 % 16));
        rest(due.saturating_duration_since(Instant::now()));
        due.elapsed()
    });
    Ok(late.collect())
}

pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    for scene in SCENES {
        report.section(&format!("signal, {}", scene.what));
        let epochs = epochs(probe, scene, count)?;
        if scene.busy_cores {
            let what = "a thread wakes up, all cores busy";
            report.times("yardstick, no worker", what, wake_ups(count)?, Promise::NONE);
        }
        let to_full = epochs.iter().filter_map(|epoch| epoch.to_full).collect();
        report.times(probe.name, &format!("SIGTERM → WS_FULL, {}", scene.what), to_full, TO_FULL);
        let missed = epochs.iter().filter(|epoch| epoch.to_full.is_none()).count();
        report.none(probe.name, &format!("signals without WS_FULL, {}", scene.what), missed, count);
        if !scene.busy_cores {
            let times = |time: fn(&Epoch) -> Duration| epochs.iter().map(time).collect();
            report.times(
                probe.name,
                "SIGTERM → exit without a job, idle",
                times(|epoch| epoch.to_exit),
                TO_EXIT,
            );
            let register = times(|epoch| epoch.start_to_register);
            report.times(probe.name, "start → Register at the server", register, TO_REGISTER);
            let available = times(|epoch| epoch.start_to_available);
            report.times(probe.name, "start → registered and available", available, TO_REGISTER);
        }
    }
    Ok(())
}
