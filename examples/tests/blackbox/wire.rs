//! WIRE-1 and WIRE-2: whatever comes over the wire, calls go on, and nothing odd goes back.
//!
//! Owns the odd frames. Refuses connections that are lost without one, which are in `reg.rs`.

use last_call_testkit::proto::server_message::Message as ToWorker;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::proto::{self, JobStatus};
use last_call_testkit::{Cut, Event, Job, Options, Signal, Stub, What};
use prost::Message as _;
use serde_json::json;

use crate::rig::{Running, probe, until};
use crate::seen::{Seen, is_full};

/// Opcodes, and the bit of a frame that is the last of its message.
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const LAST: u8 = 0x80;

/// The server's own limit on a message.
const LIMIT: usize = 2 << 20;

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

/// A frame as a server sends it, whatever it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

fn encoded(message: ToWorker) -> Vec<u8> {
    proto::ServerMessage { message: Some(message) }.encode_to_vec()
}

fn offer(job: &str) -> ToWorker {
    let job = Some(Job::new(job).into_message());
    ToWorker::Availability(proto::AvailabilityRequest { job, resuming: false })
}

fn assignment(job: &str) -> ToWorker {
    let job = Some(Job::new(job).into_message());
    ToWorker::Assignment(proto::JobAssignment { job, url: None, token: "token".to_owned() })
}

