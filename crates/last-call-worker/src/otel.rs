//! OpenTelemetry: a span for each job, and the metrics, pushed to a collector over OTLP/HTTP.
//!
//! Owns the threads that export, and what a job's span says. Refuses options of its own, for the standard
//! variables hold; personal data; and to be waited for: a collector that does not answer costs telemetry and
//! nothing else.

mod client;
mod job;
mod page;
mod push;
mod variables;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Compression, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SdkTracerProvider,
};
use tokio::sync::watch;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::metrics::Metrics;
use crate::observe::Snapshot;
use client::Client;
pub(crate) use job::{JobSpans, JobTrace};
use push::{Push, Target};
use variables::{METRICS, SpanTarget, Variables};

/// The instrumentation scope of what this crate exports.
const SCOPE: &str = env!("CARGO_PKG_NAME");

/// What is still queued at the exit has this long to leave.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_millis(70);

/// The part of it that spans of killed jobs have to end.
const KILLED_WITHIN: Duration = Duration::from_millis(20);

/// What this process exports, once [`start`] was called.
static EXPORT: OnceLock<Export> = OnceLock::new();

struct Export {
    traces: Option<SdkTracerProvider>,
    metrics: Option<Target>,
    resource: Resource,
    started: SystemTime,
    push: OnceLock<Push>,
}

/// What is wrong with the variables, to be said once there is a log.
#[must_use]
pub(crate) struct Complaints(Vec<String>);

impl Complaints {
    pub(crate) fn log(self) {
        for error in self.0 {
            tracing::warn!(error, "no telemetry is exported");
        }
    }
}

/// Reads the standard variables and starts to export spans if they name a collector. Without one no thread
/// is started. What cannot be read is not exported, and never keeps a worker from starting.
pub(crate) fn start() -> Complaints {
    let mut complaints = Vec::new();
    let variables = Variables::new(|name| std::env::var_os(name));
    let traces = wanted(variables.spans(), &mut complaints);
    let metrics = wanted(variables.target(&METRICS), &mut complaints);
    if traces.is_none() && metrics.is_none() {
        return Complaints(complaints);
    }
    let resource = resource();
    let traces = traces.and_then(|target| wanted(spans_to(target, &resource).map(Some), &mut complaints));
    if let Some(traces) = &traces {
        opentelemetry::global::set_tracer_provider(traces.clone());
    }
    let export = Export { traces, metrics, resource, started: SystemTime::now(), push: OnceLock::new() };
    // A second worker in this process goes on with what the first one began.
    let _ = EXPORT.set(export);
    Complaints(complaints)
}

/// What is not complained of. A variable of both kinds is complained of once.
fn wanted<T>(read: Result<Option<T>, String>, complaints: &mut Vec<String>) -> Option<T> {
    read.unwrap_or_else(|error| {
        if !complaints.contains(&error) {
            complaints.push(error);
        }
        None
    })
}

/// Everything is given, so that the SDK reads no variable in a way of its own.
fn spans_to(target: SpanTarget, resource: &Resource) -> Result<SdkTracerProvider, String> {
    let SpanTarget { target, gzip, sampler, delay, queue, batch } = target;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(&target, "spans"))
        .with_endpoint(target.endpoint.to_string())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(target.timeout);
    if gzip {
        exporter = exporter.with_compression(Compression::Gzip);
    }
    // The SDK's own words are not shown: they quote what may hold a password.
    let exporter = exporter.build().map_err(|_| "the exporter of spans cannot be made".to_owned())?;
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(delay)
        .with_max_queue_size(queue)
        .with_max_export_batch_size(batch);
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    let provider = SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler);
    Ok(provider.with_span_processor(processor).build())
}

/// Who exports: what the variables say, and a number that keeps the metrics of replicas apart.
fn resource() -> Resource {
    let instance = RandomIdGenerator::default().new_trace_id().to_string();
    Resource::builder()
        .with_attribute(KeyValue::new("service.instance.id", instance))
        // Last, so that it wins.
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

/// Makes children of a job's span from the spans that user code opens by `tracing`. None where spans are not
/// exported.
pub(crate) fn layer<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    let traces = EXPORT.get()?.traces.as_ref()?;
    let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer(SCOPE));
    Some(layer.with_filter(FilterFn::new(is_users)))
}

/// The framework's own spans are the log's; a job's is made without `tracing`.
fn is_users(of: &Metadata<'_>) -> bool {
    let library = of.target().split("::").next().unwrap_or_default();
    !matches!(library, "last_call" | "last_call_worker")
}

/// Starts to push `metrics`, as they are served on `/metrics`, if the variables name a collector for them.
pub(crate) fn export(metrics: &Arc<Metrics>, snapshot: &watch::Receiver<Snapshot>) {
    let Some(Export { metrics: Some(target), resource, started, push, .. }) = EXPORT.get() else { return };
    let (metrics, snapshot) = (metrics.clone(), snapshot.clone());
    let page = move || {
        // Not under its lock, which the link takes at every turn.
        let snapshot = snapshot.borrow().clone();
        metrics.encode(&snapshot)
    };
    match Push::start(target, resource, *started, page) {
        // The metrics of a second worker in this process are not those of the first.
        Ok(started) => drop(push.set(started)),
        Err(error) => tracing::warn!(%error, "no metrics are exported: no thread for it"),
    }
}

/// Exports what is still queued, for 80 ms at most, and no more after that. Call it when the last job has
/// ended.
pub(crate) fn finish() {
    let Some(Export { traces, push, .. }) = EXPORT.get() else { return };
    let deadline = Instant::now() + FLUSH_WITHIN;
    let pushed = push.get().map(Push::last);
    if let Some(traces) = traces {
        job::killed_ended(KILLED_WITHIN);
        // Late is the collector's fault, which the exporter has said.
        let _ = traces.shutdown_with_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    if let Some(pushed) = pushed {
        let _ = pushed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    client::fall_silent();
}
