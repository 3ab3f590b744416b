//! Owns how a source tells the engine that something is in it. Refuses a lock: it lies in the source's queue, under its.

use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// Since it was asked last.
    rung: bool,
    waiting: Option<Waker>,
}

impl Bell {
    pub(crate) fn ring(&mut self) {
        self.rung = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether it rang since this was asked last; wakes when it does.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.rung) {
            return Poll::Ready(());
        }
        self.wait(context);
        Poll::Pending
    }

    /// Wakes at the next ring.
    pub(crate) fn wait(&mut self, context: &Context<'_>) {
        self.waiting = Some(context.waker().clone());
    }
}
