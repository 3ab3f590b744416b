//! DRAIN-2 to DRAIN-8 and DRAIN-11: what a worker does between the signal and its end.
//!
//! Owns the order of what leaves on the wire, what jobs see, and what the end says. Refuses the question
//! whether the signal arrives, which is in `signals.rs`.

use last_call_testkit::proto::JobStatus;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::{Cut, Event, Job, Options, Signal, Stub, Tally, What};
use serde_json::json;

use crate::rig::{Running, SOON, probe, until};
use crate::seen::{Seen, is_available, is_drain, is_end, is_full, report_of, status_of};

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

/// Starts the drain and waits for WS_FULL; the index of its event.
#[track_caller]
fn drain(worker: &Running, stub: &Stub) -> usize {
    let mark = stub.mark();
    worker.send(Signal::SIGTERM);
    stub.full(mark)
}

/// An acceptance, if the event is one.
fn acceptance_of(event: &Event) -> Option<&str> {
    match event.message() {
        Some(FromWorker::Availability(answer)) if answer.available => Some(&answer.job_id),
        _ => None,
    }
}

#[track_caller]
fn nothing_accepted(stub: &Stub, mark: usize) {
    let events = stub.events_after(mark);
    let accepted: Vec<&str> = events.iter().filter_map(acceptance_of).collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

/// A stub whose connections hold little before the worker's writes stand still.
fn narrow() -> Stub {
    Stub::start(Options { receive_buffer: Some(8 * 1024), ..Options::auto() }).expect("a stub")
}

/// Stops reading, and lets so much be declined that answers fill every buffer on the way and wait behind it.
#[track_caller]
fn clog(worker: &Running, stub: &Stub) -> u64 {
    const OFFERS: u32 = 250;
    let connection = stub.registered().expect("registered");
    stub.freeze(connection).expect("the connection is open");
    for number in 0..OFFERS {
        // Answers repeat the id.
        let id = format!("{number}-{}", "x".repeat(30_000));
        stub.offer(Job::new(id).metadata(r#"{"reject": true}"#)).expect("the connection is open");
    }
    until("all to be declined", || worker.declined() == OFFERS);
    connection
}

#[test]
fn drain_2_full_overtakes_every_answer_that_waits() {
    let stub = narrow();
    let worker = probe(stub.url()).with_a_handler().register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let connection = clog(&worker, &stub);
    let mark = stub.mark();
    worker.send(Signal::SIGTERM);
    worker.log("draining");
    stub.thaw(connection).expect("the connection is open");
    let full = stub.full(mark);
    let behind = |event: &Event| matches!(event.message(), Some(FromWorker::Availability(_)));
    stub.sees(full, "answer behind WS_FULL", |event| behind(event).then_some(()));
    worker.send(Signal::SIGQUIT);
    worker.end();
}

#[test]
fn drain_2_without_a_connection_register_and_full_come_in_one_write() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let connection = stub.registered().expect("registered");
    stub.close_port().expect("the port closes");
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    worker.log("not connected");
    worker.send(Signal::SIGTERM);
    worker.log("draining");
    let mark = stub.mark();
    stub.reopen().expect("the port opens");
    let status = stub.comes_back(mark);
    assert!(is_drain(&status), "{status:?}");
    worker.send(Signal::SIGQUIT);
    worker.end();
}

#[test]
fn drain_3_a_storm_finds_nobody() {
    let stub = stub();
    // However many come: a worker behind guard says twice that it is at its threshold.
    let worker = probe(stub.url()).with_tasks().register(&stub, &["--load-threshold=off"]);
    stub.run_job("call", json!({"sleep": 3600}));
    let storm = stub.storm(1_000, 4_000);
    until("the storm to be felt", || storm.tally().accepted > 100);
    let full = drain(&worker, &stub);
    let tally = storm.finish(SOON, SOON).expect("every offer is made");
    assert_eq!((tally.unanswered, tally.repeated, tally.terminated), (0, 0, 0), "{tally}");
    assert!(tally.declined > 100, "{tally}");
    nothing_accepted(&stub, full);
    stub.terminate("call").expect("the connection stands");
    worker.ends_with(0);
}

#[test]
fn js_1180_never_available_again_over_reconnects_of_a_drain() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let full = drain(&worker, &stub);
    let storm = stub.storm(500, u64::MAX);
    for cut in [Cut::Rst, Cut::Fin, Cut::Rst, Cut::Fin] {
        let mark = stub.mark();
        stub.drop_connection(stub.registered().expect("registered"), cut).expect("the connection is open");
        let status = stub.comes_back(mark);
        assert!(is_drain(&status), "{status:?}");
        let answers = |event: &Event| matches!(event.message(), Some(FromWorker::Availability(_)));
        stub.sees(stub.mark(), "answer", |event| answers(event).then_some(()));
    }
    // Long enough a connection to report its load again.
    let refreshed = |event: &Event| status_of(event).map(drop);
    stub.sees(stub.mark(), "further state", refreshed);
    storm.stop();
    let states = stub.statuses(full);
    assert!(states.iter().all(is_drain), "{states:?}");
    nothing_accepted(&stub, full);
    assert_eq!(storm.tally().terminated, 0);
    worker.send(Signal::SIGQUIT);
    worker.ends_with(5);
}

#[test]
fn drain_4_an_assignment_behind_the_signal_still_runs() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).register(&stub, &[]);
    let jobs = ["one", "two", "three"];
    for job in jobs {
        stub.offer(Job::new(job).metadata(r#"{"sleep": 0.5}"#)).expect("a worker is registered");
        assert!(stub.answer(job).available);
    }
    drain(&worker, &stub);
    for job in jobs {
        // Each comes when the one before has run to its end: the worker waits for all.
        stub.assign(job, None, None).expect("the connection stands");
        assert_eq!(stub.end_of(job).status(), JobStatus::JsSuccess);
        assert_eq!(worker.diary(job), ["started", "draining", "finished"]);
    }
    worker.ends_with(0);
}

#[test]
fn agents_4268_the_first_call_to_end_does_not_end_the_rest() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=1h"]);
    let calls = [("third", 5), ("first", 3), ("second", 4)];
    for (call, seconds) in calls {
        stub.run_job(call, json!({"sleep": seconds}));
    }
    drain(&worker, &stub);
    let exit = worker.ends_with(0);
    for (call, _) in calls {
        assert_eq!(stub.end_of(call).status(), JobStatus::JsSuccess);
        assert_eq!(worker.diary(call), ["started", "draining", "finished"]);
    }
    let last =
        stub.events().iter().filter(|event| report_of(event).is_some_and(is_end)).map(|event| event.at).max();
    assert!(last.is_some_and(|last| last <= exit.at), "it left before the last report");
}

