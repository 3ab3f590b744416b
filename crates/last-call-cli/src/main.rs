//! The program `last-call`.
//!
//! Owns the list of commands and the exit codes. Refuses WebRTC, and whatever a worker of one's own needs: that is
//! the library.

mod failure;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// LiveKit agents whose calls are never lost
#[derive(Debug, Parser)]
#[command(name = "last-call", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Server(Box<server::Options>),
}

const AFTER_HELP: &str = "\
A flag wins over its variable, and that over the file of --config, where an option has the flag's
name and a table the command's:
    [server]
    port = 7000
`server --print-config` shows what holds and why. `completions SHELL` and `man [COMMAND]` print a
completion script and the manual.";

fn main() -> ExitCode {
    let arguments = last_call_worker::parse::<Arguments>();
    let done = match arguments.command {
        Command::Server(options) => server::run(&options),
    };
    done.unwrap_or_else(|failure| failure.say())
}
