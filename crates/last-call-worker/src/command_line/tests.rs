//! What a file may say, tried without a process; the order of the sources is tried on a whole program.

use std::path::Path;

use clap::{Args, Command, CommandFactory, Parser};

use super::file::{File, keys};
use super::{no_file, pages, with_file_options};
use crate::options::Program;

/// An agent with options of its own, one command deeper than usual.
#[derive(Debug, Parser)]
enum Agent {
    Serve(Serve),
    Migrate {
        #[arg(long)]
        database: String,
    },
    #[command(group = no_file())]
    Ask {
        #[arg(long)]
        aloud: bool,
    },
}

#[derive(Args, Debug)]
struct Serve {
    #[arg(long, default_value_t = 1)]
    retries: u8,
    #[arg(long)]
    dry_run: bool,
    #[arg(long)]
    tag: Vec<String>,
    #[command(subcommand)]
    how: How,
}

#[derive(Debug, clap::Subcommand)]
enum How {
    Slow {
        #[arg(long)]
        pace: Option<f32>,
    },
    Fast {
        #[arg(long)]
        pace: Option<f32>,
        #[arg(long)]
        dry_run: bool,
    },
}

fn whole<P: CommandFactory>() -> Command {
    pages::add(with_file_options(P::command()))
}

fn parse(text: &str, command: &Command) -> Result<File, String> {
    File::parse(Path::new("agent.toml"), text, command).map_err(|error| error.to_string())
}

/// What the program comes to with this file and these arguments.
#[track_caller]
fn agent(text: &str, arguments: &[&str]) -> String {
    let command = whole::<Agent>();
    let command = parse(text, &command).expect("a file").fill(command);
    let matches = command.try_get_matches_from([&["agent"][..], arguments].concat()).expect("arguments");
    let agent = <Agent as clap::FromArgMatches>::from_arg_matches(&matches).expect("an agent");
    format!("{agent:?}")
}

#[track_caller]
fn wrong(text: &str) -> String {
    parse(text, &whole::<Agent>()).expect_err("a mistake")
}

#[test]
fn a_key_is_for_every_command_that_has_the_option() {
    let text = "pace = 0.5\ndry_run = true";
    for (how, is) in [
        ("slow", "dry_run: true, tag: [], how: Slow { pace: Some(0.5) } })"),
        ("fast", "dry_run: true, tag: [], how: Fast { pace: Some(0.5), dry_run: true } })"),
    ] {
        assert_eq!(agent(text, &["serve", how]), format!("Serve(Serve {{ retries: 1, {is}"));
    }
}

#[test]
fn a_table_is_for_its_command_and_wins_over_what_is_above() {
    let text = "pace = 2\n[serve.fast]\npace = 4\n[serve]\npace = 3\nretries = 0x1f\nslow.pace = 1";
    let fast = "how: Fast { pace: Some(4.0), dry_run: false } })";
    assert_eq!(
        agent(text, &["serve", "fast"]),
        format!("Serve(Serve {{ retries: 31, dry_run: false, tag: [], {fast}")
    );
    assert!(agent(text, &["serve", "slow"]).contains("Slow { pace: Some(1.0) }"));
    assert!(agent(text, &["serve", "slow", "--pace=9"]).contains("pace: Some(9.0)"));
}

#[test]
fn a_required_option_may_be_in_the_file() {
    assert_eq!(agent("database = 'd'", &["migrate"]), "Migrate { database: \"d\" }");
}

#[test]
fn a_mistake_names_the_line_the_key_and_what_was_meant() {
    for (text, error) in [
        ("\nretrys = 1", "agent.toml:2: unknown key \"retrys\"; did you mean \"retries\"?"),
        ("xxxx = 1", "agent.toml:1: unknown key \"xxxx\"; a key is an option's long name"),
        ("[migrate]\nretries = 1", "agent.toml:2: unknown key \"retries\"; a key is an option's long name"),
        ("[serv]\n", "agent.toml:1: unknown table \"serv\"; did you mean \"serve\"?"),
        ("aloud = true", "agent.toml:1: unknown key \"aloud\"; a key is an option's long name"),
        ("[ask]\n", "agent.toml:1: unknown table \"ask\"; a table is named by a command"),
        ("[serve.man]\n", "agent.toml:1: unknown table \"man\"; a table is named by a command"),
        ("dry-run = true\ndry_run = true", "agent.toml:2: dry-run is set already in line 1"),
        ("\ndry_run = 'yes'", "agent.toml:2: dry-run must be true or false"),
        ("pace = [1]", "agent.toml:1: pace must be a string, a number, true or false"),
        ("retries = 99999999999999999999", "agent.toml:1: retries is out of any range"),
        (
            "retries = 256",
            "agent.toml:1: invalid value '256' for '--retries <RETRIES>': 256 is not in 0..=255",
        ),
        ("tag = 'a'", "agent.toml:1: unknown key \"tag\"; a key is an option's long name"),
        ("config = 'a'", "agent.toml:1: unknown key \"config\"; a key is an option's long name"),
    ] {
        assert_eq!(wrong(text), error, "{text}");
    }
}

#[test]
fn a_secret_is_refused_and_not_repeated() {
    for text in ["api_secret = 'hunter2'", "[start]\nadmin-token = 'hunter2'", "api-secret = hunter2"] {
        let error = parse(text, &whole::<Program>()).expect_err("a secret");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = parse("api-secret = 'hunter2'", &whole::<Program>()).expect_err("a secret");
    assert!(error.contains("api-secret-file") && error.contains("LIVEKIT_API_SECRET"), "{error}");
}

#[test]
fn a_file_that_cannot_be_used_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.toml");
    let read = || File::read(&path, &whole::<Program>()).map(|_| ()).map_err(|error| error.to_string());
    assert!(read().expect_err("no file").contains("cannot read the configuration file"));
    std::fs::write(&path, b"url = 'ws://a'\n# \xff").expect("a file");
    assert!(read().expect_err("no text").ends_with("agent.toml:2: not UTF-8, as TOML is"));
    std::fs::write(&path, "#".repeat(1024 * 1024)).expect("a file");
    assert_eq!(read(), Ok(()));
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).expect("a file");
    assert!(read().expect_err("too large").ends_with("at most 1 MiB"));
}

#[test]
fn no_file_panics() {
    bolero::check!().with_type::<String>().for_each(|text| {
        let _ = parse(text, &whole::<Program>());
    });
}

#[test]
fn no_value_in_a_file_panics() {
    bolero::check!().with_type::<(u8, u8, String, f64, i64)>().for_each(
        |(key, kind, text, float, integer)| {
            let value = match kind % 4 {
                0 => toml::Value::from(text.as_str()),
                1 => toml::Value::from(*float),
                2 => toml::Value::from(*integer),
                _ => toml::Value::from(integer % 2 == 0),
            };
            let command = whole::<Program>();
            let keys = keys(&command);
            let key = keys[usize::from(*key) % keys.len()];
            let Ok(file) = parse(&format!("{key} = {value}"), &command) else { return };
            for name in ["start", "dev", "connect"] {
                // In a test clap itself asserts that each default makes sense to its option.
                let matches = file.fill(command.clone()).try_get_matches_from(["agent", name]);
                assert_eq!(matches.is_ok(), name != "connect" || key == "room", "{name}: {key} = {value}");
            }
        },
    );
}
