//! JOB-1 to JOB-5: every offer has its answer, every job its end, and AVAILABLE is meant.
//!
//! Owns what happens between an offer and a report while the worker serves. Refuses drains.

use std::collections::BTreeSet;
use std::time::Duration;

use last_call_testkit::proto::JobStatus;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::{Cut, Job, Options, Signal, Stub, Tally, What};
use serde_json::json;

use crate::rig::{Start, early_threads, probe, until};
use crate::seen::{Seen, is_available, is_end, is_full, report_of, status_of};

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

#[track_caller]
fn declined(stub: &Stub, job: &str) {
    let answer = stub.answer(job);
    assert!(!answer.available && !answer.terminate, "{job}: {answer:?}");
}

#[test]
fn job_1_wedged_user_code_declines_and_says_full() {
    let stub = stub();
    let worker =
        probe(stub.url()).with_tasks().env("PROBE_BUSY", "block").register(&stub, &["--user-threads=2"]);
    worker.await_busy(2);
    for job in ["first", "second", "third"] {
        let mark = stub.mark();
        stub.offer(Job::new(job)).expect("a worker is registered");
        declined(&stub, job);
        if job == "first" {
            stub.status(mark, "WS_FULL", |status| is_full(status) && !status.draining);
        }
    }
    worker.await_readiness("wedged");
    assert_eq!(worker.get("/livez").status, 200);
    worker.counts("last_call_wedged", 1.0);
    worker.counts("last_call_offers_declined_total{reason=\"wedged\"}", 3.0);
    // Reconnected it says so again, before the server can think otherwise.
    let mark = stub.mark();
    let connection = stub.registered().expect("registered");
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    let status = stub.comes_back(mark);
    assert!(is_full(&status) && !status.draining, "{status:?}");
    stub.offer(Job::new("fourth")).expect("a worker is registered");
    declined(&stub, "fourth");
}

#[test]
fn job_1_wedged_user_code_is_taken_back_when_it_runs_again() {
    let stub = stub();
    let worker = probe(stub.url()).with_tasks().register(&stub, &["--user-threads=1"]);
    stub.run_job("blocking", json!({"sleep": 5, "ignore_cancel": true}));
    worker.await_diary("blocking", "started");
    let mark = stub.mark();
    stub.offer(Job::new("unheard")).expect("a worker is registered");
    declined(&stub, "unheard");
    stub.status(mark, "WS_FULL", is_full);
    let mark = stub.mark();
    assert_eq!(stub.end_of("blocking").status(), JobStatus::JsSuccess);
    stub.status(mark, "WS_AVAILABLE", is_available);
    worker.await_readiness("ready");
    stub.run_job("heard", json!({}));
    assert_eq!(stub.end_of("heard").status(), JobStatus::JsSuccess);
}

#[test]
fn job_1_slow_user_code_declines_and_is_not_wedged() {
    let stub = stub();
    let start = probe(stub.url()).with_a_handler_that_waits();
    let worker = start.register(&stub, &["--answer-within=1s"]);
    for number in 0..20 {
        stub.offer(Job::new(format!("slow-{number}"))).expect("a worker is registered");
    }
    for number in 0..20 {
        declined(&stub, &format!("slow-{number}"));
    }
    worker.counts("last_call_offers_declined_total{reason=\"slow\"}", 20.0);
    worker.counts("last_call_wedged", 0.0);
    let states = stub.statuses(0);
    assert!(states.iter().all(is_available), "{states:?}");
}

#[test]
fn job_1_a_late_yes_is_dropped() {
    let stub = stub();
    let worker = early_threads(stub.url()).register(&stub, &["--answer-within=500ms", "--user-threads=4"]);
    stub.offer(Job::new("late").metadata("handler blocks")).expect("a worker is registered");
    declined(&stub, "late");
    worker.await_metric("last_call_late_decisions_total", 1.0);
    let tally = Tally::of(&stub.offers());
    assert_eq!((tally.declined, tally.repeated), (1, 0), "{tally}");
    let assigned = stub.events().iter().any(|event| {
        matches!(event.what, What::Sent(last_call_testkit::proto::server_message::Message::Assignment(_)))
    });
    assert!(!assigned, "it was said to be accepted");
    assert!(stub.statuses(0).iter().all(is_available));
}

#[test]
fn job_1_a_panicking_handler_declines() {
    let stub = stub();
    let worker = early_threads(stub.url()).register(&stub, &[]);
    for job in ["one", "two"] {
        stub.offer(Job::new(job).metadata("handler panics")).expect("a worker is registered");
        declined(&stub, job);
    }
    stub.offer(Job::new("good")).expect("a worker is registered");
    assert_eq!(stub.end_of("good").status(), JobStatus::JsSuccess);
    assert_eq!(worker.log("the request handler panicked")["panic"], "told to panic in the handler");
    assert!(stub.statuses(0).iter().all(is_available));
}

