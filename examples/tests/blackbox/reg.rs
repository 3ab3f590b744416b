//! REG-1 to REG-3: how a worker comes to its server, comes back, and when it gives up.
//!
//! Owns connections, tokens, TLS and proxies as the server and the operator see them. Refuses what happens
//! on a connection, which is in `wire.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use last_call_testkit::proto::JobStatus;
use last_call_testkit::proto::worker_message::Message as FromWorker;
use last_call_testkit::{Certificate, Cut, Event, Job, Options, Proxy, Signal, Stub, What};
use serde_json::{Value, json};

use crate::rig::{KEY, Running, SECRET, probe, until};
use crate::seen::{Seen, is_available, is_full, upgrade_of};

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

fn with_keys(secret: &str) -> Stub {
    let keys = Some((KEY.to_owned(), secret.to_owned()));
    Stub::start(Options { keys, ..Options::auto() }).expect("a stub")
}

fn secure(certificate: &Certificate) -> Stub {
    Stub::start(Options { certificate: Some(certificate.clone()), ..Options::auto() }).expect("a stub")
}

/// Takes the connection away and waits for the next one, again and again; the waits between.
fn lose_and_return(stub: &Stub, rounds: usize) -> Vec<Duration> {
    let lose = |round: usize| {
        let mark = stub.mark();
        let cut = if round.is_multiple_of(2) { Cut::Rst } else { Cut::Fin };
        stub.drop_connection(stub.registered().expect("registered"), cut).expect("the connection is open");
        let lost = Instant::now();
        stub.comes_back(mark);
        lost.elapsed()
    };
    (0..rounds).map(lose).collect()
}

#[test]
fn reg_1_twenty_reconnects_under_a_storm_and_never_available_when_it_is_not() {
    let drain: fn(&Running) = |worker| worker.send(Signal::SIGTERM);
    let quiet: fn(&Running) = |worker| assert_eq!(worker.admin("POST", "/quiet").status, 202);
    let nothing: fn(&Running) = |_| {};
    std::thread::scope(|scope| {
        scope.spawn(|| comes_back_as_it_is(drain, "--max-jobs=9"));
        scope.spawn(|| comes_back_as_it_is(quiet, "--max-jobs=9"));
        scope.spawn(|| comes_back_as_it_is(nothing, "--max-jobs=1"));
    });
}

/// Brings a worker with a call to a state in which it takes no jobs, and its connection down again and again.
fn comes_back_as_it_is(bring: fn(&Running), option: &str) {
    const ROUNDS: usize = 20;
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[option]);
    let mark = stub.mark();
    stub.run_job("call", json!({"sleep": 3600}));
    bring(&worker);
    stub.status(mark, "WS_FULL", is_full);
    let mark = stub.mark();
    let storm = stub.storm(200, u64::MAX);
    let waits = lose_and_return(&stub, ROUNDS);
    storm.stop();
    let states = stub.statuses(mark);
    assert!(states.len() >= ROUNDS, "{} states on {ROUNDS} connections", states.len());
    assert!(states.iter().all(is_full), "{states:?}");
    let yes =
        |event: &Event| matches!(event.message(), Some(FromWorker::Availability(answer)) if answer.available);
    assert!(!stub.events_after(mark).iter().any(yes), "accepted while not available");
    let diary = worker.diary("call");
    assert!(
        diary.iter().all(|event| event == "started" || event == "draining"),
        "the call was lost: {diary:?}"
    );
    spread(&waits);
}

/// Full jitter: the waits at the cap differ widely, as those of a fixed schedule do not. By chance it fails
/// once in 4 million times, a quarter to the power of eleven.
#[track_caller]
fn spread(waits: &[Duration]) {
    let last = &waits[waits.len() - 12..];
    let (least, most) = (last.iter().min(), last.iter().max());
    assert!(least.zip(most).is_some_and(|(least, most)| *least * 4 < *most * 3), "no jitter in {last:?}");
}

