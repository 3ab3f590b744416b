//! `cargo xtask bench drain`: the times that docs/protocol.md promises, of a release build of probe, on this machine.
//!
//! Owns the order of the sections and how often each is repeated. Refuses to run two things at once where one would disturb the other's
//! times.

mod exit;
mod peers;
mod reconnect;
mod signal;
mod size;
mod storm;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use super::report::Report;
use super::rig::Subject;
use super::{dispatch, plot, results};

pub(super) use storm::end_job;

/// Measures the drain: signal to WS_FULL, offers in a drain, exit, start, memory, reconnects, dispatches.
///
/// Times are compared with their promises and marked ✓ or ✗; only a count that must be zero (missed signals, accepted or unanswered
/// offers) fails the run. The results are kept as bench/results/drain.json and drawn as bench/results/drain.svg, unless the run is
/// quick or of one section. About 8 minutes, quick 1; the peers take 4 more.
#[derive(Parser)]
#[command(name = "cargo xtask bench drain", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// A seventh of the repetitions, and nothing is kept.
    #[arg(long)]
    quick: bool,
    /// Measure livekit-agents (Python) beside it; makes an environment for it in the cache first.
    #[arg(long)]
    peers: bool,
    /// Measure this section alone.
    #[arg(long)]
    only: Option<Section>,
}

/// The sections, in the order of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    Signal,
    Storm,
    Exit,
    Size,
    Reconnect,
    Dispatch,
    Peers,
}

/// How often what is repeated.
#[derive(Clone, Copy, Debug)]
struct Repeats {
    epochs: usize,
    offers: u64,
    drains: usize,
    serving: usize,
    cuts: usize,
    dispatches: usize,
    peers: usize,
}

const FULL: Repeats =
    Repeats { epochs: 200, offers: 20_000, drains: 100, serving: 10, cuts: 30, dispatches: 50, peers: 20 };
const QUICK: Repeats =
    Repeats { epochs: 30, offers: 2_000, drains: 20, serving: 3, cuts: 8, dispatches: 10, peers: 5 };

/// Runs every section, or the one that is asked for.
///
/// # Errors
/// When a program cannot be built or started, does something that is no matter of time, or a count is not zero.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let Arguments { quick, peers, only } =
        Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let repeats = if quick { QUICK } else { FULL };
    let probe = Subject::probe()?;
    let mut report = Report::begin();
    for section in Section::value_variants() {
        let wanted = only.map_or(peers || *section != Section::Peers, |only| only == *section);
        if wanted {
            section.measure(&probe, repeats, &mut report).with_context(|| format!("section {section:?}"))?;
        }
    }
    report.end();
    if !quick && only.is_none() {
        results::keep("drain", &report)?;
        results::keep_text("drain.svg", &plot::draw("Last Call: the drain in figures", &report.figures))?;
    }
    report.verdict()
}

impl Section {
    fn measure(self, probe: &Subject, repeats: Repeats, report: &mut Report) -> Result<()> {
        match self {
            Self::Signal => signal::measure(probe, repeats.epochs, report),
            Self::Storm => storm::measure(probe, repeats.offers, repeats.serving, report),
            Self::Exit => exit::measure(probe, repeats.drains, report),
            Self::Size => size::measure(probe, report),
            Self::Reconnect => reconnect::measure(probe, repeats.cuts, report),
            Self::Dispatch => dispatch::measure(probe, repeats.dispatches, report),
            Self::Peers => peers::measure(probe, repeats.peers, report),
        }
    }
}
