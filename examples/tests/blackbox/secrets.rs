//! Secrets and personal data: none of them where people or programs look.
//!
//! Owns the canaries and the places that are searched for them. Refuses to search the environment, which is
//! where the operator put them.

use std::process::Command;

use last_call_testkit::{Cut, Job, Options, Signal, Stub};
use serde_json::json;

use crate::rig::{KEY, Running, probe};
use crate::seen::{Seen, upgrade_of};

const SECRET: &str = "canary-of-the-api-secret-32-chars";
const ADMIN_TOKEN: &str = "canary-of-the-admin-token";
const QUERY: &str = "canary-of-the-query";
const METADATA: &str = "canary-of-the-metadata";
const ATTRIBUTE: &str = "canary-of-the-attribute";
const JOB_TOKEN: &str = "canary-of-the-job-token";
const CALLER: &str = "canary-of-the-caller";
const CANARIES: [&str; 7] = [SECRET, ADMIN_TOKEN, QUERY, METADATA, ATTRIBUTE, JOB_TOKEN, CALLER];

fn stub() -> Stub {
    let keys = Some((KEY.to_owned(), SECRET.to_owned()));
    Stub::start(Options { register: true, keys, ..Options::default() }).expect("a stub")
}

/// Every bearer token that the worker made.
fn tokens(stub: &Stub) -> Vec<String> {
    stub.events().iter().filter_map(|event| upgrade_of(event)?.token().map(str::to_owned)).collect()
}

#[track_caller]
fn free_of_canaries(place: &str, text: &str, tokens: &[String]) {
    for canary in CANARIES.into_iter().chain(tokens.iter().map(String::as_str)) {
        assert!(!text.contains(canary), "{place} shows {canary}:\n{text}");
    }
}

/// Every page and the command line of a worker that runs.
#[track_caller]
fn pages_are_free_of_canaries(worker: &Running, tokens: &[String]) {
    for path in ["/", "/worker", "/livez", "/readyz", "/metrics"] {
        free_of_canaries(path, &worker.get(path).body, tokens);
    }
    free_of_canaries("/status", &worker.admin("GET", "/status").body, tokens);
    let words = std::fs::read(format!("/proc/{}/cmdline", worker.pid())).expect("the worker runs");
    free_of_canaries("the command line", &String::from_utf8_lossy(&words), tokens);
}

/// A whole life at trace level: jobs that end well and badly, a lost connection, odd frames, a drain.
#[track_caller]
fn a_life_shows_nothing(format: &str) {
    let stub = stub();
    let url = format!("{}/?worker_token={QUERY}", stub.url());
    let worker = probe(url)
        .env("LIVEKIT_API_SECRET", SECRET)
        .env("LAST_CALL_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("LIVEKIT_LOG_LEVEL", "trace")
        .start(&["--log-format", format]);
    stub.registration(0);
    let jobs = [("good", json!({})), ("raises", json!({"raise": true})), ("panics", json!({"panic": true}))];
    let jobs = jobs.map(|(id, mut orders)| {
        orders["note"] = METADATA.into();
        Job::new(id).metadata(&orders.to_string())
    });
    let nonsense = Job::new("nonsense").metadata(&format!("{METADATA:?}"));
    for (id, job) in
        ["good", "raises", "panics", "nonsense"].into_iter().zip(jobs.into_iter().chain([nonsense]))
    {
        stub.offer(job.attribute("note", ATTRIBUTE).participant(CALLER)).expect("a worker is registered");
        assert!(stub.answer(id).available);
        stub.assign(id, Some(JOB_TOKEN.to_owned()), None).expect("the connection stands");
        free_of_canaries("a report", &stub.end_of(id).error, &[]);
    }
    let connection = stub.registered().expect("registered");
    stub.send_text(connection, METADATA).expect("the connection stands");
    stub.send_binary(connection, METADATA).expect("the connection stands");
    let mark = stub.mark();
    stub.drop_connection(connection, Cut::Rst).expect("the connection is open");
    stub.registration(mark);
    let tokens = tokens(&stub);
    assert!(tokens.len() >= 2);
    pages_are_free_of_canaries(&worker, &tokens);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
    let said = worker.output();
    assert!(said.contains("DEBUG") && said.contains("panics"), "the log is not that of this life:\n{said}");
    free_of_canaries("the log", &said, &tokens);
}

#[test]
fn no_secret_in_logs_pages_and_arguments() {
    a_life_shows_nothing("json");
    a_life_shows_nothing("pretty");
}

#[test]
fn no_secret_in_the_words_of_a_refusal() {
    let stub = Stub::start(Options { keys: Some((KEY.to_owned(), "x".repeat(40))), ..Options::auto() });
    let stub = stub.expect("a stub");
    let url = format!("{}/?worker_token={QUERY}", stub.url());
    let refused = probe(url).env("LIVEKIT_API_SECRET", SECRET).start(&["--log-level=trace"]);
    refused.ends_with(3);
    free_of_canaries("a refusal", &refused.output(), &tokens(&stub));
    for url in [
        format!("ws://livekit.example/?t={QUERY}"),
        format!("livekit?{QUERY}"),
        format!("wss://a:{SECRET}@b"),
    ] {
        let useless = probe(url).env("LIVEKIT_API_SECRET", SECRET).start(&["--log-level=trace"]);
        useless.ends_with(2);
        free_of_canaries("a bad URL", &useless.output(), &[]);
    }
}

#[test]
fn no_secret_in_the_help_pages() {
    for command in ["start", "dev", "connect"] {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_probe"));
        probe
            .args([command, "--help"])
            .env("LIVEKIT_API_SECRET", SECRET)
            .env("LAST_CALL_ADMIN_TOKEN", ADMIN_TOKEN);
        probe.env("LIVEKIT_URL", format!("wss://livekit.example/?worker_token={QUERY}"));
        let page = probe.output().expect("probe runs");
        assert!(page.status.success());
        free_of_canaries("a help page", &String::from_utf8_lossy(&page.stdout), &[]);
    }
}
