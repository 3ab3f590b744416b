//! The books on every job: offered, in which process, killed by what, ended how.
//!
//! Owns the judgement of each end. Refuses to forget: a job that was offered ends once, and as it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use anyhow::{Result, ensure};
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Job as Offered, Signal, Stub};
use serde_json::json;

use super::{LOOK, send};
use crate::bench::rig::{PATIENCE, Running, rest};
use crate::bench::seen;
use crate::bench::soak::Notes;

/// Wrong ends whose text is shown.
const SHOWN: usize = 20;

/// A job that has not ended.
struct Job {
    /// It ends by itself, and is left alone.
    by_itself: bool,
    process: Option<u32>,
    killed: Option<Signal>,
}

pub(super) struct Books<'a> {
    stub: &'a Stub,
    /// Events of the stub that are in the books.
    read: usize,
    offered: usize,
    open: BTreeMap<String, Job>,
    wrong: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

impl<'a> Books<'a> {
    pub(super) fn new(stub: &'a Stub) -> Self {
        Self {
            stub,
            read: stub.mark(),
            offered: 0,
            open: BTreeMap::new(),
            wrong: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Jobs that have not ended.
    pub(super) fn running(&self) -> usize {
        self.open.len()
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Offers a job that ends after so many seconds; without them, when it is killed or told to.
    pub(super) fn offer(&mut self, sleep: Option<f64>) -> Result<()> {
        self.offered += 1;
        let id = format!("call-{}", self.offered);
        let orders = json!({"sleep": sleep.unwrap_or(24.0 * 3600.0)});
        self.stub.offer(Offered::new(&id).metadata(&orders.to_string()))?;
        self.open.insert(id, Job { by_itself: sleep.is_some(), process: None, killed: None });
        Ok(())
    }

    /// Sends `signal` to the process of a random job that does not end by itself, if there is one. SIGTERM must change
    /// nothing.
    pub(super) fn kill_one(&mut self, worker: &Running, signal: Signal) {
        self.find_processes(worker);
        let alive = self.open.values_mut().filter(|job| !job.by_itself && job.killed.is_none());
        let Some(job) = fastrand::choice(alive.filter(|job| job.process.is_some()).collect::<Vec<_>>())
        else {
            return;
        };
        job.process.into_iter().for_each(|process| send(process, signal));
        if signal == Signal::SIGTERM {
            self.count("SIGTERM, which changed nothing");
        } else {
            job.killed = Some(signal);
        }
    }

    /// Rust's own handler takes the first SIGSEGV for a full stack.
    pub(super) fn kill_again(&self) {
        for job in self.open.values().filter(|job| job.killed == Some(Signal::SIGSEGV)) {
            job.process.into_iter().for_each(|process| send(process, Signal::SIGSEGV));
        }
    }

    /// The processes of jobs that have not ended.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        self.open.values().filter_map(|job| job.process).collect()
    }

    fn find_processes(&mut self, worker: &Running) {
        for (id, job) in self.open.iter_mut().filter(|(_, job)| job.process.is_none()) {
            job.process = worker.process_of(id);
        }
    }

    /// Takes in what the worker has reported meanwhile.
    pub(super) fn read(&mut self) {
        for event in self.stub.events_after(self.read) {
            self.read += 1;
            if let (Some((id, status)), Some(report)) = (seen::end_of_job(&event), seen::report(&event)) {
                self.ended(id, status, &report.error);
            }
        }
    }

    fn ended(&mut self, id: &str, status: JobStatus, error: &str) {
        let Some(job) = self.open.remove(id) else {
            return self.wrong.push(format!("{id} ended twice: {status:?} {error}"));
        };
        let expected = match job.killed {
            Some(signal) => (JobStatus::JsFailed, format!("its process ended: killed by {signal}")),
            None => (JobStatus::JsSuccess, String::new()),
        };
        self.count(job.killed.map_or("came to their own end", Signal::as_str));
        if (status, error) != (expected.0, &expected.1) {
            self.wrong.push(format!("{id} ended as {status:?} {error:?}, and not as {expected:?}"));
        }
    }

    /// Waits until every job that was offered runs.
    pub(super) fn await_running(&mut self, worker: &Running) -> Result<()> {
        self.wait("to run", |books| {
            books.find_processes(worker);
            books.open.values().all(|job| job.process.is_some())
        })
    }

    /// Waits until every job has ended that is to end by itself or was killed, and ends the others.
    pub(super) fn end_all(&mut self, worker: &Running) -> Result<()> {
        self.await_running(worker)?;
        self.wait("to end", |books| books.open.values().all(|job| !job.by_itself && job.killed.is_none()))?;
        for id in self.open.keys() {
            self.stub.terminate(id)?;
        }
        self.await_none()
    }

    /// Waits until no job is left.
    pub(super) fn await_none(&mut self) -> Result<()> {
        self.wait("to end", |books| books.open.is_empty())
    }

    fn wait(&mut self, what: &str, so: impl Fn(&mut Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if so(self) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "jobs are lost, which were {what}: {}", self.lost());
            self.kill_again();
            rest(LOOK);
        }
    }

    fn lost(&self) -> String {
        let words = self.open.iter().take(SHOWN).map(|(id, Job { by_itself, process, killed })| {
            format!("{id} (by itself: {by_itself}, process {process:?}, killed: {killed:?})")
        });
        words.chain(self.wrong.iter().cloned()).collect::<Vec<_>>().join("; ")
    }

    /// Every job has ended, and as it must have.
    pub(super) fn close(self, notes: &Notes) -> Result<()> {
        notes.add("jobs", self.offered);
        let shown = self.wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        ensure!(self.wrong.is_empty(), "{} of {} jobs went wrong: {shown}", self.wrong.len(), self.offered);
        for (what, count) in self.counts {
            notes.add(what, count);
        }
        Ok(())
    }
}

impl fmt::Display for Books<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs, {} wrong", self.offered, self.wrong.len())?;
        self.counts.iter().try_for_each(|(what, count)| write!(f, ", {what}: {count}"))
    }
}