#[test]
fn reg_1_a_worker_that_serves_is_available_again() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    for round in 0..3 {
        let mark = stub.mark();
        lose_and_return(&stub, 1);
        stub.status(mark, "WS_AVAILABLE with its job counted", |status| {
            is_available(status) && status.job_count == 1
        });
        let migrated = stub.sees(mark, "MigrateJob", |event| match event.message() {
            Some(FromWorker::MigrateJob(migrated)) => Some(migrated.job_ids.clone()),
            _ => None,
        });
        assert_eq!(migrated, ["call"], "the server is told what still runs");
        let job = format!("after-{round}");
        stub.run_job(&job, json!({}));
        assert_eq!(stub.end_of(&job).status(), JobStatus::JsSuccess);
    }
    worker.counts("last_call_reconnects_total", 3.0);
}

#[test]
fn reg_1_a_report_made_while_away_is_delivered() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 1, "raise": true}));
    let connection = stub.registered().expect("registered");
    stub.close_port().expect("the port closes");
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    worker.await_diary("call", "raised");
    stub.reopen().expect("the port opens");
    let report = stub.end_of("call");
    assert_eq!((report.status(), report.error.as_str()), (JobStatus::JsFailed, "told to raise"));
}

/// Makes the connection half open; another one must follow.
#[track_caller]
fn replaced(make: impl FnOnce(&Stub)) {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let mark = stub.mark();
    make(&stub);
    let first = stub.connections();
    let second = stub.registration(mark);
    assert!(!first.contains(&second));
    stub.resume_pongs();
    assert_eq!(worker.diary("call"), ["started"]);
    stub.run_job("next", json!({}));
    assert_eq!(stub.end_of("next").status(), JobStatus::JsSuccess);
}

#[test]
fn reg_2_a_peer_that_answers_no_ping_is_left() {
    replaced(Stub::stop_pongs);
}

#[test]
fn reg_2_a_peer_that_reads_nothing_is_left() {
    replaced(|stub| stub.freeze(stub.registered().expect("registered")).expect("the connection is open"));
}

/// The worker leaves as one that was refused, and one line says why.
#[track_caller]
fn is_refused(worker: &Running, words: &[&str]) {
    worker.ends_with(3);
    let logs = worker.logs();
    let reasons: Vec<&Value> = logs.iter().filter(|line| line.get("error").is_some()).collect();
    let [reason] = reasons.as_slice() else { panic!("one clear line:\n{}", worker.output()) };
    assert_eq!(reason["level"], "ERROR");
    assert!(words.iter().all(|word| reason.to_string().contains(word)), "{reason}");
    assert!(!worker.output().contains("trying again until"), "{}", worker.output());
    assert_eq!(worker.last_words()["exit_code"], 3);
}

#[test]
fn reg_3_a_wrong_key_ends_the_worker() {
    let stub = with_keys("quite-another-secret-than-the-worker-has");
    let worker = probe(stub.url()).start(&[]);
    is_refused(&worker, &["401", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"]);
}

#[test]
fn reg_3_a_path_that_is_no_agent_endpoint_ends_the_worker() {
    let stub = stub();
    stub.refuse(404);
    let worker = probe(stub.url()).start(&[]);
    is_refused(&worker, &["404", "LIVEKIT_URL"]);
}

#[test]
fn reg_3_a_url_that_cannot_be_one_ends_the_worker() {
    for (url, words) in [
        ("livekit.example", ["livekit.example", "wss://"]),
        ("ftp://livekit.example", ["ftp://", "wss://"]),
        ("ws://livekit.example", ["ws://livekit.example", "--insecure-ws"]),
        ("wss://name:word@livekit.example", ["password", "LIVEKIT_API_KEY"]),
        ("wss://", ["wss://", "host"]),
    ] {
        let worker = probe(url).start(&[]);
        worker.ends_with(2);
        let said = worker.output();
        assert!(words.iter().all(|word| said.contains(word)), "{url}: {said}");
        assert!(!said.contains("name:word"), "{url}: {said}");
    }
}

#[test]
fn reg_3_a_server_that_is_not_there_yet_is_waited_for() {
    let stub = stub();
    stub.close_port().expect("the port closes");
    let worker = probe(stub.url()).start(&[]);
    worker.log("not connected");
    let ready = worker.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "connecting"));
    assert_eq!((worker.get("/").status, worker.get("/livez").status), (503, 200));
    stub.reopen().expect("the port opens");
    stub.registration(0);
    worker.await_readiness("ready");
    assert_eq!(worker.get("/").status, 200);
}

