//! Owns what came of a cell, read from the server's own record. Refuses to trust the worker's word for it, but for its exit code.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use livekit_protocol::{JobStatus, WorkerStatus};

use crate::child::Exit;
use crate::stub::{Event, Offer, What};

/// What came of a cell.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Jobs accepted behind the drain's WS_FULL, on its connection or a later one.
    pub accepted_in_drain: Vec<String>,
    /// How often the worker said WS_AVAILABLE behind it.
    pub available_in_drain: usize,
    /// Offers without an answer on a connection that stood.
    pub unanswered: Vec<String>,
    /// Offers without an answer that went with their connection.
    pub lost_with_connection: usize,
    /// Offers in all.
    pub offered: usize,
    /// What is wrong with a call, a sentence each: cut, reported twice, reported as failed.
    pub calls: Vec<String>,
    /// Registrations behind the first.
    pub reconnects: usize,
    /// How the worker ended.
    pub exit: Exit,
    /// From the worker's start to its end.
    pub took: Duration,
    /// All that it said.
    pub output: String,
}

/// What a cell expects: its calls, by how each has to end, and the drain.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Events before the signal: the next WS_FULL begins the drain.
    pub(super) signalled: Option<usize>,
    /// When terminated, with one report.
    pub(super) to_be_reported: Vec<String>,
    /// The same, but the fault met the report on its way.
    pub(super) cut_at_its_report: Option<String>,
    /// Not before this moment, and the worker behind it.
    pub(super) ends_by_itself: Option<(String, Instant)>,
}

impl Verdict {
    /// Reads the record. `broken` says that the last connection did not stand either.
    pub(super) fn of(
        events: &[Event],
        offers: &[Offer],
        expected: &Expected,
        broken: bool,
        exit: Exit,
        took: Duration,
        output: String,
    ) -> Self {
        let signalled = expected.signalled.map_or(&[][..], |mark| &events[mark..]);
        let full = signalled.iter().position(|event| status_of(event).is_some_and(is_full));
        let behind = full.map_or(&[][..], |full| &signalled[full..]);
        let connection = behind.first().map_or(u64::MAX, |full| full.connection);
        // What an older connection brings was sent before, and kept by the network.
        let behind = || behind.iter().filter(|event| event.connection >= connection);
        let registered: Vec<u64> = events
            .iter()
            .filter(|event| matches!(event.message(), Some(FromWorker::Register(_))))
            .map(|event| event.connection)
            .collect();
        let stood = registered.last().filter(|_| !broken);
        let silent = || offers.iter().filter(|offer| offer.answer.is_none());
        let unanswered: Vec<String> = silent()
            .filter(|offer| Some(&offer.connection) == stood)
            .map(|offer| offer.job_id.clone())
            .collect();
        Self {
            accepted_in_drain: behind().filter_map(acceptance_of).map(str::to_owned).collect(),
            available_in_drain: behind().filter(|event| status_of(event).is_some_and(is_available)).count(),
            lost_with_connection: silent().count() - unanswered.len(),
            unanswered,
            offered: offers.len(),
            calls: expected.wrongs(events, exit),
            reconnects: registered.len().saturating_sub(1),
            exit,
            took,
            output,
        }
    }

    /// What a worker must not do, and this one did: a sentence each.
    pub fn breaches(&self) -> Vec<String> {
        let mut breaches = self.calls.clone();
        let Self { accepted_in_drain, available_in_drain, unanswered, exit, .. } = self;
        if !accepted_in_drain.is_empty() {
            breaches.push(format!("accepted in the drain: {}", accepted_in_drain.join(" ")));
        }
        if *available_in_drain > 0 {
            breaches.push(format!("available in the drain, {available_in_drain} times"));
        }
        if !unanswered.is_empty() {
            breaches.push(format!("unanswered: {}", unanswered.join(" ")));
        }
        if exit.code != Some(0) {
            breaches
                .push(format!("left with exit code {:?}, signal {:?}, and not 0", exit.code, exit.signal));
        }
        breaches
    }
}

impl Expected {
    fn wrongs(&self, events: &[Event], exit: Exit) -> Vec<String> {
        let mut wrongs = Vec::new();
        for call in self.to_be_reported.iter().chain(&self.cut_at_its_report) {
            let ends: Vec<usize> = (0..events.len())
                .filter(|&at| {
                    report_of(&events[at]).is_some_and(|report| report.job_id == *call && is_end(report))
                })
                .collect();
            let told = events.iter().position(|event| terminates(event, call)).unwrap_or(usize::MAX);
            let cut = self.cut_at_its_report.as_ref() == Some(call);
            match ends.as_slice() {
                [] if cut => {}
                [] => wrongs.push(format!("the end of {call} was not reported")),
                [end] if *end < told => wrongs.push(format!("{call} ended before it was told to")),
                [end] => {
                    let report =
                        report_of(&events[*end]).filter(|report| report.status() != JobStatus::JsSuccess);
                    wrongs.extend(report.map(|report| format!("{call} failed: {:?}", report.error)));
                }
                [_, _, ..] => wrongs.push(format!("{} ends of {call} were reported", ends.len())),
            }
        }
        if let Some((call, until)) = &self.ends_by_itself
            && exit.at < *until
        {
            wrongs.push(format!("the worker left {:.1?} before {call} was over", *until - exit.at));
        }
        wrongs
    }
}

fn terminates(event: &Event, call: &str) -> bool {
    matches!(&event.what, What::Sent(ToWorker::Termination(termination)) if termination.job_id == call)
}

fn acceptance_of(event: &Event) -> Option<&str> {
    match event.message() {
        Some(FromWorker::Availability(answer)) if answer.available => Some(&answer.job_id),
        _ => None,
    }
}

pub(super) fn status_of(event: &Event) -> Option<&proto::UpdateWorkerStatus> {
    if let Some(FromWorker::UpdateWorker(status)) = event.message() { Some(status) } else { None }
}

pub(super) fn report_of(event: &Event) -> Option<&proto::UpdateJobStatus> {
    if let Some(FromWorker::UpdateJob(report)) = event.message() { Some(report) } else { None }
}

pub(super) fn is_available(status: &proto::UpdateWorkerStatus) -> bool {
    status.status() == WorkerStatus::WsAvailable
}

pub(super) fn is_full(status: &proto::UpdateWorkerStatus) -> bool {
    status.status() == WorkerStatus::WsFull
}

pub(super) fn is_end(report: &proto::UpdateJobStatus) -> bool {
    matches!(report.status(), JobStatus::JsSuccess | JobStatus::JsFailed)
}