#[test]
fn drain_5_the_worker_leaves_by_itself_though_the_server_is_gone() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=1h"]);
    stub.run_job("call", json!({"sleep": 3}));
    let connection = stub.registered().expect("registered");
    stub.close_port().expect("the port closes");
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    assert_eq!(worker.diary("call"), ["started", "draining", "finished"]);
}

#[test]
fn drain_5_the_worker_leaves_by_itself_though_the_server_reads_nothing() {
    let stub = narrow();
    let worker = probe(stub.url()).with_a_handler().register(&stub, &["--drain-timeout=1h"]);
    stub.run_job("call", json!({"sleep": 2}));
    clog(&worker, &stub);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    assert_eq!(worker.diary("call"), ["started", "draining", "finished"]);
    // It did not wait for the keepalive's verdict on the connection.
    let lost = worker.logs().iter().any(|line| line["message"] == "connection lost");
    assert!(!lost, "{}", worker.output());
}

#[test]
fn js_275_a_call_in_progress_keeps_its_agent_and_its_state() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3}));
    let full = drain(&worker, &stub);
    worker.ends_with(0);
    let reports: Vec<JobStatus> = stub.reports("call");
    assert_eq!(reports, [JobStatus::JsRunning, JobStatus::JsSuccess], "one agent from start to end");
    assert!(!stub.events_after(full).iter().any(|event| matches!(event.what, What::Connected(_))));
}

