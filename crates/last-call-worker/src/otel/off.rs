//! OpenTelemetry in a build without the feature `otel`: nothing is kept, and nothing is exported.
//!
//! Owns the surface that the rest of the crate sees either way. Refuses to cost anything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use last_call_proto::{End, JobId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing_subscriber::layer::Identity;

use crate::job::JobInfo;
use crate::metrics::Metrics;
use crate::observe::Snapshot;

/// As long as nothing takes.
pub(crate) const FLUSH_WITHIN: Duration = Duration::ZERO;

pub(crate) struct Complaints;

impl Complaints {
    pub(crate) fn log(self) {}
}

pub(crate) fn start() -> Complaints {
    Complaints
}

pub(crate) fn layer() -> Option<Identity> {
    None
}

pub(crate) fn export(_: &Arc<Metrics>, _: &watch::Receiver<Snapshot>) {}

pub(crate) fn finish() {}

#[derive(Default)]
pub(crate) struct JobSpans;

impl JobSpans {
    pub(crate) fn begin(&mut self, _: &JobId, _: &Arc<JobInfo>, _: Option<Duration>) -> JobTrace {
        JobTrace
    }

    pub(crate) fn happened(&mut self, _: &JobId, _: &'static str) {}

    pub(crate) fn end(&mut self, _: &JobId, _: &End) {}
}

pub(crate) struct JobTrace;

impl JobTrace {
    pub(crate) fn run<F: Future>(&self, future: F) -> F {
        future
    }

    pub(crate) fn carried(&self) -> String {
        String::new()
    }

    pub(crate) fn continued(_: &Arc<JobInfo>, _: &str) -> Self {
        Self
    }

    pub(crate) fn exception(&self, _: &str, _: &str) {}

    pub(crate) fn end(&self, _: &End) {}

    pub(crate) fn killed(&self, _: &Handle) {}
}
