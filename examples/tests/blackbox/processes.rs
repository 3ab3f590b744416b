//! Jobs as processes: what only `--runner process` has. Everything else that holds for jobs is tried with this runner
//! by the other files, when `LAST_CALL_TEST_RUNNER=process` is set.
//!
//! Owns the ends of processes, the pool as it is seen from outside, and what is left behind. Refuses figures.

use std::net::TcpListener;

use last_call_testkit::processes::runs;
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Job, Options, Signal, Stub};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{Jobs, Running, Start, early_threads, probe, probe_at, until};
use crate::seen::Seen;

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

pub(crate) fn processes(start: Start, stub: &Stub, options: &[&str]) -> Running {
    start.with_processes().register(stub, options)
}

/// As many warm processes as are asked for; there are none of programs.
fn idle(wanted: usize) -> usize {
    if Jobs::of_the_suite() == Jobs::Programs { 0 } else { wanted }
}

#[track_caller]
pub(crate) fn ends(pid: i32) {
    until(&format!("process {pid} to end"), || !runs(pid));
}

#[track_caller]
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process is alive");
}

#[track_caller]
fn fails_with(stub: &Stub, job: &str, text: &str) {
    let end = stub.end_of(job);
    assert_eq!((end.status(), end.error.as_str()), (JobStatus::JsFailed, text), "{job}");
}

#[test]
fn job_3_every_end_of_a_process_is_reported_in_words_and_touches_no_other() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=1"]);
    stub.run_job("bystander", json!({"sleep": 3600}));
    let held = json!({"sleep": 3600});
    for (job, orders, sent, text) in [
        ("raises", json!({"raise": true}), None, "told to raise"),
        ("panics", json!({"panic": true}), None, "panicked: told to panic"),
        ("exits", json!({"exit": 3}), None, "its process ended: exit code 3"),
        ("leaves", json!({"exit": 0}), None, "its process ended: exit code 0"),
        ("aborts", json!({"abort": true}), None, "its process ended: killed by SIGABRT"),
        ("killed", held.clone(), Some(Signal::SIGKILL), "its process ended: killed by SIGKILL"),
        ("crashes", held, Some(Signal::SIGSEGV), "its process ended: killed by SIGSEGV"),
    ] {
        stub.run_job(job, orders);
        if let Some(sent) = sent {
            let process = worker.process_of(job);
            // Rust's own handler takes the first SIGSEGV for a full stack.
            until("the signal to end it", || kill(Pid::from_raw(process), sent).is_err() || !runs(process));
        }
        fails_with(&stub, job, text);
    }
    let bystander = worker.process_of("bystander");
    assert!(runs(bystander) && bystander != i32::try_from(worker.pid()).expect("a number"));
    stub.terminate("bystander").expect("the connection stands");
    assert_eq!(stub.end_of("bystander").status(), JobStatus::JsSuccess);
    ends(bystander);
}

#[test]
fn job_3_a_process_that_does_not_start_fails_its_job() {
    for (prewarm, text) in [
        ("fails", "its process did not start: told to fail in prewarming"),
        ("hangs", "its process did not start: not ready within 1s"),
        ("exits", "its process did not start: exit code 7"),
    ] {
        let stub = stub();
        let worker = probe(stub.url()).env("PROBE_PREWARM", prewarm);
        let worker = processes(worker, &stub, &["--idle-processes=0", "--initialize-timeout=1s"]);
        stub.offer(Job::new("call")).expect("a worker is registered");
        fails_with(&stub, "call", text);
        until("no process to be left", || worker.children().is_empty());
    }
}

#[test]
fn a_worker_whose_first_process_does_not_start_says_why() {
    for (prewarm, text) in [
        (
            "fails",
            "prewarm failed: the first process did not get through main and prewarm: told to fail in prewarming",
        ),
        ("hangs", "through main and prewarm: not ready within 1s"),
        ("exits", "through main and prewarm: exit code 7"),
    ] {
        let stub = stub();
        let worker = probe(stub.url()).env("PROBE_PREWARM", prewarm).env("LAST_CALL_RUNNER", "process");
        let worker = worker.start(&["--initialize-timeout=1s"]);
        worker.ends_with(1);
        assert!(worker.output().contains(text), "{}", worker.output());
        assert!(!stub.ever_registered());
    }
}

#[test]
fn what_main_does_before_run_is_done_again_and_warned_about() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let stub = stub();
    let worker = early_threads(stub.url()).env("SUBJECT", "binds a port").env("PORT", port.to_string());
    let worker = worker.env("LAST_CALL_RUNNER", "process").start(&[]);
    worker.ends_with(1);
    let warning = worker.log("main has started threads or opened ports before run");
    assert_eq!((&warning["threads"], &warning["listening"]), (&json!(1), &json!(1)), "{warning}");
    let said = worker.output();
    assert!(said.contains("through main and prewarm: exit code 1: cannot bind the port"), "{said}");
    assert!(!stub.ever_registered());
}

#[test]
fn a_binary_that_a_deploy_replaces_starts_no_other_version() {
    let stub = stub();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent");
    let _worker = processes(probe_at(&path, stub.url()), &stub, &["--idle-processes=1"]);
    std::fs::remove_file(&path).expect("the old one goes");
    std::fs::copy("/bin/false", &path).expect("the new one comes");
    for job in ["one", "two", "three", "four"] {
        stub.run_job(job, json!({}));
        assert_eq!(stub.end_of(job).status(), JobStatus::JsSuccess);
    }
}

