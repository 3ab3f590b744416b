//! SIGTERM to guard, in front of workers that swallow it, wait for ever, or drop their calls.
//!
//! Owns the promise: full at once, nothing accepted after, every running call finishes, exit code 0. Refuses crashes.

use last_call_testkit::proto::WorkerStatus;
use last_call_testkit::{Job, Peer, Signal, processes};

use crate::rig::{Rig, SOON, gone, guarded, log, main_process, signal, until};

/// From SIGTERM on: full, and never anything else.
#[track_caller]
fn stays_full(rig: &Rig, mark: usize) {
    let statuses = rig.statuses(mark);
    assert!(statuses.iter().all(|status| *status == WorkerStatus::WsFull), "{statuses:?}");
}

/// The event loop is busy all the time, so that SIGTERM comes in the middle of some callback.
#[track_caller]
fn a_busy_worker_drains(peer: Peer) {
    let Some(rig) = Rig::new(peer, &[], &[("PEER_BUSY", "0.9")]) else { return };
    let job = rig.call("AJ_1");
    let worker = main_process(&rig.guard);
    let mark = rig.stub.mark();
    // As a terminal or `kill -- -PGID` does: guard is one of its group, the worker is not.
    signal(-i64::from(rig.guard.pid()), Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    rig.declines("AJ_2");
    for _ in 0..3 {
        rig.send(Signal::SIGTERM);
        rig.declines(&format!("AJ_{}", rig.stub.mark()));
    }
    assert!(processes::runs(job) && processes::runs(worker), "left its caller\n{}", rig.guard.output());
    rig.finish("AJ_1");
    rig.leaves_with(0);
    stays_full(&rig, mark);
    gone(worker);
}

#[test]
fn agents_5856_a_busy_worker_of_1_5_7_drains() {
    a_busy_worker_drains(Peer::Python1_5_7);
}

#[test]
fn agents_5856_a_busy_worker_of_1_3_12_drains() {
    a_busy_worker_drains(Peer::Python1_3_12);
}

const BLOCKS: [(&str, &str); 1] = [("PEER_BLOCK", "$DIR/block")];

/// Blocks the worker's event loop until the file is taken away.
#[track_caller]
fn block(rig: &Rig) {
    rig.make("block");
    Peer::event(&rig.guard, "blocked", None, SOON).expect("its loop stands still");
}

fn unblock(rig: &Rig) {
    std::fs::remove_file(rig.path("block")).expect("it was there");
}

#[test]
fn agents_6724_a_blocked_worker_of_1_5_7_takes_calls_after_sigterm_alone() {
    let Some(rig) = Rig::alone(Peer::Python1_5_7, &BLOCKS) else { return };
    block(&rig);
    rig.send(Signal::SIGTERM);
    // It becomes an exception in the task that has the loop, which ends there.
    rig.call("AJ_1");
    rig.call("AJ_2");
    assert!(rig.guard.try_wait().is_none());
    // A job that goes on would outlive the worker, which is killed.
    rig.finish("AJ_1");
    rig.finish("AJ_2");
}

#[test]
fn agents_6724_a_blocked_worker_of_1_5_7_drains() {
    let Some(rig) = Rig::new(Peer::Python1_5_7, &[], &BLOCKS) else { return };
    rig.call("AJ_1");
    block(&rig);
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    rig.declines("AJ_2");
    unblock(&rig);
    rig.declines("AJ_3");
    rig.finish("AJ_1");
    rig.leaves_with(0);
    stays_full(&rig, mark);
}

#[test]
fn agents_4664_agents_5519_who_swallows_the_exit_is_ended() {
    let options = ["--exit-within", "500ms"];
    let Some(rig) = Rig::new(Peer::Python1_3_12, &options, &BLOCKS) else { return };
    let worker = main_process(&rig.guard);
    block(&rig);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
    gone(worker);
}

#[test]
fn agents_5282_agents_6512_the_drain_deadline_holds() {
    let options = ["--drain-timeout", "4s", "--drain-reserve", "2s", "--stop-grace", "1s"];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &options, &[]) else { return };
    rig.offer(Job::new("AJ_1").metadata("ignore"));
    let job = crate::rig::started(&rig.guard, "AJ_1");
    let worker = main_process(&rig.guard);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(4);
    gone(job);
    gone(worker);
}

