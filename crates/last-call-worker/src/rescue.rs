//! The rescue: a call whose agent died is dispatched again (CALL-1, CALL-2).
//!
//! | file | owns |
//! | --- | --- |
//! | `options.rs` | the options |
//! | `call.rs` | what is known of a call; the attribute of its dispatches |
//! | `look.rs` | what the lists of a room mean |
//! | `driver.rs` | the thread |
//! | `journal.rs` | the calls that run, on disk |
//!
//! Owns the handle and the start. Refuses to find out that an agent died: whoever runs jobs says so. Refuses to end what
//! is left of one: that is done before.

mod call;
mod driver;
mod journal;
mod look;
mod options;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use last_call_proto::{JobId, Rescue, RescueLimits};
use livekit_protocol as livekit;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::call::Call;
use self::driver::{Driver, Order};
use self::journal::Journal;
pub(crate) use self::options::{RescueOptions, Which};
use crate::api::Api;
use crate::error::StartError;
use crate::metrics::Metrics;

/// What the thread is given to answer, beyond what it is to wait.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// Tells the rescue of calls. Only [`Rescues::settle`] waits. The thread ends when all clones are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Rescues(mpsc::UnboundedSender<Order>);

impl Rescues {
    /// This job's call runs here from now on, with an agent of this identity.
    pub(crate) fn assigned(&self, job: &livekit::Job, agent_identity: &str) {
        self.tell(Order::Assigned(Box::new(Call::of(job, agent_identity))));
    }

    /// The job had its end. Of one that was said to be orphaned it says nothing: its call is rescued all the same.
    pub(crate) fn ended(&self, job: &JobId) {
        self.tell(Order::Ended(job.clone()));
    }

    /// The job's agent died, and all that is left of it has been ended: its call is dispatched again if anybody waits.
    /// A `suspect` may be what killed the process, and goes last.
    pub(crate) fn orphaned(&self, job: &JobId, suspect: bool) {
        self.tell(Order::Orphaned(job.clone(), suspect));
    }

    /// The worker drains: a call that is given up from now on is cut off by it.
    pub(crate) fn draining(&self) {
        self.tell(Order::Draining);
    }

    /// Waits until no rescue is under way, or for so long; the jobs whose calls are left without an agent: given up in the
    /// drain, or neither dispatched again nor in a journal. Cancel safe: rescues go on.
    pub(crate) async fn settle(&self, within: Duration) -> Vec<JobId> {
        let (done, settled) = oneshot::channel();
        self.tell(Order::Settle(Instant::now() + within, done));
        let settled = tokio::time::timeout(within.saturating_add(ANSWER_WITHIN), settled).await;
        settled.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn tell(&self, order: Order) {
        // It is gone only with the process.
        let _ = self.0.send(order);
    }

    /// One that rescues nothing, and what it is told.
    #[cfg(test)]
    pub(crate) fn heard() -> (Self, Heard) {
        let (rescues, orders) = mpsc::unbounded_channel();
        (Self(rescues), Heard(orders))
    }
}

/// What a test's rescue was told.
#[cfg(test)]
pub(crate) struct Heard(mpsc::UnboundedReceiver<Order>);

#[cfg(test)]
impl Heard {
    /// The jobs whose agents have died since this was asked last.
    pub(crate) fn orphans(&mut self) -> Vec<JobId> {
        let orders = std::iter::from_fn(|| self.0.try_recv().ok());
        orders
            .filter_map(|order| if let Order::Orphaned(job, _) = order { Some(job) } else { None })
            .collect()
    }
}

/// Starts the rescue as asked for, `usual` where nothing is; none where it is off. What a process before this one has
/// left in the journal is rescued at once.
///
/// # Errors
/// Where the journal cannot be had, or the system gives no thread.
pub(crate) fn start(
    options: &RescueOptions,
    usual: Which,
    api: Api,
    metrics: Arc<Metrics>,
) -> Result<Option<Rescues>, StartError> {
    if options.rescue.unwrap_or(usual) == Which::Off {
        return Ok(None);
    }
    let (journal, left) = match &options.state_dir {
        Some(dir) => {
            let (journal, left) = Journal::open(dir).map_err(|error| StartError::State(error.to_string()))?;
            (Some(journal), left)
        }
        None => (None, Vec::new()),
    };
    let core = Rescue::new(RescueLimits { attempts: options.rescue_attempts, ..RescueLimits::default() });
    let system = |what| move |error| StartError::System { what, error };
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("runtime for the rescue"))?;
    let (rescues, orders) = mpsc::unbounded_channel();
    let driver = Driver::new(core, api, journal, metrics);
    std::thread::Builder::new()
        .name("last-call-rescue".to_owned())
        .spawn(move || {
            runtime.block_on(driver.run(left, orders));
            // A name that is being looked up must not hold anybody.
            runtime.shutdown_background();
        })
        .map_err(system("thread"))?;
    Ok(Some(Rescues(rescues)))
}
