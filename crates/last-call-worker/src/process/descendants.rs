//! What a child has started, and what that has started: found again and again, each held so that its end is seen.
//!
//! Owns the handles. Refuses to find everything: who starts and ends between two looks is not seen, and who lost its
//! parents before the first look is not found.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Interval;

use super::system::{self, Held};
use super::threads;
use crate::timers::every;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The descendants of one process, by their numbers. Elsewhere than on Linux none is found.
pub(crate) struct Descendants {
    root: u32,
    held: BTreeMap<u32, Arc<Held>>,
    ends: JoinSet<u32>,
    looks: Interval,
    look: Option<Look>,
}

/// The program below a process that looks after it; where none is found, that process itself.
pub(crate) fn program_of(keeper: u32) -> u32 {
    system::oldest_child(keeper).unwrap_or(keeper)
}

type Look = Pin<Box<dyn Future<Output = Vec<(u32, Held)>> + Send>>;

impl Descendants {
    /// Of this process, which has just started. In a runtime only.
    pub(crate) fn of(root: u32) -> Self {
        Self { root, held: BTreeMap::new(), ends: JoinSet::new(), looks: every(LOOK_EVERY), look: None }
    }

    /// Those that were found and have not ended.
    pub(crate) fn held(&self) -> impl Iterator<Item = u32> {
        self.held.keys().copied()
    }

    /// The number of the next one that ends; those that are found go on being watched when they lose their parents.
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> u32 {
        loop {
            let looks = self.look.is_some();
            let look = async {
                match &mut self.look {
                    Some(look) => look.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(Ok(pid)) = self.ends.join_next() => {
                    self.held.remove(&pid);
                    return pid;
                }
                found = look => {
                    self.look = None;
                    found.into_iter().for_each(|(pid, held)| self.hold(pid, held));
                }
                _ = self.looks.tick(), if !looks => self.look = Some(self.errand()),
            }
        }
    }

    /// Ends each that is left (SIGKILL), whatever has become of its parents, its group and its environment.
    pub(crate) fn kill(&self) {
        self.held.values().for_each(|held| held.kill());
    }

    fn errand(&self) -> Look {
        let (root, known) = (self.root, self.held().collect());
        // Where the thread is gone nothing is found.
        let found = threads::ERRANDS.run(move || system::descendants(root, &known));
        Box::pin(async move { found.await.unwrap_or_default() })
    }

    fn hold(&mut self, pid: u32, held: Held) {
        let held = Arc::new(held);
        self.held.insert(pid, held.clone());
        self.ends.spawn(async move {
            // One that cannot be waited for is taken for gone, and found again.
            let _ = held.ended().await;
            pid
        });
    }
}