#[test]
fn agents_4268_the_first_call_that_ends_does_not_end_the_others() {
    let options = ["--forward", "now"];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &options, &[]) else { return };
    let (_, second) = (rig.call("AJ_1"), rig.call("AJ_2"));
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    let told = |line: &str| line.contains("draining worker");
    rig.guard.wait_for_line(told, SOON).expect("the worker is told with the signal");
    rig.finish("AJ_1");
    rig.declines("AJ_3");
    assert!(processes::runs(second), "left its caller\n{}", rig.guard.output());
    rig.finish("AJ_2");
    rig.leaves_with(0);
    stays_full(&rig, mark);
}

/// Its own drain may then wait for ever.
#[test]
fn a_worker_of_1_8_9_whose_calls_end_at_once_drains() {
    let Some(rig) = Rig::new(Peer::Python1_8_9, &[], &[]) else { return };
    let ids: Vec<_> = (1..=8).map(|number| format!("AJ_{number}")).collect();
    for id in &ids {
        rig.call(id);
    }
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    ids.iter().for_each(|id| rig.make(id));
    for id in &ids {
        rig.end(id);
    }
    rig.leaves_with(0);
    stays_full(&rig, mark);
}

#[test]
fn js_275_js_1180_calls_of_node_go_on_and_nothing_is_accepted() {
    let Some(rig) = Rig::new(Peer::Node, &["--exit-within", "2s"], &[]) else { return };
    let (first, second) = (rig.call("AJ_1"), rig.call("AJ_2"));
    let mark = rig.stub.mark();
    signal(-i64::from(rig.guard.pid()), Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    rig.send(Signal::SIGTERM);
    rig.declines("AJ_3");
    rig.finish("AJ_1");
    gone(first);
    // The status that the SDK tells when a job has ended was AVAILABLE.
    rig.declines("AJ_4");
    assert!(processes::runs(second), "left its caller\n{}", rig.guard.output());
    rig.finish("AJ_2");
    rig.leaves_with(0);
    stays_full(&rig, mark);
    // 143 is Node's own code for it; where its drain waits for a process that only just starts, it stalls, and is killed.
    let ended = log(&rig.guard, "the worker has ended")["ended"].to_string();
    assert!(ended.contains("143") || ended.contains("SIGKILL"), "{ended}");
}

#[test]
fn js_2151_an_assignment_that_never_comes_holds_nobody() {
    let Some(rig) = Rig::new(Peer::Node, &["--exit-within", "2s"], &[]) else { return };
    rig.stub.set_assign(None);
    for id in ["AJ_1", "AJ_2"] {
        rig.offer(rig.lasting(id));
        assert!(rig.answer(id), "{}", rig.guard.output());
    }
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    // What was accepted before the signal is honoured behind it.
    rig.stub.assign("AJ_1", None, None).expect("its connection");
    crate::rig::started(&rig.guard, "AJ_1");
    rig.finish("AJ_1");
    rig.leaves_with(0);
    let repeated = rig.stub.offers().iter().map(|offer| offer.repeated).sum::<u32>();
    assert_eq!(repeated, 0, "{:?}", rig.stub.offers());
}

#[test]
fn a_worker_that_is_not_to_be_told_before_it_is_idle_is_not() {
    let Some(rig) = Rig::new(Peer::Python1_8_9, &[], &[]) else { return };
    rig.call("AJ_1");
    rig.send(Signal::SIGTERM);
    rig.declines("AJ_2");
    let told = || rig.guard.lines().iter().any(|line| line.text.contains("draining worker"));
    assert!(!told(), "{}", rig.guard.output());
    rig.finish("AJ_1");
    rig.leaves_with(0);
    until("the worker's own word", told);
}

/// The calls that guard's last line says were cut off.
#[track_caller]
fn cut_off(rig: &Rig) -> String {
    log(&rig.guard, "left: jobs were cut off")["cut_off"].as_str().expect("text").to_owned()
}

/// The worker dies with its one call: guard leaves with this code, and says that the call was cut off.
#[track_caller]
fn dies_with_its_call(rig: &Rig, code: i32) {
    signal(main_process(&rig.guard), Signal::SIGKILL);
    rig.leaves_with(code);
    assert_eq!(cut_off(rig), "AJ_1");
}

#[test]
fn drain_8_sigquit_with_a_server_that_does_not_answer_says_what_was_cut_off() {
    let Some(rig) = Rig::new(Peer::Python1_8_9, &["--restart", "never"], &[]) else { return };
    rig.stub.set_assign(None);
    rig.offer(rig.lasting("AJ_1"));
    assert!(rig.answer("AJ_1"), "{}", rig.guard.output());
    rig.stub.freeze(rig.stub.registered().expect("a registration")).expect("it is open");
    // Nothing but the connection is left to wait for.
    signal(main_process(&rig.guard), Signal::SIGKILL);
    rig.guard.wait_for_line(|line| line.contains("the worker is not started again"), SOON).expect("its end");
    rig.send(Signal::SIGQUIT);
    rig.leaves_with(5);
    assert_eq!(cut_off(&rig), "AJ_1");
}

#[test]
fn drain_8_calls_of_a_worker_that_dies_in_the_drain_are_cut_off_where_nobody_rescues_them() {
    let options = ["--rescue", "off"];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &options, &[]) else { return };
    rig.call("AJ_1");
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    dies_with_its_call(&rig, 4);
}

