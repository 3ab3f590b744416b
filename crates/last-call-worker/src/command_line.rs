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
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

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

/// Where the rest is found.
fn file_options() -> [Arg; 2] {
    let option = |name| Arg::new(name).long(name).global(true).help_heading("Configuration");
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
    let plain = without_empty_variables(pages::add(command.args(file_options())));
    // A mistake that is not the file's to mend is found again below, where the page of usage is whole.
    let lenient = plain.clone().ignore_errors(true).try_get_matches_from(&arguments)?;
    let page_wanted = lenient.subcommand_name().is_some_and(pages::is_one);
    let file = match lenient.get_one::<PathBuf>("config") {
        Some(path) if !page_wanted => File::read(path, &plain)?,
        _ => File::default(),
    };
    let program = pages::program(arguments.first());
    let matches = file.fill(plain.clone()).try_get_matches_from(arguments)?;
    if page_wanted {
        return Err(Instead::Print(pages::Page::from_arg_matches(&matches)?.text(plain, program)));
    }
    if matches.get_flag("print-config") {
        return Err(Instead::Print(show::text(&plain, &matches, &file, &program).into_bytes()));
    }
    Ok(matches)
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
