//! `Worker::serve`: a worker inside a program that has a runtime, and flags, of its own.

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::proto::{JobStatus, WorkerStatus};
use last_call_testkit::{Event, Job, Stub};
use last_call_worker::{Error, JobContext, Options, Outcome, Worker};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program's own flags, with the worker's among them.
#[derive(Parser)]
struct Flags {
    #[arg(long)]
    mine: bool,
    #[command(flatten)]
    options: Options,
}

fn options(stub: &Stub, secret: &tempfile::NamedTempFile) -> Options {
    let (url, secret) = (stub.url(), secret.path().to_str().expect("a path in UTF-8").to_owned());
    let flags =
        ["app", "--mine", "--url", &url, "--api-key", "key", "--api-secret-file", &secret, "--http", "off"];
    let flags = Flags::try_parse_from(flags).expect("flags of both kinds");
    assert!(flags.mine);
    flags.options
}

fn secret_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "secret-secret-secret-secret-secret").expect("a line");
    file
}

fn stays() -> Worker {
    Worker::new("embedded").load(|| 0.1).entrypoint(|job: JobContext| async move {
        job.draining().await;
        Ok::<_, Error>(())
    })
}

fn reported(status: JobStatus) -> impl Fn(&Event) -> Option<()> {
    move |event| {
        let Some(FromWorker::UpdateJob(update)) = event.message() else { return None };
        (update.status() == status).then_some(())
    }
}

fn full(event: &Event) -> Option<()> {
    let Some(FromWorker::UpdateWorker(update)) = event.message() else { return None };
    (update.draining && update.status() == WorkerStatus::WsFull).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_1_an_embedded_worker_drains_when_its_program_says_so() {
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    let (shutdown, asked) = oneshot::channel::<()>();
    let options = options(&stub, &secret);
    let serving = tokio::spawn(stays().serve(options, async move {
        asked.await.expect("asked");
    }));
    tokio::task::spawn_blocking(move || {
        stub.wait_registered(0, PATIENCE).expect("registered");
        stub.offer(Job::new("AJ_1")).expect("offered");
        stub.wait_for(reported(JobStatus::JsRunning), PATIENCE).expect("running");
        shutdown.send(()).expect("the worker waits");
        stub.wait_for(full, PATIENCE).expect("full");
        stub.wait_for(reported(JobStatus::JsSuccess), PATIENCE).expect("finished");
    })
    .await
    .expect("the server's side");
    assert_eq!(serving.await.expect("no panic").expect("it started"), Outcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_9_a_worker_whose_future_is_dropped_is_forced_to_leave() {
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    let options = options(&stub, &secret);
    let never =
        Worker::new("embedded").load(|| 0.1).entrypoint(|_| std::future::pending::<Result<(), Error>>());
    let serving = tokio::spawn(never.serve(options, std::future::pending()));
    tokio::task::spawn_blocking(move || {
        stub.wait_registered(0, PATIENCE).expect("registered");
        stub.offer(Job::new("AJ_1")).expect("offered");
        stub.wait_for(reported(JobStatus::JsRunning), PATIENCE).expect("running");
        serving.abort();
        stub.wait_for(reported(JobStatus::JsFailed), PATIENCE).expect("reported as cut off");
    })
    .await
    .expect("the server's side");
}

/// What a program's own tracer provider hands to its exporter.
#[cfg(feature = "otel")]
#[derive(Clone, Debug, Default)]
struct Exported(std::sync::Arc<std::sync::Mutex<Vec<opentelemetry_sdk::trace::SpanData>>>);

#[cfg(feature = "otel")]
impl opentelemetry_sdk::trace::SpanExporter for Exported {
    async fn export(
        &self,
        spans: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.lock().expect("nothing panics here").extend(spans);
        Ok(())
    }
}

#[cfg(feature = "otel")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_a_span_of_the_programs_own_provider() {
    let exported = Exported::default();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder();
    opentelemetry::global::set_tracer_provider(provider.with_simple_exporter(exported.clone()).build());
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    let (shutdown, asked) = oneshot::channel::<()>();
    let serving = tokio::spawn(stays().serve(options(&stub, &secret), async move {
        asked.await.expect("asked");
    }));
    tokio::task::spawn_blocking(move || {
        stub.wait_registered(0, PATIENCE).expect("registered");
        stub.offer(Job::new("AJ_traced")).expect("offered");
        stub.wait_for(reported(JobStatus::JsRunning), PATIENCE).expect("running");
        shutdown.send(()).expect("the worker waits");
    })
    .await
    .expect("the server's side");
    assert_eq!(serving.await.expect("no panic").expect("it started"), Outcome::Finished);
    let spans = exported.0.lock().expect("nothing panics here");
    let id = opentelemetry::KeyValue::new("lk.job_id", "AJ_traced");
    let job = spans.iter().find(|span| span.attributes.contains(&id)).expect("the job's span");
    assert_eq!(job.name, "job_entrypoint");
    let events: Vec<_> = job.events.iter().map(|event| event.name.as_ref()).collect();
    assert_eq!(events, ["accepted", "assigned", "draining"]);
}
