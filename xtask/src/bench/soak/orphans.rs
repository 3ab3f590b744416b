//! Orphans under an init (DRAIN-10): a job leaves them behind, row by row, and none is left as a zombie.
//!
//! Owns the inits. Refuses to run without PID namespaces: what is missing is its error.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::processes::children;
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Signal, Stub, pid_1_possible};
use serde_json::json;

use super::{Plan, Trial};
use crate::bench::rig::{PATIENCE, Running, Subject, rest};
use crate::bench::seen;

/// Orphans that one job leaves.
const ROW: usize = 500;
/// Between two looks at what the init has not reaped yet.
const LOOK: Duration = Duration::from_millis(20);

const TASKS: (&str, &str) = ("LAST_CALL_RUNNER", "tasks");
const PROCESSES: (&str, &str) = ("LAST_CALL_RUNNER", "process");
const REAP: (&str, &str) = ("LAST_CALL_REAP", "1");

pub(in crate::bench) fn run(arguments: &[String]) -> Result<()> {
    pid_1_possible().context("this soak cannot run here")?;
    let plan = Plan { name: "orphans", full: 10_000, batch: 10_000, lanes: 1 };
    plan.carry_out(arguments, |trial| {
        let process_1 = trial.subject.as_process_1();
        for (what, subject, variables) in [
            ("reaped under process 1, jobs as tasks", &process_1, &[TASKS][..]),
            ("reaped under process 1, jobs as processes", &process_1, &[PROCESSES]),
            ("reaped under --reap, jobs as processes", trial.subject, &[PROCESSES, REAP]),
        ] {
            under_one(trial, what, subject, variables).context(what)?;
        }
        Ok(())
    })
}

fn under_one(
    trial: &Trial<'_>,
    what: &'static str,
    subject: &Subject,
    variables: &[(&str, &str)],
) -> Result<()> {
    let stub = Stub::auto()?;
    let init = subject.serve(&stub, variables)?;
    let worker = children(init.pid());
    ensure!(worker.len() == 1, "the init's children are {worker:?}, and not one worker");
    let mut left = trial.size;
    while left > 0 {
        let row = left.min(ROW);
        leave_behind(&stub, &format!("{left}-to-go"), row).with_context(|| init.output())?;
        left -= row;
    }
    only(&init, &worker)?;
    init.signal(Signal::SIGTERM)?;
    let exit = init.end()?;
    ensure!(exit.code == Some(0), "it left with {exit:?}:\n{}", init.output());
    trial.notes.add(what, trial.size);
    Ok(())
}

/// Has a job leave so many behind, which fails if they cannot be started.
fn leave_behind(stub: &Stub, job: &str, orphans: usize) -> Result<()> {
    let mark = stub.mark();
    seen::run_jobs(stub, &[(job.to_owned(), json!({"orphans": orphans}))])?;
    let end = |event: &_| seen::end_of_job(event).map(|(_, status)| status);
    let status = stub.wait_for_after(mark, end, PATIENCE)?;
    ensure!(status == JobStatus::JsSuccess, "{job} ended with {status:?}");
    Ok(())
}

/// Waits until the worker is the only child of its init, dead ones included.
fn only(init: &Running, worker: &[u32]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut left = children(init.pid());
    while left != worker {
        let beside = left.iter().filter(|child| !worker.contains(child)).count();
        ensure!(Instant::now() < deadline, "{beside} orphans are not reaped");
        rest(LOOK);
        left = children(init.pid());
    }
    Ok(())
}
