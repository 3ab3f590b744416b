//! A worker that has the server's URL in its code, and passes guard by.
//!
//! Owns that guard says so. Refuses to hinder it.

use last_call_testkit::{Peer, Signal, Stub};

use crate::rig::{Rig, SOON, guarded, log, worker};

#[test]
fn a_worker_that_passes_guard_by_is_reported() {
    let stub = Stub::auto().expect("a stub");
    let Some(worker) = worker(Peer::Node, &stub.url()) else { return };
    let own = format!("LIVEKIT_URL={}", stub.url());
    let guard =
        guarded(worker.behind("env", [own]), &["--register-within", "100ms"]).spawn().expect("it starts");
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig { stub, directory, guard };
    rig.stub.wait_registered(0, SOON).expect("it registers, by itself");
    let says = |line: &str| line.contains("has not registered through guard");
    let line = rig.guard.wait_for_line(says, SOON).expect("guard says so").text;
    assert!(line.contains("ERROR") && line.contains("ws_url"), "{line}");
    assert_eq!((rig.status_of("/readyz"), rig.status_of("/livez")), (503, 200));
    assert!(crate::rig::logged(&rig.guard, "the worker registers through guard") == 0);
    rig.send(Signal::SIGTERM);
    log(&rig.guard, "draining: the worker has no registration");
    rig.leaves_with(0);
}
