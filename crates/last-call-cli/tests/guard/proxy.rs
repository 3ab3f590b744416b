//! A worker whose environment names a proxy.
//!
//! Owns who asks the proxy for what. Refuses the ways in which a proxy fails, which are tested beside the stand-ins.

use std::io::{Read, Write};
use std::net::TcpListener;

use last_call_testkit::proto::WorkerStatus;
use last_call_testkit::{Job, Peer, Proxy, Signal, Stub};

use crate::rig::{Rig, SOON, guarded, log, until, worker};

/// Answers one request with nothing; its first line.
fn answer(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let mut head = Vec::new();
    while !head.ends_with(b"}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request with a JSON body");
        head.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_worker_behind_a_proxy_registers_with_guard_and_asks_the_proxy_for_the_rest() {
    let stub = Stub::auto().expect("a stub");
    // Names that only the proxy knows.
    let proxy = Proxy::start(Some(stub.address())).expect("a proxy");
    let url = proxy.url().replace("http://", "http://somebody:hidden@");
    let Some(mut worker) = worker(Peer::Python1_8_9, "ws://server.test:7880") else { return };
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        worker = worker.env(name, &url);
    }
    let worker = worker.env("NO_PROXY", "127.0.0.1").env("PEER_SHOW", "HTTP_PROXY https_proxy NO_PROXY");
    let guard = guarded(worker, &["--insecure-ws"]).spawn().expect("it starts");
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig { stub, directory, guard };
    log(&rig.guard, "the worker registers through guard");
    rig.await_status(0, WorkerStatus::WsAvailable);

    // NO_PROXY counts as it does without guard.
    let near = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = near.local_addr().expect("an address");
    let wait = rig.path("AJ_1").display().to_string();
    rig.offer(Job::new("AJ_1").metadata(&format!("avatar http://{place}/near, wait {wait}")));
    let (_, said) = Peer::event(&rig.guard, "started", Some("AJ_1"), SOON).expect("it runs");
    assert_eq!(answer(&near), "POST /near HTTP/1.1");
    assert_eq!(said["NO_PROXY"], "127.0.0.1");
    // Of the proxy itself the worker knows nothing.
    assert!(!rig.guard.output().contains("hidden"), "{}", rig.guard.output());

    rig.offer(Job::new("AJ_2").metadata("avatar https://far.test/"));
    until(&format!("the proxy to be asked; guard said:\n{}", rig.guard.output()), || {
        proxy.seen().iter().any(|asked| asked.target == "far.test:443")
    });
    rig.end("AJ_2");
    rig.send(Signal::SIGTERM);
    rig.finish("AJ_1");
    rig.leaves_with(0);

    // Guard asked for the server, the job for its own; nobody for guard, or for what NO_PROXY names.
    let mut targets: Vec<_> = proxy.seen().into_iter().map(|asked| asked.target).collect();
    targets.sort();
    targets.dedup();
    assert_eq!(targets, ["far.test:443", "server.test:7880"]);
    assert!(proxy.seen().iter().all(|asked| asked.authorization.is_some()), "{:?}", proxy.seen());
}
