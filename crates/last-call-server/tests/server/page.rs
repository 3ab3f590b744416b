//! The page over HTTP: who gets it, what a follower is told, and how followers are bounded.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use last_call_testkit::proto::JobStatus;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::running::{PATIENCE, Running, Worker};

fn request(server: &Running, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.authority).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("it is written");
    stream
}

fn answer(server: &Running, head: &str) -> String {
    let mut answer = String::new();
    request(server, head).read_to_string(&mut answer).expect("an answer");
    answer
}

/// A page that is open, as its browser reads it.
struct Follower(BufReader<TcpStream>, String);

impl Follower {
    fn open(server: &Running, last: &str) -> Self {
        let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\nLast-Event-ID: {last}", server.authority);
        let mut follower = Self(BufReader::new(request(server, &head)), String::new());
        assert_eq!(follower.line(), "HTTP/1.1 200 OK");
        follower
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).expect("it can be read"), 0, "the server closed");
        line.trim_end().to_owned()
    }

    /// The next message.
    fn told(&mut self) -> Value {
        loop {
            let line = self.line();
            if let Some(id) = line.strip_prefix("id: ") {
                self.1 = id.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }

    /// The names of the events up to this one.
    fn until(&mut self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|last| last != name) {
            let told = self.told();
            let events = told["events"].as_array().expect("events");
            names.extend(events.iter().map(|event| event["event"].as_str().expect("a name").to_owned()));
        }
        names
    }
}

