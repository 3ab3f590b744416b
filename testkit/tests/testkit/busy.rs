//! Load on every core.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use last_call_testkit::Spinners;

/// Processor time of this process, in clock ticks.
fn ticks() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("a name in parentheses")?.1;
    fields.split_whitespace().nth(11).context("a field for user time")?.parse().context("a number")
}

#[test]
fn spinners_spend_processor_time_until_dropped() -> Result<()> {
    let spinners = Spinners::all_cores()?;
    let (before, deadline) = (ticks()?, Instant::now() + Duration::from_secs(60));
    while ticks()? < before + 10 {
        assert!(Instant::now() < deadline, "a tenth of a second of processor time was not spent in a minute");
        std::thread::yield_now();
    }
    drop(spinners);
    let left = std::fs::read_dir("/proc/self/task")?.filter_map(Result::ok).filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "spinner")
    });
    assert_eq!(left.count(), 0);
    Ok(())
}
