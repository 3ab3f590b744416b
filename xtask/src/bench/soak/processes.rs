//! Jobs' processes killed at random (JOB-3): each end is reported with the signal's name, no other job is touched, and
//! nothing is left behind.
//!
//! Owns the dice. Refuses doubt about whose death it was: a process without a job is killed only while no job is on its way.

mod books;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use last_call_testkit::processes::{children, runs, state};
use last_call_testkit::{Signal, Stub};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use self::books::Books;
use super::{Plan, Trial};
use crate::bench::rig::{PATIENCE, Running, rest};
use crate::say;

/// Jobs at a time.
const JOBS: usize = 200;
/// Warm processes beside them.
const IDLE: usize = 8;
/// Of so many rounds one kills a process without a job.
const IDLE_EVERY: u64 = 10;
const SAY_EVERY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Keeps 200 jobs running, each in a process of its own; kills them at random, and replaces them. Fails if any job
/// ends otherwise than it must, or if processes, zombies or files are left.
#[derive(Parser)]
#[command(name = "cargo xtask soak processes", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// How long; the promise is ten.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
}

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    let Arguments { minutes } = Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    // A trial is a second.
    let plan = Plan { name: "processes", full: 600, batch: 600, lanes: 1 };
    plan.repeat((minutes * 60.0).ceil() as usize, storm)
}

fn storm(trial: &Trial<'_>) -> Result<()> {
    let stub = Stub::auto()?;
    let (jobs, idle) = (JOBS.to_string(), IDLE.to_string());
    let variables = [
        ("LAST_CALL_RUNNER", "process"),
        ("LAST_CALL_MAX_JOBS", jobs.as_str()),
        ("LAST_CALL_IDLE_PROCESSES", idle.as_str()),
    ];
    let worker = trial.subject.serve(&stub, &variables)?;
    let mut storm = Storm { books: Books::new(&stub), worker: &worker };
    // The first brings what stays open for good.
    storm.books.offer(Some(0.0))?;
    storm.settle()?;
    let files = worker.open_fds()?;
    storm.rage(Duration::from_secs(trial.size as u64))?;
    storm.books.end_all(&worker)?;
    storm.settle()?;
    let left = awaited(|| worker.open_fds().unwrap_or(0), |now| *now <= files);
    ensure!(left <= files, "{left} files are open, {files} were before");
    trial.notes.add("files open before", files);
    trial.notes.add("files open behind", left);
    let drained = storm.drain();
    storm.books.close(trial.notes)?;
    drained
}

struct Storm<'a> {
    books: Books<'a>,
    worker: &'a Running,
}

impl Storm<'_> {
    fn rage(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut said = Instant::now();
        while Instant::now() < until {
            while self.books.running() < JOBS {
                let seconds = fastrand::f64() * 20.0;
                self.books.offer((fastrand::u8(..4) == 0).then_some(seconds))?;
            }
            for _ in 0..fastrand::usize(1..=5) {
                let signals = [Signal::SIGKILL, Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGTERM];
                self.books.kill_one(self.worker, signals[fastrand::usize(..signals.len())]);
            }
            if fastrand::u64(..IDLE_EVERY) == 0 {
                self.kill_an_idle_one()?;
            }
            rest(Duration::from_millis(fastrand::u64(20..200)));
            self.books.read();
            self.books.kill_again();
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let left = until.saturating_duration_since(said).as_secs();
                say::progress(format_args!("    {}; {left} s left", self.books));
            }
        }
        Ok(())
    }

    /// Once every job that was offered runs; and waits until the worker knows.
    fn kill_an_idle_one(&mut self) -> Result<()> {
        self.books.await_running(self.worker)?;
        let busy = self.books.processes();
        let idle = children(self.worker.pid()).into_iter().filter(|process| !busy.contains(process));
        if let Some(idle) = fastrand::choice(idle.collect::<Vec<_>>()) {
            send(idle, Signal::SIGKILL);
            let left = awaited(|| children(self.worker.pid()), |left| !left.contains(&idle));
            ensure!(!left.contains(&idle), "process {idle} was killed, and is not reaped");
            self.books.count("killed without a job");
        }
        Ok(())
    }

    /// Waits until no job is left, and of the processes those that are kept warm, and no zombie.
    fn settle(&mut self) -> Result<()> {
        self.books.await_none()?;
        let zombies = |left: &[u32]| left.iter().filter(|process| state(**process) == Some('Z')).count();
        let left = awaited(|| children(self.worker.pid()), |left| left.len() == IDLE && zombies(left) == 0);
        let (all, dead) = (left.len(), zombies(&left));
        ensure!(all == IDLE && dead == 0, "{all} processes are left, {dead} of them zombies, and not {IDLE}");
        Ok(())
    }

    /// The way out, with jobs.
    fn drain(&mut self) -> Result<()> {
        for _ in 0..JOBS / 10 {
            self.books.offer(Some(3.0))?;
        }
        self.books.await_running(self.worker)?;
        let processes = children(self.worker.pid());
        self.worker.signal(Signal::SIGTERM)?;
        let exit = self.worker.end()?;
        ensure!(exit.code == Some(0), "it left with {exit:?}");
        self.books.await_none()?;
        // Killed ones may still be dying, and the dead be another's to reap.
        let left = awaited(|| processes.iter().filter(|process| runs(process)).count(), |left| *left == 0);
        ensure!(left == 0, "{left} processes outlived the worker");
        Ok(())
    }
}

/// Who has ended needs no signal.
fn send(process: u32, signal: Signal) {
    let _ = i32::try_from(process).map(|process| kill(Pid::from_raw(process), signal));
}

/// Looks until it is so, or for [`PATIENCE`]; what was seen last.
fn awaited<T>(mut look: impl FnMut() -> T, so: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if so(&seen) || Instant::now() > deadline {
            return seen;
        }
        rest(LOOK);
    }
}