#[test]
fn a_browser_gets_the_page_and_a_load_balancer_its_ok() {
    let server = Running::start(|_| {});
    let host = &server.authority;
    for accept in ["", "\r\nAccept: */*", "\r\nAccept: application/json"] {
        let answer = answer(&server, &format!("GET / HTTP/1.1\r\nHost: balanced.example{accept}"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nOK"), "{answer}");
    }
    let page = answer(&server, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html,*/*;q=0.8"));
    let (head, body) = page.split_once("\r\n\r\n").expect("a head");
    assert!(body.len() <= 30_000, "{} bytes", body.len());
    let head = head.to_ascii_lowercase();
    for header in [
        "content-type: text/html",
        "content-security-policy: default-src 'none'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "vary: accept",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    let head = answer(&server, &format!("HEAD /events HTTP/1.1\r\nHost: {host}"));
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let post = answer(&server, &format!("POST /events HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0"));
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[test]
fn another_website_reads_nothing() {
    let server = Running::start(|_| {});
    for head in ["GET /events HTTP/1.1", "GET / HTTP/1.1\r\nAccept: text/html"] {
        for (host, advice) in [
            ("rebound.example:4711", "http://127.0.0.1:4711/"),
            ("rebound.example", "http://127.0.0.1/"),
            ("rebound.example:x", "http://127.0.0.1/"),
        ] {
            let answer = answer(&server, &format!("{head}\r\nHost: {host}"));
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(advice), "{answer}");
        }
    }
    let from_there = format!("Host: {}\r\nSec-Fetch-Site: cross-site", server.authority);
    let events = answer(&server, &format!("GET /events HTTP/1.1\r\n{from_there}"));
    assert!(events.starts_with("HTTP/1.1 403") && events.contains("no other website"), "{events}");
}

#[test]
fn a_link_on_another_website_leads_to_the_page() {
    let server = Running::start(|_| {});
    let from_there =
        format!("Host: {}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate", server.authority);
    let page = answer(&server, &format!("GET / HTTP/1.1\r\nAccept: text/html\r\n{from_there}"));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<html"), "{page}");
}

#[test]
fn without_a_page_there_is_none() {
    let elsewhere = |config: &mut last_call_server::Config| config.address.set_ip([0, 0, 0, 0].into());
    for (server, shown) in [
        (Running::start(|config| config.page = Some(false)), false),
        (Running::start(elsewhere), false),
        (
            Running::start(|config| {
                elsewhere(config);
                config.page = Some(true);
            }),
            true,
        ),
    ] {
        let page = answer(&server, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html");
        assert_eq!((page.ends_with("\r\n\r\nOK"), page.contains("<html")), (!shown, shown), "{page}");
        let events = answer(&server, "HEAD /events HTTP/1.1\r\nHost: 127.0.0.1");
        assert!(events.starts_with(if shown { "HTTP/1.1 200" } else { "HTTP/1.1 404" }), "{events}");
    }
}

#[test]
fn who_opens_late_is_told_what_was_and_who_comes_back_what_is_new() {
    let server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "a");
    server.api().create_dispatch("room", "a", "", &[]).expect("a dispatch");
    let job = worker.take("agent-1").job.expect("a job");
    let mut late = Follower::open(&server, "");
    let told = late.told();
    assert_eq!((&told["fresh"], &told["tally"]["running"]), (&true.into(), &1.into()), "{told}");
    let names: Vec<_> =
        told["events"].as_array().expect("events").iter().map(|event| &event["event"]).collect();
    // The dispatch is told by its assignment; the automatic one wanted nobody.
    assert_eq!(names, ["worker_registered", "offered", "answered", "assigned"]);
    let last = late.1.clone();
    worker.report(&job.id, JobStatus::JsSuccess, "");
    assert_eq!(late.until("job_ended"), ["job_ended"]);
    let mut back = Follower::open(&server, &last);
    let told = back.told();
    assert_eq!((&told["fresh"], told["events"].as_array().map(Vec::len)), (&false.into(), Some(1)), "{told}");
    let mut stranger = Follower::open(&server, "another-run-4");
    assert_eq!(stranger.told()["fresh"], true);
}

#[test]
fn a_remark_is_told_in_its_place() {
    let server = Running::start(|_| {});
    let worker = Worker::start(&server, "a");
    let mut follower = Follower::open(&server, "");
    server.notes.say(Some("AW_1"), "SIGTERM");
    drop(worker);
    assert_eq!(follower.until("worker_gone"), ["worker_registered", "noted", "worker_gone"]);
}

#[test]
fn a_follower_outlives_the_bound_of_an_exchange() {
    let server = Running::start(|_| {});
    let mut follower = Follower::open(&server, "");
    // A sign of life comes after 15 s, and an exchange ends after 10 s.
    while !follower.line().starts_with(':') {}
    let _worker = Worker::start(&server, "a");
    assert_eq!(follower.until("worker_registered"), ["worker_registered"]);
}

#[test]
fn followers_are_few_and_their_places_are_given_back() {
    let server = Running::start(|_| {});
    let mut followers: Vec<_> = (0..32).map(|_| Follower::open(&server, "")).collect();
    let head = format!("GET /events HTTP/1.1\r\nHost: {}", server.authority);
    let full = answer(&server, &head);
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("32 pages are open already"), "{full}");
    followers.pop();
    let freed = std::time::Instant::now();
    while !answer_begins(&server, &head).starts_with("HTTP/1.1 200") {
        assert!(freed.elapsed() < PATIENCE, "the place is not given back");
    }
}

/// The first line of an answer that has no end.
fn answer_begins(server: &Running, head: &str) -> String {
    let mut line = String::new();
    BufReader::new(request(server, head)).read_line(&mut line).expect("an answer");
    line
}

#[test]
fn a_page_that_does_not_read_is_cut() {
    let server = Running::start(|_| {});
    let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", server.authority);
    let _deaf: Vec<_> = (0..32)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(2_048).expect("a small buffer");
            let address: std::net::SocketAddr = server.authority.parse().expect("an address");
            socket.connect(&address.into()).expect("a connection");
            let mut stream = TcpStream::from(socket);
            stream.write_all(head.as_bytes()).expect("it is written");
            // Only its beginning, so that the place is taken.
            stream.read_exact(&mut [0; 12]).expect("an answer");
            stream
        })
        .collect();
    let began = std::time::Instant::now();
    loop {
        for _ in 0..50 {
            server.notes.say(None, &"x".repeat(500));
        }
        if answer_begins(&server, head.trim_end()).starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it is still there");
    }
}
