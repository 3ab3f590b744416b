//! What is said of the link: log lines, counts, the snapshot.
//!
//! Owns the words and the moments. Refuses any influence on what happens.

use std::time::{Instant, SystemTime};

use last_call_proto::{
    Declined, End, Event, JobId, Link as LinkState, Phase, Policy, StopReason, ToServer, Worker,
};
use tokio::sync::watch;

use super::report::Report;
use crate::error::DialError;
use crate::metrics::{DeclineReason, Metrics, Outcome, Rejected};
use crate::observe::{DrainProgress, Snapshot};
use crate::otel::JobSpans;

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Watched {
    worker_id: String,
    server: String,
    registrations: u64,
    failures: u32,
    /// The server said `GoAway` on this connection.
    leaving: bool,
    /// When the drain was asked for, until `WS_FULL` is written for it.
    drain_asked: Option<Instant>,
    full_in_flight: bool,
    drain: Option<DrainProgress>,
    succeeded: u32,
    failed: u32,
    rejected: [bool; 5],
    pub(super) spans: JobSpans,
}

impl Watched {
    /// `server` as it may be shown.
    pub(crate) fn new(server: String) -> Self {
        Self { server, ..Self::default() }
    }

    pub(super) fn worker_id(&self) -> &str {
        &self.worker_id
    }

    pub(super) fn drain_asked(&mut self, seen: Instant) {
        if self.drain.is_none() {
            self.drain_asked.get_or_insert(seen);
        }
    }

    pub(super) fn writing(&mut self, frames: &[ToServer]) {
        let is_full = |frame: &ToServer| matches!(frame, ToServer::Status(status) if status.draining);
        self.full_in_flight |= frames.iter().any(is_full);
    }

    pub(super) fn written(&mut self, metrics: &Metrics) {
        if std::mem::take(&mut self.full_in_flight)
            && let Some(asked) = self.drain_asked.take()
        {
            metrics.signal_to_full_seconds.observe(asked.elapsed().as_secs_f64());
        }
    }

    pub(super) fn registered(&mut self, worker_id: String, version: &str) {
        tracing::info!(worker_id, server = self.server, server_version = version, "registered");
        self.worker_id = worker_id;
        self.failures = 0;
    }

    /// A failed attempt is a warning; the tenth of a row, and each tenth after, says how many.
    /// Once a registration was `accepted`, a refusal means that the server has changed its mind.
    pub(super) fn dial_failed(&mut self, error: &DialError, accepted: bool) {
        self.failures += 1;
        let refused = matches!(error, DialError::Refused { .. });
        if refused && !accepted {
            tracing::error!(server = self.server, %error, "not registered; trying again would not help");
        } else if refused && (self.failures == 1 || self.failures.is_multiple_of(10)) {
            tracing::error!(
                server = self.server,
                %error,
                attempts = self.failures,
                "not registered, though the server took these keys before; trying again until it works: give the worker \
                 a LIVEKIT_API_KEY and LIVEKIT_API_SECRET that the server knows"
            );
        } else if self.failures == 1 {
            tracing::warn!(server = self.server, %error, "not connected; trying again until it works");
        } else if self.failures.is_multiple_of(10) {
            tracing::warn!(server = self.server, %error, attempts = self.failures, "still not connected");
        } else {
            tracing::debug!(server = self.server, %error, attempts = self.failures, "still not connected");
        }
    }

    /// This side ended the connection: because the server asked for it, or did not answer.
    pub(super) fn hung_up(&mut self) {
        if !std::mem::take(&mut self.leaving) {
            self.lost("it showed no life");
        }
    }

    pub(super) fn lost(&mut self, reason: &str) {
        tracing::warn!(server = self.server, reason, "connection lost");
    }

    /// The first of a kind is a warning, the rest are counted.
    pub(super) fn rejected(&mut self, why: Rejected, metrics: &Metrics) {
        metrics.frames_rejected.of(why).inc();
        if !std::mem::replace(&mut self.rejected[why as usize], true) {
            tracing::warn!(?why, "a frame from the server was not used; more of this kind are only counted");
        }
    }

