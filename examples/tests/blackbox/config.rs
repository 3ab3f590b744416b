//! The configuration file: which source wins, what `--print-config` says of it, and what a mistake in it
//! costs. Also completions and manual pages, which come from the same definitions.
//!
//! Owns the order of the sources. Refuses the meaning of the options, which other files try.

use std::process::Command;

use last_call_testkit::{Launch, Options, Signal, Stub};
use tempfile::TempDir;

use crate::cli::{bare, mistake};
use crate::rig::{KEY, SECRET, SOON};
use crate::seen::Seen;

/// A file of this text, in a directory of its own.
fn file(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.toml");
    std::fs::write(&path, text).expect("the file is written");
    let path = path.to_str().expect("a path of text").to_owned();
    (directory, path)
}

/// What `--print-config` says.
#[track_caller]
fn printed(args: &[&str], env: &[(&str, &str)]) -> String {
    let output = bare(&[args, &["--print-config"]].concat(), env);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The line of one option.
#[track_caller]
fn line<'p>(page: &'p str, key: &str) -> &'p str {
    let about = |line: &&str| {
        let line = line.trim_start_matches("# ");
        line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ':']))
    };
    page.lines().find(about).unwrap_or_else(|| panic!("no {key} in:\n{page}"))
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let (_directory, path) = file("\ndrain-timeout = 20");
    let (config, variable) = (["--config", path.as_str()], ("LAST_CALL_DRAIN_TIMEOUT", "30"));
    let start = |args: &[&str], env: &[(&str, &str)]| {
        let page = printed(&[&["start"], args].concat(), env);
        line(&page, "drain-timeout").to_owned()
    };
    let from_file = format!("drain-timeout = 20  # file {path}:2");
    assert_eq!(start(&[], &[]), "drain-timeout = \"1h\"  # default");
    assert_eq!(start(&config, &[]), from_file);
    assert_eq!(start(&[], &[("LAST_CALL_CONFIG", &path)]), from_file);
    assert_eq!(start(&config, &[("LAST_CALL_CONFIG", "/nowhere")]), from_file);
    assert_eq!(start(&config, &[variable]), "drain-timeout = 30  # env LAST_CALL_DRAIN_TIMEOUT");
    let flag = [&config[..], &["--drain-timeout=40"]].concat();
    assert_eq!(start(&flag, &[variable]), "drain-timeout = 40  # flag");
    // Probe's own variable is another default.
    assert_eq!(start(&config, &[("PROBE_DRAIN_TIMEOUT", "50")]), from_file);
}

#[test]
fn a_switch_is_set_in_the_file_and_unset_by_its_variable() {
    let (_directory, path) = file("insecure_ws = true");
    let page = printed(&["start", "--config", &path], &[]);
    assert_eq!(line(&page, "insecure-ws"), format!("insecure-ws = true  # file {path}:1"));
    let page = printed(&["start", "--config", &path], &[("LAST_CALL_INSECURE_WS", "false")]);
    assert_eq!(line(&page, "insecure-ws"), "insecure-ws = false  # env LAST_CALL_INSECURE_WS");
}