#[test]
fn job_1_an_offer_that_user_code_rejects_goes_to_the_next_worker() {
    let stub = stub();
    let _worker = probe(stub.url()).with_a_handler().register(&stub, &[]);
    stub.offer(Job::new("unwanted").metadata(r#"{"reject": true}"#)).expect("a worker is registered");
    declined(&stub, "unwanted");
}

#[test]
fn job_2_no_more_than_max_jobs_however_many_offers_come_at_once() {
    let most = 5;
    let stub =
        Stub::start(Options { assign: Some(Duration::from_millis(50)), ..Options::auto() }).expect("a stub");
    let _worker = probe(stub.url()).register(&stub, &["--max-jobs=5"]);
    for burst in 0..3 {
        let jobs: Vec<String> = (0..50).map(|number| format!("{burst}-{number}")).collect();
        let mark = stub.mark();
        for job in &jobs {
            stub.offer(Job::new(job).metadata(r#"{"sleep": 0.3}"#)).expect("a worker is registered");
        }
        stub.status(mark, "WS_FULL", is_full);
        // Until all is over, so that the next burst finds every slot free.
        for job in &jobs {
            if stub.answer(job).available {
                stub.end_of(job);
            }
        }
    }
    let mut held = BTreeSet::new();
    let mut peak = 0;
    for event in stub.events() {
        if let Some(FromWorker::Availability(answer)) = event.message()
            && answer.available
        {
            held.insert(answer.job_id.clone());
        }
        if let Some(ended) = report_of(&event).filter(|report| is_end(report)) {
            held.remove(&ended.job_id);
        }
        peak = peak.max(held.len());
        assert!(held.len() <= most, "accepted and running at once: {held:?}");
    }
    assert_eq!(peak, most, "the slots were never all used");
}

#[test]
fn job_2_a_worker_without_a_free_slot_says_full_and_then_available() {
    let stub = stub();
    let _worker = probe(stub.url()).register(&stub, &["--max-jobs=1"]);
    let mark = stub.mark();
    stub.run_job("only", json!({"sleep": 1}));
    stub.status(mark, "WS_FULL", |status| is_full(status) && status.job_count == 1);
    stub.end_of("only");
    stub.status(mark, "WS_AVAILABLE", |status| is_available(status) && status.job_count == 0);
}

#[test]
fn job_3_a_job_that_raises_is_reported_failed_with_its_words() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("raises", json!({"raise": true}));
    let report = stub.end_of("raises");
    assert_eq!((report.status(), report.error.as_str()), (JobStatus::JsFailed, "told to raise"));
    assert_eq!(worker.diary("raises"), ["started", "raised"]);
    worker.counts("last_call_jobs_total{outcome=\"failed\"}", 1.0);
}

#[test]
fn job_3_the_report_has_the_causes_too() {
    let stub = stub();
    let _worker = early_threads(stub.url()).register(&stub, &[]);
    stub.offer(Job::new("nested").metadata("fail")).expect("a worker is registered");
    let report = stub.end_of("nested");
    assert_eq!(report.status(), JobStatus::JsFailed);
    assert_eq!(report.error, "cannot greet the caller: the phone book is gone: entity not found");
}

#[test]
fn job_3_a_panic_touches_no_other_job() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("healthy", json!({"sleep": 2}));
    for number in 0..10 {
        let job = format!("panics-{number}");
        stub.run_job(&job, json!({"panic": true}));
        let report = stub.end_of(&job);
        assert_eq!(
            (report.status(), report.error.as_str()),
            (JobStatus::JsFailed, "panicked: told to panic")
        );
    }
    assert_eq!(stub.end_of("healthy").status(), JobStatus::JsSuccess);
    assert_eq!(worker.diary("healthy"), ["started", "finished"]);
    assert!(stub.statuses(0).iter().all(is_available));
}

#[test]
fn job_3_each_report_leaves_before_the_worker_does() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("good", json!({"sleep": 1}));
    stub.run_job("raises", json!({"sleep": 1, "raise": true}));
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    let events = stub.events();
    let place = |job: &str| {
        events
            .iter()
            .position(|event| report_of(event).is_some_and(|report| report.job_id == job && is_end(report)))
    };
    let goodbye = events.iter().position(|event| matches!(event.what, What::Close(_)));
    assert!(place("good").is_some() && place("good") < goodbye, "{events:#?}");
    assert!(place("raises").is_some() && place("raises") < goodbye, "{events:#?}");
}

#[test]
fn job_3_a_job_that_the_server_ends_is_told_and_reported() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--stop-grace=1s"]);
    stub.run_job("listens", json!({"sleep": 3600}));
    stub.run_job("deaf", json!({"sleep": 3600, "ignore_cancel": true, "busy": true}));
    for job in ["listens", "deaf"] {
        worker.await_diary(job, "started");
        stub.terminate(job).expect("the connection stands");
    }
    assert_eq!(stub.end_of("listens").status(), JobStatus::JsSuccess);
    assert_eq!(stub.end_of("deaf").status(), JobStatus::JsFailed);
    assert_eq!(worker.log("told to stop")["reason"], "the server ended the job");
    assert_eq!(worker.diary("deaf"), ["started", "cancelled"]);
}

