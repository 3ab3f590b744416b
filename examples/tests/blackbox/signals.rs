//! DRAIN-1 and DRAIN-9: no state in which a signal is lost, and no number of signals that does harm.
//!
//! Owns the states that a worker can be in when the signal comes. Refuses what follows from there, which is
//! in `drain.rs`.

use std::fs::File;
use std::net::TcpListener;
use std::time::Instant;

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Cut, Job, Launch, Netns, Options, Signal, Stub, What, pid_1_possible, skip};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::rig::{Running, SOON, Start, early_threads, probe, probe_under_a_subreaper, until};
use crate::seen::{Seen, is_drain};

const STOPS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

/// A stub that registers workers and assigns nothing.
fn unassigning() -> Stub {
    Stub::start(Options { register: true, ..Options::default() }).expect("a stub")
}

/// The signal to a registered worker: WS_FULL, and a clean end.
#[track_caller]
fn drains(worker: &Running, stub: &Stub, signal: Signal) {
    let mark = stub.mark();
    worker.send(signal);
    stub.full(mark);
    worker.ends_with(0);
    assert_eq!(worker.last_words()["exit_code"], 0);
}

#[test]
fn drain_1_a_signal_at_any_moment_of_the_start_ends_it_well() {
    for signal in STOPS {
        // The moments, told by the number of threads that the program has by then.
        for threads in 1..=7 {
            let stub = stub();
            let worker = probe(stub.url()).start(&[]);
            until("the program to have its threads", || worker.threads().is_ok_and(|now| now >= threads));
            worker.send(signal);
            let exit = worker.end();
            let by_default = exit.signal == Some(signal as i32);
            assert!(
                by_default || exit.code == Some(0),
                "{exit:?} with {threads} threads:\n{}",
                worker.output()
            );
            if stub.ever_registered() {
                assert!(!by_default, "killed as a registered worker:\n{}", worker.output());
                assert!(stub.statuses(0).iter().any(is_drain), "left without WS_FULL:\n{}", worker.output());
            }
        }
    }
}

#[test]
fn drain_1_a_signal_as_the_admin_socket_appears_leaves_no_file_behind() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).start(&[]);
        let (socket, began) = (worker.path("admin"), Instant::now());
        // Without a pause, which could last longer than the moment that is meant.
        while !socket.exists() {
            assert!(began.elapsed() < SOON, "no admin socket:\n{}", worker.output());
        }
        worker.send(signal);
        worker.ends_with(0);
        assert!(!socket.exists(), "{}", worker.output());
    }
}

#[test]
fn drain_1_before_there_is_anything_to_drain() {
    for signal in STOPS {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = dir.path().join("secret");
        mkfifo(&secret, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe with a name");
        let arg = format!("--api-secret-file={}", secret.display());
        let worker = probe("ws://127.0.0.1:1").start(&[&arg]);
        // Opened once the worker waits for what it will never read.
        let _unwritten = File::options().write(true).open(&secret).expect("the worker opens it too");
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_while_prewarming() {
    for signal in STOPS {
        let stub = stub();
        let worker = early_threads(stub.url()).env("SUBJECT", "slow start").start(&[]);
        worker.log("prewarming");
        worker.send(signal);
        worker.ends_with(0);
        assert!(!stub.ever_registered());
    }
}

#[test]
fn drain_1_while_the_upgrade_hangs() {
    for signal in STOPS {
        let stub = stub();
        stub.hang_upgrade();
        let worker = probe(stub.url()).start(&[]);
        stub.sees(0, "upgrade", |event| matches!(event.what, What::Hung(_)).then_some(()));
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_while_the_tls_handshake_hangs() {
    for signal in STOPS {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = silent.local_addr().expect("its address");
        let worker = probe(format!("wss://{address}")).start(&[]);
        let _open = silent.accept().expect("the worker connects");
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_while_tcp_hangs() {
    if let Err(error) = Netns::possible() {
        return skip(format!("{error:#}"));
    }
    for signal in STOPS {
        let net = Netns::pair().expect("a pair of namespaces");
        net.cut().expect("the cable is cut");
        let url = format!("ws://{}:7880", net.server_ip());
        let worker = probe(url).launch(|launch| launch.in_netns(net.client())).start(&["--insecure-ws"]);
        // State 02 is SYN_SENT.
        let sockets = format!("/proc/{}/net/tcp", worker.pid());
        until("a SYN to be sent", || std::fs::read_to_string(&sockets).is_ok_and(|all| all.contains(" 02 ")));
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_while_connections_are_refused() {
    for signal in STOPS {
        let stub = stub();
        stub.close_port().expect("the port closes");
        let worker = probe(stub.url()).start(&[]);
        worker.log("not connected");
        worker.send(signal);
        worker.ends_with(0);
        assert!(!stub.ever_registered());
    }
}

#[test]
fn drain_1_while_the_registration_is_unanswered() {
    for signal in STOPS {
        let stub = Stub::start(Options::default()).expect("a stub");
        let worker = probe(stub.url()).start(&[]);
        stub.registration(0);
        drains(&worker, &stub, signal);
    }
}

#[test]
fn drain_1_while_idle() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).register(&stub, &[]);
        drains(&worker, &stub, signal);
    }
}

#[test]
fn drain_1_while_reconnecting() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).register(&stub, &[]);
        let connection = stub.registered().expect("registered");
        stub.close_port().expect("the port closes");
        stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
        worker.log("not connected");
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn agents_5856_while_user_code_blocks_every_thread() {
    for signal in STOPS {
        let stub = stub();
        let worker =
            probe(stub.url()).with_tasks().env("PROBE_BUSY", "block").register(&stub, &["--user-threads=2"]);
        worker.await_busy(2);
        drains(&worker, &stub, signal);
    }
}

#[test]
fn agents_5856_while_user_code_blocks_in_slices() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).env("PROBE_BUSY", "1").register(&stub, &["--user-threads=2"]);
        drains(&worker, &stub, signal);
    }
}

#[test]
fn agents_6724_while_a_running_job_blocks_the_only_thread() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).register(&stub, &["--user-threads=1"]);
        stub.run_job("blocking", json!({"sleep": 3600, "ignore_cancel": true}));
        worker.await_diary("blocking", "started");
        let mark = stub.mark();
        worker.send(signal);
        stub.full(mark);
        worker.send(Signal::SIGQUIT);
        worker.ends_with(5);
        assert_eq!(stub.end_of("blocking").status(), JobStatus::JsFailed);
    }
}

