//! Does what the core decided.
//!
//! Owns one arm for each output. Refuses any `if` about policy.

use std::time::{Duration, Instant as StdInstant};

use last_call_proto::{
    Declined, Event, Input, JobId, Link as LinkState, Outcome, Output, Phase, StopReason, Timer,
};
use tokio::time::Instant;

use super::{Connection, Link, Source, solo};
use crate::error::DialError;
use crate::job::Draining;
use crate::metrics::Stage;
use crate::wire;

/// The server's close is waited for this long: it is on the same network, or gone.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_millis(30);

impl Link {
    /// Does everything the core asks for, writes what the socket takes, and shows the new state; says how
    /// to leave when it is time.
    pub(super) async fn settle(&mut self) -> Option<Outcome> {
        loop {
            // Frames first: nothing that is logged or done may stand before them.
            let written = self.transmit();
            if let Some(outcome) = self.perform_all() {
                self.show();
                if let Connection::Open(socket) = std::mem::take(&mut self.connection) {
                    socket.close(CLOSE_WITHIN).await;
                }
                return Some(outcome);
            }
            if written {
                self.watched.written(&self.metrics);
                self.core.handle(Input::Flushed);
            } else if self.solo_is_over() {
                self.core.handle(Input::Drain);
            } else if !self.hear_of_solo() {
                self.show();
                return None;
            }
        }
    }

    /// Shows the state as it is now, behind the frames: to probes, and to systemd.
    fn show(&mut self) {
        self.watched.publish(&self.core, &self.snapshot);
        if let Some(systemd) = &mut self.systemd {
            systemd.look(&self.snapshot.borrow(), Instant::now());
        }
    }

    /// A program that runs one job leaves with it.
    fn solo_is_over(&self) -> bool {
        let begun = self.core.link() == LinkState::Registered && self.core.phase() == Phase::Serving;
        matches!(self.source, Source::Solo(_)) && begun && self.core.jobs().running() == 0
    }

    /// A job without a server is heard by no one. False if there was nothing to hear.
    fn hear_of_solo(&mut self) -> bool {
        matches!(self.source, Source::Solo(_)) && solo::hear(&mut self.core)
    }

    /// Hands the next batch to the socket if it takes one. True if the kernel has all of it.
    fn transmit(&mut self) -> bool {
        let Self { core, connection, registration, keep, watched, .. } = self;
        let Connection::Open(socket) = connection else { return false };
        let Some(frames) = socket.is_idle().then(|| core.poll_transmit()).flatten() else { return false };
        watched.writing(&frames);
        let encode = |frame| wire::encode(frame, registration, |job| keep.acceptance(job));
        socket.send(frames.into_iter().map(encode))
    }

