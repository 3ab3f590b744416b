//! The span of each job, as LiveKit's SDKs name it and its attributes: `job_entrypoint`.
//!
//! Owns the spans of the jobs that run. Refuses whatever is personal but the room's name, which is marked as
//! such (`lk.pii.…`), and a lock that user code may hold: what happens to a running job is kept here, and
//! goes into its span when the job is over.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use last_call_proto::{End, JobId};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::SCOPE;
use crate::job::JobInfo;

/// The one field that a trace travels in.
const TRACEPARENT: &str = "traceparent";

/// The spans of the jobs that run. A span that is dropped ends.
#[derive(Default)]
pub(crate) struct JobSpans(HashMap<JobId, JobSpan>);

struct JobSpan {
    context: Context,
    happened: Vec<(&'static str, SystemTime)>,
}

impl JobSpans {
    /// A job was assigned, so long after its offer was accepted: what its tasks run in.
    pub(crate) fn begin(&mut self, id: &JobId, info: &JobInfo, accepted: Option<Duration>) -> JobTrace {
        let now = SystemTime::now();
        let tracer = global::tracer(SCOPE);
        let span = tracer
            .span_builder("job_entrypoint")
            .with_kind(SpanKind::Internal)
            .with_start_time(now)
            .with_attributes([
                KeyValue::new("lk.job_id", info.id().to_owned()),
                KeyValue::new("lk.agent_name", info.agent_name().to_owned()),
                KeyValue::new("lk.pii.room_name", info.room().name().to_owned()),
            ])
            .start_with_context(&tracer, &Context::new());
        let context = Context::new().with_span(span);
        if context.span().is_recording() {
            if let Some(at) = accepted.and_then(|ago| now.checked_sub(ago)) {
                context.span().add_event_with_timestamp("accepted", at, Vec::new());
            }
            context.span().add_event_with_timestamp("assigned", now, Vec::new());
            let happened = Vec::new();
            self.0.insert(id.clone(), JobSpan { context: context.clone(), happened });
        }
        JobTrace(context)
    }

    /// Something happened to a running job just now.
    pub(crate) fn happened(&mut self, id: &JobId, what: &'static str) {
        if let Some(span) = self.0.get_mut(id) {
            span.happened.push((what, SystemTime::now()));
        }
    }

    /// The job is over: its span goes to the exporter's queue, or is dropped if that is full.
    pub(crate) fn end(&mut self, id: &JobId, end: &End) {
        let Some(JobSpan { context, happened }) = self.0.remove(id) else { return };
        let span = context.span();
        for (what, at) in happened {
            span.add_event_with_timestamp(what, at, Vec::new());
        }
        if let End::Failed(text) = end {
            span.set_status(Status::error(text.to_string()));
        }
        span.end();
    }
}

/// What the tasks of one job run in, so that spans which they open are children of the job's.
#[derive(Clone)]
pub(crate) struct JobTrace(Context);

impl JobTrace {
    /// `future`, inside the job's span.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.with_context(self.0.clone())
    }

    /// As it travels to the job's process: a W3C `traceparent`, or nothing.
    pub(crate) fn carried(&self) -> String {
        let mut fields = HashMap::new();
        TraceContextPropagator::new().inject_context(&self.0, &mut fields);
        fields.remove(TRACEPARENT).unwrap_or_default()
    }

    /// As it came from the worker, whose span it is.
    pub(crate) fn continued(carried: &str) -> Self {
        let fields = HashMap::from([(TRACEPARENT.to_owned(), carried.to_owned())]);
        Self(TraceContextPropagator::new().extract_with_context(&Context::new(), &fields))
    }

    /// User code failed: an `exception` event, as OpenTelemetry writes one.
    pub(crate) fn exception(&self, kind: &str, text: &str) {
        let attributes = vec![
            KeyValue::new("exception.type", kind.to_owned()),
            KeyValue::new("exception.message", text.to_owned()),
        ];
        self.0.span().add_event("exception", attributes);
    }
}