#[test]
fn drain_1_in_a_storm_of_offers() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).with_tasks().register(&stub, &[]);
        let storm = stub.storm(1_000, u64::MAX);
        until("the storm to be felt", || storm.tally().accepted > 100);
        drains(&worker, &stub, signal);
        storm.stop();
    }
}

#[test]
fn drain_1_while_an_offer_is_being_decided() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).with_a_handler_that_waits().register(&stub, &["--answer-within=1h"]);
        stub.offer(Job::new("undecided")).expect("a worker is registered");
        worker.await_metric("last_call_offers_total", 1.0);
        drains(&worker, &stub, signal);
        let answer = stub.answer("undecided");
        assert!(!answer.available && !answer.terminate, "{answer:?}");
    }
}

#[test]
fn drain_1_while_an_assignment_is_pending() {
    for signal in STOPS {
        let stub = unassigning();
        let worker = probe(stub.url()).register(&stub, &[]);
        stub.offer(Job::new("accepted")).expect("a worker is registered");
        assert!(stub.answer("accepted").available);
        let mark = stub.mark();
        worker.send(signal);
        stub.full(mark);
        stub.assign("accepted", None, None).expect("the worker stays on the connection");
        assert_eq!(stub.end_of("accepted").status(), JobStatus::JsSuccess);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_while_jobs_run() {
    for signal in STOPS {
        let stub = stub();
        let worker = probe(stub.url()).register(&stub, &[]);
        let jobs = ["first", "second"];
        for job in jobs {
            stub.run_job(job, json!({"sleep": 3600}));
        }
        let mark = stub.mark();
        worker.send(signal);
        stub.full(mark);
        for job in jobs {
            worker.await_diary(job, "draining");
            stub.terminate(job).expect("the worker stays on the connection");
            stub.end_of(job);
        }
        worker.ends_with(0);
        for job in jobs {
            assert_eq!(worker.diary(job), ["started", "draining", "cancelled"]);
        }
    }
}

#[test]
fn drain_1_by_the_admin_socket() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let mark = stub.mark();
    let page = worker.admin("POST", "/drain");
    assert_eq!((page.status, page.body.as_str()), (202, "draining"));
    stub.full(mark);
    worker.await_diary("call", "draining");
    stub.terminate("call").expect("the worker stays on the connection");
    worker.ends_with(0);
    assert_eq!(worker.diary("call"), ["started", "draining", "cancelled"]);
}

/// What a careless parent can leave behind.
#[derive(Clone, Copy, Debug)]
enum Inherited {
    Blocked,
    Ignored,
    Both,
}

impl Inherited {
    fn of(self, launch: Launch) -> Launch {
        STOPS.into_iter().fold(launch, |launch, signal| match self {
            Self::Blocked => launch.blocked(signal),
            Self::Ignored => launch.ignored(signal),
            Self::Both => launch.blocked(signal).ignored(signal),
        })
    }
}

const INHERITED: [Inherited; 3] = [Inherited::Blocked, Inherited::Ignored, Inherited::Both];

#[test]
fn drain_1_though_the_parent_blocks_or_ignores_the_signals() {
    for inherited in INHERITED {
        for signal in STOPS {
            let stub = stub();
            let worker = probe(stub.url()).launch(|launch| inherited.of(launch)).register(&stub, &[]);
            drains(&worker, &stub, signal);
        }
    }
}

#[test]
fn drain_1_as_process_1() {
    if let Err(error) = pid_1_possible() {
        return skip(format!("{error:#}"));
    }
    let plain = |start: Start| start.launch(Launch::pid_1);
    for signal in STOPS {
        let stub = stub();
        drains(&plain(probe(stub.url())).register(&stub, &[]), &stub, signal);
    }
    for inherited in INHERITED {
        let stub = stub();
        let worker = plain(probe(stub.url()).launch(|launch| inherited.of(launch))).register(&stub, &[]);
        drains(&worker, &stub, Signal::SIGTERM);
    }
}

#[test]
fn drain_1_as_an_orphan_under_a_subreaper() {
    for inherited in INHERITED {
        let stub = stub();
        let worker =
            probe_under_a_subreaper(stub.url()).launch(|launch| inherited.of(launch)).register(&stub, &[]);
        let orphan = worker.wait_for_line(|line| line.starts_with("orphan "), SOON);
        let pid = orphan.expect("its number").text["orphan ".len()..].parse().expect("a number");
        let mark = stub.mark();
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is alive");
        stub.full(mark);
        worker.ends_with(0);
    }
}

#[test]
fn drain_1_with_threads_that_existed_before_run() {
    for signal in STOPS {
        // Which thread the kernel gives a signal to is its own choice.
        for _ in 0..5 {
            let stub = stub();
            let worker = early_threads(stub.url()).register(&stub, &[]);
            drains(&worker, &stub, signal);
        }
        for inherited in INHERITED {
            let stub = stub();
            let worker = early_threads(stub.url()).launch(|launch| inherited.of(launch)).register(&stub, &[]);
            drains(&worker, &stub, signal);
        }
    }
}

#[test]
fn drain_1_inside_a_runtime_the_program_is_refused() {
    let stub = stub();
    let worker = early_threads(stub.url()).env("SUBJECT", "inside a runtime").start(&[]);
    worker.ends_with(2);
    let said = worker.output();
    assert!(said.contains("inside an async runtime") && said.contains("main that is not async"), "{said}");
    assert!(!stub.ever_registered());
}

#[test]
fn drain_1_a_child_of_user_code_inherits_an_empty_mask() {
    let stub = stub();
    let careless = |launch: Launch| launch.blocked(Signal::SIGTERM).blocked(Signal::SIGCHLD);
    let worker = early_threads(stub.url()).launch(careless).register(&stub, &[]);
    stub.offer(Job::new("parent").metadata("child")).expect("a worker is registered");
    let blocked = worker.log("a child was started")["blocked"].clone();
    assert_eq!(blocked, "0000000000000000", "SigBlk of the child");
    drains(&worker, &stub, Signal::SIGTERM);
}

#[test]
fn drain_9_a_thousand_signals_cut_no_job() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    let jobs: Vec<String> = (0..10).map(|number| format!("call-{number}")).collect();
    for job in &jobs {
        stub.run_job(job, json!({"sleep": 4}));
    }
    for number in 0..1_000 {
        let signal = if number % 10 == 9 { Signal::SIGHUP } else { Signal::SIGTERM };
        // On a machine so slow that the jobs are over, the rest of the signals has nobody to go to.
        if worker.signal(signal).is_err() {
            break;
        }
    }
    worker.ends_with(0);
    for job in &jobs {
        assert_eq!(worker.diary(job), ["started", "draining", "finished"]);
        assert_eq!(stub.end_of(job).status(), JobStatus::JsSuccess);
    }
    let announced = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("draining"));
    assert_eq!(worker.logs().into_iter().filter(announced).count(), 1, "the drain began once");
}