#[test]
fn a_table_is_for_its_command() {
    let (_directory, path) = file("max-jobs = 1\n[dev]\nmax-jobs = 2\n[connect]\nroom = 'table 4'");
    for (command, key, value) in [
        ("start", "max-jobs", "1  # file"),
        ("dev", "max-jobs", "2  # file"),
        ("connect", "room", "\"table 4\"  #"),
    ] {
        let page = printed(&[command, "--config", &path], &[]);
        assert!(line(&page, key).starts_with(&format!("{key} = {value}")), "{page}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let env = [
        ("LIVEKIT_URL", "wss://a.example/b"),
        ("LIVEKIT_API_KEY", "'\"\\ \u{1b}\t#"),
        ("LIVEKIT_AGENT_NAME_OVERRIDE", "two\nlines"),
    ];
    let start =
        ["--max-jobs=007", "--load-threshold=off", "--http=8090", "--log-format=json", "--insecure-ws"];
    let connect = ["--room=0.5", "--identity=-1", "--stop-grace=1h 30m"];
    for (command, args) in [("start", &start[..]), ("dev", &start), ("connect", &connect)] {
        let first = printed(&[&[command], args].concat(), &env);
        let (_directory, path) = file(&first);
        let again = printed(&[command, "--config", &path], &[]);
        let values = |page: &str| {
            let lines = page
                .split_inclusive('\n')
                .map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(values(&first), values(&again), "{first}\n{again}");
        assert!(!again.contains("# default") && !again.contains("# env"), "{again}");
        let third = file(&again);
        assert_eq!(values(&again), values(&printed(&[command, "--config", &third.1], &[])));
    }
}

#[test]
fn no_secret_is_printed() {
    for (env, said) in [
        (&[][..], "not set"),
        (&[("LIVEKIT_API_SECRET", SECRET)], "from env LIVEKIT_API_SECRET"),
        (&[("LIVEKIT_API_SECRET", SECRET), ("LAST_CALL_API_SECRET_FILE", "/run/s")], "from api-secret-file"),
    ] {
        let page = printed(&["start"], env);
        assert_eq!(line(&page, "api secret"), format!("# api secret: {said}"));
        assert!(!page.contains(SECRET), "{page}");
    }
    for url in [format!("wss://a/?access_token={SECRET}"), format!("wss://u:{SECRET}@a"), SECRET.to_owned()] {
        let page = printed(&["start"], &[("LIVEKIT_URL", &url)]);
        assert_eq!(line(&page, "url"), "# url is not shown: it may hold a secret  # env LIVEKIT_URL");
        assert!(!page.contains(SECRET), "{page}");
    }
}

#[test]
fn a_worker_starts_from_its_file_alone() {
    let keys = Some((KEY.to_owned(), SECRET.to_owned()));
    let stub = Stub::start(Options { keys, ..Options::auto() }).expect("a stub");
    for program in [env!("CARGO_BIN_EXE_probe"), env!("CARGO_BIN_EXE_early_threads")] {
        let (directory, path) = file("");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, SECRET).expect("the secret is written");
        let text = format!(
            "url = {:?}\napi-key = {KEY:?}\napi-secret-file = {secret:?}\nhttp = 'off'\n",
            stub.url()
        );
        std::fs::write(&path, text).expect("the file is written");
        let launch = ["LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"]
            .iter()
            .fold(Launch::new(program), Launch::env_remove);
        let mark = stub.mark();
        let worker = launch.args(["start", "--config", &path]).spawn().expect("the program starts");
        stub.registration(mark);
        worker.signal(Signal::SIGTERM).expect("the worker is alive");
        assert_eq!(worker.wait(SOON).expect("the worker leaves").code, Some(0));
    }
}

#[test]
fn a_mistake_in_the_file_names_the_line_and_the_key() {
    for (text, said) in [
        ("\nmax-job = 1", ":2: unknown key \"max-job\"; did you mean \"max-jobs\"?"),
        ("[strat]", ":1: unknown table \"strat\"; did you mean \"start\"?"),
        ("[connect]\nmax-jobs = 1", ":2: unknown key \"max-jobs\""),
        (
            "drain-timeout = 'soon'",
            ":1: invalid value 'soon' for '--drain-timeout <TIME>': a time such as 90s",
        ),
        ("log-format = 'xml'", "[possible values: pretty, json]"),
        ("max-jobs = 0", ":1: invalid value '0' for '--max-jobs <N>'"),
        ("api-secret = 'hunter2'", ":1: api-secret is a secret"),
        ("url = hunter2", ":1: "),
    ] {
        let (_directory, path) = file(text);
        // The file is checked as a whole, for whichever command.
        for args in [&["start", "--config", &path][..], &["connect", "--room=r", "--config", &path]] {
            let error = mistake(2, args, &[]);
            assert!(error.starts_with(&format!("error: {path}:")) && error.contains(said), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for path in [directory.path().to_owned(), directory.path().join("missing"), pipe] {
        let path = path.to_str().expect("a path of text");
        let said = mistake(1, &["start"], &[("LAST_CALL_CONFIG", path)]);
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn a_mistake_on_the_command_line_is_said_as_without_a_file() {
    let (_directory, path) = file("max-jobs = 3");
    for args in [&["start", "--max-job=1"][..], &["strat"], &["start", "--max-jobs=x"]] {
        let with = bare(args, &[("LAST_CALL_CONFIG", &path)]);
        assert_eq!(with, bare(args, &[]));
        assert_eq!(with.status.code(), Some(2), "{with:?}");
    }
    let said = mistake(2, &["connect", "--config", &path], &[]);
    assert!(said.contains("Usage: probe connect --room <ROOM>"), "{said}");
}

#[test]
fn help_and_pages_need_no_file() {
    for args in [&["--help"][..], &["start", "-h"], &["help", "start"], &["man"], &["completions", "zsh"]] {
        let output = bare(args, &[("LAST_CALL_CONFIG", "/nowhere")]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn bash_completes_an_option() {
    let (directory, _) = file("");
    let script = directory.path().join("probe.bash");
    let output = bare(&["completions", "bash"], &[]);
    std::fs::write(&script, output.stdout).expect("the script is written");
    let line = "COMP_WORDS=(probe start --drain-t); COMP_CWORD=2; _probe probe --drain-t start; echo ${COMPREPLY[@]}";
    let bash =
        Command::new("bash").args(["-c", &format!(". {}; {line}", script.display())]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "--drain-timeout\n", "{bash:?}");
}

#[test]
fn the_manual_has_every_option_of_the_help() {
    let help = String::from_utf8(bare(&["start", "-h"], &[]).stdout).expect("text");
    let options = help.split_whitespace().filter(|word| word.starts_with("--"));
    let manual =
        String::from_utf8(bare(&["man", "start"], &[("LIVEKIT_API_KEY", KEY)]).stdout).expect("text");
    for option in options.map(|option| option.trim_end_matches(|c: char| !c.is_alphabetic())) {
        assert!(manual.contains(&option.replace('-', "\\-")), "{option}");
    }
    assert!(manual.contains(".TH probe-start") && !manual.contains(KEY), "{manual}");
    let program = String::from_utf8(bare(&["man"], &[]).stdout).expect("text");
    assert!(program.contains("probe\\-start(1)") && !program.contains("help(1)"), "{program}");
}

#[test]
fn a_page_that_cannot_be_written_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let output =
        Command::new(env!("CARGO_BIN_EXE_probe")).arg("man").stdout(full).output().expect("probe runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"), "{output:?}");
}
