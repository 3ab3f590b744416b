//! A drain that is waited for, as a preStop hook does.

use crate::rig::{Rig, SOON, last_call, started, text};

#[test]
fn drain_5_a_wait_ends_when_the_worker_has_left_and_no_sooner() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &[]);
    rig.call("one");
    rig.call("two");
    let drain = started(&["drain", "--wait", text(&socket)]);
    let line = |part: &'static str| drain.wait_for_line(move |line| line.contains(part), SOON).expect(part);
    line("draining, 0 of 2 jobs ended");
    rig.stub.terminate("one").expect("the connection stands");
    line("draining, 1 of 2 jobs ended");
    assert!(drain.try_wait().is_none() && worker.try_wait().is_none(), "a call still runs");
    rig.stub.terminate("two").expect("the connection stands");
    assert_eq!(drain.wait(SOON).expect("an end").code, Some(0));
    line("left after");
    assert!(!socket.exists());
    assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0));
}

#[test]
fn an_idle_worker_leaves_at_once() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &[]);
    let done = last_call(&["drain", "--wait", text(&socket)], None);
    assert!(done.code == Some(0) && done.out.contains("left after"), "{done:?}");
    assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0));
}

#[test]
fn a_wait_that_runs_out_leaves_the_drain_as_it_is() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &[]);
    rig.call("call");
    let done = last_call(&["drain", "--wait", "--timeout=1", text(&socket)], None);
    assert!(done.code == Some(1) && done.err.contains("its drain goes on"), "{done:?}");
    let seen = last_call(&["ps", text(&socket)], None);
    assert!(seen.code == Some(0) && seen.out.contains("draining"), "{seen:?}");
    rig.stub.terminate("call").expect("the connection stands");
    assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0), "the call had its end");
}

#[test]
fn without_a_timeout_it_waits_as_long_as_the_worker_may_take() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &["--drain-timeout=2s", "--drain-reserve=1s"]);
    rig.call("call");
    let done = last_call(&["drain", "--wait", text(&socket)], None);
    assert!(done.code == Some(0) && done.out.contains("left after"), "{done:?}");
    worker.wait(SOON).expect("it left, by its own budget");
}

#[test]
fn the_next_worker_at_the_path_is_not_waited_for() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &[]);
    rig.call("call");
    let drain = started(&["drain", "--wait", text(&socket)]);
    drain.wait_for_line(|line| line.contains("0 of 1 jobs ended"), SOON).expect("a first look");
    // As a supervisor does that moves the file away for the next one.
    std::fs::remove_file(&socket).expect("the socket");
    let _next = rig.worker(&rig.at("next.sock"), &[]);
    std::fs::rename(rig.at("next.sock"), &socket).expect("the next one's socket");
    assert_eq!(drain.wait(SOON).expect("an end").code, Some(0));
    assert!(worker.try_wait().is_none(), "the first worker still has its call");
}