    pub(super) fn happened(&mut self, event: &Event, core: &Worker, policy: &Policy, metrics: &Metrics) {
        match event {
            Event::Phase(phase) => self.entered(*phase, core, policy),
            Event::Registered => {
                metrics.registrations.inc();
                self.registrations += 1;
                if self.registrations > 1 {
                    metrics.reconnects.inc();
                }
            }
            Event::GoAway => {
                self.leaving = true;
                tracing::info!("the server asked to be left: registering anew");
            }
            Event::Accepted(job) => {
                metrics.accepted.inc();
                tracing::info!(job_id = %job, "offer accepted");
            }
            Event::Declined(job, why) => self.declined(job.as_str(), *why, metrics),
            Event::OfferLost(job) => {
                metrics.offers_lost.inc();
                tracing::info!(job_id = %job, "offer lost with the connection; the server asks the next worker");
            }
            Event::LateDecision(job) => {
                metrics.late_decisions.inc();
                tracing::warn!(job_id = %job, "the request handler decided after the offer was declined for it");
            }
            Event::AssignmentMissed(job) => {
                metrics.assignments_missed.inc();
                tracing::warn!(job_id = %job, "accepted but not assigned; its slot is free again");
            }
            Event::AssignmentUnknown(job) => {
                metrics.assignments_unknown.inc();
                tracing::warn!(job_id = %job, "assigned without having been accepted, or twice; not started");
            }
            Event::TerminationUnknown(job) => {
                tracing::debug!(job_id = %job, "ended by the server; not running here")
            }
            Event::Ended(job, end) => {
                self.spans.end(job, end);
                self.ended(job.as_str(), end, metrics);
            }
            Event::Wedged => tracing::error!(
                "user code does not run: no heartbeat beside an offer; declining until it answers again"
            ),
            Event::Recovered => tracing::info!("user code runs again; taking jobs"),
            Event::OutOfOrder => self.rejected(Rejected::OutOfOrder, metrics),
            Event::Disconnected => self.leaving = false,
            Event::Garbage => {}
        }
    }

    fn entered(&mut self, phase: Phase, core: &Worker, policy: &Policy) {
        let jobs = core.jobs().slots();
        match phase {
            Phase::Serving => tracing::info!("taking jobs again"),
            Phase::Quiet => tracing::info!(jobs, "quiet: taking no jobs"),
            Phase::Draining if self.drain.is_none() => {
                let budget = policy.drain.total();
                let reserve = policy.drain.cancel_after + policy.drain.kill_after;
                tracing::info!(
                    jobs,
                    deadline_s = (budget - reserve).as_secs_f64(),
                    "draining: taking no jobs"
                );
                self.drain = Some(DrainProgress {
                    started: SystemTime::now(),
                    budget,
                    jobs_at_start: jobs,
                    jobs_finished: 0,
                    declined: 0,
                });
            }
            Phase::Draining => {}
            Phase::Drained => tracing::debug!("drained"),
        }
    }

    fn declined(&mut self, job: &str, why: Declined, metrics: &Metrics) {
        metrics.declined.of(reason(why)).inc();
        if let Some(drain) = &mut self.drain {
            drain.declined += 1;
        }
        tracing::info!(job_id = job, ?why, "offer declined");
    }

    fn ended(&mut self, job: &str, end: &End, metrics: &Metrics) {
        if let Some(drain) = &mut self.drain {
            drain.jobs_finished += 1;
        }
        match end {
            End::Success => {
                self.succeeded += 1;
                metrics.jobs.of(Outcome::Success).inc();
                tracing::info!(job_id = job, "job finished");
            }
            End::Failed(error) => {
                self.failed += 1;
                metrics.jobs.of(Outcome::Failed).inc();
                tracing::error!(job_id = job, %error, "job failed");
            }
        }
    }

    pub(super) fn told(&mut self, job: &JobId, reason: StopReason) {
        let what = match reason {
            StopReason::Terminated => "terminated",
            StopReason::Requested => "shutdown_requested",
            StopReason::DrainDeadline => "drain_deadline",
        };
        tracing::info!(job_id = %job, why = what, "job told to stop");
        self.spans.happened(job, what);
    }

    /// What the last log line says.
    pub(super) fn report(&self, outcome: last_call_proto::Outcome) -> Report {
        Report { outcome, succeeded: self.succeeded, failed: self.failed, ..Report::new() }
    }

    /// Shows the state as it is now, if it differs from what was shown.
    pub(super) fn publish(&self, core: &Worker, away: bool, shown: &watch::Sender<Snapshot>) {
        let now = Snapshot {
            phase: core.phase(),
            registered: core.link() == LinkState::Registered,
            away,
            wedged: core.wedged(),
            worker_id: (!self.worker_id.is_empty()).then(|| self.worker_id.clone()),
            active_jobs: core.jobs().running(),
            accepted_jobs: core.jobs().accepted(),
            load: core.load(),
            drain: self.drain.clone(),
        };
        shown.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
    }
}

fn reason(why: Declined) -> DeclineReason {
    match why {
        Declined::Draining => DeclineReason::Draining,
        Declined::Quiet => DeclineReason::Quiet,
        Declined::Full => DeclineReason::Full,
        Declined::Load => DeclineReason::Load,
        Declined::Wedged => DeclineReason::Wedged,
        Declined::Slow => DeclineReason::Slow,
        Declined::Rejected | Declined::Terminated | Declined::Failed => DeclineReason::Handler,
        Declined::Duplicate => DeclineReason::Duplicate,
        Declined::Leaving => DeclineReason::Leaving,
        Declined::Ended => DeclineReason::Ended,
    }
}
