//! The tasks that a job started: they end with it, and their panic is its failure.
//!
//! Owns their set. Refuses detached tasks.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A job's tasks.
pub(crate) struct Tasks {
    /// `None` once the job takes no more.
    set: Mutex<Option<JoinSet<()>>>,
    failure: Arc<Failure>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { set: Mutex::new(Some(JoinSet::new())), failure: Arc::default() }
    }
}

#[derive(Default)]
struct Failure {
    text: Mutex<Option<String>>,
    told: Notify,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let failure = self.failure.clone();
        let guarded = async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let text = format!("a task of the job panicked: {}", panic_text(panic.as_ref()));
                failure.text.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
                failure.told.notify_one();
            }
        };
        let mut set = self.lock();
        if let Some(set) = set.as_mut() {
            while set.try_join_next().is_some() {}
            set.spawn(guarded);
        }
    }

    /// Waits for the first panic of a task, and says what it said. For ever if there is none. Cancel safe.
    pub(crate) async fn failure(&self) -> String {
        loop {
            let told = self.failure.told.notified();
            if let Some(text) = self.failure.text.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return text;
            }
            told.await;
        }
    }

    /// Cancels every task, takes no more, and does not wait.
    pub(crate) fn close(&self) {
        if let Some(mut set) = self.lock().take() {
            set.abort_all();
        }
    }

    /// Cancels every task, takes no more, and waits until each is gone; what the first to panic said, if
    /// [`Self::failure`] did not say it.
    pub(crate) async fn cancel(&self) -> Option<String> {
        let set = self.lock().take();
        if let Some(mut set) = set {
            set.shutdown().await;
        }
        self.failure.text.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
