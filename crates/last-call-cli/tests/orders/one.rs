//! One worker, found where the environment or an argument says.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use last_call_testkit::skip;
use serde_json::{Value, json};

use crate::rig::{Rig, SOON, Said, asked, last_call, said, text};

fn json_of(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

#[test]
fn drain_11_a_worker_is_seen_and_ordered_where_its_own_variable_says() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let worker = rig.worker(&socket, &[]);
    rig.call("call");
    let ask = |arguments: &[&str]| last_call(arguments, Some(&socket));

    let seen = ask(&["ps"]);
    assert_eq!((seen.code, seen.err.as_str()), (Some(0), ""), "{seen:?}");
    let words: Vec<Vec<&str>> = seen.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let pid = worker.pid().to_string();
    assert_eq!(words[0], ["AGENT", "PHASE", "REGISTERED", "JOBS", "LOAD", "WORKER", "PID", "SOCKET"]);
    assert_eq!(words[1][..4], ["last-call-demo", "serving", "yes", "1"], "{seen:?}");
    assert_eq!(words[1][6..], [pid.as_str(), text(&socket)], "{seen:?}");

    for (order, word) in [("quiet", "quiet"), ("quiet", "quiet"), ("unquiet", "serving")] {
        let done = ask(&[order]);
        assert_eq!((done.code, done.out), (Some(0), format!("{}: {word}\n", socket.display())), "{order}");
    }
    assert_eq!(ask(&["quiet"]).code, Some(0));
    let page = &json_of(&ask(&["ps", "--json"]))[0];
    assert_eq!(
        (&page["phase"], &page["pid"], &page["drain"]),
        (&json!("quiet"), &json!(worker.pid()), &Value::Null)
    );

    assert_eq!(ask(&["drain"]).code, Some(0));
    let refused = ask(&["unquiet"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.err.contains("a drain ends in exit and cannot be undone"), "{refused:?}");
    assert_eq!(ask(&["drain"]).code, Some(0), "a second order changes nothing");
    let seen = ask(&["ps"]);
    assert!(seen.out.contains("DRAIN") && seen.out.contains("0 of 1 jobs ended, 59m "), "{seen:?}");

    rig.stub.terminate("call").expect("the connection stands");
    assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0));
    let gone = ask(&["ps"]);
    assert!(
        gone.code == Some(1) && gone.out.contains("gone") && gone.err.contains("no such file"),
        "{gone:?}"
    );
}

#[test]
fn a_config_file_of_the_worker_is_not_read() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let _worker = rig.worker(&socket, &[]);
    let file = rig.at("agent.toml");
    std::fs::write(&file, "my-own-option = 1\n[start]\nmax-jobs = 3\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_last-call"));
    command.arg("quiet").env("LAST_CALL_CONFIG", &file).env("LAST_CALL_ADMIN_SOCKET", &socket);
    let done = said(command);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn an_argument_wins_over_the_variable() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let _worker = rig.worker(&socket, &[]);
    let done = last_call(&["quiet", text(&socket)], Some(&rig.at("another.sock")));
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
}

#[test]
fn nothing_named_is_a_mistake() {
    let empty = std::path::Path::new("");
    for command in ["ps", "drain", "quiet", "unquiet"] {
        for variable in [None, Some(empty)] {
            let done = last_call(&[command], variable);
            assert_eq!(done.code, Some(2), "{done:?}");
            assert!(done.err.contains("LAST_CALL_ADMIN_SOCKET"), "{done:?}");
        }
        let help = last_call(&[command, "--help"], None);
        assert!(help.code == Some(0) && help.out.contains("Exit codes: 0"), "{help:?}");
    }
}

/// Root may open every socket, until it has laid down the capability.
const NO_OVERRIDE: &str = "-dac_override,-dac_read_search";

#[test]
fn a_socket_of_another_user_says_whose_it_is() {
    let rig = Rig::new();
    let socket = rig.at("admin.sock");
    let _living = UnixListener::bind(&socket).expect("bound");
    let mut command = Command::new(env!("CARGO_BIN_EXE_last-call"));
    let me = nix::unistd::geteuid();
    let owner = if me.is_root() {
        let tried = Command::new("setpriv")
            .args(["--bounding-set", NO_OVERRIDE, "--inh-caps", NO_OVERRIDE, "true"])
            .output();
        if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
            return skip(format!(
                "root that respects modes needs setpriv of util-linux, and CAP_SETPCAP: {tried:?}"
            ));
        }
        std::os::unix::fs::chown(&socket, Some(65534), None).expect("another owner");
        command = Command::new("setpriv");
        command.args([
            "--bounding-set",
            NO_OVERRIDE,
            "--inh-caps",
            NO_OVERRIDE,
            env!("CARGO_BIN_EXE_last-call"),
        ]);
        65534
    } else {
        me.as_raw()
    };
    std::fs::set_permissions(&socket, Permissions::from_mode(0o000)).expect("closed");
    command.args(["quiet", text(&socket)]);
    let done = said(command);
    let expected = format!("permission denied: the socket is of user {owner}, and this is user {me}");
    assert!(done.code == Some(1) && done.err.contains(&expected), "{done:?}");
}

#[test]
fn whoever_else_listens_is_no_worker() {
    let rig = Rig::new();
    let socket = rig.at("other.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let other = std::thread::spawn(move || {
        for _ in 0..2 {
            let _ =
                asked(&listener).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"phase\": 1}");
        }
    });
    for (command, said) in [("ps", "its status makes no sense"), ("drain", "it answers 200 OK")] {
        let done = last_call(&[command, text(&socket)], None);
        assert!(done.code == Some(1) && done.err.contains(said), "{done:?}");
    }
    other.join().expect("both came");
}

#[test]
fn a_worker_that_leaves_within_its_answer_has_drained() {
    for (order, code) in [("drain", 0), ("quiet", 1)] {
        let rig = Rig::new();
        let socket = rig.at("admin.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let leaving = std::thread::spawn(move || {
            let caller = asked(&listener);
            drop(listener);
            drop(caller);
        });
        let done = last_call(&[order, text(&socket)], None);
        assert_eq!(done.code, Some(code), "{done:?}");
        leaving.join().expect("it left");
    }
}
