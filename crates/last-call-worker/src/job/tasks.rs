//! The tasks that a job started: they end with it, and their panic is its failure.
//!
//! Owns their set. Refuses detached tasks.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A job's tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    set: Mutex<JoinSet<()>>,
    failure: Arc<Failure>,
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
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        set.spawn(guarded);
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

    /// Cancels every task and does not wait.
    pub(crate) fn abort(&self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Cancels every task and waits until each is gone.
    pub(crate) async fn cancel(&self) {
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        set.shutdown().await;
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