    pub(super) fn perform_all(&mut self) -> Option<Outcome> {
        while let Some(output) = self.core.poll_output() {
            if let Output::Exit(outcome) = output {
                return Some(outcome);
            }
            self.perform(output);
        }
        None
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dial => self.open(),
            Output::HangUp => match std::mem::take(&mut self.connection) {
                Connection::None => {}
                Connection::Opening(_) => {
                    self.watched.dial_failed(&DialError::TimedOut(self.policy.dial_within))
                }
                Connection::Open(_) => self.watched.hung_up(),
            },
            Output::Arm(timer) => {
                let wait = self.policy.wait(&timer, self.core.attempt(), fastrand::u32(..));
                self.timers.arm(timer, Instant::now() + wait);
            }
            Output::Disarm(timer) => self.timers.disarm(&timer),
            Output::Ask(job) => self.ask(&job),
            Output::Forget(job) => self.runner.forget(&job),
            Output::Probe => self.runner.probe(),
            Output::Launch(job) => self.launch(&job),
            Output::Notify(job) => {
                self.watched.spans.happened(&job, "draining");
                self.runner.notify(&job, Draining { deadline: self.drain_deadline() });
            }
            Output::Tell(job, reason) => {
                self.watched.told(&job, reason);
                self.runner.tell(&job, reason, self.stop_deadline(reason));
            }
            Output::Cancel(job) => {
                self.watched.spans.happened(&job, "cancelled");
                self.runner.cancel(&job);
            }
            Output::Kill(job) => {
                self.watched.spans.happened(&job, "killed");
                self.runner.kill(&job);
            }
            Output::Release(job) => self.runner.release(&job),
            Output::Event(event) => self.happened(&event),
            Output::Exit(_) => {}
        }
    }

    fn ask(&mut self, job: &JobId) {
        // Who starts a job by hand has decided on it.
        if let (Source::Server { .. }, Some(info)) = (&self.source, self.keep.info(job)) {
            self.runner.ask(job, info);
        }
    }

    fn open(&mut self) {
        if let Source::Server { dial, .. } = &self.source {
            self.connection = Connection::Opening(dial());
        }
    }

    fn launch(&mut self, job: &JobId) {
        let answered = self.keep.lap(job);
        if let Some(seconds) = answered {
            self.metrics.dispatch_seconds.of(Stage::AnsweredToAssigned).observe(seconds);
        }
        let server = match &self.source {
            Source::Server { url, .. } => url,
            Source::Solo(solo) => &solo.url,
        };
        if let Some(launch) = self.keep.launch(job, server, self.watched.worker_id()) {
            let answered = answered.map(Duration::from_secs_f64);
            let trace = self.watched.spans.begin(job, &launch.info, answered);
            self.runner.launch(job, launch.info, launch.given, trace);
        }
    }

    fn happened(&mut self, event: &Event) {
        match event {
            Event::Accepted(job) => {
                if let Some(seconds) = self.keep.lap(job) {
                    self.metrics.dispatch_seconds.of(Stage::OfferedToAnswered).observe(seconds);
                }
            }
            // The offer and the acceptance of the job that runs already are still needed.
            Event::Declined(_, Declined::Duplicate) => {}
            Event::Declined(job, _) => self.keep.forget(job),
            Event::Disconnected => {
                self.connection = Connection::None;
                self.keep.prune(&self.core);
            }
            // The first report after a registration is not to be two and a half seconds late.
            Event::Registered => self.runner.refresh_load(),
            Event::Phase(Phase::Draining) => self.runner.drain(),
            Event::Phase(Phase::Serving | Phase::Quiet | Phase::Drained)
            | Event::GoAway
            | Event::OfferLost(_)
            | Event::LateDecision(_)
            | Event::AssignmentMissed(_)
            | Event::AssignmentUnknown(_)
            | Event::TerminationUnknown(_)
            | Event::Ended(..)
            | Event::Wedged
            | Event::Recovered
            | Event::OutOfOrder
            | Event::Garbage => {}
        }
        self.watched.happened(event, &self.core, &self.policy, &self.metrics);
    }

    /// When jobs are told to stop in this drain.
    fn drain_deadline(&self) -> StdInstant {
        self.timers.at(&Timer::DrainTell).map_or_else(StdInstant::now, Instant::into_std)
    }

    /// When a job that is told to stop now is cancelled: by its own grace, or by the drain if that is first.
    fn stop_deadline(&self, reason: StopReason) -> StdInstant {
        let now = Instant::now();
        let drain = match (self.timers.at(&Timer::DrainTell), self.timers.at(&Timer::DrainCancel)) {
            (_, Some(cancel)) => Some(cancel),
            (Some(tell), None) => Some(tell + self.policy.drain.cancel_after),
            (None, None) => None,
        };
        let own = match reason {
            StopReason::DrainDeadline => drain.unwrap_or(now + self.policy.drain.cancel_after),
            StopReason::Terminated | StopReason::Requested => now + self.policy.cancel_after,
        };
        drain.map_or(own, |drain| drain.min(own)).into_std()
    }
}
