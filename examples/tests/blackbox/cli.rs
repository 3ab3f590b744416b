//! The command line: what the help says, what a mistake costs, and `connect`.
//!
//! Owns the surface that people type. Refuses the meaning of the options, which other files try.

use std::net::TcpListener;
use std::process::{Command, Output};

use last_call_testkit::{Options, Signal, Stub};

use crate::rig::{KEY, SECRET, early_threads, probe};
use crate::seen::Seen;

/// Runs probe with nothing in its environment but these.
pub(crate) fn bare(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    // The page is as wide as the terminal, and where there is none, as this variable says.
    command.args(args).env_clear().env("COLUMNS", "100").envs(env.iter().copied());
    command.output().expect("probe runs")
}

fn page(args: &[&str]) -> String {
    let output = bare(args, &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(page(&["--help"]));
}

#[test]
fn help_of_start() {
    insta::assert_snapshot!(page(&["start", "--help"]));
}

#[test]
fn help_of_dev_has_the_options_of_start() {
    let options = |page: String| page.split_once("\nServer:\n").map(|(_, options)| options.to_owned());
    let dev = page(&["dev", "-h"]);
    assert!(dev.contains("\nServer:\n"));
    assert_eq!(options(dev.clone()), options(page(&["start", "-h"])));
    insta::assert_snapshot!(dev);
}

#[test]
fn help_of_connect() {
    insta::assert_snapshot!(page(&["connect", "--help"]));
}

/// What a mistake says, once its exit code is right.
#[track_caller]
pub(crate) fn mistake(code: i32, args: &[&str], env: &[(&str, &str)]) -> String {
    let output = bare(args, env);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.starts_with("error: "), "{args:?}: {said}");
    said
}

const KEYS: [(&str, &str); 2] = [("LIVEKIT_API_KEY", KEY), ("LIVEKIT_API_SECRET", SECRET)];

#[test]
fn a_bad_value_is_named_with_its_flag() {
    for (flag, value) in [
        ("--drain-timeout", "soon"),
        ("--drain-reserve", "-1"),
        ("--stop-grace", "1e30"),
        ("--answer-within", "nan"),
        ("--max-jobs", "0"),
        ("--max-jobs", "many"),
        ("--user-threads", "0"),
        ("--load-threshold", "2"),
        ("--server-target-load", "0"),
        ("--http", "nowhere"),
        ("--deployment", "a_b"),
        ("--log-format", "xml"),
        ("--log-level", "loud"),
    ] {
        let said = mistake(2, &["start", &format!("{flag}={value}")], &KEYS);
        assert!(said.contains(flag) && said.contains(value), "{flag}={value}: {said}");
    }
}

#[test]
fn a_bad_variable_is_named_as_its_flag() {
    let env = [KEYS[0], KEYS[1], ("LAST_CALL_DRAIN_TIMEOUT", "soon")];
    let said = mistake(2, &["start"], &env);
    assert!(said.contains("--drain-timeout") && said.contains("soon"), "{said}");
}

#[test]
fn a_missing_key_or_secret_says_what_to_set() {
    for (missing, env) in [("LIVEKIT_API_SECRET", [KEYS[0]]), ("LIVEKIT_API_KEY", [KEYS[1]])] {
        for command in [&["start"][..], &["dev"], &["connect", "--room=r"]] {
            let said = mistake(2, command, &env);
            assert!(said.contains(missing) && said.contains("--api-"), "{command:?}: {said}");
        }
    }
}

#[test]
fn a_missing_command_or_room_is_said() {
    assert_eq!(bare(&[], &KEYS).status.code(), Some(2));
    let said = mistake(2, &["connect"], &KEYS);
    assert!(said.contains("--room"), "{said}");
}

#[test]
fn a_secret_is_read_from_its_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{SECRET}\n")).expect("the secret is written");
    let keys = Some((KEY.to_owned(), SECRET.to_owned()));
    let stub = Stub::start(Options { keys, ..Options::auto() }).expect("a stub");
    let path = file.path().to_str().expect("a path of text");
    let worker =
        probe(stub.url()).env("LIVEKIT_API_SECRET", "").register(&stub, &["--api-secret-file", path]);
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

#[test]
fn a_secret_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    for path in [directory.path().to_owned(), directory.path().join("missing")] {
        let path = path.to_str().expect("a path of text");
        let said = mistake(1, &["start", "--api-secret-file", path], &KEYS[..1]);
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let said = mistake(1, &["start", "--http", &address], &KEYS);
    assert!(said.contains(&address) && said.contains("--http"), "{said}");
}

#[test]
fn an_admin_socket_that_cannot_be_had_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path of text");
    for path in [path, "/proc/none/admin"] {
        let said = mistake(1, &["start", "--http=off", "--admin-socket", path], &KEYS);
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn connect_runs_one_job_without_a_server_and_leaves_with_it() {
    for (subject, code) in [("", 0), ("fail", 1), ("child", 0)] {
        // A server that takes no connection, and is asked for none.
        let stub = Stub::auto().expect("a stub");
        let start = early_threads(stub.url()).env("SUBJECT", subject).arg("connect").arg("--log-format=json");
        let worker = start.arg("--room=table-4").run();
        worker.ends_with(code);
        assert_eq!(worker.last_words()["exit_code"], code, "{subject}");
        assert_eq!(worker.log("answering")["room"], "table-4");
        assert!(!stub.ever_registered());
    }
}

#[test]
fn connect_drains_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let start = early_threads("ws://127.0.0.1:7880").env("SUBJECT", "wait").arg("connect");
        let worker = start.arg("--log-format=json").arg("--room=table-4").run();
        worker.log("answering");
        worker.send(signal);
        worker.ends_with(0);
    }
}

#[test]
fn connect_is_forced_by_sigquit() {
    let start = early_threads("ws://127.0.0.1:7880").env("SUBJECT", "wait for ever").arg("connect");
    let worker = start.arg("--log-format=json").arg("--room=table-4").run();
    worker.log("answering");
    worker.send(Signal::SIGQUIT);
    worker.ends_with(5);
}
