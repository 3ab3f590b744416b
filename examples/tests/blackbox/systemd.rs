//! What a service of `Type=notify` says to systemd: a socket that plays its part, and the built worker.
//!
//! Owns the claims about READY, STOPPING, the extensions and the watchdog. Refuses to need systemd itself.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use last_call_testkit::{Cut, Job, Launch, Signal, Stub};
use serde_json::json;
use tempfile::TempDir;

use crate::rig::{Jobs, Running, SOON, Start, probe, worker_program};
use crate::seen::Seen;

/// systemd, as far as a service hears of it.
struct Systemd {
    socket: UnixDatagram,
    heard: RefCell<Vec<String>>,
    dir: TempDir,
}

impl Systemd {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        Self { socket, heard: RefCell::default(), dir }
    }

    fn starts(&self, worker: Start) -> Start {
        worker.env("NOTIFY_SOCKET", self.dir.path().join("notify"))
    }

    /// Takes in what was sent, waiting for it until `deadline`. False if nothing came.
    fn hear(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).expect("a time");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                self.heard.borrow_mut().extend(text.lines().map(str::to_owned));
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("nothing can be heard: {error}"),
        }
    }

    /// How often this was said so far.
    fn count(&self, line: &str) -> usize {
        while self.hear(Instant::now()) {}
        self.heard.borrow().iter().filter(|heard| heard.starts_with(line)).count()
    }

    /// Waits until this was said `times` more.
    #[track_caller]
    fn hears(&self, line: &str, times: usize) {
        self.counts(line, self.count(line) + times);
    }

    /// Waits until this was said so often in all.
    #[track_caller]
    fn counts(&self, line: &str, wanted: usize) {
        let deadline = Instant::now() + SOON;
        while self.count(line) < wanted {
            assert!(self.hear(deadline), "no {line} came, {wanted} in all; heard:\n{:#?}", self.heard);
        }
    }

    /// Waits until this was said at all.
    #[track_caller]
    fn heard(&self, line: &str) {
        self.counts(line, 1);
    }

    /// The place of the first such line.
    #[track_caller]
    fn place(&self, line: &str) -> usize {
        self.heard(line);
        self.heard.borrow().iter().position(|heard| heard.starts_with(line)).expect("it was heard")
    }
}

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

#[test]
fn ready_is_said_after_the_registration_and_not_before() {
    let (systemd, stub) = (Systemd::new(), stub());
    stub.set_register(false);
    let worker = systemd.starts(probe(stub.url())).start(&[]);
    let connection = stub.registration(0);
    systemd.heard("STATUS=not registered at 127.0.0.1:");
    // Neither does waiting for the server end the start.
    systemd.hears("EXTEND_TIMEOUT_USEC=", 1);
    assert_eq!(systemd.count("READY=1"), 0);
    stub.set_register(true);
    // The worker may have given it up itself by now.
    let _ = stub.drop_connection(connection, Cut::Rst);
    systemd.heard("READY=1");
    systemd.heard("STATUS=registered as AW_");
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    assert_eq!((systemd.count("READY=1"), systemd.count("STOPPING=1")), (1, 1), "{:#?}", systemd.heard);
    assert!(systemd.place("READY=1") < systemd.place("STOPPING=1"));
}

#[test]
fn stopping_is_said_once_whatever_number_of_signals_and_the_time_is_extended_while_a_job_runs() {
    let (systemd, stub) = (Systemd::new(), stub());
    let worker = systemd.starts(probe(stub.url())).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    systemd.heard("READY=1");
    let mark = stub.mark();
    for _ in 0..10 {
        worker.send(Signal::SIGTERM);
    }
    let full = stub.full(mark);
    systemd.heard("STOPPING=1");
    systemd.heard("STATUS=draining: taking no jobs, 1 job left, until 20");
    let at_first = systemd.count("EXTEND_TIMEOUT_USEC=");
    systemd.hears("EXTEND_TIMEOUT_USEC=", 2);
    assert!(at_first > 0 && full >= mark);
    worker.send(Signal::SIGQUIT);
    worker.ends_with(5);
    assert_eq!(systemd.count("STOPPING=1"), 1, "{:#?}", systemd.heard);
}