#[test]
fn reg_3_a_name_that_is_not_there_is_asked_for_again() {
    let worker = probe("wss://livekit.invalid").start(&["--log-level=debug"]);
    let line = worker.log("not connected");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("livekit.invalid")), "{line}");
    worker.log("still not connected");
    assert_eq!(worker.get("/readyz").status, 503);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

#[test]
fn reg_3_a_server_that_is_overloaded_is_asked_again() {
    for status in [503, 502, 429] {
        let stub = stub();
        stub.refuse(status);
        let worker = probe(stub.url()).start(&["--log-level=debug"]);
        worker.log("still not connected");
        assert_eq!(worker.get("/readyz").body, "connecting");
        stub.accept();
        stub.registration(0);
        worker.await_readiness("ready");
    }
}

#[test]
fn reg_3_a_key_refused_on_a_reconnect_costs_no_call() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &["--log-level=debug"]);
    stub.run_job("call", json!({"sleep": 3600}));
    stub.refuse(401);
    let mark = stub.mark();
    stub.drop_connection(stub.registered().expect("registered"), Cut::Fin).expect("the connection is open");
    let mut refused = 0;
    stub.sees(mark, "third refusal", |event| {
        refused += u32::from(matches!(event.what, What::Refused(_, 401)));
        (refused == 3).then_some(())
    });
    assert_eq!(worker.get("/readyz").body, "connecting");
    assert_eq!(worker.get("/livez").status, 200);
    assert_eq!(worker.diary("call"), ["started"]);
    stub.accept();
    stub.registration(mark);
    worker.await_readiness("ready");
    stub.terminate("call").expect_err("it was offered on the connection that is gone");
    assert_eq!(worker.diary("call"), ["started"]);
}

#[test]
fn reg_1_go_away_moves_the_worker_and_keeps_its_calls() {
    let stub = stub();
    let worker = probe(stub.url()).register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let (first, mark) = (stub.registered().expect("registered"), stub.mark());
    stub.go_away(first, "maintenance").expect("the connection is open");
    let second = stub.registration(mark);
    assert_ne!(first, second);
    until("the old connection to end", || !stub.connections().contains(&first));
    stub.run_job("next", json!({}));
    assert_eq!(stub.end_of("next").status(), JobStatus::JsSuccess);
    assert_eq!(worker.diary("call"), ["started"]);
}

#[test]
fn reg_1_go_away_waits_for_a_pending_assignment() {
    let stub = Stub::start(Options { register: true, ..Options::default() }).expect("a stub");
    let _worker = probe(stub.url()).register(&stub, &[]);
    stub.offer(Job::new("accepted").metadata(r#"{"sleep": 1}"#)).expect("a worker is registered");
    assert!(stub.answer("accepted").available);
    let (first, mark) = (stub.registered().expect("registered"), stub.mark());
    stub.go_away(first, "maintenance").expect("the connection is open");
    stub.status(mark, "WS_FULL", is_full);
    stub.offer_on(first, Job::new("too late")).expect("the connection stands");
    assert!(!stub.answer("too late").available);
    stub.assign("accepted", None, None).expect("the connection stands");
    assert_ne!(first, stub.registration(mark));
    assert_eq!(stub.end_of("accepted").status(), JobStatus::JsSuccess);
}

#[test]
fn reg_3_path_and_query_of_the_url_are_kept() {
    let stub = stub();
    let url = format!("{}/livekit/?region=eu", stub.url());
    let _worker = probe(url).register(&stub, &[]);
    let target = stub.sees(0, "upgrade", |event| upgrade_of(event).map(|upgrade| upgrade.target.clone()));
    assert_eq!(target, "/livekit/agent?region=eu");
}

#[test]
fn reg_3_each_connection_has_a_token_of_its_own() {
    let stub = with_keys(SECRET);
    let _worker = probe(stub.url()).register(&stub, &[]);
    let first = stub.sees(0, "upgrade", |event| upgrade_of(event)?.token().map(str::to_owned));
    stub.refuse(503);
    stub.drop_connection(stub.registered().expect("registered"), Cut::Fin).expect("the connection is open");
    // Two tokens of one second may be equal; those of two seconds differ.
    stub.sees(0, "token that is not the first", |event| {
        upgrade_of(event)?.token().filter(|token| *token != first).map(drop)
    });
    let mark = stub.mark();
    stub.accept();
    stub.registration(mark);
    let tokens: BTreeSet<String> =
        stub.events().iter().filter_map(|event| upgrade_of(event)?.token().map(str::to_owned)).collect();
    assert!(tokens.len() >= 2);
}

/// The file of a certificate that a worker is to trust.
fn trusted(certificate: &Certificate) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certificate.pem()).expect("the certificate is written");
    file
}