#[test]
fn drain_9_a_later_interrupt_without_a_terminal_forces_nothing() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("short", json!({"sleep": 2}));
    stub.run_job("long", json!({"sleep": 4}));
    let mark = stub.mark();
    worker.send(Signal::SIGINT);
    stub.full(mark);
    stub.end_of("short");
    worker.send(Signal::SIGINT);
    worker.ends_with(0);
    assert_eq!(worker.diary("long"), ["started", "draining", "finished"]);
}

#[test]
fn drain_9_sigquit_forces_and_every_job_is_reported() {
    for draining in [false, true] {
        let stub = stub();
        let worker = probe(stub.url()).register(&stub, &[]);
        let jobs = ["one", "two", "three"];
        for job in jobs {
            stub.run_job(job, json!({"sleep": 3600}));
        }
        if draining {
            let mark = stub.mark();
            worker.send(Signal::SIGTERM);
            stub.full(mark);
        }
        worker.send(Signal::SIGQUIT);
        worker.ends_with(5);
        let last = worker.last_words();
        assert_eq!(last["exit_code"], 5);
        for job in jobs {
            assert_eq!(stub.end_of(job).status(), JobStatus::JsFailed);
            assert!(
                last["cut_off"].as_str().is_some_and(|cut| cut.split(' ').any(|cut| cut == job)),
                "{last}"
            );
        }
    }
}

#[test]
fn drain_9_sigquit_to_an_idle_worker_cuts_nothing_off() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    worker.send(Signal::SIGQUIT);
    worker.ends_with(0);
}
