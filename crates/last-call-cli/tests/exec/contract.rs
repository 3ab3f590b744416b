//! What passes between the worker and a program.
//!
//! Owns the document, the lines, the log and the exit code. Refuses times.

use std::path::Path;

use last_call_testkit::{Job, Stub, proto::JobStatus};
use serde_json::Value;

use crate::rig::{PROGRAM, Rig, SECRET, SOON, launch};

/// Writes everything that a program can see of its secrets.
const LOOK: &str = "
cat <&3 > $DIR/document.new; mv $DIR/document.new $DIR/document
tr '\\0' '\\n' < /proc/$$/environ > $DIR/environment.new; mv $DIR/environment.new $DIR/environment
tr '\\0' '\\n' < /proc/$$/cmdline > $DIR/arguments.new; mv $DIR/arguments.new $DIR/arguments
(ulimit -c; grep NoNewPrivs /proc/$$/status; ls -l /proc/$$/fd | grep -c 'socket:') > $DIR/limits.new
mv $DIR/limits.new $DIR/limits";

#[test]
fn the_document_has_the_job_and_nothing_else_has_the_token() {
    let rig = Rig::new(&["--agent-name", "shell", "--job-type", "participant"], LOOK);
    let job = Job::new("AJ_1").room("porch").participant("ann").metadata("{\"a\":1}").attribute("k", "v");
    rig.offer(job.agent("shell"));
    let document: Value = serde_json::from_str(&rig.file("document")).expect("JSON");
    assert_eq!((&document["version"], &document["identity"]), (&1.into(), &"agent-AJ_1".into()));
    let token = document["token"].as_str().expect("a token").to_owned();
    assert!(token.len() > 20, "{token}");
    assert!(document["url"].as_str().is_some_and(|url| url.starts_with("ws://")), "{document}");
    let job = &document["job"];
    assert_eq!(job["id"], "AJ_1");
    assert_eq!(job["dispatch_id"], "AD_AJ_1");
    assert_eq!(job["type"], "JT_PARTICIPANT");
    assert_eq!((&job["room"]["name"], &job["room"]["sid"]), (&"porch".into(), &"RM_AJ_1".into()));
    assert_eq!(
        (&job["participant"]["identity"], &job["participant"]["sid"]),
        (&"ann".into(), &"PA_ann".into())
    );
    assert_eq!((&job["metadata"], &job["attributes"]["k"]), (&"{\"a\":1}".into(), &"v".into()));
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsSuccess, String::new()));

    let environment = rig.file("environment");
    let of_ours: Vec<&str> = environment.lines().filter(|line| line.starts_with("LAST_CALL_")).collect();
    let mark = |line: &&&str| line.starts_with("LAST_CALL_JOB_MARK=");
    assert_eq!(of_ours.iter().filter(mark).count(), 1, "{of_ours:?}");
    let mut rest: Vec<_> = of_ours.iter().filter(|line| !mark(line)).copied().collect();
    rest.sort_unstable();
    assert_eq!(rest, ["LAST_CALL_CONTROL_FD=4", "LAST_CALL_JOB_FD=3"]);
    assert!(!environment.contains(&token) && !rig.file("arguments").contains(&token));
    assert!(!rig.worker.output().contains(&token) && !rig.worker.output().contains(SECRET));
    // One socket is file descriptor 4; none is the worker's.
    assert_eq!(rig.file("limits"), "0\nNoNewPrivs:\t1\n1");
}

#[test]
fn the_token_is_in_the_environment_only_where_that_is_asked_for() {
    let rig = Rig::new(&["--token", "env"], LOOK);
    rig.offer(Job::new("AJ_1"));
    let document: Value = serde_json::from_str(&rig.file("document")).expect("JSON");
    let line = format!("LAST_CALL_TOKEN={}", document["token"].as_str().expect("a token"));
    assert!(rig.file("environment").lines().any(|known| known == line));
}

#[test]
fn a_document_that_nobody_reads_holds_nobody() {
    let rig = Rig::new(&[], "exit 0");
    rig.offer(Job::new("AJ_1").metadata(&"x".repeat(300_000)));
    assert_eq!(rig.end("AJ_1").0, JobStatus::JsSuccess);
}

