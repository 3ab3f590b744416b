//! What the demo does and when, as data.
//!
//! Owns every time of it. Refuses clocks.

use std::time::Duration;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Someone calls, and hangs up after this time.
    Call(Duration),
    /// The next release's worker is started and awaited.
    StartRelief,
    /// All of our old worker's own code is held.
    Hold,
    /// The old release's workers get SIGTERM.
    Signal,
}

/// A call every quarter of a second, but forty a second around the signal.
const CALM: u64 = 250;
const BUSY: u64 = 25;
/// Where the first signal stands, and the second one.
const SIGNAL: u64 = 6_000;
const SECOND: u64 = 8_000;
/// Where nobody calls any more.
const LAST_CALL: u64 = 10_000;
/// User code is held from so long before the signal: too short for the worker to find it wedged.
const HELD_BEFORE: u64 = 120;
const RELIEF: u64 = 4_500;

/// The steps, each with its time from when the old workers have registered.
pub(crate) fn steps() -> Vec<(Duration, Step)> {
    let busy = SIGNAL - 500..SIGNAL + 500;
    let mut steps = Vec::new();
    let mut at = 0;
    while at < LAST_CALL {
        steps.push((at, Step::Call(length(steps.len()))));
        at += if busy.contains(&at) { BUSY } else { CALM };
    }
    steps.extend([
        (RELIEF, Step::StartRelief),
        (SIGNAL - HELD_BEFORE, Step::Hold),
        (SIGNAL, Step::Signal),
        (SECOND, Step::Signal),
    ]);
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(at, step)| (Duration::from_millis(at), step)).collect()
}

/// Calls of three to six seconds, the same in every demo.
fn length(nth: usize) -> Duration {
    let spread = [0, 7, 3, 10, 1, 8, 4, 11, 2, 9, 5, 6];
    Duration::from_millis(3_000 + 270 * spread[nth % spread.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_comes_amid_calls_and_after_the_relief() {
        let steps = steps();
        assert!(steps.is_sorted_by_key(|(at, _)| *at));
        let place = |wanted: Step| steps.iter().position(|(_, step)| *step == wanted).expect("it is there");
        assert!(place(Step::StartRelief) < place(Step::Signal));
        let (signal, _) = steps[place(Step::Signal)];
        let around = steps.iter().filter(|(at, step)| {
            matches!(step, Step::Call(_)) && at.abs_diff(signal) < Duration::from_millis(500)
        });
        assert!(around.count() >= 30);
        let running = steps.iter().filter(|(at, step)| match step {
            Step::Call(lasts) => *at < signal && *at + *lasts > signal,
            Step::StartRelief | Step::Hold | Step::Signal => false,
        });
        assert!(running.count() >= 10);
    }
}
