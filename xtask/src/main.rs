//! The workspace's chores, run as `cargo xtask <chore>`.
//!
//! Owns the command line and the exit code: 0 when the chore did all that it says, 1 when it did
//! not, 2 when the command line is wrong. Refuses product code: nothing here is linked into a worker.

mod bench;
mod cache;
#[cfg(test)]
mod clauses;
mod dist;
mod lint;
mod livekit;
mod musl;
mod programs;
mod say;
mod setup;
mod step;
mod target;
mod test;
#[cfg(not(feature = "bench"))]
mod whole;
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
    /// Build the program as it is released: one static file, its pages and licences, in one archive.
    ///
    /// The binary is linked with musl for this machine's processor in the profile "static", which takes minutes. It is
    /// tried in an empty root directory: DNS, localhost, TLS (needs root; says so where it cannot). Prints SHA-256,
    /// size and path of the binary and of target/dist/last-call-VERSION-TARGET.tar.gz, whose files are all of the
    /// second of the last commit, or of SOURCE_DATE_EPOCH.
    Dist {
        /// Build the last commit twice, in two places, and compare; it packs and tries nothing of the working tree.
        #[arg(long)]
        check: bool,
    },
    /// Run livekit-server on 127.0.0.1:7880 until Ctrl-C, for trying a worker.
    ///
    /// Prints the three lines to paste into other terminals first. The server is the one that setup
    /// builds, in its development mode: fixed keys, loopback only, nothing kept. What dispatch and
    /// hang-up need is compiled before it starts.
    Livekit,
    /// Ask the server for an agent in a room, and say whether a worker has taken the job.
    ///
    /// The server is named by LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET, as for a worker.
    Dispatch {
        /// The room; it is made where it is not there.
        room: String,
        /// The name under which the agent's workers are registered.
        agent: String,
        /// What the job is given as its metadata.
        #[arg(default_value = "")]
        metadata: String,
    },
    /// End a room of the server: its agents' jobs, and everyone's connection.
    HangUp {
        /// The room.
        room: String,
    },
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
        Chore::Dist { check } => dist::run(check),
        Chore::Livekit => livekit::serve(),
        Chore::Dispatch { room, agent, metadata } => livekit::dispatch(&room, &agent, &metadata),
        Chore::HangUp { room } => livekit::hang_up(&room),
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
