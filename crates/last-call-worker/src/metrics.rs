//! What the worker counts, in the OpenMetrics text format.
//!
//! Owns the names, the labels and the buckets. Refuses measurement: drivers say what happened, and what
//! a [`Snapshot`] knows is read from it at each scrape. Counting is an atomic addition and never waits
//! for a scrape, except for histograms, which share a lock with it for as long as copying takes.
//!
//! The names of LiveKit's Python SDK (`lk_agents_…`) are kept so that dashboards go on working.

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use last_call_proto::Phase;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::jobs::Jobs;
use crate::observe::Snapshot;

mod label;

pub(crate) use label::{By, DeclineReason, Outcome, Rejected, Rescued, Stage};

/// The media type of [`Metrics::encode`]'s text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The Python SDK's buckets, in seconds.
const INITIALIZE_BUCKETS: [f64; 6] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Around the server's patience of 3 s for an answer and ours of 2 s, in seconds.
const DISPATCH_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 7.5];
/// Around the promise of 10 ms at the 99th percentile and 100 ms at most, in seconds.
const FULL_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

const NEW_COUNTER: fn() -> Counter = Counter::default;
const NEW_DISPATCH: fn() -> Histogram = || Histogram::new(DISPATCH_BUCKETS);

/// Every metric of a worker. Share it in an `Arc`; what is public here is counted by the drivers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    from_snapshot: FromSnapshot,
    /// How long a job process took from spawn to ready, in seconds.
    pub(crate) initialize_seconds: Histogram,
    /// Processes that the worker has started and that still live.
    pub(crate) child_processes: Gauge,
    /// Offers received.
    pub(crate) offers: Counter,
    /// Offers accepted.
    pub(crate) accepted: Counter,
    /// Offers declined, by reason.
    pub(crate) declined: By<DeclineReason, Counter>,
    /// Offers whose connection was lost before the answer left.
    pub(crate) offers_lost: Counter,
    /// Decisions of user code that came after the offer had been answered for it.
    pub(crate) late_decisions: Counter,
    /// Accepted offers whose assignment never came.
    pub(crate) assignments_missed: Counter,
    /// Assignments of jobs that were not accepted here.
    pub(crate) assignments_unknown: Counter,
    /// Jobs that run, and what their processes use.
    pub(crate) running: Jobs,
    /// Jobs ended, by outcome.
    pub(crate) jobs: By<Outcome, Counter>,
    /// Calls whose agent died, by what became of them.
    pub(crate) rescues: By<Rescued, Counter>,
    /// Calls that are to be dispatched again.
    pub(crate) rescues_pending: Gauge,
    /// Frames from the server that were not used, by reason.
    pub(crate) frames_rejected: By<Rejected, Counter>,
    /// Connections opened after the first.
    pub(crate) reconnects: Counter,
    /// Registrations that the server confirmed.
    pub(crate) registrations: Counter,
    /// A job's way into the worker, by stage, in seconds.
    pub(crate) dispatch_seconds: By<Stage, Histogram>,
    /// From the link's reading of the signal to `WS_FULL` on the socket, in seconds.
    pub(crate) signal_to_full_seconds: Histogram,
}

/// What is known only at a scrape.
#[derive(Debug)]
struct FromSnapshot {
    active_jobs: Gauge,
    load: Gauge<f64, AtomicU64>,
    registered: Gauge,
    draining: Gauge,
    wedged: Gauge,
    drain_jobs_remaining: Gauge,
    drain_seconds_remaining: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Fresh metrics of a worker of `version`, all at 0.
    pub(crate) fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", version.to_owned())]);
        registry.register("last_call_build", "The version of this worker's framework", build);
        let node = (Cow::from("nodename"), Cow::from(node_name()));
        let sdk = registry.sub_registry_with_label(node);
        let histogram = |buckets: &[f64]| Histogram::new(buckets.iter().copied());
        let (name, help) =
            ("lk_agents_proc_initialize_duration_seconds", "Time taken to initialize a process");
        let initialize_seconds = add(sdk, name, help, histogram(&INITIALIZE_BUCKETS));
        let child_processes =
            add(sdk, "lk_agents_child_process_count", "Total number of child processes", Gauge::default());
        let active_jobs = add(sdk, "lk_agents_active_job_count", "Active jobs", Gauge::default());
        let load = add(sdk, "lk_agents_worker_load", "Worker load, 0 to 1", Gauge::default());

