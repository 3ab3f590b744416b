//! What a stub saw, in the words of the promises: states, ends of jobs, registrations.
//!
//! Owns the reading of its log. Refuses to judge.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::proto::{JobStatus, UpdateJobStatus, UpdateWorkerStatus, WorkerStatus};
use last_call_testkit::{Event, Job, Stub, What};
use serde_json::Value;

use super::rig::PATIENCE;

/// Where the log stands and when: the event itself, and the number of events up to and with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) at: Instant,
    pub(crate) mark: usize,
}

fn status(event: &Event) -> Option<&UpdateWorkerStatus> {
    if let Some(FromWorker::UpdateWorker(status)) = event.message() { Some(status) } else { None }
}

/// What the worker says of a job.
pub(crate) fn report(event: &Event) -> Option<&UpdateJobStatus> {
    if let Some(FromWorker::UpdateJob(report)) = event.message() { Some(report) } else { None }
}

/// The worker says that it takes jobs.
pub(crate) fn is_available(event: &Event) -> bool {
    status(event).is_some_and(|status| status.status() == WorkerStatus::WsAvailable)
}

/// The worker says that it takes none.
pub(crate) fn is_full(event: &Event) -> bool {
    status(event).is_some_and(|status| status.status() == WorkerStatus::WsFull)
}

/// The worker registers.
pub(crate) fn is_registration(event: &Event) -> bool {
    matches!(event.message(), Some(FromWorker::Register(_)))
}

/// The id and status of a job whose end is reported.
pub(crate) fn end_of_job(event: &Event) -> Option<(&str, JobStatus)> {
    let report = report(event)?;
    let status = report.status();
    matches!(status, JobStatus::JsSuccess | JobStatus::JsFailed).then_some((report.job_id.as_str(), status))
}

/// An offer is accepted.
pub(crate) fn is_acceptance(event: &Event) -> bool {
    matches!(event.message(), Some(FromWorker::Availability(answer)) if answer.available)
}

/// An offer is answered.
pub(crate) fn is_answer(event: &Event) -> bool {
    matches!(event.message(), Some(FromWorker::Availability(_)))
}

/// The socket read that brought a message of the worker.
pub(crate) fn read_of(event: &Event) -> Option<u64> {
    if let What::Message { read, .. } = &event.what { Some(*read) } else { None }
}

/// The first event behind `mark` that is `wanted`, if it comes within `patience`.
pub(crate) fn first(
    stub: &Stub,
    mark: usize,
    patience: Duration,
    wanted: impl Fn(&Event) -> bool,
) -> Option<Sight> {
    let mut next = mark;
    let seek = |event: &Event| {
        next += 1;
        wanted(event).then_some(Sight { at: event.at, mark: next })
    };
    stub.wait_for_after(mark, seek, patience).ok()
}

/// Offers jobs with these ids and orders, and waits until all of them run.
///
/// # Errors
/// When one does not.
pub(crate) fn run_jobs(stub: &Stub, jobs: &[(String, Value)]) -> Result<()> {
    let mark = stub.mark();
    for (id, orders) in jobs {
        stub.offer(Job::new(id).metadata(&orders.to_string()))?;
    }
    let mut left = jobs.len();
    let running = |event: &Event| {
        left -= usize::from(report(event).is_some_and(|report| report.status() == JobStatus::JsRunning));
        (left == 0).then_some(())
    };
    stub.wait_for_after(mark, running, PATIENCE)
        .with_context(|| format!("not all of {} jobs run", jobs.len()))
}
