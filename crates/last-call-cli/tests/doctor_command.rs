//! The built `last-call doctor`, as a pipeline meets it.
//!
//! Owns the exit codes, and that a finding is one line. Refuses what is found, which is tested beside the command.

use std::process::Command;

/// The exit code, the lines, and what standard error has.
fn doctor(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_last-call"));
    let output = command.arg("doctor").args(arguments).env_clear().output().expect("last-call runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_exit_code_says_whether_something_has_to_be_done() {
    const FITS: [&str; 2] = ["--grace-period=2h", "--"];
    for (arguments, program, code) in [
        (&FITS[..], "./agent", 0),
        (&FITS, "tini", 0),
        (&["--strict", "--grace-period=2h", "--"], "./agent", 0),
        (&["--strict", "--grace-period=2h", "--"], "tini", 1),
        (&["--"], "./agent", 1),
        (&["--manifest=/nowhere", "--"], "./agent", 2),
        (&["--manifest=/dev/zero", "--"], "./agent", 2),
        (&["--drain-timeout=soon", "--"], "./agent", 2),
        (&["--no-such-option", "--"], "./agent", 2),
    ] {
        let (found, lines, errors) = doctor(&[arguments, &[program]].concat());
        assert_eq!(found, Some(code), "{arguments:?} {program}: {lines}{errors}");
        assert_eq!(code == 2, lines.is_empty(), "{lines}");
        assert_eq!(code == 2, errors.contains("error: "), "{errors}");
    }
}

#[test]
fn a_finding_is_one_line_whatever_is_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.service");
    let text = "[Service]\nTimeoutStopSec=\u{1b}[2J\nExecStart=last-call guard -- python 'a\u{7}.py' start --url 'x\ny'";
    std::fs::write(&path, text).expect("a file");
    let (code, lines, _) = doctor(&["--manifest", path.to_str().expect("text")]);
    assert_eq!(code, Some(1), "{lines}");
    let known = |line: &str| ["ok ", "warning ", "error "].iter().any(|level| line.starts_with(level));
    assert!(lines.lines().all(known) && !lines.contains(['\u{1b}', '\u{7}']), "{lines:?}");
}