#[test]
fn drain_6_the_budget_is_the_whole_of_it_whatever_jobs_do() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=4s"]);
    stub.run_job("listens", json!({"sleep": 3600}));
    stub.run_job("deaf", json!({"sleep": 3600, "ignore_cancel": true, "busy": true}));
    stub.run_job("stuck", json!({"sleep": 3600, "ignore_cancel": true}));
    drain(&worker, &stub);
    worker.ends_with(4);
    for job in ["listens", "deaf"] {
        assert_eq!(worker.diary(job), ["started", "draining", "cancelled"]);
    }
    // It holds its thread, and perhaps the task that waits for the notice.
    assert!(worker.diary("stuck").iter().all(|event| event == "started" || event == "draining"));
    assert_eq!(stub.end_of("listens").status(), JobStatus::JsSuccess, "it stopped when told");
    for job in ["deaf", "stuck"] {
        assert_eq!(stub.end_of(job).status(), JobStatus::JsFailed);
    }
    // Told, cancelled, ended: in this order, which the reports have too.
    let ends: Vec<String> = stub
        .events()
        .iter()
        .filter_map(report_of)
        .filter(|report| is_end(report))
        .map(|report| report.job_id.clone())
        .collect();
    assert_eq!(ends, ["listens", "deaf", "stuck"]);
}

#[test]
fn drain_6_an_acceptance_without_assignment_does_not_outlast_the_budget() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=2s"]);
    stub.offer(Job::new("accepted")).expect("a worker is registered");
    assert!(stub.answer("accepted").available);
    drain(&worker, &stub);
    worker.ends_with(4);
    assert_eq!(worker.last_words()["cut_off"], "accepted");
}

#[test]
fn agents_5282_a_drain_timeout_skips_nothing_of_the_rest() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=2s"]);
    stub.run_job("deaf", json!({"sleep": 3600, "ignore_cancel": true}));
    drain(&worker, &stub);
    worker.ends_with(4);
    assert_eq!(stub.end_of("deaf").status(), JobStatus::JsFailed);
    assert!(stub.said_goodbye(), "the socket was not closed in order");
    assert!(!worker.path("admin").exists(), "the admin socket was left behind");
    assert_eq!(worker.last_words()["exit_code"], 4);
}

#[test]
fn drain_7_a_job_sees_the_drain_before_it_is_told_to_stop() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=4s"]);
    stub.run_job("call", json!({"sleep": 3600}));
    drain(&worker, &stub);
    worker.await_diary("call", "draining");
    let told = worker.log("told to stop");
    assert_eq!(
        (told["job_id"].as_str(), told["reason"].as_str()),
        (Some("call"), Some("the drain deadline has come"))
    );
    worker.ends_with(0);
    assert_eq!(worker.diary("call"), ["started", "draining", "cancelled"]);
}

#[test]
fn drain_7_a_job_that_starts_within_the_drain_sees_it_too() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.offer(Job::new("late").metadata(r#"{"sleep": 2}"#)).expect("a worker is registered");
    assert!(stub.answer("late").available);
    drain(&worker, &stub);
    stub.assign("late", None, None).expect("the connection stands");
    worker.ends_with(0);
    assert_eq!(worker.diary("late"), ["started", "draining", "finished"]);
}

#[test]
fn drain_8_a_clean_end_says_so() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("good", json!({}));
    stub.run_job("bad", json!({"raise": true}));
    stub.end_of("good");
    stub.end_of("bad");
    drain(&worker, &stub);
    worker.ends_with(0);
    let last = worker.last_words();
    assert_eq!(
        (&last["succeeded"], &last["failed"], &last["exit_code"]),
        (&json!(1), &json!(1), &json!(0)),
        "{last}"
    );
    assert!(last.get("cut_off").is_none() && last["level"] == "INFO", "{last}");
}

