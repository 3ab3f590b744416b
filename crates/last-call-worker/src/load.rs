//! How busy this worker is: CPU as a moving average, and memory, whichever is higher.
//!
//! Owns the sampling and the arithmetic. Refuses thresholds and scaling: what a load means for an offer
//! is the core's policy. Reads `/proc` and the cgroup that the process lives in; on a system without
//! them the load is 0 and a user's own load function is the way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use last_call_proto::Load;

use crate::timers::every;

mod cgroup;
mod host;

use cgroup::Places;
pub(crate) use cgroup::keyed;
use host::Ticks;

/// The pause between two samples.
const EVERY: Duration = Duration::from_millis(500);
/// Samples in the moving average: 2.5 s.
const WINDOW: usize = 5;
/// Usage above this multiple of what the machine can do is a torn reading: clocks of the two counters
/// differ a little, hypervisors may differ much.
const IMPOSSIBLE: f64 = 1.5;

/// The load as last sampled; read it from any thread.
#[derive(Debug, Default)]
pub(crate) struct CurrentLoad(AtomicU16);

impl CurrentLoad {
    /// The latest load: the higher one of CPU (averaged over 2.5 s) and memory.
    pub(crate) fn get(&self) -> Load {
        Load::from_thousandths(self.0.load(Ordering::Relaxed))
    }
}

/// Samples the load. Make one per process, and let the operations thread [`run`](Self::run) it.
#[derive(Debug)]
pub(crate) struct LoadSampler {
    places: Places,
    num_cpus: Option<f64>,
    started: Instant,
    before: Option<Reading>,
    recent: Window,
    current: Arc<CurrentLoad>,
}

impl LoadSampler {
    /// A sampler of the process's own cgroup. `NUM_CPUS` in the environment, a number above 0, overrides
    /// the CPUs that it counts on.
    pub(crate) fn new() -> Self {
        Self {
            places: Places::of_this_process(),
            num_cpus: num_cpus_from_env(),
            started: Instant::now(),
            before: None,
            recent: Window::default(),
            current: Arc::default(),
        }
    }

    /// Where the samples appear.
    pub(crate) fn current(&self) -> Arc<CurrentLoad> {
        Arc::clone(&self.current)
    }

    /// Samples each 0.5 s until dropped. Each sample reads a few small files of `/proc` and `/sys`.
    pub(crate) async fn run(mut self) {
        let mut tick = every(EVERY);
        loop {
            tick.tick().await;
            self.sample();
        }
    }

    fn sample(&mut self) {
        let now = Reading::take(self.started.elapsed(), &self.places);
        if let Some(cpu) = self.before.as_ref().and_then(|before| cpu_load(before, &now, self.num_cpus)) {
            self.recent.push(cpu);
        }
        self.before = Some(now);
        let memory = memory_load(&self.places);
        let load = Load::from_fraction(self.recent.mean().max(memory));
        self.current.0.store(load.thousandths(), Ordering::Relaxed);
    }
}

/// The counters of one moment.
#[derive(Clone, Debug, Default)]
struct Reading {
    /// Since the sampler started.
    at: Duration,
    /// CPU time that the cgroup has used.
    used: Option<Duration>,
    /// CPUs that the cgroup's quota allows, where one is set.
    quota: Option<f64>,
    /// What the CPUs that this process may run on have done.
    host: Option<Ticks>,
    /// CPUs that this process may run on.
    allowed: f64,
    /// CPUs that the machine has.
    machine: f64,
}

impl Reading {
    fn take(at: Duration, places: &Places) -> Self {
        let cpus = host::cpus();
        Self {
            at,
            used: places.cpu_usage(),
            quota: places.cpu_quota(),
            host: cpus.ticks,
            allowed: cpus.allowed,
            machine: cpus.machine,
        }
    }
}

/// The CPU load between two readings, 0.0 to 1.0; `None` where they cannot be true or say nothing.
///
/// With a quota (or `NUM_CPUS`) the cgroup's own use counts, against that. Without one the process
/// competes with everything on its CPUs, so their business counts, whoever causes it; a sandbox that
/// keeps no such counters leaves the cgroup's use against those CPUs.
fn cpu_load(before: &Reading, now: &Reading, num_cpus: Option<f64>) -> Option<f64> {
    let elapsed = now.at.checked_sub(before.at)?.as_secs_f64();
    let capacity = num_cpus.or_else(|| now.quota.map(|quota| quota.min(now.allowed)));
    let own = |capacity: f64| {
        let used = now.used?.checked_sub(before.used?)?.as_secs_f64();
        let possible = used <= elapsed * now.machine.max(now.allowed) * IMPOSSIBLE;
        fraction(used, elapsed * capacity).filter(|_| possible)
    };
    if let Some(capacity) = capacity
        && now.used.is_some()
    {
        return own(capacity);
    }
    match (before.host, now.host) {
        (Some(before), Some(after)) if before != after => {
            let busy = after.share_since(before)?;
            fraction(busy * now.allowed, num_cpus.unwrap_or(now.allowed))
        }
        _ => own(now.allowed),
    }
}

/// `part` of `whole`, at most 1; `None` where the whole is nothing.
fn fraction(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole).clamp(0.0, 1.0))
}

/// Processes that the kernel has killed in this process's cgroup because memory was used up; `None` where it does not
/// count them.
pub(crate) fn oom_kills() -> Option<u64> {
    Places::of_this_process().oom_kills()
}

/// The fraction of memory in use: of the tightest cgroup limit, else of the host; 0 where unknown.
fn memory_load(places: &Places) -> f64 {
    let host = host::memory();
    let limit = places.memory_fraction(host.map_or(u64::MAX, |host| host.total));
    limit.or_else(|| host.map(host::Memory::fraction)).unwrap_or(0.0)
}

fn num_cpus_from_env() -> Option<f64> {
    let text = std::env::var_os("NUM_CPUS")?;
    let number = text.to_str().and_then(parse_num_cpus);
    if number.is_none() {
        tracing::warn!(value = %text.display(), "NUM_CPUS is no number above 0; ignored");
    }
    number
}

fn parse_num_cpus(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0)
}

/// The mean of the latest samples.
#[derive(Debug, Default)]
struct Window(VecDeque<f64>);

impl Window {
    fn push(&mut self, sample: f64) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// 0 before the first sample.
    fn mean(&self) -> f64 {
        let samples = u32::try_from(self.0.len()).map_or(1, |samples| samples.max(1));
        self.0.iter().sum::<f64>() / f64::from(samples)
    }
}

#[cfg(test)]
mod tests;
