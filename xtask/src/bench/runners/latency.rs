//! From the frame with the assignment to the entrypoint's first act: in a warm process, in one that is started for it, and
//! for ten jobs at once.
//!
//! Owns the promises. Refuses to subtract what the bench itself takes: its server's write, the way through the pipe.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use last_call_testkit::Histogram;

use super::contestant::{Contestant, shell};
use super::stage::Stage;
use super::starts::Starts;
use crate::bench::report::{Promise, Report};

const WARM: Promise = Promise::p99(Duration::from_millis(5));
const COLD: Promise = Promise::max(Duration::from_millis(60));
const BURST: Promise = Promise::max(Duration::from_millis(100));
/// Jobs of a burst, for one of which a process is warm.
const AT_ONCE: usize = 10;

/// One job after the other, each with the pool refilled.
pub(super) fn warm(contestant: &Contestant, count: usize, report: &mut Report) -> Result<()> {
    let idle = processes_by_default();
    let times = rounds(contestant, idle, 1, count, report)?;
    add(contestant, "assignment → entrypoint, warm process", times, WARM, report);
    Ok(())
}

/// One job after the other, each in a process that is started when it comes.
pub(super) fn cold(contestant: &Contestant, count: usize, report: &mut Report) -> Result<()> {
    let times = rounds(contestant, 0, 1, count, report)?;
    add(contestant, "assignment → entrypoint, no warm process", times, COLD, report);
    Ok(())
}

/// Ten at once.
pub(super) fn burst(contestant: &Contestant, count: usize, report: &mut Report) -> Result<()> {
    let times = rounds(contestant, 1, AT_ONCE, count, report)?;
    let what = format!("{AT_ONCE} at once, one warm process: assignment → last entrypoint");
    add(contestant, &what, times, BURST, report);
    Ok(())
}

/// A program's start by the executable runner, and by hand.
pub(super) fn program(contestant: &Contestant, count: usize, report: &mut Report) -> Result<()> {
    let starts = Starts::new()?;
    let by_hand = (0..count).map(|_| by_hand(&starts)).collect::<Result<Histogram>>()?;
    report.times("yardstick, no worker", "start of the same shell → its first line", by_hand, Promise::NONE);
    let times = rounds(contestant, 0, 1, count, report)?;
    report.times(contestant.subject.name, "assignment → the program's first line", times, Promise::NONE);
    Ok(())
}

/// As many as every framework keeps in production by default: one a core, at most four.
fn processes_by_default() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Rounds of so many jobs at once with one worker.
fn rounds(
    contestant: &Contestant,
    idle: usize,
    jobs: usize,
    count: usize,
    report: &mut Report,
) -> Result<Histogram> {
    // Where several start, none makes room by its end.
    let stay = jobs > 1;
    let mut stage = Stage::set(contestant, idle)?;
    let (mut wake_ups, mut times) = (Vec::new(), Vec::new());
    for round in 0..count {
        wake_ups.push(stage.starts.wake_up()?);
        let ran = stage.run(jobs, stay).with_context(|| format!("round {round}"))?;
        times.push(ran.took());
        if stay {
            stage.terminate(&ran)?;
        }
        stage.refill(&ran).with_context(|| format!("round {round}"))?;
    }
    if contestant.ours {
        let what = "a line through the pipe, before each of these jobs";
        report.times("yardstick, no worker", what, wake_ups.into_iter().collect(), Promise::NONE);
        let (failed, of) = stage.failed();
        report.none(contestant.subject.name, "jobs that were reported failed", failed, of);
    }
    Ok(times.into_iter().collect())
}

fn add(contestant: &Contestant, what: &str, times: Histogram, promise: Promise, report: &mut Report) {
    let promise = if contestant.ours { promise } else { Promise::NONE };
    report.times(contestant.subject.name, what, times, promise);
}

fn by_hand(starts: &Starts) -> Result<Duration> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &shell("exit 0")]).env("PROBE_JOB_DIR", starts.dir()).stdin(Stdio::null());
    let begun = Instant::now();
    let mut shell = command.spawn().context("cannot start /bin/sh")?;
    let start = starts.next();
    shell.wait().context("a shell is not there any more")?;
    Ok(start?.at.saturating_duration_since(begun))
}
