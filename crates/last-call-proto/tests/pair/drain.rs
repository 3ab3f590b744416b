//! The way out.

use std::time::Duration;

use last_call_proto::policy::DrainBudget;
use last_call_proto::{
    Answer, DispatcherEvent, End, Event, Input, JobState, Load, Outcome, Output, Phase, Report, Status,
    StopReason, Timer, ToServer,
};

use crate::harness::{Pair, job, slots};

fn is_full(frame: &ToServer) -> bool {
    matches!(frame, ToServer::Status(Status { available: false, draining: true, .. }))
}

#[test]
fn drain_1_a_signal_before_anything_ends_the_worker() {
    let mut pair = Pair::new(slots(1));
    pair.say(Input::Drain);
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_1_a_signal_while_dialling_ends_the_worker() {
    let mut pair = Pair::new(slots(1));
    pair.reachable = false;
    pair.say(Input::Start);
    pair.say(Input::Drain);
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_1_a_signal_while_registering_is_said_before_leaving() {
    let mut pair = Pair::new(slots(1));
    pair.say(Input::Start);
    pair.step();
    pair.say(Input::Drain);
    pair.drive();
    assert!(matches!(&pair.writes()[0][..], [ToServer::Register, full] if is_full(full)));
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_1_a_signal_between_connections_holds_on_the_next() {
    let mut pair = Pair::running(["A"]);
    pair.reachable = false;
    pair.break_off();
    pair.say(Input::Drain);
    assert_eq!(pair.outcome(), None, "a call runs");
    pair.reachable = true;
    pair.pass(Duration::from_secs(1));
    assert!(!pair.would_be_drawn());
    assert_eq!(pair.worker.phase(), Phase::Draining);
}

#[test]
fn drain_2_full_overtakes_what_waits_for_the_socket() {
    let mut pair = Pair::registered(slots(200));
    pair.stuck = true;
    for number in 0..100 {
        pair.offer(&format!("{number}"));
    }
    pair.say(Input::Drain);
    pair.stuck = false;
    pair.drive();
    assert!(is_full(&pair.writes()[0][0]));
}

#[test]
fn drain_2_register_and_full_leave_in_one_write() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.drive();
    pair.forget();
    pair.break_off();
    pair.pass(Duration::from_secs(1));
    assert!(matches!(&pair.writes()[0][..], [ToServer::Register, full] if is_full(full)));
}

#[test]
fn drain_3_offers_after_the_signal_are_declined_at_once() {
    let mut pair = Pair::running(["A"]);
    pair.dispatch("B");
    pair.dispatch("C");
    pair.say(Input::Drain);
    pair.drive();
    assert_eq!(pair.answers(), [(job("B"), Answer::Decline), (job("C"), Answer::Decline)]);
    assert_eq!(pair.now, Duration::ZERO, "nothing was waited for");
    assert!(!pair.did(&Output::Ask(job("B"))));
}

#[test]
fn drain_3_what_user_code_still_thinks_about_is_declined() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.say(Input::Drain);
    pair.drive();
    assert_eq!(pair.answers(), [(job("A"), Answer::Decline)]);
    assert!(pair.did(&Output::Forget(job("A"))));
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_3_an_acceptance_that_has_not_left_is_taken_back() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.stuck = true;
    pair.accept("A");
    pair.say(Input::Drain);
    pair.stuck = false;
    pair.drive();
    assert_eq!(pair.answers(), [(job("A"), Answer::Decline)]);
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_4_a_job_accepted_before_the_signal_runs() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.accept("A");
    pair.step();
    pair.say(Input::Drain);
    pair.drive();
    assert!(pair.did(&Output::Launch(job("A"))));
    assert!(pair.did(&Output::Notify(job("A"))));
    assert_eq!(pair.outcome(), None);
    pair.succeed("A");
    pair.drive();
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_4_a_job_assigned_past_the_deadline_is_brought_to_where_the_others_are() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.accept("A");
    pair.step();
    pair.say(Input::Drain);
    pair.fire(Timer::DrainTell);
    pair.fire(Timer::DrainCancel);
    pair.drive();
    assert!(pair.did(&Output::Tell(job("A"), StopReason::DrainDeadline)));
    assert!(pair.did(&Output::Cancel(job("A"))));
}

#[test]
fn drain_4_an_assignment_that_was_given_up_is_not_started_on_the_way_out() {
    let mut pair = Pair::registered(slots(2));
    pair.offer("A");
    pair.accept("A");
    pair.step();
    pair.fire(Timer::Assignment(job("A")));
    pair.stuck = true;
    pair.say(Input::Drain);
    assert_eq!(pair.worker.phase(), Phase::Drained);
    pair.drive();
    pair.stuck = false;
    pair.drive();
    assert!(!pair.did(&Output::Launch(job("A"))), "it would be cut off at once");
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_5_an_idle_worker_leaves_as_soon_as_it_has_said_so() {
    let mut pair = Pair::registered(slots(2));
    pair.say(Input::Drain);
    assert_eq!(pair.outcome(), None, "FULL is not written yet");
    pair.drive();
    assert_eq!(pair.left(), Some((Duration::ZERO, Outcome::Finished)));
}

#[test]
fn drain_5_the_worker_leaves_with_the_last_report() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.pass(Duration::from_secs(600));
    pair.succeed("A");
    pair.drive();
    assert_eq!(pair.left(), Some((Duration::from_secs(600), Outcome::Finished)));
    let reports = pair.found();
    assert!(reports.contains(&DispatcherEvent::Reported(job("A"), Report::Success)), "{reports:?}");
}

#[test]
fn drain_5_a_stuck_socket_delays_the_exit_by_the_flush_at_most() {
    let mut pair = Pair::running(["A"]);
    pair.stuck = true;
    pair.say(Input::Drain);
    pair.succeed("A");
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.left(), Some((pair.policy.flush_within, Outcome::Finished)));
}