        let own = registry.sub_registry_with_prefix("last_call");
        let running = Jobs::default();
        own.register_collector(Box::new(running.clone()));
        let from_snapshot = FromSnapshot::register(own, active_jobs, load);
        let help = "Calls that are to be dispatched again";
        let rescues_pending = add(own, "rescues_pending", help, Gauge::default());
        let mut counter = |name, help| add(own, name, help, Counter::default());
        Self {
            offers: counter("offers", "Offers received"),
            accepted: counter("offers_accepted", "Offers accepted"),
            offers_lost: counter("offers_lost", "Offers whose connection was lost before the answer"),
            late_decisions: counter("late_decisions", "Decisions that came after the answer had to leave"),
            assignments_missed: counter("assignments_missed", "Accepted offers never assigned"),
            assignments_unknown: counter("assignments_unknown", "Assignments of jobs not accepted here"),
            reconnects: counter("reconnects", "Connections opened after the first"),
            registrations: counter("registrations", "Registrations that the server confirmed"),
            declined: By::register(own, "offers_declined", "Offers declined", "reason", NEW_COUNTER),
            jobs: By::register(own, "jobs", "Jobs ended", "outcome", NEW_COUNTER),
            rescues: By::register(own, "rescues", "Calls whose agent died", "verdict", NEW_COUNTER),
            rescues_pending,
            frames_rejected: By::register(
                own,
                "frames_rejected",
                "Frames from the server that were not used",
                "reason",
                NEW_COUNTER,
            ),
            dispatch_seconds: By::register(
                own,
                "dispatch_latency_seconds",
                "A job's way into the worker",
                "stage",
                NEW_DISPATCH,
            ),
            signal_to_full_seconds: add(
                own,
                "signal_to_full_seconds",
                "From the moment when the link reads the signal to WS_FULL on the socket",
                histogram(&FULL_BUCKETS),
            ),
            running,
            initialize_seconds,
            child_processes,
            from_snapshot,
            registry,
        }
    }

    /// All metrics as [`CONTENT_TYPE`] text; `snapshot` fills in the gauges.
    pub(crate) fn encode(&self, snapshot: &Snapshot) -> String {
        self.from_snapshot.set(snapshot, SystemTime::now());
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a String cannot fail");
        page
    }
}

impl FromSnapshot {
    fn register(own: &mut Registry, active_jobs: Gauge, load: Gauge<f64, AtomicU64>) -> Self {
        let mut gauge = |name, help| add(own, name, help, Gauge::default());
        Self {
            registered: gauge("registered", "1 while the server has this worker registered"),
            draining: gauge("draining", "1 from the start of the drain"),
            wedged: gauge("wedged", "1 while user code does not answer heartbeats"),
            drain_jobs_remaining: gauge("drain_jobs_remaining", "Jobs that the drain waits for"),
            drain_seconds_remaining: add(
                own,
                "drain_seconds_remaining",
                "What is left of the drain's budget, 0 before a drain",
                Gauge::default(),
            ),
            active_jobs,
            load,
        }
    }

    fn set(&self, snapshot: &Snapshot, now: SystemTime) {
        self.active_jobs.set(snapshot.active_jobs.into());
        self.load.set(snapshot.load.fraction().into());
        self.registered.set(snapshot.registered.into());
        self.draining.set(matches!(snapshot.phase, Phase::Draining | Phase::Drained).into());
        self.wedged.set(snapshot.wedged.into());
        let drain = snapshot.drain.as_ref();
        self.drain_jobs_remaining.set(drain.map_or(0, |_| snapshot.jobs_held()).into());
        self.drain_seconds_remaining.set(drain.map_or(0.0, |drain| drain.time_left(now).as_secs_f64()));
    }
}

/// Registers `metric` and hands it back: a metric is a handle, its clones count together.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// The host's name as the kernel has it; empty where it is no text.
fn node_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
