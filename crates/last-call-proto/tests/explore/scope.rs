//! How much may happen in one exploration.
//!
//! Owns the bounds: what is not in a scope is not explored. Refuses to say what must hold.

use last_call_proto::{Decision, FromServer, JobId, Limits, Load, Timer};

/// What may still happen, counted down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Jobs that rooms ask for.
    pub(crate) jobs: u8,
    /// Connections that break, and dials that fail or hang.
    pub(crate) drops: u8,
    /// Dials that the server refuses.
    pub(crate) refusals: u8,
    pub(crate) drains: u8,
    pub(crate) forces: u8,
    /// Quiet and unquiet together.
    pub(crate) quiets: u8,
    pub(crate) loads: u8,
    /// Jobs that the server ends.
    pub(crate) terminations: u8,
    /// Jobs that ask for their own end.
    pub(crate) stops: u8,
    /// Entrypoints that return before their shutdown callbacks.
    pub(crate) finishes: u8,
    /// Pings and load reports.
    pub(crate) keepalives: u8,
    /// Probes after the one that a wedge begins with.
    pub(crate) probes: u8,
    /// Frames and bytes that the server had no reason to send.
    pub(crate) noise: u8,
}

/// One bounded world.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    /// Workers under test.
    pub(crate) workers: usize,
    /// One more worker, always there, takes whatever it is offered.
    pub(crate) healthy: bool,
    /// Broken connections are noticed late, by either end.
    pub(crate) half_open: bool,
    /// What the worker writes reaches the server before anything else happens.
    pub(crate) prompt: bool,
    /// User code speaks up after it was told not to bother.
    pub(crate) late: bool,
    /// The server loses patience with an offer at any time, not only once all is still.
    pub(crate) hasty: bool,
    /// Jobs may end in failure.
    pub(crate) fails: bool,
    pub(crate) decisions: &'static [Decision],
    pub(crate) loads: &'static [u16],
    /// What noise sounds like, for a job that may be known or not; `None` is bytes that are no frame.
    pub(crate) noise: fn(JobId) -> Vec<Option<FromServer>>,
    /// Which timers may fire.
    pub(crate) timers: fn(&Timer) -> bool,
}

impl Scope {
    /// A narrow scope to widen where it matters: two slots, user code that says yes, no noise.
    pub(crate) const fn new(name: &'static str, budget: Budget) -> Self {
        let usual = Load::from_thousandths(700);
        Self {
            name,
            limits: Limits {
                max_jobs: Some(2),
                threshold: Some(usual),
                server_target: usual,
                counts_itself: false,
            },
            budget,
            workers: 1,
            healthy: false,
            half_open: false,
            prompt: false,
            late: false,
            hasty: false,
            fails: false,
            decisions: &[Decision::Accept],
            loads: &[],
            noise: |_| Vec::new(),
            timers: |_| true,
        }
    }
}
