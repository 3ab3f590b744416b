//! `cargo xtask bench guard`: what guard costs: the time that it adds to an offer and to a start, its memory, its size.
//!
//! Owns the scenes. Refuses to compare runs: the worker alone and the one behind guard take turns at the same moment.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use last_call_testkit::processes::children;
use last_call_testkit::{Event, Job, Signal, Stub, What};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use super::report::{Promise, Report};
use super::rig::{PATIENCE, Running, Subject, rest};
use super::tree::Tree;
use super::{plot, results, seen};

const NAME: &str = "last-call guard";
const ADDED: Promise = Promise::p99(Duration::from_millis(1));
const TO_CHILD: Promise = Promise::max(Duration::from_millis(20));
const TO_FULL: Promise = Promise::p99(Duration::from_millis(10));
const IDLE_MIB: f64 = 15.0;
const RUNNING_MIB: f64 = 25.0;
const BINARY_MIB: f64 = 12.0;
const JOBS: usize = 100;

/// Measures guard in front of probe: added offer latency, start, memory, the size of the program, signal to WS_FULL with a
/// worker that stands still.
///
/// Times and sizes are compared with their promises and marked ✓ or ✗. The results are kept as bench/results/guard.json and
/// drawn as bench/results/guard.svg, unless the run is quick.
#[derive(Parser)]
#[command(name = "cargo xtask bench guard", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// A tenth of the repetitions, and nothing is kept.
    #[arg(long)]
    quick: bool,
}

/// Runs every section.
///
/// # Errors
/// When a program cannot be built or started, or does something that is no matter of time.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let Arguments { quick } = Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let (offers, starts) = if quick { (200, 5) } else { (2000, 50) };
    let probe = Subject::probe()?;
    let guarded = Subject::guarded()?;
    let mut report = Report::begin();
    report.section("offers");
    latency(&probe, &guarded, offers, &mut report)?;
    report.section("start and signal");
    start_and_signal(&guarded, starts, &mut report)?;
    report.section("size");
    size(&guarded, &mut report)?;
    report.end();
    if !quick {
        results::keep("guard", &report)?;
        results::keep_text("guard.svg", &plot::draw("Last Call: guard in figures", &report.figures))?;
    }
    report.verdict()
}

/// Offers that user code rejects, alternately to the worker alone and to the one behind guard.
fn latency(probe: &Subject, guarded: &Subject, offers: usize, report: &mut Report) -> Result<()> {
    let (alone, behind) = (Stub::auto()?, Stub::auto()?);
    let _workers = [probe.serve(&alone, &[])?, guarded.serve(&behind, &[])?];
    let (mut direct, mut through, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..offers {
        let (one, other) = if turn % 2 == 0 {
            let one = answer(&alone, turn)?;
            (one, answer(&behind, turn)?)
        } else {
            let other = answer(&behind, turn)?;
            (answer(&alone, turn)?, other)
        };
        direct.push(one);
        through.push(other);
        added.push(other.saturating_sub(one));
    }
    report.times(probe.name, "offer → rejected by user code", direct.into_iter().collect(), Promise::NONE);
    report.times(NAME, "offer → rejected by user code", through.into_iter().collect(), Promise::NONE);
    report.times(NAME, "the same, over that of its pair alone", added.into_iter().collect(), ADDED);
    Ok(())
}

fn answer(stub: &Stub, turn: usize) -> Result<Duration> {
    let (mark, id) = (stub.mark(), format!("offer-{turn}"));
    stub.offer(Job::new(&id).metadata(&json!({"reject": true}).to_string()))?;
    let mut sent = None;
    let answered = |event: &Event| {
        if matches!(event.what, What::Sent(_)) {
            sent.get_or_insert(event.at);
        }
        seen::is_answer(event).then_some(event.at)
    };
    let at = stub.wait_for_after(mark, answered, PATIENCE)?;
    Ok(at.saturating_duration_since(sent.context("it was sent before it was answered")?))
}

/// With a worker that stands still, so that guard alone can answer for it.
fn start_and_signal(guarded: &Subject, starts: usize, report: &mut Report) -> Result<()> {
    let (mut to_child, mut to_full) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let stub = Stub::auto()?;
        let guard = guarded.start(&stub.url(), &[])?;
        to_child.push(worker_is_there(&guard)?);
        seen::first(&stub, 0, PATIENCE, seen::is_available).context("it does not become available")?;
        let below: Vec<u32> =
            Tree(guard.pid()).pids().into_iter().filter(|pid| *pid != guard.pid()).collect();
        for pid in &below {
            kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGSTOP).context("the worker runs")?;
        }
        let (mark, signalled) = (stub.mark(), Instant::now());
        guard.signal(Signal::SIGTERM)?;
        let full = seen::first(&stub, mark, PATIENCE, seen::is_full);
        let full = full.with_context(|| format!("no WS_FULL:\n{}", guard.output()))?;
        to_full.push(full.at.saturating_duration_since(signalled));
        Tree(guard.pid()).kill();
    }
    report.times(NAME, "start → its worker's process is there", to_child.into_iter().collect(), TO_CHILD);
    let what = "SIGTERM → WS_FULL, the worker stopped (SIGSTOP)";
    report.times(NAME, what, to_full.into_iter().collect(), TO_FULL);
    Ok(())
}

fn worker_is_there(guard: &Running) -> Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    // Below the process that looks after it.
    while children(guard.pid()).into_iter().flat_map(children).next().is_none() {
        ensure!(Instant::now() < deadline, "no child:\n{}", guard.output());
        rest(Duration::from_micros(200));
    }
    Ok(guard.started().elapsed())
}

fn size(guarded: &Subject, report: &mut Report) -> Result<()> {
    let stub = Stub::auto()?;
    let guard = guarded.serve(&stub, &[])?;
    rest(Duration::from_secs(1));
    report.size(NAME, "resident memory, idle", mib(guard.rss_kib()?), "MiB", Some(IDLE_MIB));
    let jobs: Vec<_> = (0..JOBS).map(|job| (format!("job-{job}"), json!({"sleep": 3600}))).collect();
    seen::run_jobs(&stub, &jobs)?;
    rest(Duration::from_secs(1));
    let what = format!("resident memory, {JOBS} jobs");
    report.size(NAME, &what, mib(guard.rss_kib()?), "MiB", Some(RUNNING_MIB));
    Tree(guard.pid()).kill();
    report.size(NAME, "the program, a plain release build", guarded.mib()?, "MiB", Some(BINARY_MIB));
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