#[test]
fn drain_8_a_worker_that_dies_and_is_not_started_again_leaves_its_own_code() {
    let options = ["--rescue", "off", "--restart", "never"];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &options, &[]) else { return };
    let job = rig.call("AJ_1");
    dies_with_its_call(&rig, 128 + 9);
    gone(job);
}

#[test]
fn drain_8_a_worker_that_leaves_its_calls_and_says_0_has_cut_them_off() {
    let zero = |worker: last_call_testkit::Launch| {
        guarded(worker.behind("sh", ["-c", "\"$@\"; exit 0", "sh"]), &["--rescue", "off"])
    };
    let Some(rig) = Rig::start(Peer::Python1_8_9, &[], zero) else { return };
    rig.call("AJ_1");
    dies_with_its_call(&rig, 4);
}

#[test]
fn drain_9_sigquit_is_heard_while_calls_are_dispatched_again() {
    // The stub has no API, and so none comes to an end.
    let Some(rig) = Rig::new(Peer::Python1_8_9, &[], &[]) else { return };
    rig.call("AJ_1");
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.await_status(mark, WorkerStatus::WsFull);
    signal(main_process(&rig.guard), Signal::SIGKILL);
    rig.guard.wait_for_line(|line| line.contains("a call's agent died"), SOON).expect("a rescue");
    until("guard to leave", || rig.guard.signal(Signal::SIGQUIT).is_err());
    rig.leaves_with(5);
    assert_eq!(cut_off(&rig), "AJ_1");
}

#[test]
fn drain_10_nothing_outlives_a_guard_that_was_killed() {
    for peer in [Peer::Python1_8_9, Peer::Node] {
        let Some(rig) = Rig::new(peer, &[], &[]) else { return };
        let job = rig.call("AJ_1");
        let worker = main_process(&rig.guard);
        // What stands still ends by SIGKILL alone.
        signal(job, Signal::SIGSTOP);
        rig.send(Signal::SIGKILL);
        gone(worker);
        gone(job);
    }
}
