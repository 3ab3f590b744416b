//! `--print-config`: every option as a file that says the same, with where each value comes from.
//!
//! Owns that text. Refuses to show what may be a secret.

use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use url::Url;

use super::file::File;
use super::key;

/// The options of the command that runs, and of those above it.
pub(super) fn text(command: &Command, matches: &ArgMatches, file: &File, program: &str) -> String {
    let mut names = Vec::new();
    let mut lines = Vec::new();
    let mut here = Some((command, matches));
    while let Some((command, matches)) = here {
        let options = command.get_arguments().filter_map(|argument| Some((argument, key(argument)?)));
        for (argument, key) in options {
            let origin = origin(argument, matches, file, &names);
            lines.push(format!("{}{origin}\n", setting(argument, key, matches)));
            if argument.get_id() == "api_secret_file" {
                lines.push(format!("# api secret: {}\n", secret(command, matches)));
            }
        }
        here = matches.subcommand().and_then(|(name, below)| {
            names.push(name.to_owned());
            Some((command.find_subcommand(name)?, below))
        });
    }
    format!("# {}\n{}", one_line(&[&[program.to_owned()][..], &names].concat().join(" ")), lines.concat())
}

fn origin(argument: &Arg, matches: &ArgMatches, file: &File, names: &[String]) -> String {
    let id = argument.get_id().as_str();
    match matches.value_source(id) {
        None => String::new(),
        Some(ValueSource::CommandLine) => "  # flag".to_owned(),
        Some(ValueSource::EnvVariable) => {
            format!("  # env {}", argument.get_env().unwrap_or_default().display())
        }
        Some(_) => match file.line(names, id) {
            Some(line) => format!("  # file {}:{line}", one_line(&file.path.display().to_string())),
            None => "  # default".to_owned(),
        },
    }
}

/// `key = value`, or why it is not there.
fn setting(argument: &Arg, key: &str, matches: &ArgMatches) -> String {
    let Some(raw) = matches.get_raw(argument.get_id().as_str()) else { return format!("# {key} is not set") };
    let texts = raw.map(OsStr::to_str).collect::<Option<Vec<_>>>();
    match texts {
        None => format!("# {key} is not shown: it is not UTF-8"),
        Some(texts) if argument.is_hide_env_values_set() && !texts.iter().copied().all(is_plain_url) => {
            format!("# {key} is not shown: it may hold a secret")
        }
        Some(_) if matches!(argument.get_action(), ArgAction::SetTrue) => {
            format!("{key} = {}", matches.get_flag(argument.get_id().as_str()))
        }
        Some(texts) => {
            let delimiter = argument.get_value_delimiter().unwrap_or(',').to_string();
            format!("{key} = {}", value(&texts.join(&delimiter)))
        }
    }
}

/// Text as TOML has it; a number where that reads the same.
fn value(text: &str) -> toml::Value {
    let numbers =
        [text.parse::<i64>().map(toml::Value::from).ok(), text.parse::<f64>().map(toml::Value::from).ok()];
    let same = numbers.into_iter().flatten().find(|number| number.to_string() == text);
    same.unwrap_or_else(|| toml::Value::from(text))
}

/// A URL without the parts in which a token may stand.
fn is_plain_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

fn secret(command: &Command, matches: &ArgMatches) -> &'static str {
    let in_file = matches.value_source("api_secret_file").is_some();
    let in_variable = std::env::var_os("LIVEKIT_API_SECRET").is_some_and(|secret| !secret.is_empty());
    match (in_file, in_variable) {
        (true, _) => "from api-secret-file",
        (false, true) => "from env LIVEKIT_API_SECRET",
        // A key by default is of no use without a secret by default.
        (false, false) if has_default(command, "api_key") => "the default",
        (false, false) => "not set",
    }
}

fn has_default(command: &Command, id: &str) -> bool {
    let argument = command.get_arguments().find(|argument| argument.get_id() == id);
    argument.is_some_and(|argument| argument.get_default_values().iter().any(|value| !value.is_empty()))
}

/// What is shown in a comment must not end it.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
