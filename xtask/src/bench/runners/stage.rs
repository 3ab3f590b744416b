//! One worker with its server: jobs are assigned to it, and it comes to rest between them.
//!
//! Owns the two moments of a job, its assignment's frame and its first act. Refuses to know who the worker is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use last_call_testkit::proto::JobStatus;
use last_call_testkit::proto::server_message::Message as ToWorker;
use last_call_testkit::{Event, Job, Stub, What};
use serde_json::json;

use super::contestant::Contestant;
use super::starts::{Start, Starts};
use crate::bench::rig::{PATIENCE, Running};
use crate::bench::seen;
use crate::bench::tree::Tree;

/// Looks at rest in a row around the first job: every framework has made its processes by then.
const FIRST: u32 = 20;
/// And between two jobs.
const BETWEEN: u32 = 3;
/// Longer than any bench takes.
const STAY: Duration = Duration::from_secs(3600);

/// A worker that takes jobs.
pub(super) struct Stage {
    stub: Stub,
    pub(super) starts: Starts,
    worker: Running,
    /// Processes at rest, without a job.
    processes: usize,
    jobs: usize,
}

/// Jobs that were assigned at the same time and run.
pub(super) struct Ran {
    ids: Vec<String>,
    /// When the first assignment was written.
    pub(super) assigned: Instant,
    /// In their order.
    pub(super) starts: Vec<Start>,
}

impl Ran {
    /// From the first assignment to the last entrypoint.
    pub(super) fn took(&self) -> Duration {
        let last = self.starts.iter().map(|start| start.at).max();
        last.unwrap_or(self.assigned).saturating_duration_since(self.assigned)
    }

    fn is_gone(&self, pids: &[u32]) -> bool {
        self.starts.iter().all(|start| !pids.contains(&start.pid))
    }
}

impl Stage {
    /// Starts a worker with so many processes to be kept warm, has it run one job, and waits until it rests. So what a
    /// framework starts once, with its first job, is no job's.
    ///
    /// # Errors
    /// When it does not get there.
    pub(super) fn set(contestant: &Contestant, idle: usize) -> Result<Self> {
        let (stub, starts) = (Stub::auto()?, Starts::new()?);
        let (idle, dir) = (idle.to_string(), starts.dir().to_string_lossy().into_owned());
        let mut variables = contestant.variables();
        // The last one wins.
        variables.extend([("PROBE_IDLE", idle.as_str()), ("PROBE_JOB_DIR", dir.as_str())]);
        let worker = contestant.subject.serve(&stub, &variables)?;
        let mut stage = Self { stub, starts, worker, processes: 0, jobs: 0 };
        stage.rest().context("after its start")?;
        let first = stage.run(1, false)?;
        let settled = stage.tree().settle(FIRST, |pids| first.is_gone(pids));
        stage.processes = settled.context("after its first job")?.len();
        Ok(stage)
    }

    /// Offers so many jobs at once, and waits until their entrypoints run. They end at once, or `stay` until
    /// [`Stage::terminate`].
    ///
    /// # Errors
    /// When one does not run.
    pub(super) fn run(&mut self, jobs: usize, stay: bool) -> Result<Ran> {
        let orders = json!({"sleep": if stay { STAY.as_secs() } else { 0 }}).to_string();
        let mark = self.stub.mark();
        let ids: Vec<String> = (0..jobs).map(|number| format!("job-{}", self.jobs + number)).collect();
        self.jobs += jobs;
        for id in &ids {
            self.starts.expect(id)?;
        }
        for id in &ids {
            self.stub.offer(Job::new(id).metadata(&orders))?;
        }
        let assigned = self.stub.wait_for_after(mark, assignment, PATIENCE)?;
        let starts = ids.iter().map(|_| self.starts.next()).collect::<Result<_>>();
        let starts = starts.with_context(|| format!("the worker said:\n{}", self.worker.output()))?;
        Ok(Ran { ids, assigned, starts })
    }

    /// Ends these jobs.
    ///
    /// # Errors
    /// When the worker is not connected any more.
    pub(super) fn terminate(&self, ran: &Ran) -> Result<()> {
        ran.ids.iter().try_for_each(|id| self.stub.terminate(id))
    }

    /// Waits until the processes of these jobs are gone, as many as before are there, and all rest.
    ///
    /// # Errors
    /// When that does not become so.
    pub(super) fn refill(&self, ran: &Ran) -> Result<()> {
        let refilled = |pids: &[u32]| pids.len() == self.processes && ran.is_gone(pids);
        let settled = self.tree().settle(BETWEEN, refilled);
        settled.map(drop).with_context(|| {
            let said = self.worker.output();
            format!("{} processes were there before the jobs; the worker said:\n{said}", self.processes)
        })
    }

    /// The worker and its processes.
    pub(super) fn tree(&self) -> Tree {
        Tree(self.worker.pid())
    }

    /// Waits until all rest, whoever is there.
    ///
    /// # Errors
    /// When they do not.
    pub(super) fn rest(&self) -> Result<()> {
        self.tree().settle(FIRST, |_| true).map(drop)
    }

    /// Jobs so far, and how many of them were reported failed.
    pub(super) fn failed(&self) -> (usize, usize) {
        let events = self.stub.events();
        let ends = events.iter().filter_map(seen::end_of_job);
        (ends.filter(|(_, status)| *status == JobStatus::JsFailed).count(), self.jobs)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tree().kill();
    }
}

/// When this event wrote an assignment, if it did.
fn assignment(event: &Event) -> Option<Instant> {
    matches!(event.what, What::Sent(ToWorker::Assignment(_))).then_some(event.at)
}
