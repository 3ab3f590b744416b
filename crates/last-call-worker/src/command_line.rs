//! The command line, with what a file and the environment say: flag, variable, file, default, in this order.
//!
//! Owns the order, and the options and commands that every program gets by [`parse`]. Refuses a second list
//! of options: what a file may set, what a page shows and what a shell completes is read off the program's
//! own clap definitions.

mod file;
mod pages;
mod show;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

use self::file::File;
use crate::error::StartError;
use crate::exit::Exit;
use crate::options::{self, Options, Program};

/// Parses the command line as [`Parser::parse`] does, for a program that has flattened [`crate::Cli`] into a
/// parser of its own and calls [`crate::run_with`].
///
/// The program gets `--config`, `--print-config`, and the commands `completions` and `man`, and must have
/// none of these itself. A file may set every option of `P` that takes one value or none.
///
/// Like [`Parser::parse`] it leaves the process: with 0 where something was asked that is no start, with 2
/// for a mistake, with 1 where the file cannot be read.
#[must_use]
pub fn parse<P: Parser>() -> P {
    let mut command = P::command();
    let parsed = P::from_arg_matches(&matches(command.clone()));
    parsed.unwrap_or_else(|error| error.format(&mut command).exit())
}

/// As [`parse`], for a command that is changed or built by hand, as [`Command::get_matches`] is.
#[must_use]
pub fn matches(command: Command) -> ArgMatches {
    read(command, std::env::args_os().collect()).unwrap_or_else(|instead| instead.exit())
}

/// Marks a command that reads no configuration file, as one does that runs in the environment of another program:
/// `#[command(group = last_call_worker::no_file())]` on its options. It has neither `--config` nor `--print-config`, no
/// table and no key in a file, and whatever LAST_CALL_CONFIG names is left alone.
#[must_use]
pub fn no_file() -> ArgGroup {
    ArgGroup::new(NO_FILE)
}

const NO_FILE: &str = "last-call-no-file";

fn takes_a_file(command: &Command) -> bool {
    command.get_groups().all(|group| group.get_id() != NO_FILE)
}

/// The options of `start`, as the environment and the file that it names have them.
pub(crate) fn from_env() -> Result<Options, StartError> {
    let matches = read(Program::command(), vec!["worker".into(), "start".into()]);
    let program = matches.and_then(|matches| Ok(Program::from_arg_matches(&matches)?));
    match program.map(|program| program.cli.command) {
        Ok(options::Command::Start(options)) => Ok(*options),
        Err(Instead::Failed(error)) => Err(error),
        Err(Instead::Clap(error)) => Err(StartError::Usage(error.to_string())),
        Ok(options::Command::Dev(_) | options::Command::Connect(_)) | Err(Instead::Print(_)) => {
            unreachable!("start was asked for, and nothing else")
        }
    }
}

/// `command` and those below it, with the options that say where the rest is found.
fn with_file_options(command: Command) -> Command {
    if takes_a_file(&command) {
        command.args(file_options()).mut_subcommands(with_file_options)
    } else {
        command
    }
}

fn file_options() -> [Arg; 2] {
    let option = |name| Arg::new(name).long(name).help_heading("Configuration");
    let config = option("config").env("LAST_CALL_CONFIG").value_name("PATH");
    [
        config
            .value_parser(clap::value_parser!(PathBuf))
            .help("A TOML file of options, by their long names; a flag or a variable wins over it"),
        option("print-config")
            .action(ArgAction::SetTrue)
            .help("Print every option as such a file, with where its value comes from, and do not start"),
    ]
}

/// What a command line comes to in place of a start.
#[derive(Debug)]
enum Instead {
    /// A mistake, or a page of help.
    Clap(clap::Error),
    /// A file that is none.
    Failed(StartError),
    /// What was asked for.
    Print(Vec<u8>),
}

