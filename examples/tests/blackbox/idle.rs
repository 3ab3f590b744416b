//! Processes that wait for a job: dead ones, frozen ones, and more than are wanted.
//!
//! Owns what a job sees of them, which is nothing. Refuses the pool's decisions, which are explored in the core.

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Signal, Stub};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{Running, probe, until};
use crate::seen::Seen;

fn worker(stub: &Stub, idle: &str) -> Running {
    probe(stub.url()).env("LAST_CALL_RUNNER", "process").register(stub, &["--idle-processes", idle])
}

fn signal_all(worker: &Running, signal: Signal) {
    for process in worker.children() {
        kill(Pid::from_raw(process), signal).expect("it is not reaped yet");
    }
}

#[test]
fn no_job_is_lost_to_a_process_that_dies_while_it_waits() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, "2");
    for round in 0..20 {
        let job = format!("call-{round}");
        until("one to wait", || !worker.children().is_empty());
        // The worker hears of the job before, after or while it hears of the deaths.
        signal_all(&worker, Signal::SIGKILL);
        stub.run_job(&job, json!({}));
        let end = stub.end_of(&job);
        assert_eq!((end.status(), end.error.as_str()), (JobStatus::JsSuccess, ""), "{job}");
    }
}

#[test]
fn a_job_goes_past_a_process_that_is_frozen() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, "1");
    until("one to wait", || worker.children().len() == 1);
    signal_all(&worker, Signal::SIGSTOP);
    stub.run_job("call", json!({}));
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
    let line = worker.log("a process did not take its job");
    assert_eq!((&line["job_id"], &line["ended"]), (&json!("call"), &json!("no answer for 3s")));
}

#[test]
fn jobs_that_end_before_they_have_a_process_leave_none() {
    let stub = Stub::auto().expect("a stub");
    let worker = worker(&stub, "0");
    let jobs: Vec<_> = (0..8).map(|job| format!("call-{job}")).collect();
    for job in &jobs {
        stub.run_job(job, json!({"sleep": 3600}));
        stub.terminate(job).expect("the connection stands");
    }
    for job in &jobs {
        stub.end_of(job);
    }
    until("no process to be left", || worker.children().is_empty());
    stub.run_job("last", json!({}));
    assert_eq!(stub.end_of("last").status(), JobStatus::JsSuccess);
    until("no process to be left", || worker.children().is_empty());
}