/// A worker with this constant load.
fn loaded(stub: &Stub, load: &str) -> Start {
    probe(stub.url()).env("PROBE_LOAD", load)
}

#[test]
fn job_4_at_its_threshold_a_worker_is_full() {
    for load in ["0.5", "0.9"] {
        let stub = stub();
        let worker = loaded(&stub, load).register(&stub, &["--load-threshold=0.5"]);
        let mark = stub.mark();
        stub.offer(Job::new("too much")).expect("a worker is registered");
        declined(&stub, "too much");
        worker.counts("last_call_offers_declined_total{reason=\"load\"}", 1.0);
        stub.status(mark, "WS_FULL", is_full);
    }
}

#[test]
fn job_4_available_is_always_under_the_servers_target() {
    let loads = [0.0, 0.049, 0.299, 0.699, 0.999];
    let sweep =
        [0.05, 0.3, 0.7, 1.0].into_iter().flat_map(|threshold: f64| loads.map(|load| (threshold, load)));
    let started: Vec<_> = sweep
        .map(|(threshold, load)| {
            let stub = stub();
            let worker =
                loaded(&stub, &load.to_string()).register(&stub, &[&format!("--load-threshold={threshold}")]);
            (threshold, load, stub, worker)
        })
        .collect();
    for (threshold, load, stub, _worker) in started {
        // Before its load is known a worker reports none.
        stub.status(0, "state that has the load", |status| {
            if load >= threshold {
                is_full(status)
            } else {
                is_available(status) && (status.load > 0.0 || load == 0.0)
            }
        });
        for status in stub.statuses(0) {
            assert!(is_full(&status) || status.load < 0.7, "load {load} of {threshold}: {status:?}");
            assert!((0.0..=1.0).contains(&status.load), "{status:?}");
        }
    }
}

#[test]
fn job_5_an_assignment_that_never_comes_frees_its_slot() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).register(&stub, &["--max-jobs=1"]);
    stub.offer(Job::new("forgotten")).expect("a worker is registered");
    assert!(stub.answer("forgotten").available);
    stub.offer(Job::new("too early")).expect("a worker is registered");
    declined(&stub, "too early");
    let mark = stub.mark();
    stub.status(mark, "WS_AVAILABLE", is_available);
    worker.counts("last_call_assignments_missed_total", 1.0);
    stub.offer(Job::new("next")).expect("a worker is registered");
    assert!(stub.answer("next").available);
    stub.assign("next", None, None).expect("the connection stands");
    assert_eq!(stub.end_of("next").status(), JobStatus::JsSuccess);
}

#[test]
fn job_5_an_assignment_of_a_job_that_was_not_accepted_starts_nothing() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let worker = probe(stub.url()).with_a_handler().register(&stub, &[]);
    stub.offer(Job::new("unwanted").metadata(r#"{"reject": true}"#)).expect("a worker is registered");
    declined(&stub, "unwanted");
    stub.offer(Job::new("wanted").metadata(r#"{"sleep": 1}"#)).expect("a worker is registered");
    assert!(stub.answer("wanted").available);
    for job in ["unwanted", "wanted", "wanted", "wanted"] {
        stub.assign(job, None, None).expect("the connection stands");
    }
    assert_eq!(stub.end_of("wanted").status(), JobStatus::JsSuccess);
    stub.assign("wanted", None, None).expect("the connection stands");
    worker.await_metric("last_call_assignments_unknown_total", 4.0);
    assert_eq!(worker.diary("wanted"), ["started", "finished"]);
    assert!(worker.diary("unwanted").is_empty());
    until("all to be reported", || stub.reports("wanted").len() == 2);
    assert!(stub.reports("unwanted").is_empty());
    let counted = stub.events().iter().filter_map(status_of).map(|status| status.job_count).max();
    assert!(counted <= Some(1), "{counted:?}");
}
