//! What a job's process may use, and what operators see of it.
//!
//! Owns `/worker/jobs`, the series for each job, and the limits of `--runner process`. Refuses those of programs, which
//! `last-call run` is tested for by itself.

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Signal, Stub};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::rig::{Running, probe, until};
use crate::seen::Seen;

fn worker(stub: &Stub, options: &[&str]) -> Running {
    probe(stub.url()).env("LAST_CALL_RUNNER", "process").register(stub, options)
}

fn lines(worker: &Running) -> Vec<Value> {
    let page: Value = serde_json::from_str(&worker.get("/worker/jobs").body).expect("JSON");
    page["jobs"].as_array().expect("a list").clone()
}

#[test]
fn operators_see_what_each_job_s_process_uses_until_it_ends() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, &[]);
    assert_eq!(lines(&worker), [] as [Value; 0]);
    stub.run_job("one", json!({"sleep": 3600}));
    stub.run_job("two", json!({"sleep": 3600}));
    until("both to be measured", || {
        lines(&worker).iter().filter(|line| line["memory_bytes"].is_u64()).count() == 2
    });
    let one = lines(&worker).into_iter().find(|line| line["job_id"] == "one").expect("a line");
    assert_eq!(one["pid"], worker.process_of("one"));
    assert!(one["memory_bytes"].as_u64() > Some(100_000), "{one}");
    assert!(one["cpu_seconds"].as_f64() >= Some(0.0) && one["seconds"].as_f64() > Some(0.0), "{one}");
    assert!(worker.metric("last_call_job_memory_bytes{job_id=\"two\"}") > 100_000.0);
    assert!(worker.metric("last_call_job_cpu_seconds_total{job_id=\"two\"}") >= 0.0);
    stub.terminate("two").expect("the connection stands");
    stub.end_of("two");
    until("its line to go", || lines(&worker).len() == 1);
    assert!(!worker.get("/metrics").body.contains("job_id=\"two\""));
    worker.send(Signal::SIGTERM);
    stub.terminate("one").expect("the connection stands");
    worker.ends_with(0);
}

#[test]
fn a_job_that_is_a_task_has_a_line_without_a_process() {
    let stub = Stub::auto().expect("a stub");
    let worker = probe(stub.url()).with_tasks().register(&stub, &[]);
    stub.run_job("one", json!({"sleep": 3600}));
    until("its line", || lines(&worker).len() == 1);
    let line = lines(&worker).remove(0);
    assert_eq!((&line["job_id"], line.get("pid")), (&json!("one"), None));
}

#[test]
fn job_3_more_memory_than_allowed_ends_the_job_and_no_other() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, &["--memory-limit=1KiB", "--memory-warn=1KiB"]);
    stub.run_job("large", json!({"sleep": 3600}));
    let end = stub.end_of("large");
    assert_eq!(end.status(), JobStatus::JsFailed);
    assert!(end.error.starts_with("its process ended: over its memory limit: "), "{}", end.error);
    worker.log("the job uses much memory");
    assert!(worker.try_wait().is_none(), "the worker goes on");
}

#[test]
fn job_3_a_process_that_answers_no_ping_is_ended() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, &["--ping-limit=600ms"]);
    stub.run_job("well", json!({"sleep": 3600}));
    stub.run_job("stuck", json!({"sleep": 3600}));
    let process = worker.process_of("stuck");
    kill(Pid::from_raw(process), Signal::SIGSTOP).expect("the process is alive");
    let end = stub.end_of("stuck");
    assert_eq!(
        (end.status(), end.error.as_str()),
        (JobStatus::JsFailed, "its process ended: no answer for 600ms")
    );
    until("its line to be gone", || lines(&worker).len() == 1);
}

#[test]
fn limits_are_taken_on_by_the_process_before_its_job() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, &["--open-files=99"]);
    stub.run_job("one", json!({"sleep": 3600}));
    let process = worker.process_of("one");
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("its limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        (limit("Max open files"), limit("Max core file size")),
        (vec!["99".into(); 2], vec!["1".into(); 2])
    );
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(field("NoNewPrivs:"), Some("1"));
    // Nothing is blocked in it, which would be in what it starts.
    assert_eq!(field("SigBlk:"), Some("0000000000000000"));
}

#[test]
fn a_limit_for_jobs_that_are_tasks_is_refused() {
    let worker = probe("ws://127.0.0.1:1").with_tasks().start(&["--memory-limit=1GiB"]);
    worker.ends_with(2);
    assert!(worker.output().contains("--runner process"), "{}", worker.output());
}
