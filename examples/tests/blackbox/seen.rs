//! What the stub saw, in the words of the promises: registrations, states, answers, reports.
//!
//! Owns the reading of its log. Refuses to return an error: what is awaited and does not come fails the test.

use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::proto::{JobStatus, UpdateJobStatus, UpdateWorkerStatus, WorkerStatus};
use last_call_testkit::{Answer, Event, Job, Stub, Upgrade, What};
use serde_json::Value;

use crate::rig::SOON;

/// What tests ask of a stub.
pub(crate) trait Seen {
    /// Waits for an event behind `mark` of which `seek` makes something.
    fn sees<R>(&self, mark: usize, what: &str, seek: impl FnMut(&Event) -> Option<R>) -> R;
    /// Waits for a registration behind `mark`; its connection.
    fn registration(&self, mark: usize) -> u64;
    /// Waits for a registration behind `mark` and its state, which must come right behind it in one read.
    fn comes_back(&self, mark: usize) -> UpdateWorkerStatus;
    /// Waits for a state behind `mark` that `wanted` takes.
    fn status(
        &self,
        mark: usize,
        what: &str,
        wanted: impl Fn(&UpdateWorkerStatus) -> bool,
    ) -> UpdateWorkerStatus;
    /// Waits for WS_FULL of a drain; the index of its event.
    fn full(&self, mark: usize) -> usize;
    /// Offers a job of probe and waits until it runs.
    fn run_job(&self, id: &str, orders: Value);
    /// Waits for the answer to an offer.
    fn answer(&self, job: &str) -> Answer;
    /// Waits for the report of a job's end.
    fn end_of(&self, job: &str) -> UpdateJobStatus;
    /// Every state behind `mark`, in order.
    fn statuses(&self, mark: usize) -> Vec<UpdateWorkerStatus>;
    /// The reports of one job, in order.
    fn reports(&self, job: &str) -> Vec<JobStatus>;
    /// Whether a worker ever registered.
    fn ever_registered(&self) -> bool;
    /// Whether an upgrade was ever accepted and ended with a WebSocket close.
    fn said_goodbye(&self) -> bool;
}

impl Seen for Stub {
    #[track_caller]
    fn sees<R>(&self, mark: usize, what: &str, seek: impl FnMut(&Event) -> Option<R>) -> R {
        self.wait_for_after(mark, seek, SOON).unwrap_or_else(|error| panic!("no {what}: {error:#}"))
    }

    #[track_caller]
    fn registration(&self, mark: usize) -> u64 {
        let register = |event: &Event| matches!(event.message(), Some(FromWorker::Register(_)));
        self.sees(mark, "registration", |event| register(event).then_some(event.connection))
    }

    #[track_caller]
    fn comes_back(&self, mark: usize) -> UpdateWorkerStatus {
        let mut register = None;
        let (before, behind) = self.sees(mark, "registration and what follows it", |event| {
            let What::Message { message, read, .. } = &event.what else { return None };
            let here = (event.connection, *read);
            match (message, register) {
                (FromWorker::Register(_), _) => register = Some(here),
                (message, Some(before)) if event.connection == before.0 => {
                    return Some((before, (here, message.clone())));
                }
                _ => {}
            }
            None
        });
        let (behind, message) = behind;
        assert_eq!(before, behind, "connection and read of Register, and of {message:?}");
        let FromWorker::UpdateWorker(status) = message else { panic!("behind Register comes {message:?}") };
        status
    }

    #[track_caller]
    fn status(
        &self,
        mark: usize,
        what: &str,
        wanted: impl Fn(&UpdateWorkerStatus) -> bool,
    ) -> UpdateWorkerStatus {
        self.sees(mark, what, |event| status_of(event).filter(|status| wanted(status)).cloned())
    }

    #[track_caller]
    fn full(&self, mark: usize) -> usize {
        let mut index = mark;
        self.sees(mark, "WS_FULL with draining", |event| {
            index += 1;
            status_of(event).is_some_and(is_drain).then_some(index - 1)
        })
    }

    #[track_caller]
    fn run_job(&self, id: &str, orders: Value) {
        let mark = self.mark();
        self.offer(Job::new(id).metadata(&orders.to_string())).expect("a worker is registered");
        self.sees(mark, "report of a running job", |event| {
            report_of(event)
                .filter(|report| report.job_id == id && report.status() == JobStatus::JsRunning)
                .map(drop)
        });
    }

    #[track_caller]
    fn answer(&self, job: &str) -> Answer {
        self.sees(0, "answer", |event| match event.message() {
            Some(FromWorker::Availability(answer)) if answer.job_id == job => {
                Some(Answer { at: event.at, available: answer.available, terminate: answer.terminate })
            }
            _ => None,
        })
    }

    #[track_caller]
    fn end_of(&self, job: &str) -> UpdateJobStatus {
        self.sees(0, &format!("report of the end of {job}"), |event| {
            report_of(event).filter(|report| report.job_id == job && is_end(report)).cloned()
        })
    }

    fn statuses(&self, mark: usize) -> Vec<UpdateWorkerStatus> {
        self.events_after(mark).iter().filter_map(status_of).cloned().collect()
    }

    fn reports(&self, job: &str) -> Vec<JobStatus> {
        let events = self.events();
        let reports = events.iter().filter_map(report_of).filter(|report| report.job_id == job);
        reports.map(UpdateJobStatus::status).collect()
    }

    fn ever_registered(&self) -> bool {
        self.events().iter().any(|event| matches!(event.message(), Some(FromWorker::Register(_))))
    }

    fn said_goodbye(&self) -> bool {
        self.events().iter().any(|event| matches!(event.what, What::Close(_)))
    }
}

/// The worker's state, if the event is one.
pub(crate) fn status_of(event: &Event) -> Option<&UpdateWorkerStatus> {
    if let Some(FromWorker::UpdateWorker(status)) = event.message() { Some(status) } else { None }
}

/// The worker's request for a WebSocket, if the event is one that was accepted or refused.
pub(crate) fn upgrade_of(event: &Event) -> Option<&Upgrade> {
    if let What::Connected(upgrade) | What::Refused(upgrade, _) = &event.what { Some(upgrade) } else { None }
}

/// A report about a job, if the event is one.
pub(crate) fn report_of(event: &Event) -> Option<&UpdateJobStatus> {
    if let Some(FromWorker::UpdateJob(report)) = event.message() { Some(report) } else { None }
}

pub(crate) fn is_end(report: &UpdateJobStatus) -> bool {
    matches!(report.status(), JobStatus::JsSuccess | JobStatus::JsFailed)
}

pub(crate) fn is_available(status: &UpdateWorkerStatus) -> bool {
    status.status() == WorkerStatus::WsAvailable
}

pub(crate) fn is_full(status: &UpdateWorkerStatus) -> bool {
    status.status() == WorkerStatus::WsFull
}

pub(crate) fn is_drain(status: &UpdateWorkerStatus) -> bool {
    is_full(status) && status.draining
}