#[test]
fn drain_8_a_cut_end_lists_each_job() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--drain-timeout=2s"]);
    stub.run_job("listens", json!({"sleep": 3600}));
    for job in ["deaf-1", "deaf-2"] {
        stub.run_job(job, json!({"sleep": 3600, "ignore_cancel": true, "busy": true}));
    }
    drain(&worker, &stub);
    worker.ends_with(4);
    let last = worker.last_words();
    assert_eq!(
        (&last["cut_off"], &last["exit_code"], &last["level"]),
        (&json!("deaf-1 deaf-2"), &json!(4), &json!("ERROR")),
        "{last}"
    );
}

#[test]
fn drain_11_quiet_takes_nothing_and_can_be_undone() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    worker.await_readiness("ready");
    let mark = stub.mark();
    assert_eq!(worker.admin("POST", "/quiet").body, "quiet");
    stub.status(mark, "WS_FULL", |status| is_full(status) && !status.draining);
    let quiet = stub.mark();
    assert_eq!((worker.get("/readyz").status, worker.get("/livez").status), (503, 200));
    let tally = stub.storm(1_000, 1_000).finish(SOON, SOON).expect("every offer is made");
    assert_eq!((tally.accepted, tally.unanswered, tally.terminated), (0, 0, 0), "{tally}");
    let connection = stub.registered().expect("registered");
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    stub.registration(quiet);
    worker.log_after(worker.mark().saturating_sub(1), "registered");
    let states = stub.statuses(quiet);
    assert!(!states.is_empty() && states.iter().all(is_full), "available while quiet: {states:?}");

    let mark = stub.mark();
    assert_eq!(worker.admin("DELETE", "/quiet").body, "serving");
    stub.status(mark, "WS_AVAILABLE", is_available);
    worker.await_readiness("ready");
    stub.run_job("call", json!({"sleep": 1}));
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
}

#[test]
fn drain_11_quiet_and_back_under_a_storm() {
    let stub = stub();
    // What was accepted before a worker is full by its load may be answered after it has said so.
    let worker = probe(stub.url()).with_tasks().register(&stub, &["--load-threshold=off"]);
    let storm = stub.storm(500, u64::MAX);
    for _ in 0..20 {
        let mark = stub.mark();
        assert_eq!(worker.admin("POST", "/quiet").status, 202);
        stub.status(mark, "WS_FULL", is_full);
        let mark = stub.mark();
        assert_eq!(worker.admin("DELETE", "/quiet").status, 202);
        stub.status(mark, "WS_AVAILABLE", is_available);
    }
    storm.stop();
    let mut full = false;
    for event in stub.events() {
        if let Some(status) = status_of(&event) {
            full = is_full(status);
        }
        assert!(!full || acceptance_of(&event).is_none(), "accepted while quiet: {event:?}");
    }
    let tally: Tally = storm.finish(SOON, SOON).expect("every offer is made");
    assert_eq!(tally.unanswered, 0, "{tally}");
}

#[test]
fn drain_11_a_drain_cannot_be_undone() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("one", json!({"sleep": 3600}));
    stub.run_job("two", json!({"sleep": 3600}));
    drain(&worker, &stub);
    worker.await_readiness("draining");
    assert_eq!(worker.admin("DELETE", "/quiet").status, 409);
    assert_eq!(worker.admin("POST", "/quiet").status, 202);
    let ready = worker.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining"));
    assert_eq!((worker.get("/livez").status, worker.get("/").status), (200, 200));
    stub.terminate("one").expect("the connection stands");
    stub.end_of("one");
    worker.counts("last_call_drain_jobs_remaining", 1.0);
    let status: serde_json::Value = serde_json::from_str(&worker.admin("GET", "/status").body).expect("JSON");
    let drain = &status["drain"];
    assert_eq!((&drain["jobs_at_start"], &drain["jobs_finished"]), (&json!(2), &json!(1)), "{status}");
    assert_eq!(status["active_jobs"], 1, "{status}");
    assert!(stub.statuses(0).last().is_some_and(is_drain));
    stub.terminate("two").expect("the connection stands");
    worker.ends_with(0);
}

#[test]
fn drain_11_quiet_and_drained_from_quiet() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    let mark = stub.mark();
    worker.admin("POST", "/quiet");
    stub.status(mark, "WS_FULL", is_full);
    drain(&worker, &stub);
    worker.ends_with(0);
}
