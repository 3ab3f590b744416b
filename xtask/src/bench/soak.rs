//! `cargo xtask soak`: each promise that is a number of trials, at its full number.
//!
//! Owns the repetition: lanes side by side, progress with the time that is left, one result. Refuses to stop at the first failure: how many
//! of how many is the result.

mod drains;
mod guard;
mod offers;
mod orphans;
mod processes;
mod reconnects;
mod signals;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use last_call_testkit::{Histogram, Machine};
use serde::Serialize;

use super::report::{Figure, Promise};
use super::rig::Subject;
use super::{plot, results};
use crate::say;

pub(super) use drains::run as drains;
pub(super) use guard::{
    crash as guard_crash, drains as guard_drains, reconnects as guard_reconnects, swallowed as guard_5856,
    wedged as guard_wedged,
};
pub(super) use offers::run as offers;
pub(super) use orphans::run as orphans;
pub(super) use processes::run as processes;
pub(super) use reconnects::run as reconnects;
pub(super) use signals::run as signals;

/// The time between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Failures whose text is kept.
const SHOWN: usize = 20;

/// Repeats the trial, and fails if any trial did. The result of the promise's full number is kept as
/// `bench/results/soak-NAME.json` and drawn as `bench/results/soak-NAME.svg`.
#[derive(Parser)]
#[command(name = "cargo xtask soak <name>", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// Trials; the number of the promise where it is left out.
    #[arg(long)]
    count: Option<usize>,
}

/// How a soak is run.
struct Plan {
    name: &'static str,
    /// Trials of the promise.
    full: usize,
    /// Trials that one call of the trial's function makes.
    batch: usize,
    /// Calls side by side.
    lanes: usize,
}

/// What one call has to do, and where it notes what it finds.
struct Trial<'a> {
    subject: &'a Subject,
    /// Counts the calls, from 0.
    turn: usize,
    /// Trials to make in this call.
    size: usize,
    notes: &'a Notes,
}

/// What the trials have found.
#[derive(Default)]
struct Notes(Mutex<Found>);

#[derive(Default)]
struct Found {
    done: usize,
    counts: BTreeMap<&'static str, usize>,
    times: BTreeMap<&'static str, Vec<Duration>>,
    failures: Vec<String>,
    said: Option<Instant>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, what: &'static str, count: usize) {
        *self.lock().counts.entry(what).or_default() += count;
    }

    fn time(&self, what: &'static str, time: Duration) {
        self.lock().times.entry(what).or_default().push(time);
    }
}

/// A soak's result, as it is kept.
#[derive(Serialize)]
struct Kept {
    soak: &'static str,
    machine: Machine,
    seconds: u64,
    trials: usize,
    full_number: usize,
    failed: usize,
    first_failures: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    times: BTreeMap<&'static str, Histogram>,
}

impl Plan {
    /// Makes the trials, and keeps and judges the result.
    ///
    /// # Errors
    /// When probe cannot be built, the result cannot be kept, or any trial failed.
    fn carry_out(&self, arguments: &[String], trial: impl Fn(&Trial<'_>) -> Result<()> + Sync) -> Result<()> {
        let arguments = Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
        self.repeat(arguments.count.unwrap_or(self.full), trial)
    }

    /// As [`Plan::carry_out`], so often.
    ///
    /// # Errors
    /// As there.
    fn repeat(&self, count: usize, trial: impl Fn(&Trial<'_>) -> Result<()> + Sync) -> Result<()> {
        let subject = Subject::probe()?;
        let (machine, began, notes) = (Machine::this(), Instant::now(), Notes::default());
        say::progress(format_args!("    {machine}"));
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.lanes {
                scope.spawn(|| {
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        let Some(left) = count.checked_sub(turn * self.batch).filter(|left| *left > 0) else {
                            return;
                        };
                        let size = left.min(self.batch);
                        let done = trial(&Trial { subject: &subject, turn, size, notes: &notes });
                        ended(&notes, size, done, count, began);
                    }
                });
            }
        });
        let Found { counts, times, failures, .. } =
            notes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let times = times.into_iter().map(|(what, times)| (what, times.into_iter().collect())).collect();
        let kept = Kept {
            soak: self.name,
            machine,
            seconds: began.elapsed().as_secs(),
            trials: count,
            full_number: self.full,
            failed: failures.len(),
            first_failures: failures.into_iter().take(SHOWN).collect(),
            counts,
            times,
        };
        say_result(&kept);
        if count >= self.full {
            results::keep(&format!("soak-{}", self.name), &kept)?;
            results::keep_text(&format!("soak-{}.svg", self.name), &picture(&kept))?;
        }
        ensure!(kept.failed == 0, "{} trials failed, of {count} in all", kept.failed);
        Ok(())
    }
}

/// Notes the end of one call, and says how far the soak is.
fn ended(notes: &Notes, size: usize, done: Result<()>, count: usize, began: Instant) {
    let mut found = notes.lock();
    found.done += size;
    if let Err(error) = done {
        say::progress(format_args!("    FAILED: {error:#}"));
        found.failures.push(format!("{error:#}"));
    }
    let due = found.said.is_none_or(|said| said.elapsed() > SAY_EVERY);
    if due || found.done == count {
        found.said = Some(Instant::now());
        let left = began.elapsed().mul_f64((count - found.done) as f64 / found.done as f64);
        let (done, failed) = (found.done, found.failures.len());
        say::progress(format_args!("    {done} of {count}, {failed} failed, {} s left", left.as_secs()));
    }
}

/// What failed and what was counted as the title, and every time as a row.
fn picture(kept: &Kept) -> String {
    let Kept { soak, trials, failed, counts, times, .. } = kept;
    let counts = counts.iter().map(|(what, count)| format!("; {what}: {count}")).collect::<String>();
    let figures = times.iter().map(|(what, times)| Figure {
        subject: "last-call",
        what: (*what).to_owned(),
        times: times.clone(),
        promise: Promise::NONE,
        kept: None,
    });
    plot::draw(
        &format!("Soak {soak}: {failed} failed of {trials} trials{counts}"),
        &figures.collect::<Vec<_>>(),
    )
}

fn say_result(kept: &Kept) {
    let Kept { soak, seconds, trials, full_number, failed, counts, times, .. } = kept;
    say::result(format_args!(
        "{soak}: {failed} failed of {trials} trials (of {full_number} promised) in {seconds} s"
    ));
    for (what, count) in counts {
        say::result(format_args!("    {what}: {count}"));
    }
    for (what, times) in times {
        say::result(format_args!("    {what}:"));
        for line in format!("{times} max={:.1?}", times.max()).lines() {
            say::result(format_args!("        {line}"));
        }
    }
}

/// Lanes for trials that mostly compute.
fn computing_lanes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * 2
}
