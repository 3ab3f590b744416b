//! The connection and what crosses it.

use std::time::Duration;

use last_call_proto::{
    Answer, Decision, Event, FromServer, Input, Limits, Link, Loss, Outcome, Output, Timer, ToServer,
};

use crate::harness::{Pair, job, slots};

#[test]
fn reg_1_a_worker_dials_until_it_is_answered() {
    let mut pair = Pair::running(["A"]);
    pair.reachable = false;
    pair.break_off();
    pair.pass(Duration::from_secs(24 * 3_600));
    assert_eq!(pair.outcome(), None, "a call runs");
    pair.reachable = true;
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.worker.link(), Link::Registered);
    let migrated = ToServer::Migrate(vec![job("A")]);
    assert!(pair.writes().concat().contains(&migrated), "the server hears what still runs");
}

#[test]
fn reg_1_a_full_worker_is_full_on_every_connection() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.accept("A");
    pair.drive();
    for _ in 0..20 {
        pair.forget();
        pair.break_off();
        pair.pass(Duration::from_secs(5));
        let first = &pair.writes()[0];
        assert!(
            matches!(first[..], [ToServer::Register, ToServer::Status(status)] if !status.available),
            "{first:?}"
        );
    }
}

#[test]
fn reg_1_a_quiet_worker_is_quiet_on_the_next_connection() {
    let mut pair = Pair::registered(slots(1));
    pair.say(Input::Quiet);
    pair.break_off();
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.worker.link(), Link::Registered);
    assert!(!pair.would_be_drawn());
}

#[test]
fn reg_1_a_slot_that_fills_by_a_late_assignment_is_advertised() {
    let mut pair = Pair::registered(slots(1));
    pair.offer("A");
    pair.accept("A");
    pair.step();
    pair.fire(Timer::Assignment(job("A")));
    pair.drive();
    assert!(pair.did(&Output::Launch(job("A"))), "the server counts on it");
    assert!(!pair.would_be_drawn(), "its slot is taken again");
}

#[test]
fn reg_1_a_server_that_goes_away_is_left_for_another() {
    let mut pair = Pair::running(["A"]);
    pair.pass(Duration::from_secs(3));
    pair.say(Input::Received(FromServer::GoAway));
    pair.drive();
    assert!(pair.did(&Output::HangUp));
    assert_eq!(pair.worker.link(), Link::Registered, "on a new connection");
    assert!(pair.would_be_drawn());
    assert_eq!(pair.worker.jobs().running(), 1);
}

#[test]
fn reg_1_a_server_that_sends_everyone_on_at_once_is_not_dialled_in_a_loop() {
    let mut pair = Pair::registered(Limits::default());
    pair.say(Input::Received(FromServer::GoAway));
    pair.drive();
    assert!(pair.did(&Output::HangUp));
    assert_eq!((pair.worker.link(), pair.worker.attempt()), (Link::Waiting, 1));
}

#[test]
fn reg_1_a_server_that_goes_away_twice_costs_no_report() {
    let mut pair = Pair::running(["A"]);
    pair.succeed("A");
    pair.say(Input::Received(FromServer::GoAway));
    pair.worker.poll_transmit().expect("the report is taken, and on its way");
    pair.say(Input::Received(FromServer::GoAway));
    assert!(!pair.did(&Output::HangUp), "the report is not written yet");
    pair.say(Input::Flushed);
    assert!(pair.did(&Output::HangUp));
}

#[test]
fn reg_2_a_half_open_connection_is_found() {
    let mut pair = Pair::running(["A"]);
    pair.dead = true;
    pair.pass(Duration::from_secs(10));
    let found = pair.when(&Output::HangUp);
    assert!(found.is_some(), "pings are unanswered for ten seconds");
    assert!(pair.did(&Output::Event(Event::Disconnected)));
}

#[test]
fn reg_2_a_connection_that_shows_life_stays() {
    let mut pair = Pair::registered(slots(1));
    pair.pass(Duration::from_secs(3_600));
    assert!(!pair.did(&Output::HangUp));
    let pings = pair.writes().into_iter().flatten().filter(|frame| *frame == ToServer::Ping).count();
    assert_eq!(pings, 1_440, "one every 2.5 s");
}

#[test]
fn reg_2_a_registration_without_a_reply_is_given_up() {
    let mut pair = Pair::new(slots(1));
    pair.dead = true;
    pair.say(Input::Start);
    pair.pass(pair.policy.register_within);
    assert!(pair.did(&Output::HangUp));
}

