//! A service that decides on offers: `--accept-if http://…`.
//!
//! Owns what it is asked, and what each answer, or none, means for the offer. Refuses the command, which is part of the
//! contract with programs.

use std::net::TcpListener;

use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Asked, Certificate, Decided, Decider, Job};
use serde_json::Value;

use crate::rig::{Rig, SOON, until};

const UNDECIDED: &str = "--accept-if has not decided: the offer is left to others";

/// A service that does what the job's metadata says.
fn decider(certificate: Option<&Certificate>) -> Decider {
    let decide = |job: &Value| match job["metadata"].as_str().unwrap_or_default() {
        "silence" => Decided::Nothing,
        "end" => Decided::Bytes(Vec::new()),
        "nonsense" => Decided::Bytes(b"no HTTP\r\n\r\n".to_vec()),
        "flood" => Decided::Bytes([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 1 << 20]].concat()),
        status => Decided::Status(status.parse().expect("a status")),
    };
    Decider::start(certificate, decide).expect("a port")
}

/// Waits until the worker has warned about the last of these jobs: about these then, and no other.
#[track_caller]
fn warned_about(rig: &Rig, jobs: &[&str]) {
    let mut warned: Vec<String> = Vec::new();
    until("the last warning", || {
        let lines = rig.worker.lines();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
        let warnings = lines.filter(|line| line["message"] == UNDECIDED);
        warned = warnings.filter_map(|line| Some(line["job_id"].as_str()?.to_owned())).collect();
        warned.last().is_some_and(|last| jobs.last() == Some(&last.as_str()))
    });
    assert_eq!(warned, jobs);
}

#[test]
fn job_1_a_hook_decides_on_offers_by_its_status() {
    let decider = decider(None);
    let rig = Rig::new(&["--accept-if", &decider.url()], "exit 0");
    let warns = ["302", "500", "503"];
    let statuses: Vec<&str> = ["200", "204", "409", "403", "404"].into_iter().chain(warns).collect();
    for (status, count) in statuses.iter().copied().zip(1..) {
        rig.offer(Job::new(status).room("porch").metadata(status));
        let answer = rig.answer(status);
        assert_eq!((answer.available, answer.terminate), (status.starts_with('2'), false), "{status}");
        if answer.available {
            assert_eq!(rig.end(status).0, JobStatus::JsSuccess);
        }
        let asked = decider.wait(count, SOON).expect("it was asked");
        let Asked::Question { head, job } = asked else { panic!("{asked:?}") };
        assert_eq!(head[0], "post /offer?for=us http/1.1");
        assert!(head.contains(&format!("host: {}", decider.address())), "{head:?}");
        assert!(head.contains(&"content-type: application/json".to_owned()), "{head:?}");
        assert_eq!((&job["id"], &job["room"]["name"]), (&status.into(), &"porch".into()), "{job}");
    }
    warned_about(&rig, &warns);
    assert_eq!(decider.asked().len(), statuses.len(), "a redirect was followed, or a question asked twice");
}

#[test]
fn job_1_a_hook_that_breaks_costs_the_offer_and_no_more() {
    let decider = decider(None);
    let rig = Rig::new(&["--accept-if", &decider.url()], "exit 0");
    let breaks = ["end", "nonsense", "flood"];
    for orders in breaks {
        rig.offer(Job::new(orders).metadata(orders));
        assert!(!rig.answer(orders).available, "{orders}");
    }
    warned_about(&rig, &breaks);
    rig.offer(Job::new("AJ_1").metadata("200"));
    assert_eq!(rig.end("AJ_1").0, JobStatus::JsSuccess);
}

#[test]
fn job_1_a_hook_that_is_slow_is_let_go_in_time() {
    let decider = decider(None);
    let rig = Rig::new(&["--accept-if", &decider.url(), "--answer-within", "300ms"], "exit 0");
    rig.offer(Job::new("AJ_1").metadata("silence"));
    let answer = rig.answer("AJ_1");
    assert!(!answer.available && !answer.terminate);
    assert_eq!(decider.wait(2, SOON).expect("the connection is closed"), Asked::LetGo);
    rig.offer(Job::new("AJ_2").metadata("200"));
    assert_eq!(rig.end("AJ_2").0, JobStatus::JsSuccess);
}

#[test]
fn job_1_a_hook_that_is_not_there_declines() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let rig = Rig::new(&["--accept-if", &format!("http://127.0.0.1:{port}/?key=sesame")], "exit 0");
    rig.offer(Job::new("AJ_1"));
    let answer = rig.answer("AJ_1");
    assert!(!answer.available && !answer.terminate);
    let line = rig.log(UNDECIDED);
    let error = line["error"].as_str().expect("a reason");
    assert!(error.starts_with(&format!("cannot reach 127.0.0.1:{port}")), "{line}");
    assert!(!rig.worker.output().contains("sesame"));
}

#[test]
fn job_1_a_hook_over_tls_is_asked_where_its_certificate_is_trusted() {
    let certificate = Certificate::localhost().expect("a certificate");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certificate.pem()).expect("the certificate is written");
    let decider = decider(Some(&certificate));
    for trusted in [true, false] {
        let rig = Rig::from(&["--accept-if", &decider.url()], "exit 0", |worker| {
            if trusted { worker.env("SSL_CERT_FILE", file.path()) } else { worker }
        });
        rig.offer(Job::new("AJ_1").metadata("200"));
        assert_eq!(rig.answer("AJ_1").available, trusted);
        if !trusted {
            let error = rig.log(UNDECIDED)["error"].clone();
            assert!(
                error.as_str().is_some_and(|error| error.starts_with("TLS with 127.0.0.1 failed")),
                "{error}"
            );
        }
    }
    assert_eq!(decider.asked().len(), 1, "who is not trusted was told of a job");
}