/// Bytes that look random and are the same each time.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A worker with the job `call`, which has heard much that makes no sense on its connection, and all of it.
fn told_nonsense(stub: &Stub) -> (Running, u64) {
    let worker = probe(stub.url()).register(stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let connection = stub.registered().expect("registered");
    let truncated = encoded(assignment("call"));
    for payload in [&[][..], &[0xff; 100], &[0x7a, 2, 8, 1], &truncated[..truncated.len() / 2]] {
        stub.send_binary(connection, payload).expect("the connection stands");
    }
    for length in 0..300 {
        stub.send_binary(connection, noise(length, length as usize)).expect("the connection stands");
    }
    for text in ["", "hello", r#"{"register": {}}"#] {
        stub.send_text(connection, text).expect("the connection stands");
    }
    for message in [
        ToWorker::Register(proto::RegisterWorkerResponse::default()),
        offer("call"),
        offer(""),
        ToWorker::Availability(proto::AvailabilityRequest::default()),
        assignment("call"),
        assignment("never offered"),
        ToWorker::Assignment(proto::JobAssignment::default()),
        ToWorker::Termination(proto::JobTermination { job_id: "never offered".to_owned() }),
        ToWorker::Termination(proto::JobTermination::default()),
        ToWorker::Pong(proto::WorkerPong { last_timestamp: i64::MIN, timestamp: i64::MAX }),
    ] {
        stub.send(connection, message).expect("the connection stands");
    }
    stub.run_job("after", json!({}));
    assert_eq!(stub.end_of("after").status(), JobStatus::JsSuccess);
    (worker, connection)
}

#[test]
fn wire_1_messages_that_make_no_sense_are_survived() {
    let stub = stub();
    let (worker, connection) = told_nonsense(&stub);
    assert_eq!(stub.registered(), Some(connection));
    assert_eq!(worker.diary("call"), ["started"], "one job, started once");
    stub.terminate("call").expect("the connection stands");
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
}

#[test]
fn wire_1_messages_that_make_no_sense_are_counted_and_each_kind_is_told_once() {
    let stub = stub();
    let (worker, _) = told_nonsense(&stub);
    for reason in ["undecodable", "text", "unknown", "out_of_order"] {
        worker.await_metric(&format!("last_call_frames_rejected_total{{reason=\"{reason}\"}}"), 1.0);
    }
    worker.counts("last_call_frames_rejected_total{reason=\"text\"}", 3.0);
    // The first of each kind is told, and what came after the last of them has been answered.
    let complaints = || {
        let logs = worker.logs();
        let told = logs.iter().filter(|line| line["why"].is_string() && line["level"] == "WARN");
        let mut kinds: Vec<String> = told.map(|line| line["why"].to_string()).collect();
        kinds.sort_unstable();
        kinds
    };
    until("four kinds to be told", || complaints().len() >= 4);
    let mut kinds = complaints();
    kinds.dedup();
    assert_eq!((kinds.len(), complaints().len()), (4, 4), "each kind is logged once: {kinds:?}");
}

#[test]
fn wire_1_offers_and_assignments_that_come_twice_start_one_job() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).env("PROBE_ACCEPT_DELAY", "0.2").register(&stub, &[]);
    for _ in 0..3 {
        stub.offer(Job::new("call").metadata(r#"{"sleep": 1}"#)).expect("a worker is registered");
    }
    assert!(stub.answer("call").available);
    for _ in 0..3 {
        stub.assign("call", None, None).expect("the connection stands");
    }
    worker.await_diary("call", "started");
    stub.offer(Job::new("call").metadata(r#"{"sleep": 1}"#)).expect("a worker is registered");
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
    assert_eq!(worker.diary("call"), ["started", "finished"]);
    assert_eq!(stub.reports("call"), [JobStatus::JsRunning, JobStatus::JsSuccess]);
}

#[test]
fn wire_1_messages_in_pieces_and_pings_between_them_are_read() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    let connection = stub.registered().expect("registered");
    let whole = encoded(offer("in pieces"));
    let (first, rest) = whole.split_at(whole.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let mut bytes = frame(BINARY, first);
    bytes.extend(frame(LAST | PING, b"between"));
    bytes.extend(frame(CONTINUATION, second));
    bytes.extend(frame(LAST | CONTINUATION, third));
    let mark = stub.mark();
    stub.send_raw(connection, bytes).expect("the connection stands");
    assert!(stub.answer("in pieces").available);
    let pong = |event: &Event| {
        matches!(&event.what, What::Pong { payload, .. } if payload == "between").then_some(())
    };
    stub.sees(mark, "pong", pong);
    assert_eq!(stub.registered(), Some(connection));
    worker.counts("last_call_frames_rejected_total{reason=\"undecodable\"}", 0.0);
}

#[test]
fn wire_1_what_comes_before_the_register_reply_waits_or_is_counted() {
    let stub = Stub::start(Options { assign: Options::auto().assign, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).start(&[]);
    let connection = stub.registration(0);
    stub.send_binary(connection, [0xff; 10]).expect("the connection stands");
    stub.send(connection, assignment("unknown")).expect("the connection stands");
    stub.go_away(connection, "too early").expect("the connection stands");
    stub.offer(Job::new("early")).expect("a worker is registered");
    let reply = proto::RegisterWorkerResponse { worker_id: "AW_late".to_owned(), ..Default::default() };
    stub.send(connection, ToWorker::Register(reply)).expect("the connection stands");
    assert!(stub.answer("early").available);
    assert_eq!(stub.end_of("early").status(), JobStatus::JsSuccess);
    assert_eq!(worker.log("registered")["worker_id"], "AW_late");
    assert!(worker.diary("unknown").is_empty());
}

/// One frame after which no WebSocket can go on.
#[track_caller]
fn costs_the_connection_only(what: &str, bytes: &[u8], oversized: bool) {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 2}));
    let (connection, mark) = (stub.registered().expect("registered"), stub.mark());
    stub.send_raw(connection, bytes).expect("the connection stands");
    let next = stub.registration(mark);
    assert_ne!(next, connection, "{what}");
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess, "{what}");
    assert_eq!(worker.diary("call"), ["started", "finished"], "{what}");
    worker.counts("last_call_frames_rejected_total{reason=\"oversized\"}", f64::from(u8::from(oversized)));
}