#[test]
fn drain_6_jobs_are_told_cancelled_and_killed_within_one_budget() {
    let mut pair = Pair::running(["A"]);
    let total = Duration::from_secs(60);
    pair.policy.drain = DrainBudget::split(total, Duration::from_secs(10));
    pair.say(Input::Drain);
    pair.pass(2 * total);
    let secs = |output| pair.when(&output).map(|at| at.as_secs());
    assert_eq!(secs(Output::Tell(job("A"), StopReason::DrainDeadline)), Some(50));
    assert_eq!(secs(Output::Cancel(job("A"))), Some(56));
    assert_eq!(secs(Output::Kill(job("A"))), Some(59));
    assert!(pair.left().is_some_and(|(at, _)| at <= total), "{:?}", pair.left());
}

#[test]
fn drain_6_the_drain_leaves_jobs_the_whole_reserve() {
    let mut pair = Pair::running(["A"]);
    // Longer than the wait between telling and cancelling a single job.
    pair.policy.drain = DrainBudget::split(Duration::from_secs(600), Duration::from_secs(100));
    pair.say(Input::Drain);
    pair.pass(Duration::from_secs(559));
    assert!(!pair.did(&Output::Cancel(job("A"))), "its share of the reserve lasts until 560 s");
    pair.succeed("A");
    pair.drive();
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

#[test]
fn drain_7_every_job_hears_of_the_drain_once() {
    let mut pair = Pair::running(["A", "B"]);
    pair.say(Input::Drain);
    pair.say(Input::Drain);
    pair.pass(Duration::from_secs(3_599));
    for id in ["A", "B"] {
        assert_eq!(pair.times(&Output::Notify(job(id))), 1);
        assert!(pair.when(&Output::Notify(job(id))) < pair.when(&Output::Cancel(job(id))));
    }
}

#[test]
fn drain_8_the_outcome_lists_the_jobs_that_were_cut_off() {
    let mut pair = Pair::running(["A", "B", "C"]);
    pair.say(Input::Drain);
    pair.succeed("B");
    pair.pass(Duration::from_secs(2 * 3_600));
    assert_eq!(pair.outcome(), Some(Outcome::CutOff(vec![job("A"), job("C")])));
}

#[test]
fn drain_8_a_job_that_gives_in_when_cancelled_was_cut_off_all_the_same() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.fire(Timer::DrainTell);
    pair.fire(Timer::DrainCancel);
    pair.say(Input::Ended(job("A"), End::Failed("cancelled".into())));
    pair.drive();
    assert_eq!(pair.outcome(), Some(Outcome::CutOff(vec![job("A")])));
}

