//! Completion scripts and manual pages.
//!
//! Owns the two commands that print them. Refuses to write files: where they belong is the packager's
//! matter.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Command, Subcommand};

/// What can be printed about a program.
#[derive(Debug, Subcommand)]
pub(super) enum Page {
    /// Print the completion script for a shell
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, in roff, of the program or of one command
    #[command(hide = true)]
    Man { command: Option<String> },
}

/// `command`, with these two.
pub(super) fn add(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let pages = Page::augment_subcommands(Command::new("")).mut_subcommand("man", |man| {
        man.mut_arg("command", |argument| argument.value_parser(PossibleValuesParser::new(names)))
    });
    // One by one: the derived code would give the program this type's description.
    command.subcommands(pages.get_subcommands().cloned())
}

/// Whether this is the name of one of them.
pub(super) fn is_one(command: &str) -> bool {
    Page::has_subcommand(command)
}

/// What the program is called by those who run it.
pub(super) fn program(first_argument: Option<&OsString>) -> String {
    let name = first_argument.and_then(|path| Path::new(path).file_name());
    name.map_or_else(|| "worker".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl Page {
    /// The page of `command`, which is called `name`.
    pub(super) fn text(&self, command: Command, name: String) -> Vec<u8> {
        let mut text = Vec::new();
        let mut command = command.name(name.clone()).bin_name(name.clone());
        let about = match self {
            Self::Completions { shell } => {
                clap_complete::generate(*shell, &mut command, name, &mut text);
                return text;
            }
            // Else it would refer to a page of that command, which has none.
            Self::Man { command: None } => command.disable_help_subcommand(true),
            Self::Man { command: Some(of) } => {
                command.build();
                command.find_subcommand(of).cloned().expect("clap took no other name")
            }
        };
        clap_mangen::Man::new(about).render(&mut text).expect("memory takes all");
        text
    }
}
