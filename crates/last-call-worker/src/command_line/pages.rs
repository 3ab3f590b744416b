//! Completion scripts and manual pages.
//!
//! Owns the two commands that print them. Refuses to write files: where they belong is the packager's
//! matter.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Command, Subcommand};
use clap_complete::Shell;

/// What can be printed about a program.
#[derive(Debug, Subcommand)]
pub(super) enum Page {
    /// Print the completion script for a shell
    #[command(hide = true)]
    Completions { shell: Shell },
    /// Print the manual page, in roff, of the program or of one command
    #[command(hide = true)]
    Man { command: Option<String> },
}

/// `command`, with these two.
pub(super) fn add(command: Command) -> Command {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<_> = shown.map(|command| command.get_name().to_owned()).collect();
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
    pub(super) fn text(&self, command: Command, name: &str) -> Vec<u8> {
        let mut text = Vec::new();
        let mut command = command.name(name.to_owned()).bin_name(name);
        let about = match self {
            Self::Completions { shell } => {
                clap_complete::generate(*shell, &mut command, name, &mut text);
                return if *shell == Shell::Bash { with_its_labels(&text, name) } else { text };
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

/// clap_complete 4.6 names a program with a hyphen one way where the script goes on, and another way where it goes to.
fn with_its_labels(script: &[u8], name: &str) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")).into_bytes()
}