impl From<clap::Error> for Instead {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

impl From<StartError> for Instead {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}

impl Instead {
    fn exit(self) -> ! {
        let error = match self {
            Self::Clap(error) => error.exit(),
            Self::Failed(error) => error,
            Self::Print(text) => match io::stdout().write_all(&text).and_then(|()| io::stdout().flush()) {
                Ok(()) => std::process::exit(0),
                // Whoever reads has read enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
                Err(error) => StartError::System { what: "standard output", error },
            },
        };
        crate::run::say(&error);
        std::process::exit(Exit::from(&error) as i32)
    }
}

fn read(command: Command, arguments: Vec<OsString>) -> Result<ArgMatches, Instead> {
    let plain = without_empty_variables(pages::add(with_file_options(command)));
    // A mistake that is not the file's to mend is found again below, where the page of usage is whole.
    let lenient = plain.clone().ignore_errors(true).try_get_matches_from(&arguments)?;
    let page_wanted = lenient.subcommand_name().is_some_and(pages::is_one);
    let refuses = refuses_files(&plain, &lenient);
    let file = match given::<PathBuf>(&lenient, "config") {
        Some((_, path)) if !page_wanted && !refuses => File::read(path, &plain)?,
        _ => File::default(),
    };
    let program = pages::program(arguments.first());
    let matches = file.fill(plain.clone()).try_get_matches_from(arguments);
    let matches = matches.map_err(|error| without_hidden(error, &plain))?;
    if page_wanted {
        return Err(Instead::Print(pages::Page::from_arg_matches(&matches)?.text(plain, &program)));
    }
    let shows = given::<bool>(&matches, "print-config").filter(|(_, shows)| **shows);
    if refuses {
        let config = given::<PathBuf>(&matches, "config");
        if shows.is_some() || config.is_some_and(|(source, _)| source == ValueSource::CommandLine) {
            let why = "this command reads no configuration file; leave out --config and --print-config";
            return Err(plain.clone().error(ErrorKind::ArgumentConflict, why).into());
        }
    } else if shows.is_some() {
        return Err(Instead::Print(show::text(&plain, &matches, &file, &program).into_bytes()));
    }
    Ok(matches)
}

/// What one of the options of files was given, before or behind the command: a flag wins over the variable, and of
/// two flags the last.
fn given<'m, T: Clone + Send + Sync + 'static>(
    matches: &'m ArgMatches,
    id: &str,
) -> Option<(ValueSource, &'m T)> {
    let levels = std::iter::successors(Some(matches), |matches| Some(matches.subcommand()?.1));
    let here = |matches: &'m ArgMatches| {
        let value = matches.try_get_one::<T>(id).ok().flatten()?;
        Some((matches.value_source(id)?, value))
    };
    levels.filter_map(here).max_by_key(|(source, _)| *source)
}

/// Whether the command that runs, or one above it, is marked by [`no_file`].
fn refuses_files(command: &Command, matches: &ArgMatches) -> bool {
    let below =
        || matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
    !takes_a_file(command) || below().is_some_and(|(command, matches)| refuses_files(command, matches))
}

/// A list of commands in an error has what that of the help has.
fn without_hidden(mut error: clap::Error, command: &Command) -> clap::Error {
    fn is_hidden(command: &Command, name: &str) -> bool {
        let mut below = command.get_subcommands();
        below.any(|below| (below.is_hide_set() && below.get_name() == name) || is_hidden(below, name))
    }
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) {
        let shown = names.iter().filter(|name| !is_hidden(command, name)).cloned().collect();
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
    }
    error
}

/// A variable that is there but empty, as templates leave them, says nothing.
fn without_empty_variables(command: Command) -> Command {
    let says_nothing =
        |argument: &Arg| argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(
            |argument| {
                if says_nothing(&argument) { argument.env(Resettable::<OsStr>::Reset) } else { argument }
            },
        )
        .mut_subcommands(without_empty_variables)
}

/// The name under which a file sets this argument, if it may.
fn key(argument: &Arg) -> Option<&str> {
    let one_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::SetTrue);
    let here = ["config", "print-config"].contains(&argument.get_id().as_str());
    argument.get_long().filter(|_| one_value && !here)
}