#[test]
fn reg_3_a_refusal_ends_a_worker_that_never_registered() {
    let mut pair = Pair::new(slots(1));
    pair.reachable = false;
    pair.say(Input::Start);
    pair.say(Input::Lost(Loss::Refused));
    assert_eq!(pair.outcome(), Some(Outcome::Refused));
}

#[test]
fn reg_3_a_refusal_is_tried_again_where_another_worker_of_the_process_is_registered() {
    let mut pair = Pair::new(slots(1));
    pair.worker = pair.worker.accepted_before();
    pair.reachable = false;
    pair.say(Input::Start);
    for _ in 0..3 {
        pair.say(Input::Lost(Loss::Refused));
        assert_eq!(pair.outcome(), None);
        assert_eq!(pair.worker.link(), Link::Waiting);
        pair.fire(Timer::Redial);
    }
    pair.reachable = true;
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.worker.link(), Link::Registered);
}

#[test]
fn reg_3_an_unreachable_server_is_no_refusal() {
    let mut pair = Pair::new(slots(1));
    pair.reachable = false;
    pair.say(Input::Start);
    pair.say(Input::Lost(Loss::Broken));
    assert_eq!(pair.outcome(), None);
    pair.reachable = true;
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.worker.link(), Link::Registered);
}

#[test]
fn reg_3_a_refusal_on_a_reconnect_is_tried_again() {
    let mut pair = Pair::running(["A"]);
    pair.reachable = false;
    pair.break_off();
    pair.fire(Timer::Redial);
    pair.say(Input::Lost(Loss::Refused));
    assert_eq!(pair.outcome(), None);
    assert_eq!(pair.worker.link(), Link::Waiting);
}

#[test]
fn wire_1_garbage_is_counted_and_changes_nothing() {
    let mut pair = Pair::running(["A"]);
    let before = pair.worker.clone();
    pair.say(Input::Garbage);
    assert!(pair.did(&Output::Event(Event::Garbage)));
    assert_eq!(pair.worker, before);
}

#[test]
fn wire_1_a_second_assignment_starts_nothing() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Received(FromServer::Assignment(job("A"))));
    pair.say(Input::Received(FromServer::Assignment(job("unknown"))));
    assert!(!pair.did(&Output::Launch(job("A"))) && !pair.did(&Output::Launch(job("unknown"))));
    assert!(pair.did(&Output::Event(Event::AssignmentUnknown(job("unknown")))));
}

#[test]
fn wire_1_an_offer_twice_over_is_asked_and_answered_once() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.say(Input::Received(FromServer::Offer(job("A"))));
    pair.accept("A");
    pair.drive();
    assert_eq!(pair.times(&Output::Ask(job("A"))), 1);
    assert_eq!(pair.answers(), [(job("A"), Answer::Accept)]);
}

#[test]
fn wire_1_an_offer_of_a_job_that_is_barely_over_is_declined() {
    let mut pair = Pair::running(["A"]);
    pair.succeed("A");
    pair.say(Input::Received(FromServer::Offer(job("A"))));
    pair.drive();
    assert_eq!(pair.answers(), [(job("A"), Answer::Decline)]);
    assert!(!pair.did(&Output::Ask(job("A"))));
}

#[test]
fn wire_1_a_job_assigned_before_it_was_accepted_is_awaited_in_a_drain() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.stuck = true;
    pair.accept("A");
    pair.say(Input::Received(FromServer::Assignment(job("A"))));
    pair.say(Input::Drain);
    pair.stuck = false;
    pair.drive();
    assert_eq!(pair.outcome(), None, "it runs");
}

#[test]
fn wire_2_a_connection_begins_with_register_and_status() {
    let mut pair = Pair::new(Limits::default());
    pair.say(Input::Start);
    pair.drive();
    let first = &pair.writes()[0];
    assert!(
        matches!(first[..], [ToServer::Register, ToServer::Status(status)] if status.available),
        "{first:?}"
    );
}

#[test]
fn wire_2_nothing_of_the_last_connection_is_said_on_the_next() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.stuck = true;
    pair.say(Input::Decided(job("A"), Decision::Reject));
    pair.break_off();
    pair.stuck = false;
    pair.pass(Duration::from_secs(2));
    assert_eq!(pair.worker.link(), Link::Registered);
    assert_eq!(pair.answers(), []);
}
