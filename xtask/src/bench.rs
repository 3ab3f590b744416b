//! `cargo xtask bench` and `cargo xtask soak`: the register of what can be measured, and the way there.
//!
//! A bench is a module `bench/<name>.rs` with `pub(crate) fn run(arguments: &[String]) -> Result<()>`
//! and an entry below. Owns the place of results, bench/results/. Refuses debug builds: an entry runs
//! in a release build of xtask with the feature `bench`, which this module starts.

#[cfg(feature = "bench")]
use std::fs;

use anyhow::{Result, bail};
#[cfg(feature = "bench")]
use anyhow::Context as _;
#[cfg(feature = "bench")]
use serde::Serialize;

#[cfg(feature = "bench")]
use crate::workspace;
use crate::{say, step};

/// Something that can be measured.
struct Entry {
    name: &'static str,
    /// What it measures and how long it takes by default, in one line.
    about: &'static str,
    #[cfg(feature = "bench")]
    run: fn(&[String]) -> Result<()>,
}

/// Figures: minutes each, the same machine compared with itself.
const BENCHES: &[Entry] = &[];

/// Promises at their full number of trials: up to hours each, and any miss fails.
const SOAKS: &[Entry] = &[];

/// Which of the two registers.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Produces figures.
    Bench,
    /// Produces a verdict.
    Soak,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Bench => "bench",
            Self::Soak => "soak",
        }
    }

    const fn entries(self) -> &'static [Entry] {
        match self {
            Self::Bench => BENCHES,
            Self::Soak => SOAKS,
        }
    }
}

/// Runs happen in a release build, on a machine that should be doing nothing else. Results are JSON
/// files under bench/results/, with the machine's shape in them; compare files of one machine only.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo xtask bench                    list what can be measured
  cargo xtask bench drain              measure with the defaults
  cargo xtask bench drain --help       what can be varied
  cargo xtask bench drain --trials 50  a quick look")]
pub(crate) struct Selection {
    /// What to run; the list where it is left out.
    name: Option<String>,
    /// Passed on to it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Lists the entries of `kind`, or runs the selected one.
///
/// # Errors
/// When the name is not registered, the release build fails, or the entry itself fails.
pub(crate) fn run(kind: Kind, selection: &Selection) -> Result<()> {
    let Some(name) = &selection.name else {
        list(kind);
        return Ok(());
    };
    let Some(entry) = kind.entries().iter().find(|entry| entry.name == name) else {
        list(kind);
        bail!("no {} is called {name:?}", kind.word());
    };
    start(kind, entry, &selection.arguments)
}

fn list(kind: Kind) {
    let word = kind.word();
    if kind.entries().is_empty() {
        say::result(format_args!("no {word} is registered; xtask/src/bench.rs says how to add one"));
    }
    for Entry { name, about, .. } in kind.entries() {
        say::result(format_args!("cargo xtask {word} {name:<14} {about}"));
    }
}

#[cfg(feature = "bench")]
fn start(_kind: Kind, entry: &Entry, arguments: &[String]) -> Result<()> {
    (entry.run)(arguments)
}

#[cfg(not(feature = "bench"))]
fn start(kind: Kind, entry: &Entry, arguments: &[String]) -> Result<()> {
    let mut again = step::cargo("run");
    again.args(["--quiet", "--release", "--package", "xtask", "--features", "bench", "--"]);
    again.args([kind.word(), entry.name]).args(arguments);
    step::run(&format!("{} {} in a release build", kind.word(), entry.name), &mut again)
}

/// Keeps a result as bench/results/`name`.json, replacing the previous one, and says where.
///
/// # Errors
/// When the file cannot be written.
#[cfg(feature = "bench")]
pub(crate) fn keep(name: &str, result: &impl Serialize) -> Result<()> {
    let directory = workspace::root().join("bench/results");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(result).context("the result is no JSON")?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    say::progress(format_args!("    result: bench/results/{name}.json"));
    Ok(())
}
