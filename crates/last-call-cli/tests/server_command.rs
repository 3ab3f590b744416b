//! The built `last-call server`: what it refuses, what it says, and how it ends.
//!
//! Owns the command line. Refuses what the server then does: that is tested where the server is.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use last_call_testkit::{Child, Launch, Signal};
use nix::pty::openpty;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(60);
const PROGRAM: &str = env!("CARGO_BIN_EXE_last-call");
/// A secret of one's own.
const OWN: &str = "a-secret-of-thirty-two-characters";
/// Variables of this machine that may not be seen here.
const FOREIGN: [&str; 8] = [
    "LAST_CALL_API_SECRET_FILE",
    "LAST_CALL_CONFIG",
    "LAST_CALL_LOG_FORMAT",
    "LAST_CALL_SERVER_BIND",
    "LAST_CALL_SERVER_PORT",
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "LIVEKIT_LOG_LEVEL",
];

fn server(arguments: &[&str], secret: Option<&str>) -> Child {
    let launch = FOREIGN.iter().fold(Launch::new(PROGRAM), Launch::env_remove).arg("server").args(arguments);
    let launch = match secret {
        Some(secret) => launch.env("LIVEKIT_API_SECRET", secret),
        None => launch,
    };
    launch.spawn().expect("it starts")
}

/// What it says where it does not start, once its exit code is right.
#[track_caller]
fn refused(code: i32, arguments: &[&str], secret: Option<&str>) -> String {
    let server = server(arguments, secret);
    let exit = server.wait(SOON).expect("it leaves");
    assert_eq!(exit.code, Some(code), "{}", server.output());
    server.output()
}

/// The line that says where it listens.
#[track_caller]
fn listening(server: &Child) -> Value {
    let line = server.wait_for_line(|line| line.contains("\"listening\""), SOON).expect("the line");
    serde_json::from_str(&line.text).expect("JSON")
}

/// A file of this text, in a directory of its own.
fn file(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    std::fs::write(&path, text).expect("the file is written");
    let path = path.to_str().expect("a path of text").to_owned();
    (directory, path)
}

#[test]
fn other_machines_are_not_let_in_by_a_secret_that_everyone_knows() {
    let (_directory, path) = file("secret\n");
    let in_file = ["--bind=0.0.0.0", "--port=0", "--api-secret-file", &path];
    for (arguments, secret) in [
        (&in_file[..2], None),
        (&in_file[..2], Some("")),
        (&in_file[..2], Some("secret")),
        (&in_file[..], None),
        (&in_file[..], Some(OWN)),
        (&["--bind=::", "--port=0"], Some("secret")),
    ] {
        let said = refused(2, arguments, secret);
        for part in [arguments[0].trim_start_matches("--bind="), "LIVEKIT_API_SECRET", "--api-secret-file"] {
            assert!(said.contains(part), "{arguments:?} {secret:?}: {said}");
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let port = address.port().to_string();
    let said = refused(1, &["--port", &port], None);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");

    let (_directory, path) = file(&format!("[server]\nport = {port}\n"));
    let said = refused(1, &["--config", &path], None);
    assert!(said.contains(&format!("cannot listen on {address}")), "the file's port: {said}");
}

#[test]
fn without_a_terminal_one_line_of_json_says_how_to_reach_it() {
    for (bind, secret, only_here) in [("127.0.0.1", None, true), ("0.0.0.0", Some(OWN), false)] {
        let server = server(&["--bind", bind, "--port=0"], secret);
        let line = listening(&server);
        let address: SocketAddr = line["address"].as_str().expect("text").parse().expect("an address");
        assert_eq!(
            (address.ip().to_string().as_str(), &line["only_this_machine"]),
            (bind, &only_here.into())
        );
        assert_eq!(line["url"], format!("ws://127.0.0.1:{}", address.port()), "{line}");
        TcpStream::connect(("127.0.0.1", address.port())).expect("it listens there");
        assert!(!server.output().contains(OWN), "{}", server.output());
    }
}

#[test]
fn a_signal_ends_it_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = server(&["--port=0"], None);
        listening(&server);
        server.signal(signal).expect("it runs");
        assert_eq!(server.wait(SOON).expect("an end").code, Some(0), "{signal}: {}", server.output());
    }
}

/// What a terminal shows until the lines for a worker are there.
fn welcome(arguments: &[&str], secret: Option<&str>) -> String {
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = Command::new(PROGRAM);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command.arg("server").args(arguments).envs(secret.map(|secret| ("LIVEKIT_API_SECRET", secret)));
    command.stdin(Stdio::null()).stdout(terminal.slave);
    let mut server = command.spawn().expect("it starts");
    // The command has the terminal's other end, and holds it open.
    drop(command);
    let mut shown = String::new();
    for line in BufReader::new(File::from(terminal.master)).lines() {
        let Ok(line) = line else { break };
        shown.push_str(&line);
        shown.push('\n');
        if line.starts_with("export LIVEKIT_API_SECRET=") {
            break;
        }
    }
    server.kill().expect("it runs");
    server.wait().expect("an end");
    shown
}

#[test]
fn a_terminal_is_told_what_a_worker_needs_and_no_secret_of_ones_own() {
    let shown = welcome(&["--port=0"], None);
    assert!(shown.contains("(this machine only; --bind 0.0.0.0 lets others in)"), "{shown}");
    for line in
        ["watch     http://127.0.0.1:", "export LIVEKIT_URL=ws://127.0.0.1:", "export LIVEKIT_API_KEY=devkey"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("export LIVEKIT_API_SECRET=secret\n"), "{shown}");

    let shown = welcome(&["--bind=0.0.0.0", "--port=0", "--api-key=staging"], Some(OWN));
    assert!(shown.contains("(open to other machines)"), "{shown}");
    for line in [
        "export LIVEKIT_URL=ws://127.0.0.1:",
        "export LIVEKIT_API_KEY=staging",
        "export LIVEKIT_API_SECRET=(the",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains(OWN), "{shown}");
}

#[test]
fn what_holds_is_printed_with_where_it_comes_from() {
    let (_directory, path) = file("port = 7000\n[server]\ntarget-load = 0.5\n");
    let printed = |secret| {
        let server = server(&["--config", &path, "--bind=::1", "--print-config"], secret);
        assert_eq!(server.wait(SOON).expect("an end").code, Some(0), "{}", server.output());
        server.output()
    };
    let page = printed(None);
    for line in [
        "bind = \"::1\"  # flag".to_owned(),
        format!("port = 7000  # file {path}:1"),
        format!("target-load = 0.5  # file {path}:3"),
        "api-key = \"devkey\"  # default".to_owned(),
        "# api secret: the default".to_owned(),
    ] {
        assert!(page.contains(&line), "{line}: {page}");
    }
    let page = printed(Some(OWN));
    assert!(page.contains("# api secret: from env LIVEKIT_API_SECRET") && !page.contains(OWN), "{page}");
}
