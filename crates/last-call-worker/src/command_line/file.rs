//! A TOML file of options.
//!
//! Owns what may stand in it: the long name of an option, with `-` or `_`, for every command that has it; in
//! a table, for the command of that name. Refuses secrets, unknown keys, and values that the option itself
//! would refuse, each with its line.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{key, takes_a_file};
use crate::error::StartError;

/// More than any configuration, and little enough to read before the worker runs.
const LARGEST: u64 = 1024 * 1024;

/// What a file sets.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// By the names that lead to the command, and the argument's id.
    values: BTreeMap<(Vec<String>, String), Value>,
}

#[derive(Debug)]
struct Value {
    text: String,
    line: usize,
}

impl File {
    /// Reads the file for the options of `command`.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, StartError> {
        let read = bytes(path).map_err(|error| StartError::ConfigFile { path: path.to_owned(), error })?;
        if read.len() as u64 > LARGEST {
            let path = path.display();
            return Err(StartError::Usage(format!("{path}: a configuration file has at most 1 MiB")));
        }
        let text = std::str::from_utf8(&read).map_err(|error| {
            let line = line(&read, error.valid_up_to());
            StartError::Usage(format!("{}:{line}: not UTF-8, as TOML is", path.display()))
        })?;
        Self::parse(path, text, command)
    }

    /// As [`File::read`], of a text that was read already.
    pub(super) fn parse(path: &Path, text: &str, command: &Command) -> Result<Self, StartError> {
        let mut reading = Reading { file: Self { path: path.to_owned(), values: BTreeMap::new() }, text };
        // The error's own text would quote the line, which may hold a secret.
        let table = DeTable::parse(text)
            .map_err(|error| reading.wrong(error.span().map_or(0, |span| span.start), error.message()))?;
        reading.table(command, &[], table.get_ref())?;
        Ok(reading.file)
    }

    /// `command`, on which what the file says is what is otherwise a default.
    pub(super) fn fill(&self, command: Command) -> Command {
        self.values
            .iter()
            .fold(command, |command, ((names, id), value)| fill(command, names, id, &value.text))
    }

    /// The line that sets an argument of the command that these names lead to.
    pub(super) fn line(&self, names: &[String], id: &str) -> Option<usize> {
        self.values.get(&(names.to_vec(), id.to_owned())).map(|value| value.line)
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A pipe that nobody writes to would hold the start for ever.
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fill(command: Command, names: &[String], id: &str, text: &str) -> Command {
    match names {
        // One that was required is there now.
        [] => command.mut_arg(id, |argument| argument.default_value(text.to_owned()).required(false)),
        [name, below @ ..] => command.mut_subcommand(name, |command| fill(command, below, id, text)),
    }
}

/// A file that is being read.
struct Reading<'t> {
    file: File,
    text: &'t str,
}

/// A key of it, with `-` throughout, and where it stands.
struct Key<'t> {
    name: String,
    at: usize,
    value: &'t DeValue<'t>,
}

