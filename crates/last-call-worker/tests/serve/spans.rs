//! The spans of jobs, where the program's tracer provider takes them, and where it misbehaves.
//!
//! Owns that provider, of which a process has one. Refuses what the worker exports itself, which black-box
//! tests see.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Job, Stub};
use last_call_worker::{Error, JobContext, Outcome, Worker};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use tokio::sync::oneshot;

use super::{PATIENCE, full, options, reported, secret_file};

/// Where a processor is called, and the id of the job whose span it is about.
type Call = (&'static str, String);

/// A processor that does what a job's id says: block, or panic, at the start or the end of its span.
#[derive(Debug, Default)]
struct Rude {
    seen: Mutex<Seen>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    entered: Vec<Call>,
    let_go: Vec<String>,
    ended: Vec<SpanData>,
}

fn rude() -> &'static Rude {
    static RUDE: OnceLock<&'static Rude> = OnceLock::new();
    RUDE.get_or_init(|| {
        let rude: &Rude = Box::leak(Box::default());
        let provider = SdkTracerProvider::builder().with_span_processor(Processor(rude)).build();
        opentelemetry::global::set_tracer_provider(provider);
        rude
    })
}

impl Rude {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    fn await_seen<T>(&self, what: &str, see: impl Fn(&Seen) -> Option<T>) -> T {
        let waited = self.moved.wait_timeout_while(self.seen(), PATIENCE, |seen| see(seen).is_none());
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        see(&seen).unwrap_or_else(|| panic!("waited in vain for {what}: {seen:?}"))
    }

    fn called(&self, at: &'static str, job: &str) {
        self.seen().entered.push((at, job.to_owned()));
        self.moved.notify_all();
        if job.ends_with(&format!("blocks_at_{at}")) {
            let held = |seen: &mut Seen| !seen.let_go.iter().any(|free| free == job);
            drop(self.moved.wait_while(self.seen(), held));
        }
        assert!(!job.ends_with(&format!("panics_at_{at}")), "told to panic at the {at}");
    }

    fn let_go(&self, job: &str) {
        self.seen().let_go.push(job.to_owned());
        self.moved.notify_all();
    }

    #[track_caller]
    fn await_call(&self, at: &'static str, job: &str) {
        let is_it = |call: &Call| call.0 == at && call.1 == job;
        self.await_seen("the processor", |seen| seen.entered.iter().any(is_it).then_some(()));
    }

    /// The events of a job's span that has ended.
    #[track_caller]
    fn events(&self, job: &str) -> Vec<String> {
        let ended = |seen: &Seen| seen.ended.iter().find(|span| id(&span.attributes) == job).cloned();
        let span = self.await_seen("the end of the span", ended);
        span.events.iter().map(|event| event.name.to_string()).collect()
    }
}

#[derive(Debug)]
struct Processor(&'static Rude);

impl SpanProcessor for Processor {
    fn on_start(&self, span: &mut Span, _: &Context) {
        let job = span.exported_data().map(|span| id(&span.attributes)).unwrap_or_default();
        self.0.called("start", &job);
    }

    fn on_end(&self, span: SpanData) {
        let job = id(&span.attributes);
        self.0.called("end", &job);
        self.0.seen().ended.push(span);
        self.0.moved.notify_all();
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn id(attributes: &[KeyValue]) -> String {
    let id = attributes.iter().find(|attribute| attribute.key.as_str() == "lk.job_id");
    id.map(|id| Value::to_string(&id.value)).unwrap_or_default()
}

/// Serves `worker` while `server` plays the server's part, which may tell it to drain.
async fn serve(
    worker: Worker,
    flags: &[&str],
    server: impl FnOnce(Stub, oneshot::Sender<()>) + Send + 'static,
) -> Outcome {
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    let (shutdown, asked) = oneshot::channel::<()>();
    let options = options(&stub, &secret, flags);
    let serving = tokio::spawn(worker.serve(options, async move {
        asked.await.expect("asked");
    }));
    tokio::task::spawn_blocking(move || {
        stub.wait_registered(0, PATIENCE).expect("registered");
        server(stub, shutdown);
    })
    .await
    .expect("the server's side");
    serving.await.expect("no panic").expect("it started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_is_a_span_of_the_programs_own_provider() {
    let provider = rude();
    let outcome = serve(super::stays(), &[], |stub, shutdown| {
        stub.offer(Job::new("AJ_traced")).expect("offered");
        stub.wait_for(reported(JobStatus::JsRunning), PATIENCE).expect("running");
        shutdown.send(()).expect("the worker waits");
    });
    assert_eq!(outcome.await, Outcome::Finished);
    assert_eq!(provider.events("AJ_traced"), ["accepted", "assigned", "draining"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drain_2_a_processor_that_blocks_holds_its_job_and_not_the_link() {
    let provider = rude();
    for (at, job) in [("start", "AJ_blocks_at_start"), ("end", "AJ_blocks_at_end")] {
        let returns = Worker::new("embedded").load(|| 0.1).entrypoint(async |_| Ok::<_, Error>(()));
        let outcome = serve(returns, &[], move |stub, shutdown| {
            stub.offer(Job::new(job)).expect("offered");
            provider.await_call(at, job);
            shutdown.send(()).expect("the worker waits");
            stub.wait_for(full, PATIENCE).expect("full");
            provider.let_go(job);
            stub.wait_for(reported(JobStatus::JsSuccess), PATIENCE).expect("finished");
        });
        assert_eq!(outcome.await, Outcome::Finished, "{job}");
        provider.events(job);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_processor_that_panics_costs_the_span_and_not_the_job() {
    let provider = rude();
    for (at, job) in [("start", "AJ_panics_at_start"), ("end", "AJ_panics_at_end")] {
        let outcome = serve(super::stays(), &[], move |stub, shutdown| {
            stub.offer(Job::new(job)).expect("offered");
            stub.wait_for(reported(JobStatus::JsRunning), PATIENCE).expect("running");
            shutdown.send(()).expect("the worker waits");
            stub.wait_for(full, PATIENCE).expect("full");
            stub.wait_for(reported(JobStatus::JsSuccess), PATIENCE).expect("finished");
        });
        assert_eq!(outcome.await, Outcome::Finished, "{job}");
        provider.await_call(at, job);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_span_of_a_killed_job_ends_and_its_processor_holds_nobody() {
    let provider = rude();
    let never = Worker::new("embedded").load(|| 0.1).entrypoint(async |job: JobContext| {
        job.add_shutdown_callback(|_| std::future::pending());
        Ok::<_, Error>(())
    });
    const JOB: &str = "AJ_killed_blocks_at_end";
    let outcome = serve(never, &["--stop-grace", "50ms"], move |stub, shutdown| {
        stub.offer(Job::new(JOB)).expect("offered");
        stub.wait_for(reported(JobStatus::JsFailed), PATIENCE).expect("killed");
        provider.await_call("end", JOB);
        shutdown.send(()).expect("the worker waits");
        stub.wait_for(full, PATIENCE).expect("full");
        provider.let_go(JOB);
    });
    assert_eq!(outcome.await, Outcome::Finished);
    assert_eq!(provider.events(JOB), ["accepted", "assigned", "killed"]);
}
