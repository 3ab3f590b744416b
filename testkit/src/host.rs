//! Owns the thread and the runtime that a stand-in server lives on, apart from the test's. Refuses to outlive it: what still runs is cancelled,
//! and its sockets close.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::netns;

/// How long a thread that does nothing but IO may take to do what it is told.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);

/// A current-thread runtime on a thread of its own.
#[derive(Debug)]
pub(crate) struct Host {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts a thread called `name`, in the network namespace `netns` if one is named.
    ///
    /// # Errors
    /// When the thread, its runtime or the namespace is refused.
    pub(crate) fn start(name: &str, netns: Option<&str>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot make a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let netns = netns.map(str::to_owned);
        let run = move || {
            let entered = netns.as_deref().map_or(Ok(()), netns::enter);
            let fit = entered.is_ok();
            // The starter waits for this; and letting go of `stop` is as good as using it.
            let _ = ready.send(entered);
            if fit {
                let _ = runtime.block_on(stopped);
            }
        };
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(run).context("cannot start a thread")?;
        started.recv_timeout(PROMPT).with_context(|| format!("the thread of {name} did not start"))??;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs `task` on the thread until it ends or the host is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs `task` on the thread and waits for its value; not on the thread itself.
    ///
    /// # Errors
    /// What the task returns, or that it did not in time.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        task: impl Future<Output = Result<R>> + Send + 'static,
    ) -> Result<R> {
        let (done, answer) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            // The caller may have given up.
            let _ = done.send(task.await);
        });
        answer.recv_timeout(PROMPT).context("a stand-in server does not answer")?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; a second one here would abort the test.
            let _ = thread.join();
        }
    }
}