impl Reading<'_> {
    fn table(&mut self, command: &Command, names: &[String], table: &DeTable<'_>) -> Result<(), StartError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut seen = BTreeMap::new();
        let mut tables = Vec::new();
        for (key, value) in entries {
            if let DeValue::Table(inner) = value.get_ref() {
                tables.push((self.command(command, key)?, inner));
                continue;
            }
            let key =
                Key { name: key.get_ref().replace('_', "-"), at: key.span().start, value: value.get_ref() };
            if let Some(before) = seen.insert(key.name.clone(), key.at) {
                let before = line(self.text.as_bytes(), before);
                return Err(self.wrong(key.at, &format!("{} is set already in line {before}", key.name)));
            }
            self.key(command, names, &key)?;
        }
        // Last, so that what they set holds.
        for (below, inner) in tables {
            self.table(below, &deeper(names, below), inner)?;
        }
        Ok(())
    }

    fn command<'c>(
        &self,
        command: &'c Command,
        key: &Spanned<DeString<'_>>,
    ) -> Result<&'c Command, StartError> {
        let name = key.get_ref().as_ref();
        below(command).find(|command| command.get_name() == name).ok_or_else(|| {
            let names = below(command).filter(|command| !command.is_hide_set());
            let hint = hint(name, names.map(Command::get_name), "; a table is named by a command");
            self.wrong(key.span().start, &format!("unknown table {name:?}{hint}"))
        })
    }

    fn key(&mut self, command: &Command, names: &[String], key: &Key<'_>) -> Result<(), StartError> {
        let elsewhere = match key.name.as_str() {
            "api-secret" => Some("LIVEKIT_API_SECRET, or in a file of its own that api-secret-file names"),
            "admin-token" => Some("LAST_CALL_ADMIN_TOKEN"),
            _ => None,
        };
        if let Some(elsewhere) = elsewhere {
            let why = format!("{} is a secret, and this file is none: put it in {elsewhere}", key.name);
            return Err(self.wrong(key.at, &why));
        }
        if self.set(command, names, key)? {
            return Ok(());
        }
        let hint = hint(&key.name, keys(command).into_iter(), "; a key is an option's long name");
        Err(self.wrong(key.at, &format!("unknown key {:?}{hint}", key.name)))
    }

    /// Sets the option of this command and of every one below that has it; whether one has.
    fn set(&mut self, command: &Command, names: &[String], key: &Key<'_>) -> Result<bool, StartError> {
        let mut found = false;
        let named = |argument: &&Arg| super::key(argument) == Some(&key.name);
        if let Some(argument) = command.get_arguments().find(named) {
            let text = value(argument, key).map_err(|why| self.wrong(key.at, &why))?;
            let value = Value { text, line: line(self.text.as_bytes(), key.at) };
            self.file.values.insert((names.to_vec(), argument.get_id().to_string()), value);
            found = true;
        }
        for below in below(command) {
            found |= self.set(below, &deeper(names, below), key)?;
        }
        Ok(found)
    }

    fn wrong(&self, at: usize, why: &str) -> StartError {
        let line = line(self.text.as_bytes(), at);
        StartError::Usage(format!("{}:{line}: {why}", self.file.path.display()))
    }
}

/// The text that the option is given, checked as it would be from a flag.
fn value(argument: &Arg, key: &Key<'_>) -> Result<String, String> {
    let text = match key.value {
        DeValue::Boolean(yes) => yes.to_string(),
        _ if matches!(argument.get_action(), ArgAction::SetTrue) => {
            return Err(format!("{} must be true or false", key.name));
        }
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => return Err(format!("{} is out of any range", key.name)),
        },
        DeValue::Float(number) => number.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return Err(format!("{} must be a string, a number, true or false", key.name));
        }
    };
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return Ok(text);
    }
    // Alone on a command line, so that no other option's mistake is found.
    let option = Arg::new("value")
        .long(key.name.clone())
        .ignore_case(argument.is_ignore_case_set())
        .value_parser(argument.get_value_parser().clone())
        .value_names(argument.get_value_names().unwrap_or_default().to_vec());
    let alone = Command::new("").no_binary_name(true).disable_help_flag(true).arg(option);
    match alone.try_get_matches_from([format!("--{}={text}", key.name)]) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string().trim_start_matches("error: ").trim_end().to_owned()),
    }
}

/// Every key that may stand here.
pub(super) fn keys(command: &Command) -> Vec<&str> {
    let below = below(command).flat_map(keys);
    command.get_arguments().filter_map(key).chain(below).collect()
}

/// The commands below that a file may speak of.
fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| takes_a_file(command))
}

fn deeper(names: &[String], command: &Command) -> Vec<String> {
    names.iter().cloned().chain([command.get_name().to_owned()]).collect()
}

/// The name that was meant, where one is as near as clap asks of a flag.
fn hint<'n>(wrong: &str, names: impl Iterator<Item = &'n str>, otherwise: &str) -> String {
    let near = names.map(|name| (strsim::jaro(wrong, name), name)).filter(|(near, _)| *near > 0.7);
    match near.max_by(|(one, _), (other, _)| one.total_cmp(other)) {
        Some((_, name)) => format!("; did you mean {name:?}?"),
        None => otherwise.to_owned(),
    }
}

fn line(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}
