//! The init that a program becomes as process 1, and elsewhere by `--reap`: what it reaps, passes on and takes along.
//!
//! Owns the claims about both. Refuses to skip the second where the first needs root.

use std::time::{Duration, Instant};

use last_call_testkit::processes::{below, children, runs, state};
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Launch, Signal, Stub, pid_1_possible, skip};
use serde_json::json;

use crate::processes::{ends, processes, signal};
use crate::rig::{Running, Start, early_threads, probe, probe_on_a_terminal, until};
use crate::seen::Seen;

/// Longer than what a worker takes for one keystroke.
const TWO_KEYSTROKES: Duration = Duration::from_millis(500);

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

/// The ways to an init, as far as they are open here.
fn inits() -> Vec<fn(Start) -> Start> {
    let mut inits: Vec<fn(Start) -> Start> = vec![|start| start.env("LAST_CALL_REAP", "true")];
    match pid_1_possible() {
        Ok(()) => inits.push(|start| start.launch(Launch::pid_1)),
        Err(error) => skip(format!("{error:#}")),
    }
    inits
}

/// The worker of an init: the first child that it started.
#[track_caller]
fn worker_under(init: i32) -> i32 {
    children(init).into_iter().min().expect("the init has started the worker")
}

fn pid(running: &Running) -> i32 {
    i32::try_from(running.pid()).expect("a process number")
}

#[test]
fn drain_10_an_init_reaps_orphans_and_no_status_of_user_code() {
    for init in inits() {
        for jobs in [Start::with_tasks, Start::with_processes] {
            let stub = stub();
            let init = jobs(init(probe(stub.url()))).register(&stub, &[]);
            let worker = worker_under(pid(&init));
            stub.run_job("call", json!({"orphans": 500}));
            let end = stub.end_of("call");
            assert_eq!(end.status(), JobStatus::JsSuccess, "{end:?}");
            until("all orphans to be reaped", || children(pid(&init)) == [worker]);
            init.send(Signal::SIGTERM);
            init.ends_with(0);
        }
    }
}

#[test]
fn drain_10_under_an_init_nothing_outlives_a_worker_that_was_killed() {
    for init in inits() {
        let stub = stub();
        let init = processes(init(probe(stub.url())), &stub, &["--idle-processes=1"]);
        stub.run_job("call", json!({"sleep": 3600, "stray": true}));
        let worker = worker_under(pid(&init));
        // By its name, since a worker behind guard is not heard here.
        let stray = |process: i32| {
            std::fs::read(format!("/proc/{process}/comm")).is_ok_and(|name| name == b"sleep\n")
        };
        until("what the job started", || below(worker).into_iter().any(stray));
        let processes = below(worker);
        signal(worker, Signal::SIGKILL);
        init.ends_with(128 + 9);
        let left: Vec<i32> = processes.into_iter().filter(|process| runs(*process)).collect();
        assert!(left.is_empty(), "{left:?} were there when the init had left");
    }
}

#[test]
fn drain_10_a_worker_ends_with_its_init_that_was_killed() {
    let stub = stub();
    let init = processes(probe(stub.url()).env("LAST_CALL_REAP", "1"), &stub, &["--idle-processes=1"]);
    stub.run_job("call", json!({"sleep": 3600}));
    let (worker, process) = (worker_under(pid(&init)), init.process_of("call"));
    init.send(Signal::SIGKILL);
    ends(worker);
    ends(process);
}

#[test]
fn drain_10_a_worker_whose_init_is_gone_before_it_begins_does_not_begin() {
    let stub = stub();
    let gone = Launch::new("true").spawn().expect("a process");
    gone.wait(Duration::from_secs(30)).expect("its end");
    let worker = probe(stub.url()).env("LAST_CALL_INIT", gone.pid().to_string()).start(&["--reap"]);
    worker.ends_with(2);
    assert!(worker.output().contains("names an init that is gone"), "{}", worker.output());
    assert!(!stub.ever_registered());
}

