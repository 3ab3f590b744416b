//! What the host says of its CPUs and its memory, from `/proc`.
//!
//! Owns these files' formats. Refuses the cgroup: its limits are [`super::cgroup`]'s.

use std::fs;
use std::ops::RangeInclusive;

/// The CPUs and what those among them that this process may run on have done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cpus {
    /// CPUs that this process may run on.
    pub(super) allowed: f64,
    /// CPUs that the machine has.
    pub(super) machine: f64,
    /// The work of the allowed ones since boot; `None` where the host does not say.
    pub(super) ticks: Option<Ticks>,
}

/// CPU time since boot, in ticks of whatever length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    busy: u64,
    total: u64,
}

impl Ticks {
    /// The share of the time since `before` that was busy; `None` where a counter ran backwards.
    pub(super) fn share_since(self, before: Self) -> Option<f64> {
        let busy = self.busy.checked_sub(before.busy)?;
        let total = self.total.checked_sub(before.total)?;
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
        (0 < total && busy <= total).then(|| busy as f64 / total as f64)
    }
}

/// Reads the counters of this moment.
pub(super) fn cpus() -> Cpus {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    parse_cpus(&text("/proc/stat"), &text("/proc/self/status")).unwrap_or_else(|| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let cpus = u32::try_from(cpus).map_or(1.0, f64::from);
        Cpus { allowed: cpus, machine: cpus, ticks: None }
    })
}

/// `None` where `/proc/stat` names no CPU that this process may run on.
pub(super) fn parse_cpus(stat: &str, status: &str) -> Option<Cpus> {
    let may_run_on = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let may_run_on = may_run_on.map(parse_cpu_list);
    let (mut machine, mut allowed, mut sum) = (0, 0, Ticks::default());
    for (cpu, ticks) in stat.lines().filter_map(parse_cpu_line) {
        machine += 1;
        if may_run_on.as_ref().is_none_or(|list| list.iter().any(|range| range.contains(&cpu))) {
            allowed += 1;
            sum.busy = sum.busy.saturating_add(ticks.busy);
            sum.total = sum.total.saturating_add(ticks.total);
        }
    }
    (allowed > 0).then(|| Cpus { allowed: f64::from(allowed), machine: f64::from(machine), ticks: Some(sum) })
}

/// `cpu3 user nice system idle iowait irq softirq steal guest guest_nice`. Guest time is within user
/// time; stolen time is not ours to use, so it counts as busy.
fn parse_cpu_line(line: &str) -> Option<(u32, Ticks)> {
    let (cpu, rest) = line.strip_prefix("cpu")?.split_once(' ')?;
    let cpu = cpu.parse().ok()?;
    let mut times = [0u64; 8];
    let mut words = rest.split_whitespace();
    for (at, time) in times.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *time = word.parse().ok()?,
            None if at < 4 => return None,
            None => break,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = times;
    let total = |times: &[u64]| times.iter().fold(0, |sum: u64, time| sum.saturating_add(*time));
    let busy = total(&[user, nice, system, irq, softirq, steal]);
    Some((cpu, Ticks { busy, total: total(&[busy, idle, iowait]) }))
}

/// "0-3,8": ranges, never expanded. What is no range is left out.
fn parse_cpu_list(text: &str) -> Vec<RangeInclusive<u32>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

/// The host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes.
    pub(super) total: u64,
    /// Bytes that a new program could have without swapping.
    available: u64,
}

impl Memory {
    /// The fraction that is not available.
    #[expect(clippy::cast_precision_loss, reason = "a fraction needs no more than 52 bits")]
    pub(super) fn fraction(self) -> f64 {
        self.total.saturating_sub(self.available) as f64 / self.total as f64
    }
}

/// Reads the state of this moment.
pub(super) fn memory() -> Option<Memory> {
    parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// `None` without a total or an available line.
pub(super) fn parse_meminfo(text: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total, available) = (bytes("MemTotal:")?, bytes("MemAvailable:")?);
    (total > 0).then_some(Memory { total, available })
}
