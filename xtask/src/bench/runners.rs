//! `cargo xtask bench runners`: how soon a job runs in a process of its own, and what such processes take; beside LiveKit's
//! own SDKs in the same run.
//!
//! Owns the order of the sections and how often each is repeated. Refuses to run two workers at once.

pub(super) mod contestant;
mod latency;
mod memory;
mod stage;
mod starts;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use self::contestant::Contestant;
use super::report::Report;
use super::{plot, results};
use crate::say;

/// Measures jobs as processes: assignment to entrypoint, warm, cold and ten at once; memory; programs under `last-call run`.
///
/// livekit-agents (Python) and @livekit/agents (Node) do the same in the same run; both are fetched into the cache first.
/// Times and sizes are compared with their promises and marked ✓ or ✗; only a job that is reported failed fails the run. The
/// results are kept as bench/results/runners.json and drawn as bench/results/runners.svg, unless the run is quick, of one
/// section or without the peers. About 12 minutes; --quick --alone half a minute.
#[derive(Parser)]
#[command(name = "cargo xtask bench runners", no_binary_name = true, max_term_width = 100)]
struct Arguments {
    /// A tenth of the repetitions, and nothing is kept.
    #[arg(long)]
    quick: bool,
    /// Without the peers, and nothing is kept.
    #[arg(long)]
    alone: bool,
    /// Measure this section alone.
    #[arg(long)]
    only: Option<Section>,
}

/// The sections, in the order of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    Warm,
    Cold,
    Burst,
    Memory,
    Program,
}

/// How often what is repeated; a peer takes seconds for what takes us milliseconds.
#[derive(Clone, Copy, Debug)]
struct Repeats {
    warm: usize,
    cold: usize,
    bursts: usize,
}

const OURS: Repeats = Repeats { warm: 300, cold: 100, bursts: 20 };
const PEERS: Repeats = Repeats { warm: 50, cold: 20, bursts: 5 };
const QUICK: Repeats = Repeats { warm: 30, cold: 10, bursts: 2 };
const QUICK_PEERS: Repeats = Repeats { warm: 5, cold: 2, bursts: 1 };

/// Runs every section, or the one that is asked for.
///
/// # Errors
/// When a program cannot be built or started, does something that is no matter of time, or a job is reported failed.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let Arguments { quick, alone, only } =
        Arguments::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let (ours, theirs) = if quick { (QUICK, QUICK_PEERS) } else { (OURS, PEERS) };
    let processes = Contestant::processes()?;
    let program = Contestant::program()?;
    let peers = if alone { Vec::new() } else { Contestant::peers()? };
    let mut report = Report::begin();
    for section in Section::value_variants() {
        if only.is_some_and(|only| only != *section) {
            continue;
        }
        report.section(section.title());
        let subject = if *section == Section::Program { &program } else { &processes };
        section.measure(subject, ours, &mut report).with_context(|| format!("section {section:?}"))?;
        for peer in peers.iter().filter(|_| *section != Section::Program) {
            if let Err(error) = section.measure(peer, theirs, &mut report) {
                say::result(format_args!("· {}: not measured: {error:#}", peer.subject.name));
            }
        }
    }
    report.end();
    if !quick && !alone && only.is_none() {
        results::keep("runners", &report)?;
        let title = "Last Call: jobs as processes in figures";
        results::keep_text("runners.svg", &plot::draw(title, &report.figures))?;
    }
    report.verdict()
}

impl Section {
    const fn title(self) -> &'static str {
        match self {
            Self::Warm => "one job after the other, warm processes",
            Self::Cold => "one job after the other, no warm process",
            Self::Burst => "ten jobs at once",
            Self::Memory => "memory",
            Self::Program => "any program as the agent",
        }
    }

    fn measure(self, contestant: &Contestant, repeats: Repeats, report: &mut Report) -> Result<()> {
        match self {
            Self::Warm => latency::warm(contestant, repeats.warm, report),
            Self::Cold => latency::cold(contestant, repeats.cold, report),
            Self::Burst => latency::burst(contestant, repeats.bursts, report),
            Self::Memory => memory::measure(contestant, report),
            Self::Program => latency::program(contestant, repeats.cold, report),
        }
    }
}
