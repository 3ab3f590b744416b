//! LiveKit's official server SDKs against this server: nothing tells them that it is another.

use last_call_testkit::{Child, Launch, Node, Python, skip};
use serde_json::{Value, json};

use crate::running::{PATIENCE, Running, Worker};

/// Runs the script beside a worker that takes what it is offered, and holds what it printed against the claim.
fn drive(script: Launch, metadata: &str) {
    let server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "agent");
    let taking = std::thread::spawn(move || {
        let job = worker.take("agent-1").job.expect("a job");
        // The end of the job, as the participant is removed; then of the server.
        while worker.next().is_some() {}
        job.metadata
    });
    let launch = server.env().into_iter().fold(script, |script, (name, value)| script.env(name, value));
    let child: Child = launch.spawn().expect("it starts");
    let printed = child.wait_for_line(|line| line.starts_with('{'), PATIENCE).expect("it says how it went");
    let mut said: Value = serde_json::from_str(&printed.text).expect("JSON");
    assert!(said["sid"].take().as_str().is_some_and(|sid| sid.starts_with("RM_")));
    let expected = json!({
        "sid": null,
        "metadata": metadata,
        "rooms": ["room"],
        "identity": "agent-1",
        "agent": "agent",
        "jobs": ["agent-1"],
        "removed": 200,
        "removedAgain": 404,
        "dispatchDeleted": 200,
        "roomDeleted": 200,
        "roomDeletedAgain": 404,
    });
    assert_eq!(said, expected);
    drop(server);
    assert_eq!(taking.join().expect("the worker's thread"), "wish");
}

#[test]
fn python() {
    match Python::find() {
        Ok(python) => {
            let source = include_str!("../../../../testkit/python/server_api.py");
            drive(python.source(source).args(["room", "agent"]), "by python");
        }
        Err(missing) => skip(missing),
    }
}

#[test]
fn node() {
    match Node::find("livekit-server-sdk") {
        Ok(node) => {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testkit/node/server_api.js");
            drive(node.script(script).args(["room", "agent"]), "by node");
        }
        Err(missing) => skip(missing),
    }
}