#[test]
fn wire_1_frames_that_break_the_protocol_cost_only_the_connection() {
    let masked = [&[LAST | BINARY, 0x80 | 4][..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let breaches = [
        ("over the limit", frame(LAST | BINARY, &vec![0; LIMIT + 1])),
        (
            "over the limit in pieces",
            [frame(BINARY, &vec![0; LIMIT]), frame(LAST | CONTINUATION, &[0])].concat(),
        ),
        ("a length of 2^63 - 1", [&[LAST | BINARY, 127][..], &i64::MAX.to_be_bytes()].concat()),
        ("masked", masked),
        ("reserved opcode", frame(LAST | 0x3, b"x")),
        ("reserved control opcode", frame(LAST | 0xb, b"x")),
        ("reserved bits", frame(LAST | 0x70 | BINARY, b"x")),
        ("a continuation of nothing", frame(LAST | CONTINUATION, b"x")),
        ("a new message inside another", [frame(BINARY, b"x"), frame(LAST | BINARY, b"y")].concat()),
        ("a ping in pieces", frame(PING, b"x")),
        ("a long ping", frame(LAST | PING, &[0; 126])),
        ("text that is none", frame(LAST | TEXT, &[0xff, 0xfe])),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ];
    std::thread::scope(|scope| {
        for (what, bytes) in &breaches {
            scope.spawn(|| {
                costs_the_connection_only(
                    what,
                    bytes,
                    what.starts_with("over the limit") || what.contains("2^63"),
                )
            });
        }
    });
}

#[test]
fn wire_1_a_close_with_any_code_costs_only_the_connection() {
    let codes =
        [1000_u16, 1001, 1002, 1005, 1006, 1008, 1011, 1012, 1015, 2999, 4000, 4999, 0, 999, u16::MAX];
    let mut closes: Vec<(String, Vec<u8>)> = codes
        .iter()
        .map(|code| (format!("close {code}"), frame(LAST | CLOSE, &code.to_be_bytes())))
        .collect();
    closes.push(("close without a code".to_owned(), frame(LAST | CLOSE, &[])));
    closes.push(("close with half a code".to_owned(), frame(LAST | CLOSE, &[3])));
    closes.push(("close with a reason that is no text".to_owned(), frame(LAST | CLOSE, &[3, 232, 0xff])));
    std::thread::scope(|scope| {
        for (what, bytes) in &closes {
            scope.spawn(|| costs_the_connection_only(what, bytes, false));
        }
    });
}

#[test]
fn wire_2_only_messages_that_the_oldest_server_knows() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--max-jobs=2"]);
    stub.run_job("call", json!({"sleep": 3}));
    stub.run_job("raises", json!({"raise": true}));
    stub.offer(Job::new("unwanted").metadata(r#"{"reject": true}"#)).expect("a worker is registered");
    let mark = stub.mark();
    stub.drop_connection(stub.registered().expect("registered"), Cut::Fin).expect("the connection is open");
    stub.registration(mark);
    worker.admin("POST", "/quiet");
    stub.status(mark, "WS_FULL", is_full);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    let events = stub.events();
    for connection in [1, 2] {
        let first = events.iter().filter(|event| event.connection == connection).find_map(Event::message);
        assert!(
            matches!(first, Some(FromWorker::Register(_))),
            "first on connection {connection}: {first:?}"
        );
    }
    for event in &events {
        assert!(!matches!(event.what, What::Text { .. } | What::Garbled { .. }), "{event:?}");
        assert!(event.message().is_none_or(known_to_1_13_5), "{event:?}");
    }
}

/// The kinds of `WorkerMessage` in the protocol of livekit-server 1.13.5.
fn known_to_1_13_5(message: &FromWorker) -> bool {
    match message {
        FromWorker::Register(_)
        | FromWorker::Availability(_)
        | FromWorker::UpdateWorker(_)
        | FromWorker::UpdateJob(_)
        | FromWorker::Ping(_)
        | FromWorker::SimulateJob(_)
        | FromWorker::MigrateJob(_) => true,
    }
}
