//! Every number the worker goes by, as data and pure functions.
//!
//! Owns durations, backoff, load scaling and the split of the drain budget. Refuses clocks and random
//! sources: durations come out, random numbers come in.

use core::time::Duration;

use crate::message::Load;
use crate::timer::Timer;

/// How long each wait lasts. Every field can be set; none is read by the state machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// From the start of a connection attempt to giving it up: DNS, TCP, TLS and upgrade. Default 10 s.
    pub dial_within: Duration,
    /// From the registration to its reply. Default 10 s, as the server's own limit.
    pub register_within: Duration,
    /// The first reconnect waits at most this, each later one at most twice the one before. Default 500 ms.
    pub backoff_base: Duration,
    /// No reconnect waits longer than this. Default 5 s.
    pub backoff_cap: Duration,
    /// Between two pings. Default 2.5 s (REG-2).
    pub ping_every: Duration,
    /// From a ping to any sign of life. Default 5 s (REG-2).
    pub pong_within: Duration,
    /// Between two reports of the load. Default 2.5 s, as the SDKs.
    pub refresh_every: Duration,
    /// From an offer to a heartbeat of user code. Default 300 ms: six wedged workers in a row and the
    /// server's own 200 ms leave a healthy seventh a second of its 3 s budget (JOB-1).
    pub heartbeat_within: Duration,
    /// From an offer to the answer of user code that is alive. Default 2 s (JOB-1).
    pub answer_within: Duration,
    /// From an acceptance to its assignment. Default 10 s (JOB-5); the server's budget is 3 s.
    pub assignment_within: Duration,
    /// Between two heartbeats to wedged user code. Default 500 ms.
    pub probe_every: Duration,
    /// From telling one job to stop to cancelling it. Default 10 s.
    pub cancel_after: Duration,
    /// From cancelling one job, or the end of its entrypoint, to ending it. Default 10 s.
    pub kill_after: Duration,
    /// The whole drain. Default 1 h, as the SDKs.
    pub drain: DrainBudget,
    /// From the last job's end to leaving with frames unwritten. Default 200 ms.
    pub flush_within: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            dial_within: Duration::from_secs(10),
            register_within: Duration::from_secs(10),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(5),
            ping_every: Duration::from_millis(2500),
            pong_within: Duration::from_secs(5),
            refresh_every: Duration::from_millis(2500),
            heartbeat_within: Duration::from_millis(300),
            answer_within: Duration::from_secs(2),
            assignment_within: Duration::from_secs(10),
            probe_every: Duration::from_millis(500),
            cancel_after: Duration::from_secs(10),
            kill_after: Duration::from_secs(10),
            drain: DrainBudget::split(Duration::from_secs(3600), Duration::from_secs(10)),
            flush_within: Duration::from_millis(200),
        }
    }
}

impl Policy {
    /// How long `timer` waits. `attempt` counts the reconnects since the last lasting registration;
    /// `random` is uniform over its type and only read by [`Timer::Redial`].
    #[must_use]
    pub fn wait(&self, timer: &Timer, attempt: u8, random: u32) -> Duration {
        match timer {
            Timer::Dial => self.dial_within,
            Timer::Register => self.register_within,
            Timer::Redial => backoff(self.backoff_base, self.backoff_cap, attempt.saturating_sub(1), random),
            Timer::Ping => self.ping_every,
            Timer::Pong => self.pong_within,
            Timer::Refresh => self.refresh_every,
            Timer::Heartbeat(_) => self.heartbeat_within,
            Timer::Answer(_) => self.answer_within,
            Timer::Assignment(_) => self.assignment_within,
            Timer::Probe => self.probe_every,
            Timer::Cancel(_) => self.cancel_after,
            Timer::Kill(_) => self.kill_after,
            Timer::DrainTell => self.drain.tell_after,
            Timer::DrainCancel => self.drain.cancel_after,
            Timer::DrainKill => self.drain.kill_after,
            Timer::Flush => self.flush_within,
        }
    }
}

/// One drain budget, split so that its parts never add up to more than the whole (DRAIN-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DrainBudget {
    /// From the signal to telling the jobs that still run to stop: their drain deadline.
    pub tell_after: Duration,
    /// From there to cancelling them.
    pub cancel_after: Duration,
    /// From there to ending them.
    pub kill_after: Duration,
}

