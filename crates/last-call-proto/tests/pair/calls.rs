//! Offers and jobs.

use std::time::Duration;

use last_call_proto::{
    Answer, Decision, Declined, DispatcherEvent, End, Event, FromServer, Input, Limits, Load, Output, Report,
    StopReason, Timer, ToServer,
};

use crate::harness::{Pair, job, slots};

#[test]
fn job_1_silent_user_code_is_declined_after_300_ms_and_wedged() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.pass(Duration::from_millis(299));
    assert_eq!(pair.answers(), []);
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.answers(), [(job("A"), Answer::Decline)]);
    assert!(pair.worker.wedged());
    assert!(!pair.would_be_drawn());
}

#[test]
fn job_1_slow_user_code_is_declined_after_2_s_and_not_wedged() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.say(Input::Heartbeat(job("A")));
    pair.pass(Duration::from_millis(1_999));
    assert_eq!(pair.answers(), []);
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.answers(), [(job("A"), Answer::Decline)]);
    assert!(pair.did(&Output::Event(Event::Declined(job("A"), Declined::Slow))));
    assert!(pair.would_be_drawn());
}

#[test]
fn job_1_a_late_yes_is_dropped() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.pass(Duration::from_secs(1));
    pair.forget();
    pair.accept("A");
    pair.drive();
    assert_eq!(pair.answers(), []);
    assert!(pair.did(&Output::Event(Event::LateDecision(job("A")))));
    assert_eq!(pair.worker.jobs().slots(), 0);
}

#[test]
fn job_1_three_probes_in_a_row_bring_a_wedged_worker_back() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.pass(Duration::from_millis(300));
    pair.say(Input::ProbeAnswered);
    // Answers that come in a heap count as one.
    pair.say(Input::ProbeAnswered);
    pair.say(Input::ProbeAnswered);
    pair.pass(Duration::from_millis(500));
    assert!(pair.worker.wedged());
    pair.say(Input::ProbeAnswered);
    pair.pass(Duration::from_millis(500));
    pair.say(Input::ProbeAnswered);
    pair.drive();
    assert!(!pair.worker.wedged());
    assert!(pair.would_be_drawn());
}

#[test]
fn job_1_a_missed_probe_begins_the_row_anew() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.pass(Duration::from_millis(300));
    for _ in 0..2 {
        pair.say(Input::ProbeAnswered);
        pair.pass(Duration::from_millis(500));
    }
    pair.pass(Duration::from_millis(500));
    pair.say(Input::ProbeAnswered);
    assert!(pair.worker.wedged());
}

#[test]
fn job_1_only_user_code_ends_a_dispatch() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.say(Input::Decided(job("A"), Decision::Terminate));
    pair.offer("B");
    pair.say(Input::Decided(job("B"), Decision::Fail));
    pair.drive();
    assert_eq!(pair.answers(), [(job("A"), Answer::Terminate), (job("B"), Answer::Decline)]);
}

#[test]
fn job_2_of_two_racing_yeses_one_gets_the_slot() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.offer("B");
    pair.accept("A");
    pair.accept("B");
    pair.drive();
    assert_eq!(pair.answers(), [(job("A"), Answer::Accept), (job("B"), Answer::Decline)]);
    assert_eq!(pair.worker.jobs().slots(), 1);
    assert!(!pair.would_be_drawn());
}

#[test]
fn job_2_a_slot_is_free_again_when_its_job_ends() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.accept("A");
    pair.drive();
    pair.succeed("A");
    pair.drive();
    assert!(pair.would_be_drawn());
}

#[test]
fn job_3_an_agent_leaves_after_its_report_is_written() {
    let mut pair = Pair::running(["A"]);
    pair.succeed("A");
    assert!(!pair.did(&Output::Release(job("A"))));
    pair.step();
    assert_eq!(pair.writes(), [[ToServer::Report(job("A"), Report::Success)]]);
    assert!(!pair.did(&Output::Release(job("A"))), "taken is not written");
    pair.step();
    assert!(pair.did(&Output::Release(job("A"))));
}

#[test]
fn job_3_a_failure_is_reported_with_its_text() {
    let mut pair = Pair::running(["A", "B"]);
    pair.say(Input::Ended(job("A"), End::Failed("panicked at answer.rs".into())));
    pair.drive();
    let failed = DispatcherEvent::Reported(job("A"), Report::Failed("panicked at answer.rs".into()));
    assert_eq!(pair.found(), [failed]);
    assert_eq!(pair.worker.jobs().running(), 1, "B goes on");
}

#[test]
fn job_3_an_end_between_two_connections_is_reported_on_the_next() {
    let mut pair = Pair::running(["A"]);
    pair.break_off();
    pair.succeed("A");
    assert!(pair.did(&Output::Release(job("A"))), "there is nothing to wait for");
    pair.pass(Duration::from_secs(2));
    assert!(pair.writes().concat().contains(&ToServer::Report(job("A"), Report::Success)));
}

#[test]
fn job_3_a_job_that_does_not_stop_is_told_cancelled_and_killed() {
    let mut pair = Pair::running(["A"]);
    pair.terminate("A");
    pair.pass(Duration::from_secs(60));
    let secs = |output| pair.when(&output).map(|at| at.as_secs());
    assert_eq!(secs(Output::Tell(job("A"), StopReason::Terminated)), Some(0));
    assert_eq!(secs(Output::Cancel(job("A"))), Some(10));
    assert_eq!(secs(Output::Kill(job("A"))), Some(20));
    assert!(pair.did(&Output::Release(job("A"))));
}

#[test]
fn job_4_a_worker_just_under_its_threshold_is_drawn() {
    for threshold in [100, 500, 850, 1_000] {
        let threshold = Load::from_thousandths(threshold);
        let mut pair = Pair::registered(Limits { threshold: Some(threshold), ..Limits::default() });
        pair.say(Input::Load(Load::from_thousandths(threshold.thousandths() - 1)));
        pair.pass(pair.policy.refresh_every);
        assert!(pair.would_be_drawn(), "threshold {threshold:?}");
        pair.say(Input::Load(threshold));
        pair.drive();
        assert!(!pair.would_be_drawn(), "threshold {threshold:?}");
    }
}

#[test]
fn job_5_an_assignment_that_never_comes_frees_its_slot() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.accept("A");
    pair.dead = true;
    pair.step();
    pair.dead = false;
    // The server lost the answer, but not the connection.
    pair.pass(pair.policy.assignment_within);
    assert!(pair.did(&Output::Event(Event::AssignmentMissed(job("A")))));
    assert_eq!(pair.worker.jobs().slots(), 0);
    assert!(pair.would_be_drawn());
}

#[test]
fn job_5_an_acceptance_goes_with_its_connection() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.accept("A");
    pair.step();
    pair.break_off();
    assert!(pair.did(&Output::Event(Event::AssignmentMissed(job("A")))));
    pair.pass(Duration::from_secs(2));
    assert!(pair.would_be_drawn());
    pair.say(Input::Received(FromServer::Assignment(job("A"))));
    assert!(!pair.did(&Output::Launch(job("A"))), "the server forgot it too");
    pair.say(Input::Fired(Timer::Assignment(job("A"))));
    assert_eq!(pair.times(&Output::Event(Event::AssignmentMissed(job("A")))), 1);
}
