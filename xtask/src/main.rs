//! The workspace's chores, run as `cargo xtask <chore>`.
//!
//! Owns the command line and the exit code: 0 when the chore did all that it says, 1 when it did
//! not, 2 when the command line is wrong. Refuses product code: nothing here is linked into a worker.

mod bench;
mod cache;
#[cfg(test)]
mod clauses;
mod lint;
mod say;
mod setup;
mod step;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of the Last Call workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check what the tests need and fetch what needs no root.
    ///
    /// Prints a table of system tools and, where some are missing, the one command that installs
    /// them. Then builds livekit-server and makes a Python environment under $LAST_CALL_CACHE
    /// (default: $XDG_CACHE_HOME, else ~/.cache). Whatever is there already is left alone.
    Setup {
        /// Run the installing command instead of printing it (as root, or through sudo).
        #[arg(long)]
        install: bool,
    },
    /// Set up, build, and run every test, documentation tests included.
    Test {
        /// Run only tests whose name contains one of these words, for instance drain_3.
        filters: Vec<String>,
    },
    /// Check format, lints, documentation, licences, the arrows between crates and the house rules.
    Lint,
    /// Measure: list the benches, or run one in a release build.
    Bench(bench::Selection),
    /// Repeat a promise until its full number is reached: list the soaks, or run one.
    Soak(bench::Selection),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Setup { install } => setup::run(install).map(drop),
        Chore::Test { filters } => test::run(&filters),
        Chore::Lint => lint::run(),
        Chore::Bench(selection) => bench::run(bench::Kind::Bench, &selection),
        Chore::Soak(selection) => bench::run(bench::Kind::Soak, &selection),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::progress(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