impl DrainBudget {
    /// Splits `total`: the jobs have all of it but `reserve` (at most half of `total`) to finish by
    /// themselves. Of the reserve, three fifths go to jobs that were told, three tenths to shutdown
    /// callbacks after the cancel, and the last tenth to the reports and the exit.
    #[must_use]
    pub fn split(total: Duration, reserve: Duration) -> Self {
        let reserve = reserve.min(total / 2);
        Self { tell_after: total - reserve, cancel_after: reserve / 10 * 6, kill_after: reserve / 10 * 3 }
    }

    /// From the signal to the moment when the last job is ended.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.tell_after.saturating_add(self.cancel_after).saturating_add(self.kill_after)
    }
}

/// Full-jitter backoff: uniform between nothing and `base` doubled `attempt` times, at most `cap`.
#[must_use]
pub fn backoff(base: Duration, cap: Duration, attempt: u8, random: u32) -> Duration {
    let ceiling = base.saturating_mul(1 << attempt.min(16)).min(cap);
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The wait before a crashed worker is started again: a quarter of a second, doubled with each failure in a row, at most
/// half a minute, and of that between half and all, so that a fleet does not start as one.
#[must_use]
pub fn restart_wait(failures: u32, random: u32) -> Duration {
    let whole = Duration::from_millis(250).saturating_mul(1 << failures.min(16)).min(Duration::from_secs(30));
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The load to report so that AVAILABLE means dispatchable (JOB-4): the server gives nothing to a worker
/// at or over its own target, whatever the worker's threshold is. `load` at the worker's `threshold`
/// comes out a hundredth under the server's `target`.
#[must_use]
pub fn reported_load(load: Load, threshold: Option<Load>, target: Load) -> Load {
    let threshold = u32::from(threshold.unwrap_or(Load::WHOLE).thousandths().max(1));
    let ceiling = u32::from(target.thousandths().saturating_sub(10));
    let scaled = u32::from(load.thousandths()) * ceiling / threshold;
    Load::from_thousandths(u16::try_from(scaled).unwrap_or(u16::MAX))
}

/// The load with the slots counted in that are reserved but not yet felt: each is taken to weigh as much
/// as a running job does on average.
#[must_use]
pub fn effective_load(load: Load, running: u32, reserved: u32) -> Load {
    let each = u32::from(load.thousandths()).checked_div(running).unwrap_or(0);
    let all = u32::from(load.thousandths()).saturating_add(each.saturating_mul(reserved));
    Load::from_thousandths(u16::try_from(all).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_4_available_is_dispatchable_for_every_load_threshold_and_target() {
        for target in 20..=1000 {
            for threshold in 1..=1000 {
                for load in [0, 1, threshold / 2, threshold - 1] {
                    let reported = reported_load(
                        Load::from_thousandths(load),
                        Some(Load::from_thousandths(threshold)),
                        Load::from_thousandths(target),
                    );
                    assert!(
                        reported.thousandths() < target,
                        "{load} of {threshold} on {target}: {reported:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn job_4_without_a_threshold_the_whole_load_is_dispatchable() {
        let reported = reported_load(Load::WHOLE, None, Load::from_thousandths(700));
        assert_eq!(reported, Load::from_thousandths(690));
    }

    #[test]
    fn reserved_slots_weigh_as_much_as_running_jobs() {
        let load = Load::from_thousandths(300);
        assert_eq!(effective_load(load, 3, 2), Load::from_thousandths(500));
        assert_eq!(effective_load(load, 0, 5), load);
        assert_eq!(effective_load(Load::WHOLE, 1, u32::MAX), Load::WHOLE);
    }

    #[test]
    fn drain_6_the_parts_never_exceed_the_budget() {
        for total in [0, 1, 7, 100, 1_000, 10_000, 3_600_000] {
            for reserve in [0, 1, 5_000, 10_000, u64::MAX] {
                let total = Duration::from_millis(total);
                let budget = DrainBudget::split(total, Duration::from_millis(reserve));
                assert!(budget.total() <= total, "{budget:?} over {total:?}");
                assert!(budget.tell_after >= total / 2, "{budget:?} leaves jobs less than half of {total:?}");
            }
        }
    }

    #[test]
    fn reg_1_backoff_is_full_jitter_under_its_cap() {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(5));
        assert_eq!(backoff(base, cap, 0, 0), Duration::ZERO);
        assert_eq!(backoff(base, cap, 0, u32::MAX), base);
        assert_eq!(backoff(base, cap, 2, u32::MAX), base * 4);
        assert_eq!(backoff(base, cap, u8::MAX, u32::MAX), cap);
    }
}
