//! The program `last-call`.
//!
//! Owns the list of commands and the exit codes. Refuses WebRTC, and whatever a worker of one's own needs: that is
//! the library.

mod demo;
mod doctor;
mod exec;
mod failure;
mod orders;
mod server;
mod shown;
mod told;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use last_call_worker::{Cli, GuardOptions};

/// LiveKit agents whose calls are never lost
#[derive(Debug, Parser)]
#[command(name = "last-call", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<exec::RunOptions>),
    Guard(Box<GuardOptions>),
    Doctor(doctor::Options),
    Demo(Box<demo::Options>),
    Server(Box<server::Options>),
    /// The worker of the demo
    #[command(hide = true)]
    DemoAgent(Cli),
    Ps(orders::Ps),
    Drain(orders::Drain),
    Quiet(orders::Quiet),
    Unquiet(orders::Unquiet),
}

const AFTER_HELP: &str = "\
A flag wins over its variable, and that over the file of --config, where an option has the flag's
name and a table the command's:
    [server]
    port = 7000
`server --print-config` shows what holds and why. `completions SHELL` and `man [COMMAND]` print a
completion script and the manual.";

fn main() -> ExitCode {
    if exec::launch_asked_for() {
        return exec::launch();
    }
    let arguments = last_call_worker::parse::<Arguments>();
    let done = match arguments.command {
        Command::Run(options) => exec::run(*options),
        Command::Guard(options) => exec::guard(*options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Server(options) => server::run(&options),
        Command::DemoAgent(cli) => return last_call_worker::run_with(cli, demo::demo_worker()),
        Command::Ps(ps) => ps.run(),
        Command::Drain(drain) => drain.run(),
        Command::Quiet(quiet) => quiet.run(),
        Command::Unquiet(unquiet) => unquiet.run(),
    };
    done.unwrap_or_else(|failure| failure.say())
}
