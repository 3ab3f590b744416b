//! `cargo xtask bench` and `cargo xtask soak`: the register of what can be measured, and the way there.
//!
//! A bench is a module `bench/<name>.rs` with `pub(crate) fn run(arguments: &[String]) -> Result<()>`
//! and an entry below. Owns the place of results, bench/results/. Refuses debug builds: an entry runs
//! in a release build of xtask with the feature `bench`, which this module starts.

#[cfg(feature = "bench")]
mod dispatch;
#[cfg(feature = "bench")]
mod drain;
#[cfg(feature = "bench")]
mod guard;
#[cfg(feature = "bench")]
mod plot;
#[cfg(feature = "bench")]
mod report;
#[cfg(feature = "bench")]
mod results;
#[cfg(feature = "bench")]
mod rig;
#[cfg(feature = "bench")]
mod rooms;
#[cfg(feature = "bench")]
mod runners;
#[cfg(feature = "bench")]
mod seen;
#[cfg(feature = "bench")]
mod soak;
#[cfg(feature = "bench")]
mod tree;

use anyhow::{Result, bail};

use crate::say;
#[cfg(not(feature = "bench"))]
use crate::whole;

/// Something that can be measured.
struct Entry {
    name: &'static str,
    /// What it measures and how long it takes by default, in one line.
    about: &'static str,
    #[cfg(feature = "bench")]
    run: fn(&[String]) -> Result<()>,
}

/// Figures: minutes each, the same machine compared with itself.
const BENCHES: &[Entry] = &[
    Entry {
        name: "drain",
        about: "the drain's times, sizes and reconnects against their promises; 8 minutes, --quick 1",
        #[cfg(feature = "bench")]
        run: drain::run,
    },
    Entry {
        name: "runners",
        about: "jobs as processes: warm, cold, ten at once, memory; beside LiveKit's SDKs; 12 minutes",
        #[cfg(feature = "bench")]
        run: runners::run,
    },
    Entry {
        name: "guard",
        about: "what guard adds to an offer, its start, memory and size; two minutes, --quick a quarter",
        #[cfg(feature = "bench")]
        run: guard::run,
    },
    Entry {
        name: "rooms",
        about: "a call in its room: memory, processor time, joins, the way of a sound; beside the Python SDK; two minutes",
        #[cfg(feature = "bench")]
        run: rooms::run,
    },
];

/// Promises at their full number of trials: minutes each, and any miss fails.
const SOAKS: &[Entry] = &[
    Entry {
        name: "signals",
        about: "10,000 SIGTERMs in six states, none missed; four minutes",
        #[cfg(feature = "bench")]
        run: soak::signals,
    },
    Entry {
        name: "offers",
        about: "100,000 offers around and in drains, none accepted after WS_FULL; half a minute",
        #[cfg(feature = "bench")]
        run: soak::offers,
    },
    Entry {
        name: "reconnects",
        about: "1,000 reconnects of draining workers under offers, none accepted; three minutes",
        #[cfg(feature = "bench")]
        run: soak::reconnects,
    },
    Entry {
        name: "drains",
        about: "1,000 drains with random jobs, every one run to its end and reported; three minutes",
        #[cfg(feature = "bench")]
        run: soak::drains,
    },
    Entry {
        name: "processes",
        about: "200 jobs as processes, killed at random and replaced, none lost; ten minutes, --minutes",
        #[cfg(feature = "bench")]
        run: soak::processes,
    },
    Entry {
        name: "orphans",
        about: "10,000 orphans under process 1, and under --reap, all reaped; half a minute, needs root",
        #[cfg(feature = "bench")]
        run: soak::orphans,
    },
    Entry {
        name: "guard-drains",
        about: "100 drains of guard with 50 calls each, none cut; ten minutes",
        #[cfg(feature = "bench")]
        run: soak::guard_drains,
    },
    Entry {
        name: "guard-reconnects",
        about: "10,000 reconnects of guard, no file left open; the backoff takes most of it",
        #[cfg(feature = "bench")]
        run: soak::guard_reconnects,
    },
    Entry {
        name: "guard-wedged",
        about: "1,000 dispatches beside 1 worker that stands still and 300 beside 6, none lost; some without guard",
        #[cfg(feature = "bench")]
        run: soak::guard_wedged,
    },
    Entry {
        name: "guard-5856",
        about: "1,000 SIGTERMs to guard before a busy livekit-agents 1.5.7, none swallowed, 200 to one alone; half an hour",
        #[cfg(feature = "bench")]
        run: soak::guard_5856,
    },
    Entry {
        name: "guard-crash",
        about: "a worker of livekit-agents killed with 50 calls, each of which has one agent in 5 s; two minutes",
        #[cfg(feature = "bench")]
        run: soak::guard_crash,
    },
];

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

/// What to run, and with what.
#[derive(clap::Args)]
#[command(after_long_help = "\
Runs happen in a release build. Leave the machine alone meanwhile: figures are only worth comparing
with figures of the same machine, whose shape is kept with them as JSON under bench/results/.

Examples:
  cargo xtask bench                    list what can be measured
  cargo xtask bench drain              measure with the defaults
  cargo xtask bench drain --help       what can be varied
  cargo xtask bench drain --quick   a quick look")]
pub(crate) struct Selection {
    /// What to run, and what is passed on to it; the list where it is left out.
    // One list: a name of its own would leave `drain --help` to the parser of this command.
    #[arg(value_name = "NAME [ARGUMENT]", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Lists the entries of `kind`, or runs the selected one.
///
/// # Errors
/// When the name is not registered, the release build fails, or the entry itself fails.
pub(crate) fn run(kind: Kind, selection: &Selection) -> Result<()> {
    let Some((name, arguments)) = selection.words.split_first() else {
        list(kind);
        return Ok(());
    };
    let Some(entry) = kind.entries().iter().find(|entry| entry.name == name) else {
        list(kind);
        bail!("no {} is called {name:?}", kind.word());
    };
    start(kind, entry, arguments)
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
    let words = [kind.word(), entry.name].into_iter();
    whole::again(words.chain(arguments.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::workspace;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        selection: Selection,
    }

    #[test]
    fn what_follows_the_name_is_passed_on_untouched() {
        let line = Line::try_parse_from(["bench", "drain", "--help", "--trials", "50"]).expect("a line");
        assert_eq!(line.selection.words, ["drain", "--help", "--trials", "50"]);
    }

    #[test]
    fn each_entry_has_its_line_in_the_bench_readme() {
        let readme = workspace::read("bench/README.md").expect("bench/README.md");
        for kind in [Kind::Bench, Kind::Soak] {
            for Entry { name, .. } in kind.entries() {
                let command = format!("| `cargo xtask {} {name}` |", kind.word());
                assert!(readme.contains(&command), "bench/README.md has no line {command:?}");
                let kept =
                    if matches!(kind, Kind::Bench) { (*name).to_owned() } else { format!("soak-{name}") };
                assert!(
                    readme.contains(&format!("(results/{kept}.json)")),
                    "bench/README.md names no {kept}.json"
                );
            }
        }
    }
}
