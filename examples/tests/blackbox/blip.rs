//! REG-1 in all sixty cells of testkit's `blip`: ten faults of the network in six states of the worker.
//!
//! Owns how many cells run at once, and how one is run again. Refuses to judge: what a breach is, the matrix knows.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use last_call_testkit::blip::{self, Cell, Fault, Subject, Verdict};
use last_call_testkit::skip;

use crate::rig::probe;

/// One cell, as `rst/idle`, or one run of it, as `rst/idle/17`.
const ONLY: &str = "LAST_CALL_BLIP";
/// Asks for every seed.
const FULL: &str = "LAST_CALL_FULL";
const SEEDS: u64 = 20;

/// Workers that are tried at once. They wait for most of their time.
const AT_ONCE: usize = 16;

/// The runs that are asked for, those that last longest first.
fn runs() -> Vec<(Cell, u64)> {
    let only = std::env::var(ONLY).ok();
    let mut seeds = if std::env::var_os(FULL).is_some() { 0..SEEDS } else { 0..1 };
    let mut cells: Vec<Cell> = Cell::all().collect();
    if let Some(only) = &only {
        let (cell, seed) = match only.rsplit_once('/').map(|(cell, seed)| (cell, seed.parse::<u64>())) {
            Some((cell, Ok(seed))) => (cell, Some(seed)),
            _ => (only.as_str(), None),
        };
        cells = vec![cell.parse().unwrap_or_else(|error| panic!("{ONLY}: {error:#}"))];
        seeds = seed.map_or(seeds, |seed| seed..seed + 1);
    }
    let faults: BTreeSet<Fault> = cells.iter().map(|cell| cell.fault).collect();
    for fault in faults {
        if let Err(missing) = fault.possible() {
            skip(missing.context(format!("{fault:?} in every state")));
            cells.retain(|cell| cell.fault != fault);
        }
    }
    // Silence is found by a ping, the rest at once.
    cells.sort_by_key(|cell| {
        !matches!(cell.fault, Fault::Drop | Fault::DropOneWay | Fault::HalfOpen | Fault::Freeze)
    });
    seeds.flat_map(|seed| cells.iter().map(move |cell| (*cell, seed)).collect::<Vec<_>>()).collect()
}

/// What went wrong in a run, with all that helps; nothing if all was well.
fn complaint(cell: Cell, seed: u64, outcome: &anyhow::Result<Verdict>) -> Option<String> {
    let wrong = match outcome {
        Ok(verdict) if verdict.breaches().is_empty() => return None,
        Ok(verdict) => format!("{}\n{}", verdict.breaches().join("\n"), verdict.output),
        Err(error) => format!("{error:#}"),
    };
    Some(format!(
        "=== {cell}, seed {seed} (alone again: {ONLY}={cell}/{seed} cargo xtask test blip)\n{wrong}"
    ))
}

/// Probe, with files that stay until all is over.
fn subject() -> Subject {
    let files = Mutex::new(Vec::new());
    Subject::new(move |server| {
        let start =
            probe(server.url).env("LIVEKIT_API_KEY", blip::KEY).env("LIVEKIT_API_SECRET", server.secret);
        let start = match server.trusted {
            Some(path) => start.env("SSL_CERT_FILE", path),
            None => start,
        };
        let (launch, dir) = start.unstarted();
        files.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
        launch
    })
}

#[test]
fn reg_1_no_fault_in_any_state_costs_a_call_or_takes_one_in_a_drain() {
    let started = Instant::now();
    let (runs, subject) = (runs(), subject());
    let (count, queue, done) = (runs.len(), Mutex::new(runs.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((cell, seed)) = next else { return };
                    let outcome = blip::run(&subject, cell, seed);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((cell, seed, outcome));
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(done.len(), count, "a cell was lost");
    let complaints: Vec<String> =
        done.iter().filter_map(|(cell, seed, outcome)| complaint(*cell, *seed, outcome)).collect();
    let failed = complaints.len();
    assert_eq!(failed, 0, "{failed} of {count} runs failed\n{}", complaints.join("\n"));
    let verdicts = || done.iter().filter_map(|(.., outcome)| outcome.as_ref().ok());
    println!(
        "{count} runs in {:.1?}: {} offers, {} lost with their connection; {} reconnects; the longest run {:.1?}",
        started.elapsed(),
        verdicts().map(|verdict| verdict.offered).sum::<usize>(),
        verdicts().map(|verdict| verdict.lost_with_connection).sum::<usize>(),
        verdicts().map(|verdict| verdict.reconnects).sum::<usize>(),
        verdicts().map(|verdict| verdict.took).max().unwrap_or_default(),
    );
}