#[test]
fn drain_10_without_its_worker_no_process_stays() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=2"]);
    for job in ["listens", "deaf"] {
        stub.run_job(job, json!({"sleep": 3600, "ignore_cancel": job == "deaf"}));
        worker.process_of(job);
    }
    until("two to be warm beside two that work", || worker.children().len() == 2 + idle(2));
    let children = worker.children();
    worker.send(Signal::SIGKILL);
    worker.end();
    children.into_iter().for_each(ends);
}

#[test]
fn drain_10_no_process_outlives_the_drain() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=2", "--drain-timeout=2s"]);
    stub.run_job("deaf", json!({"sleep": 3600, "ignore_cancel": true}));
    worker.process_of("deaf");
    until("two to be warm beside one that works", || worker.children().len() == 1 + idle(2));
    let children = worker.children();
    worker.send(Signal::SIGTERM);
    worker.ends_with(4);
    children.into_iter().for_each(ends);
}

#[test]
fn drain_10_what_a_job_started_ends_with_it() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &[]);
    stub.run_job("call", json!({"stray": true}));
    let stray = worker.log("a program was started")["stray"].as_i64().expect("a number");
    ends(i32::try_from(stray).expect("a process number"));
}

#[test]
fn drain_9_signals_to_every_process_cut_no_job() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &[]);
    stub.run_job("call", json!({"sleep": 3}));
    let process = worker.process_of("call");
    for sent in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signal(process, sent);
        worker.send(sent);
    }
    worker.ends_with(0);
    assert_eq!(worker.diary("call"), ["started", "draining", "finished"]);
}

#[test]
fn an_idle_process_that_dies_is_replaced() {
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=1"]);
    for _ in 0..2 {
        until("one to be warm", || worker.children().len() == 1);
        let idle = worker.children()[0];
        signal(idle, Signal::SIGKILL);
        until("another to be there", || worker.children().first().is_some_and(|other| *other != idle));
    }
    stub.run_job("call", json!({}));
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
}

#[test]
fn a_token_reaches_its_process_and_neither_argument_nor_variable() {
    const TOKEN: &str = "a-token-that-stands-nowhere-else";
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = processes(probe(stub.url()), &stub, &[]);
    let orders = json!({"sleep": 3600, "tell": true}).to_string();
    stub.offer(Job::new("call").metadata(&orders)).expect("a worker is registered");
    assert!(stub.answer("call").available);
    stub.assign("call", Some(TOKEN.into()), None).expect("the connection stands");
    let process = worker.process_of("call");
    let told = std::fs::read_to_string(worker.path("jobs").join("call.json")).expect("what it was told");
    assert!(told.contains(TOKEN), "{told}");
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{process}/{file}")).expect("it runs");
        assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{file}");
    }
    assert!(!worker.output().contains(TOKEN));
}

#[test]
fn two_hundred_jobs_leave_no_process_and_no_file() {
    const JOBS: u32 = 200;
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=1"]);
    let settled = || worker.children().len() == idle(1) && worker.children().into_iter().all(runs);
    // The first brings what stays open for good.
    stub.run_job("first", json!({}));
    stub.end_of("first");
    until("one to be warm again", settled);
    let before = worker.open_fds().expect("it runs") + worker.seen();
    for job in 1..JOBS {
        let job = format!("call-{job}");
        stub.run_job(&job, json!({}));
        assert_eq!(stub.end_of(&job).status(), JobStatus::JsSuccess);
    }
    until("one to be warm at the end", settled);
    until("the files to be as many as before", || worker.open_fds().is_ok_and(|now| now <= before));
}

#[test]
fn job_3_processes_killed_while_others_start_cost_their_own_jobs_alone() {
    const ROUNDS: u32 = 5;
    const JOBS: u32 = 10;
    let stub = stub();
    let worker = processes(probe(stub.url()), &stub, &["--idle-processes=1", "--load-threshold=off"]);
    let settled = || worker.children().len() == idle(1) && worker.children().into_iter().all(runs);
    stub.run_job("first", json!({}));
    stub.end_of("first");
    until("one to be warm again", settled);
    let before = worker.open_fds().expect("it runs") + worker.seen();
    let held = json!({"sleep": 3600}).to_string();
    let name = |round: u32, job: u32| format!("call-{round}-{job}");
    for round in 0..ROUNDS {
        for job in 0..JOBS {
            stub.offer(Job::new(name(round, job)).metadata(&held)).expect("a worker is registered");
            // Half of those of the round before, while these start.
            if round > 0 && job % 2 == 0 {
                signal(worker.process_of(&name(round - 1, job)), Signal::SIGKILL);
            }
        }
        for job in 0..JOBS {
            worker.process_of(&name(round, job));
        }
    }
    for (round, job) in (0..ROUNDS).flat_map(|round| (0..JOBS).map(move |job| (round, job))) {
        let killed = round + 1 < ROUNDS && job % 2 == 0;
        if !killed {
            stub.terminate(&name(round, job)).expect("the connection stands");
        }
        let end = stub.end_of(&name(round, job));
        let expected = if killed { JobStatus::JsFailed } else { JobStatus::JsSuccess };
        assert_eq!(end.status(), expected, "{end:?}");
        assert_eq!(end.error.ends_with("killed by SIGKILL"), killed, "{end:?}");
    }
    until("one to be warm at the end", settled);
    until("the files to be as many as before", || worker.open_fds().is_ok_and(|now| now <= before));
}
