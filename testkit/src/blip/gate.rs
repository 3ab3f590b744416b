//! Owns the moment between a worker's last report and its end: the report stays in the relay until the fault has begun. Refuses
//! to change it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result};
use livekit_protocol as proto;
use livekit_protocol::worker_message::Message as FromWorker;
use prost::Message as _;

use super::SOON;
use super::verdict::is_end;
use crate::relay::{Direction, Frame, Verdict};

pub(super) struct Gate {
    armed: Arc<AtomicBool>,
    held: Receiver<()>,
    go: Sender<()>,
}

impl Gate {
    /// The gate and its judge, who stands in the relay's only thread: while he holds a report nothing else passes.
    pub(super) fn new() -> (Self, impl FnMut(&Frame) -> Verdict + Send + 'static) {
        let armed = Arc::new(AtomicBool::new(false));
        let ((hold, held), (go, gone)) = (channel(), channel());
        let waits = Arc::clone(&armed);
        let judge = move |frame: &Frame| {
            if reports_an_end(frame) && waits.swap(false, Ordering::Relaxed) && hold.send(()).is_ok() {
                // It passes too when the cell has given up.
                let _: Result<(), _> = gone.recv_timeout(SOON);
            }
            Verdict::Pass
        };
        (Self { armed, held, go }, judge)
    }

    /// Holds the next report of an end.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Waits until it is held.
    pub(super) fn wait(&self) -> Result<()> {
        self.held.recv_timeout(SOON).context("the worker did not report the end of its last call")
    }

    /// Lets it go on, into whatever the way is by now.
    pub(super) fn open(&self) {
        // A relay that is gone holds nothing.
        let _ = self.go.send(());
    }
}

fn reports_an_end(frame: &Frame) -> bool {
    let message = || proto::WorkerMessage::decode(frame.payload.clone()).map(|decoded| decoded.message);
    frame.direction == Direction::ToServer
        && matches!(message(), Ok(Some(FromWorker::UpdateJob(report))) if is_end(&report))
}
