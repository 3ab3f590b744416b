//! Owns a stream of offers at a fixed rate and the count of what became of them. Refuses to wait for answers before it offers on.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use livekit_protocol as proto;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use tokio::time::MissedTickBehavior;

use super::event::{Event, What};
use super::job::Job;
use super::shared::{Offer, Shared};
use crate::histogram::Histogram;
use crate::host::Host;

/// Offers under way; they go to the newest registered connection, and wait where there is none.
#[derive(Debug)]
pub struct Storm {
    shared: Arc<Shared>,
    prefix: String,
    mark: usize,
    total: Arc<AtomicU64>,
    sent: Receiver<u64>,
}

/// What became of offers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Offers made.
    pub offered: usize,
    /// Answered with `available`.
    pub accepted: usize,
    /// Answered without `available`.
    pub declined: usize,
    /// Declined with `terminate`, which ends the call.
    pub terminated: usize,
    /// Not answered.
    pub unanswered: usize,
    /// Answered more than once.
    pub repeated: usize,
    /// From the offer to its first answer.
    pub latencies: Histogram,
}

impl Tally {
    /// Counts these offers.
    pub fn of<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Self {
        let mut tally = Self::default();
        let mut latencies = Vec::new();
        for offer in offers {
            tally.offered += 1;
            tally.repeated += usize::from(offer.repeated > 0);
            let Some(answer) = offer.answer else {
                tally.unanswered += 1;
                continue;
            };
            tally.accepted += usize::from(answer.available);
            tally.declined += usize::from(!answer.available);
            tally.terminated += usize::from(!answer.available && answer.terminate);
            latencies.push(answer.at.saturating_duration_since(offer.sent_at));
        }
        tally.latencies = latencies.into_iter().collect();
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, accepted, declined, terminated, unanswered, repeated, latencies } = self;
        writeln!(
            f,
            "{offered} offers: {accepted} accepted, {declined} declined ({terminated} with terminate), \
             {unanswered} unanswered, {repeated} answered twice"
        )?;
        latencies.fmt(f)
    }
}

impl Storm {
    pub(super) fn start(shared: &Arc<Shared>, host: &Host, rate: u32, total: u64) -> Self {
        static STORMS: AtomicU64 = AtomicU64::new(1);
        let prefix = format!("storm{}-", STORMS.fetch_add(1, Ordering::Relaxed));
        let (done, sent) = std::sync::mpsc::channel();
        let total = Arc::new(AtomicU64::new(total));
        let (mark, limit) = (shared.log.len(), Arc::clone(&total));
        let (offering, name) = (Arc::clone(shared), prefix.clone());
        host.spawn(async move {
            let count = offer(&offering, &name, rate, &limit).await;
            // Nobody may be waiting for the end.
            let _ = done.send(count);
        });
        Self { shared: Arc::clone(shared), prefix, mark, total, sent }
    }

    /// Makes no further offer.
    pub fn stop(&self) {
        self.total.store(0, Ordering::Relaxed);
    }

    /// The offers so far, in no order.
    pub fn offers(&self) -> Vec<Offer> {
        self.shared
            .offers()
            .values()
            .filter(|offer| offer.job_id.starts_with(&self.prefix))
            .cloned()
            .collect()
    }

    fn made(&self, offer: &Offer) -> bool {
        offer.job_id.starts_with(&self.prefix)
    }

    /// What became of the offers so far.
    pub fn tally(&self) -> Tally {
        Tally::of(self.shared.offers().values().filter(|offer| self.made(offer)))
    }

    /// Waits until every offer is made, and then at most `patience` until every one is answered; those that are not are counted.
    ///
    /// # Errors
    /// When the offers themselves are not all made after `timeout`.
    pub fn finish(&self, timeout: Duration, patience: Duration) -> Result<Tally> {
        let sent = match self.sent.recv_timeout(timeout) {
            Ok(sent) => sent,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the storm still offers after {timeout:?}:\n{}", self.tally())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the storm has been finished before"),
        };
        let mut answered = HashSet::new();
        self.shared.log.wait(self.mark, patience, |event: &Event| {
            if let What::Message { message: FromWorker::Availability(answer), .. } = &event.what
                && answer.job_id.starts_with(&self.prefix)
            {
                answered.insert(answer.job_id.clone());
            }
            (answered.len() as u64 >= sent).then_some(())
        });
        Ok(self.tally())
    }
}

/// Offers `rate` jobs a second in steps of a millisecond. Time without a connection, or lost by a busy machine beyond a tenth of a second,
/// is not made up for.
async fn offer(shared: &Shared, prefix: &str, rate: u32, total: &AtomicU64) -> u64 {
    let rate = f64::from(rate);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut due, mut last) = (0, 0.0_f64, Instant::now());
    loop {
        ticks.tick().await;
        let now = Instant::now();
        due = (due + rate * (now - last).as_secs_f64()).min(rate / 10.0 + 1.0);
        last = now;
        while due >= 1.0 {
            if sent >= total.load(Ordering::Relaxed) {
                return sent;
            }
            let job = Some(Job::new(format!("{prefix}{sent}")).into_message());
            let message = ToWorker::Availability(proto::AvailabilityRequest { job, resuming: false });
            let offered = shared.newest_registered().map(|connection| shared.send(connection, message));
            if !matches!(offered, Some(Ok(()))) {
                break;
            }
            sent += 1;
            due -= 1.0;
        }
        if sent >= total.load(Ordering::Relaxed) {
            return sent;
        }
    }
}
