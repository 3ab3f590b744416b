//! The network between guard and the server breaks.
//!
//! Owns that the worker does not notice. Refuses the sixty ways in which it breaks, which are in the matrix.

use last_call_testkit::proto::WorkerStatus;
use last_call_testkit::proto::worker_message::Message;
use last_call_testkit::{Cut, Event, Peer, Signal, processes};

use crate::rig::{Rig, SOON, logged, until};

fn migrates(event: &Event) -> Option<Vec<String>> {
    match event.message() {
        Some(Message::MigrateJob(migrate)) => Some(migrate.job_ids.clone()),
        _ => None,
    }
}

#[track_caller]
fn never_noticed(rig: &Rig, peer: Peer) {
    assert_eq!(logged(&rig.guard, "the worker's connection is over"), 0, "{peer:?}\n{}", rig.guard.output());
    assert_eq!(
        logged(&rig.guard, "the worker registers through guard"),
        1,
        "{peer:?}\n{}",
        rig.guard.output()
    );
}

#[track_caller]
fn a_broken_connection_is_made_anew(peer: Peer) {
    let Some(rig) = Rig::new(peer, &[], &[]) else { return };
    let job = rig.call("AJ_1");
    let mark = rig.stub.mark();
    let first = rig.stub.registered().expect("a registration");
    rig.stub.drop_connection(first, Cut::Rst).expect("it is open");
    let second = rig.stub.wait_registered(mark, SOON).expect("guard registers again");
    assert_eq!(rig.stub.wait_for_after(mark, migrates, SOON).expect("MigrateJob"), ["AJ_1"]);
    until("AJ_2 to be taken on the new connection", || rig.stub.registered() == Some(second));
    rig.offer(rig.lasting("AJ_2"));
    assert!(rig.answer("AJ_2"), "{}", rig.guard.output());
    crate::rig::started(&rig.guard, "AJ_2");
    assert!(processes::runs(job), "the call was cut\n{}", rig.guard.output());

    // Nothing to register with while it drains, and the call ends.
    rig.stub.close_port().expect("it was open");
    rig.stub.drop_connection(second, Cut::Fin).expect("it is open");
    until("the connection to be over", || rig.stub.connections().is_empty());
    let mark = rig.stub.mark();
    rig.send(Signal::SIGTERM);
    rig.guard.wait_for_line(|line| line.contains("draining: taking no jobs"), SOON).expect("it drains");
    rig.make("AJ_1");
    crate::rig::gone(job);
    rig.stub.reopen().expect("the same port");
    rig.stub.wait_registered(mark, SOON).expect("guard registers again");
    rig.await_status(mark, WorkerStatus::WsFull);
    rig.end("AJ_1");
    rig.declines("AJ_3");
    rig.finish("AJ_2");
    rig.leaves_with(0);
    let statuses = rig.statuses(mark);
    assert!(statuses.iter().all(|status| *status == WorkerStatus::WsFull), "{statuses:?}");
    never_noticed(&rig, peer);
}

#[test]
fn a_worker_of_python_does_not_notice_that_the_server_was_away() {
    a_broken_connection_is_made_anew(Peer::Python1_5_7);
}

#[test]
fn a_worker_of_node_does_not_notice_that_the_server_was_away() {
    a_broken_connection_is_made_anew(Peer::Node);
}
