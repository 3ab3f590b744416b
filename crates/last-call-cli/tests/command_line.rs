//! The built `last-call`: which commands a configuration file is for, and what completions and manuals say of that.
//!
//! Owns the list of commands as a person meets it. Refuses what the commands do, and what may stand in a file.

use std::process::{Command, Output};

const ORDERS: [&str; 4] = ["ps", "drain", "quiet", "unquiet"];
const FILE_OPTIONS: [&str; 2] = ["--config", "--print-config"];

/// Runs the program with nothing in its environment but these.
fn last_call(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_last-call"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    command.output().expect("last-call runs")
}

/// What it prints, once it ended well.
#[track_caller]
fn page(arguments: &[&str]) -> String {
    let output = last_call(arguments, &[("COLUMNS", "100")]);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").replace("\\-", "-")
}

/// What a mistake says.
#[track_caller]
fn mistake(arguments: &[&str], env: &[(&str, &str)]) -> String {
    let output = last_call(arguments, env);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn an_order_says_nowhere_that_it_takes_a_file_and_takes_none() {
    for order in ORDERS {
        for text in [page(&["man", order]), page(&[order, "--help"])] {
            assert!(!FILE_OPTIONS.iter().any(|option| text.contains(option)), "{order}: {text}");
        }
        for arguments in [
            &[order, "--config=/nowhere", "x.sock"][..],
            &["--config=/nowhere", order, "x.sock"],
            &[order, "--print-config", "x.sock"],
            &["--print-config", order, "x.sock"],
        ] {
            let said = mistake(arguments, &[]);
            assert!(FILE_OPTIONS.iter().any(|option| said.contains(option)), "{arguments:?}: {said}");
        }
        // Its own mistake, and not that of the worker's file.
        let said = mistake(&[order], &[("LAST_CALL_CONFIG", "/nowhere")]);
        assert!(said.contains("LAST_CALL_ADMIN_SOCKET"), "{order}: {said}");
    }
    for other in ["demo", "server"] {
        let manual = page(&["man", other]);
        assert!(FILE_OPTIONS.iter().all(|option| manual.contains(option)), "{other}: {manual}");
    }
}

#[test]
fn a_completion_offers_a_file_only_where_one_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("last-call.bash");
    std::fs::write(&script, page(&["completions", "bash"])).expect("the script is written");
    for (command, offered) in [("drain", "\n"), ("server", "--config\n")] {
        let line = format!(
            "COMP_WORDS=(last-call {command} --conf); COMP_CWORD=2; _last__call last-call --conf {command}; echo ${{COMPREPLY[@]}}"
        );
        let line = format!(". {}; {line}", script.display());
        let output = Command::new("bash").args(["-c", &line]).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout), offered, "{command}: {output:?}");
    }
}

#[test]
fn a_file_has_no_table_and_no_key_for_an_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("server.toml");
    let path = path.to_str().expect("a path of text");
    for (text, said) in
        [("[drain]\nwait = true", "unknown table \"drain\""), ("wait = true", "unknown key \"wait\"")]
    {
        std::fs::write(path, text).expect("the file is written");
        let error = mistake(&["server", "--print-config", "--config", path], &[]);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_command_that_is_hidden_is_offered_to_nobody() {
    for arguments in [&["man", "strat"][..], &["--print-config"]] {
        let said = mistake(arguments, &[]);
        assert!(said.contains("server") && !said.contains("demo-agent"), "{arguments:?}: {said}");
    }
}