#[test]
fn drain_8_the_code_of_a_worker_is_its_inits_whatever_its_parent_ignores() {
    for init in inits() {
        let stub = stub();
        let careless = |launch: Launch| launch.ignored(Signal::SIGCHLD).ignored(Signal::SIGTERM);
        let init = init(probe(stub.url()).launch(careless)).register(&stub, &["--drain-timeout=1s"]);
        stub.run_job("call", json!({"sleep": 3600, "ignore_cancel": true}));
        init.send(Signal::SIGTERM);
        init.ends_with(4);
        assert_eq!(init.last_words()["exit_code"], 4);
    }
}

#[test]
fn drain_9_an_init_passes_each_signal_on() {
    for (sent, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0), (Signal::SIGHUP, 0), (Signal::SIGQUIT, 5)]
    {
        for init in inits() {
            let stub = stub();
            let init = init(probe(stub.url())).register(&stub, &[]);
            stub.run_job("call", json!({"sleep": 3600}));
            let mark = stub.mark();
            init.send(sent);
            if code == 0 {
                stub.full(mark);
                stub.terminate("call").expect("the connection stands");
            }
            init.ends_with(code);
        }
    }
}

/// The program on a terminal, its init and its worker; the key is SIGUSR1 to the first.
struct Terminal {
    running: Running,
    init: i32,
    worker: i32,
}

impl Terminal {
    fn with_a_call(stub: &Stub) -> Self {
        // Should the test fail, the program sees the terminal hang up, and drains.
        let running =
            probe_on_a_terminal(stub.url()).env("LAST_CALL_REAP", "1").env("LAST_CALL_LOG_FORMAT", "json");
        let running = running.register(stub, &["--drain-timeout=60s"]);
        stub.run_job("call", json!({"sleep": 3600}));
        let init = worker_under(pid(&running));
        Self { worker: worker_under(init), init, running }
    }

    #[track_caller]
    fn ctrl_c(&self) {
        self.running.send(Signal::SIGUSR1);
    }
}

#[test]
fn drain_9_one_ctrl_c_is_one_though_the_init_hears_of_it_late() {
    let stub = stub();
    let terminal = Terminal::with_a_call(&stub);
    signal(terminal.init, Signal::SIGSTOP);
    until("the init to stand still", || state(terminal.init) == Some('T'));
    let (mark, pressed) = (stub.mark(), Instant::now());
    terminal.ctrl_c();
    stub.full(mark);
    until("a time in which nobody presses a key twice", || pressed.elapsed() > TWO_KEYSTROKES);
    signal(terminal.init, Signal::SIGCONT);
    let pending = || std::fs::read_to_string(format!("/proc/{}/status", terminal.init)).expect("it runs");
    until("the init to have all signals", || pending().contains("ShdPnd:\t0000000000000000"));
    until("the init to wait for more", || state(terminal.init) == Some('S'));
    stub.terminate("call").expect("the connection stands");
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess, "{}", terminal.running.output());
    terminal.running.ends_with(0);
}

#[test]
fn drain_9_a_second_ctrl_c_forces_under_an_init_too() {
    let stub = stub();
    let terminal = Terminal::with_a_call(&stub);
    let (mark, pressed) = (stub.mark(), Instant::now());
    terminal.ctrl_c();
    stub.full(mark);
    until("a time in which nobody presses a key twice", || pressed.elapsed() > TWO_KEYSTROKES);
    terminal.ctrl_c();
    terminal.running.ends_with(5);
    ends(terminal.worker);
}

#[test]
fn a_program_with_threads_becomes_no_init_and_says_so() {
    let stub = stub();
    let worker = early_threads(stub.url()).start(&["--reap"]);
    worker.ends_with(2);
    assert!(worker.output().contains("--reap: main has started threads"), "{}", worker.output());
    if let Err(error) = pid_1_possible() {
        return skip(format!("{error:#}"));
    }
    let worker = early_threads(stub.url()).launch(Launch::pid_1).register(&stub, &[]);
    let warning = worker.log("the worker is process 1 itself, and reaps no orphans");
    assert_eq!((&warning["threads"], &warning["listening"]), (&json!(1), &json!(0)), "{warning}");
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}
