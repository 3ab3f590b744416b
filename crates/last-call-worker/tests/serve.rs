//! `Worker::serve`: a worker inside a program that has a runtime, and flags, of its own.

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::proto::{JobStatus, WorkerStatus};
use last_call_testkit::{Event, Job, Stub};
use last_call_worker::{Error, JobContext, Options, Outcome, Worker};
use tokio::sync::oneshot;

#[cfg(feature = "otel")]
#[path = "serve/spans.rs"]
mod spans;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program's own flags, with the worker's among them.
#[derive(Parser)]
struct Flags {
    #[arg(long)]
    mine: bool,
    #[command(flatten)]
    options: Options,
}

fn options(stub: &Stub, secret: &tempfile::NamedTempFile, more: &[&str]) -> Options {
    let (url, secret) = (stub.url(), secret.path().to_str().expect("a path in UTF-8").to_owned());
    let flags =
        ["app", "--mine", "--url", &url, "--api-key", "key", "--api-secret-file", &secret, "--http", "off"];
    let flags = Flags::try_parse_from(flags.iter().chain(more)).expect("flags of both kinds");
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
    let options = options(&stub, &secret, &[]);
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

#[tokio::test]
async fn what_needs_a_process_of_its_own_is_refused() {
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    for (more, said) in [(&["--reap"][..], "--reap"), (&["--runner", "process"], "LAST_CALL_RUNNER")] {
        let serving = stays().serve(options(&stub, &secret, more), std::future::ready(()));
        let refused = serving.await.expect_err("refused");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_9_a_worker_whose_future_is_dropped_is_forced_to_leave() {
    let (stub, secret) = (Stub::auto().expect("a stub"), secret_file());
    let options = options(&stub, &secret, &[]);
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