#[test]
fn a_drain_that_systemd_did_not_ask_for_is_said_too() {
    let (systemd, stub) = (Systemd::new(), stub());
    let worker = systemd.starts(probe(stub.url())).register(&stub, &[]);
    assert_eq!(worker.admin("POST", "/drain").status, 202);
    worker.ends_with(0);
    assert_eq!(systemd.count("STOPPING=1"), 1, "{:#?}", systemd.heard);
}

#[test]
fn the_watchdog_hears_of_the_link_though_user_code_blocks() {
    let (systemd, stub) = (Systemd::new(), stub());
    let worker = systemd
        .starts(probe(stub.url()))
        .with_tasks()
        .env("PROBE_BUSY", "block")
        .env("WATCHDOG_USEC", "400000");
    let worker = worker.register(&stub, &["--user-threads=2"]);
    worker.await_busy(2);
    systemd.hears("WATCHDOG=1", 10);
    // A wedged worker is no dead one.
    stub.offer(Job::new("lost")).expect("a worker is registered");
    systemd.heard("STATUS=user code does not run");
    systemd.hears("WATCHDOG=1", 10);
    // A process that stands still says nothing, so that systemd would restart it.
    worker.send(Signal::SIGSTOP);
    let stopped = || std::fs::read_to_string(format!("/proc/{}/stat", worker.pid())).expect("it is there");
    crate::rig::until("the process to stand still", || stopped().contains(") T "));
    systemd.count("WATCHDOG=1");
    assert!(!systemd.hear(Instant::now() + Duration::from_secs(1)), "{:#?}", systemd.heard);
    worker.send(Signal::SIGCONT);
    systemd.hears("WATCHDOG=1", 1);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let (systemd, stub) = (Systemd::new(), stub());
    let worker = systemd.starts(probe(stub.url())).env("WATCHDOG_USEC", "400000").env("WATCHDOG_PID", "1");
    let worker = worker.register(&stub, &[]);
    systemd.heard("READY=1");
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    assert_eq!(systemd.count("WATCHDOG=1"), 0, "{:#?}", systemd.heard);
}

#[test]
fn the_watchdog_of_the_init_is_fed_by_its_worker() {
    let (systemd, stub) = (Systemd::new(), stub());
    let script = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    let shell =
        |launch: Launch| launch.program("sh").arg("-c").arg(script).arg(worker_program(Jobs::of_the_suite()));
    let init = systemd.starts(probe(stub.url())).with_tasks().launch(shell).env("WATCHDOG_USEC", "400000");
    let init = init.register(&stub, &["--reap"]);
    systemd.hears("WATCHDOG=1", 2);
    init.send(Signal::SIGTERM);
    init.ends_with(0);
}

#[test]
fn an_abstract_socket_is_heard_as_well() {
    let stub = stub();
    let name = format!("last-call-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let mut systemd = Systemd::new();
    systemd.socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let worker = probe(stub.url()).env("NOTIFY_SOCKET", format!("@{name}")).register(&stub, &[]);
    systemd.heard("READY=1");
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

#[test]
fn a_socket_that_is_not_there_or_no_socket_costs_one_warning_and_no_drain() {
    for (socket, error) in [("/nowhere/notify", "os error 2"), ("vsock:2:1234", "neither")] {
        let stub = stub();
        let worker = probe(stub.url()).env("NOTIFY_SOCKET", socket).register(&stub, &[]);
        drains(&worker, &stub);
        let warned: Vec<_> =
            worker.lines().into_iter().filter(|line| line.text.contains("NOTIFY_SOCKET")).collect();
        assert_eq!(warned.len(), 1, "{}", worker.output());
        assert!(warned[0].text.contains(socket) && warned[0].text.contains(error), "{warned:?}");
    }
}

#[test]
fn a_socket_that_nobody_reads_holds_no_drain() {
    let (systemd, stub) = (Systemd::new(), stub());
    let stuffing = UnixDatagram::unbound().expect("a socket");
    stuffing.set_nonblocking(true).expect("a socket that does not block");
    while stuffing.send_to(b"x", systemd.dir.path().join("notify")).is_ok() {}
    let worker = systemd.starts(probe(stub.url())).register(&stub, &[]);
    drains(&worker, &stub);
}

#[track_caller]
fn drains(worker: &Running, stub: &Stub) {
    let mark = stub.mark();
    worker.send(Signal::SIGTERM);
    stub.full(mark);
    worker.ends_with(0);
}