#[test]
fn reg_3_tls_with_a_trusted_certificate() {
    let certificate = Certificate::localhost().expect("a certificate");
    let (stub, trusted) = (secure(&certificate), trusted(&certificate));
    let worker = probe(stub.url()).env("SSL_CERT_FILE", trusted.path()).register(&stub, &[]);
    stub.run_job("call", json!({}));
    assert_eq!(stub.end_of("call").status(), JobStatus::JsSuccess);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

#[test]
fn reg_3_tls_without_trust_is_no_connection() {
    let other = Certificate::localhost().expect("a certificate");
    for (certificate, trust_it) in [
        (Certificate::expired().expect("a certificate"), true),
        (Certificate::for_host("another.example").expect("a certificate"), true),
        (Certificate::localhost().expect("a certificate"), false),
    ] {
        let stub = secure(&certificate);
        let trusted = trusted(if trust_it { &certificate } else { &other });
        let worker = probe(stub.url()).env("SSL_CERT_FILE", trusted.path()).start(&["--log-level=debug"]);
        let line = worker.log("not connected");
        assert!(
            line["error"].as_str().is_some_and(|error| error.starts_with("TLS with 127.0.0.1 failed")),
            "{line}"
        );
        worker.log("still not connected");
        assert!(
            !stub.events().iter().any(|event| upgrade_of(event).is_some()),
            "a token crossed an untrusted line"
        );
        worker.send(Signal::SIGTERM);
        worker.ends_with(0);
    }
}

#[test]
fn reg_3_a_proxy_is_used_where_it_is_asked_for() {
    let certificate = Certificate::for_host("livekit.example").expect("a certificate");
    let (stub, trusted) = (secure(&certificate), trusted(&certificate));
    let proxy = Proxy::start(Some(stub.address())).expect("a proxy");
    let url = proxy.url().replace("http://", "http://name:word@");
    let worker = probe("wss://livekit.example/x")
        .env("SSL_CERT_FILE", trusted.path())
        .env("HTTPS_PROXY", url)
        .register(&stub, &[]);
    let seen = proxy.wait(crate::rig::SOON).expect("a tunnel");
    assert_eq!(seen.target, "livekit.example:443");
    assert_eq!(seen.authorization.as_deref(), Some("Basic bmFtZTp3b3Jk"));
    assert!(!worker.output().contains("name:word"));
}

#[test]
fn reg_3_a_proxy_that_refuses_is_asked_again() {
    let certificate = Certificate::for_host("livekit.example").expect("a certificate");
    let (stub, trusted) = (secure(&certificate), trusted(&certificate));
    let proxy = Proxy::start(Some(stub.address())).expect("a proxy");
    proxy.refuse(407);
    let worker = probe("wss://livekit.example")
        .env("SSL_CERT_FILE", trusted.path())
        .env("HTTPS_PROXY", proxy.url())
        .start(&["--log-level=debug"]);
    let line = worker.log("not connected");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("407")), "{line}");
    proxy.accept();
    stub.registration(0);
}

#[test]
fn reg_3_no_proxy_is_used_where_it_is_not_wanted() {
    let proxy = Proxy::start(None).expect("a proxy");
    let stub = stub();
    // Loopback never has one; another host has none where NO_PROXY says so.
    let loopback = probe(stub.url()).env("HTTP_PROXY", proxy.url()).env("ALL_PROXY", proxy.url());
    let _loopback = loopback.register(&stub, &[]);
    let named = probe("wss://livekit.invalid")
        .env("HTTPS_PROXY", proxy.url())
        .env("NO_PROXY", "livekit.invalid")
        .start(&["--log-level=debug"]);
    named.log("not connected");
    assert_eq!(proxy.seen(), []);
}