#[test]
fn drain_9_a_second_sigterm_changes_nothing() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.drive();
    let once = pair.worker.clone();
    pair.forget();
    for _ in 0..1_000 {
        pair.say(Input::Drain);
        pair.drive();
    }
    assert_eq!(pair.worker, once);
    assert_eq!(pair.writes(), [[]; 0]);
}

#[test]
fn drain_9_force_ends_every_job_and_says_which() {
    let mut pair = Pair::running(["A", "B"]);
    pair.say(Input::Drain);
    pair.say(Input::Force);
    pair.drive();
    assert!(pair.did(&Output::Kill(job("A"))) && pair.did(&Output::Kill(job("B"))));
    assert_eq!(pair.left(), Some((Duration::ZERO, Outcome::Forced(vec![job("A"), job("B")]))));
}

#[test]
fn drain_11_quiet_takes_nothing_and_can_be_undone() {
    let mut pair = Pair::running(["A"]);
    pair.dispatch("B");
    pair.say(Input::Quiet);
    pair.drive();
    assert_eq!(pair.answers(), [(job("B"), Answer::Decline)]);
    assert!(!pair.would_be_drawn());
    assert_eq!(
        pair.worker.jobs().get(&job("A")).map(|state| matches!(state, JobState::Running(_))),
        Some(true)
    );
    pair.say(Input::Unquiet);
    pair.drive();
    assert!(pair.would_be_drawn());
}

#[test]
fn drain_11_unquiet_does_not_undo_a_drain() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Quiet);
    pair.say(Input::Drain);
    pair.say(Input::Unquiet);
    pair.drive();
    assert!(!pair.would_be_drawn());
    assert_eq!(pair.worker.phase(), Phase::Draining);
    assert!(!pair.did(&Output::Event(Event::Phase(Phase::Serving))));
}

/// The signal was swallowed, and 29 calls went to a worker that was about to be killed.
#[test]
fn agents_5856_no_call_goes_to_a_worker_that_leaves() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.drive();
    pair.break_off();
    pair.pass(Duration::from_secs(5));
    for number in 0..29 {
        pair.offer(&format!("late {number}"));
    }
    assert_eq!(pair.worker.jobs().slots(), 1);
    assert_eq!(pair.answers(), []);
    assert_eq!(pair.outcome(), None);
}

/// The next load report made a draining worker available again.
#[test]
fn agents_js_1180_a_draining_worker_never_goes_back_to_available() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    for load in [900, 0, 100] {
        pair.say(Input::Load(Load::from_thousandths(load)));
        pair.pass(Duration::from_secs(60));
    }
    let available = |frame: &ToServer| matches!(frame, ToServer::Status(status) if status.available);
    assert!(!pair.writes().concat().iter().any(available));
}

/// The end of the first call ended the worker, and with it the other calls.
#[test]
fn agents_4268_first_finished_call_ends_the_rest() {
    let mut pair = Pair::running(["A", "B"]);
    pair.say(Input::Drain);
    pair.succeed("A");
    pair.drive();
    assert_eq!(pair.outcome(), None, "B still runs");
    pair.succeed("B");
    pair.drive();
    assert_eq!(pair.outcome(), Some(Outcome::Finished));
}

/// The timeout of the drain skipped everything that was to come after it.
#[test]
fn agents_5282_a_drain_that_runs_out_still_reports_and_releases() {
    let mut pair = Pair::running(["A"]);
    pair.say(Input::Drain);
    pair.pass(Duration::from_secs(2 * 3_600));
    let reported = |event: &DispatcherEvent| matches!(event, DispatcherEvent::Reported(of, Report::Failed(_)) if *of == job("A"));
    assert!(pair.found().iter().any(reported));
    assert!(pair.did(&Output::Release(job("A"))));
    assert_eq!(pair.outcome(), Some(Outcome::CutOff(vec![job("A")])));
}
