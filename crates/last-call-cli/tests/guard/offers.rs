//! Offers to workers that are slow, busy, or do not listen.
//!
//! Owns who is taken for wedged and who never is. Refuses drains.

use last_call_testkit::proto::WorkerStatus;
use last_call_testkit::{Job, Peer, Signal};

use crate::rig::{Rig, SECRET, main_process, signal, until};

#[test]
fn job_1_a_slow_and_busy_worker_is_let_be_and_a_stopped_one_is_answered_for() {
    let settings = [("PEER_REQUEST", "0.6"), ("PEER_BUSY", "0.3")];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &[], &settings) else { return };
    let mark = rig.stub.mark();
    for id in ["AJ_1", "AJ_2", "AJ_3"] {
        rig.offer(Job::new(id));
        assert!(rig.answer(id), "{id} is declined\n{}", rig.guard.output());
    }
    assert!(!rig.statuses(mark).contains(&WorkerStatus::WsFull), "taken for wedged\n{}", rig.guard.output());

    let worker = main_process(&rig.guard);
    signal(worker, Signal::SIGSTOP);
    let mark = rig.stub.mark();
    rig.declines("AJ_4");
    rig.await_status(mark, WorkerStatus::WsFull);
    assert_eq!(rig.status_of("/readyz"), 503);
    let mark = rig.stub.mark();
    signal(worker, Signal::SIGCONT);
    rig.await_status(mark, WorkerStatus::WsAvailable);
    rig.offer(Job::new("AJ_5"));
    assert!(rig.answer("AJ_5"), "{}", rig.guard.output());
    // What it was offered while it stood is not answered a second time.
    let repeated = rig.stub.offers().iter().map(|offer| offer.repeated).sum::<u32>();
    assert_eq!(repeated, 0, "{:?}", rig.stub.offers());
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}

#[test]
fn job_1_a_handler_that_never_decides_is_answered_for_and_not_taken_for_wedged() {
    let settings = [("PEER_REQUEST", "never")];
    let Some(rig) = Rig::new(Peer::Node, &["--answer-within", "400ms"], &settings) else { return };
    let mark = rig.stub.mark();
    rig.declines("AJ_1");
    rig.declines("AJ_2");
    assert!(!rig.statuses(mark).contains(&WorkerStatus::WsFull), "taken for wedged\n{}", rig.guard.output());
    assert_eq!(rig.status_of("/readyz"), 200);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}

#[test]
fn what_looks_at_a_wedged_worker_has_no_secret_that_the_worker_has_not() {
    let look = [("LAST_CALL_ON_WEDGED", "env > $DIR/seen; mv $DIR/seen $DIR/all")];
    let Some(rig) = Rig::new(Peer::Python1_8_9, &["--secrets", "hold"], &look) else { return };
    let worker = main_process(&rig.guard);
    signal(worker, Signal::SIGSTOP);
    rig.declines("AJ_1");
    until("the look", || rig.path("all").exists());
    signal(worker, Signal::SIGCONT);
    let seen = std::fs::read_to_string(rig.path("all")).expect("it is whole");
    assert!(seen.contains("LIVEKIT_API_SECRET="), "{seen}");
    assert!(!seen.contains(SECRET), "{seen}");
    assert!(seen.contains(&format!("LAST_CALL_WORKER_PID={worker}\n")), "{seen}");
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}