#[test]
fn job_3_the_exit_code_is_the_jobs_end() {
    let script = "eval \"$(sed 's/.*\"metadata\":\"\\([^\"]*\\)\".*/\\1/' <&3)\"";
    let rig = Rig::new(&[], script);
    for (number, (orders, status, error)) in [
        ("exit 0", JobStatus::JsSuccess, ""),
        ("exit 3", JobStatus::JsFailed, "exit code 3"),
        ("echo no voice >&2; exit 1", JobStatus::JsFailed, "exit code 1: no voice"),
        ("kill -SEGV $$", JobStatus::JsFailed, "killed by SIGSEGV"),
        ("kill -TERM $$", JobStatus::JsFailed, "killed by SIGTERM"),
        ("echo stdout is no error; exit 2", JobStatus::JsFailed, "exit code 2"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("AJ_{number}");
        rig.offer(Job::new(&id).metadata(orders));
        assert_eq!(rig.end(&id), (status, error.to_owned()), "{orders}");
    }
}

#[test]
fn what_it_prints_and_says_is_logged_with_the_jobs_fields() {
    let script = r#"
echo 'to out'; echo 'to err' >&2
echo '{"type":"status","status":"on hold"}' >&4
echo '{"type":"log","level":"warn","message":"by line","fields":{"a":1}}' >&4
echo 'no json' >&4
echo '{"type":"fail","error":"the model is gone"}' >&4
exit 0"#;
    let rig = Rig::new(&[], script);
    rig.offer(Job::new("AJ_1").room("porch").agent("shell"));
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsFailed, "the model is gone".to_owned()));
    for (message, stream) in [("to out", "stdout"), ("to err", "stderr")] {
        let line = rig.log(message);
        assert_eq!((&line["stream"], &line["job_id"]), (&stream.into(), &"AJ_1".into()), "{line}");
        assert_eq!((&line["room"], &line["agent_name"]), (&"porch".into(), &"shell".into()), "{line}");
    }
    let line = rig.log("by line");
    assert_eq!((&line["level"], &line["job_id"]), (&"WARN".into(), &"AJ_1".into()), "{line}");
    assert_eq!((&line["fields"], &line["status"]), (&"{\"a\":1}".into(), &"on hold".into()), "{line}");
    rig.log("a line of the program on file descriptor 4 makes no sense");
}

#[test]
fn job_1_a_command_decides_on_offers() {
    let command = "sh -c 'grep -q \"\\\"metadata\\\":\\\"yes\\\"\"'";
    let rig = Rig::new(&["--accept-if", command], "exit 0");
    rig.offer(Job::new("AJ_yes").metadata("yes"));
    rig.offer(Job::new("AJ_no").metadata("no"));
    assert_eq!(rig.end("AJ_yes").0, JobStatus::JsSuccess);
    assert!(!rig.answer("AJ_no").available);
}

#[test]
fn job_1_a_command_that_does_not_decide_is_ended() {
    let command = "sh -c 'echo $$ > $DIR/asked; sleep 1000'";
    let rig = Rig::new(&["--accept-if", command, "--answer-within", "300ms"], "exit 0");
    rig.offer(Job::new("AJ_1"));
    assert!(!rig.answer("AJ_1").available);
    let asked = rig.file("asked");
    crate::rig::until("the command to be gone", || !last_call_testkit::processes::runs(&asked));
}

#[test]
fn reg_3_what_cannot_run_is_a_mistake_of_usage() {
    let stub = Stub::auto().expect("a stub");
    for (arguments, says) in [
        (&["--", "/no/such/agent"][..], "there is no program /no/such/agent"),
        (&["--", "no-such-agent"], "there is no program no-such-agent in PATH"),
        (
            &["--accept-if", "no-such-command", "--", "sh"],
            "--accept-if \"no-such-command\": there is no program",
        ),
        (&["--accept-if", "'", "--", "sh"], "--accept-if"),
        (&["--accept-if", "http://", "--", "sh"], "one looks like http://127.0.0.1:9000/offer"),
        (
            &["--accept-if", "https://me:sesame@a/", "--", "sh"],
            "--accept-if: the URL holds a user or password",
        ),
        (&["--memory-limit", "much", "--", "sh"], "--memory-limit"),
        (&[], "PROGRAM"),
    ] {
        let worker =
            launch(Path::new(PROGRAM), &stub.url()).arg("run").args(arguments).spawn().expect("it starts");
        let exit = worker.wait(SOON).expect("its end");
        assert_eq!(exit.code, Some(2), "{arguments:?}: {}", worker.output());
        assert!(worker.output().contains(says), "{arguments:?}: {}", worker.output());
    }
    assert!(stub.events().is_empty(), "it registered all the same");
}
