//! Does what the core decided.
//!
//! Owns one arm for each output. Refuses any `if` about policy.

use std::time::{Duration, Instant as StdInstant};

use last_call_proto::{
    Declined, Event, Input, JobId, Link as LinkState, Outcome, Output, Phase, StopReason, Timer,
};
use livekit_protocol as livekit;
use tokio::time::Instant;

use super::{Connection, Link, Runner, Source, solo};
use crate::error::DialError;
use crate::job::Draining;
use crate::metrics::Stage;
use crate::wire;

/// The server's close is waited for this long: it is on the same network, or gone.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_millis(30);

/// Who the agent is: as the answer said, else as the server decides.
pub(crate) fn agent_identity(said: &str, job: &JobId) -> String {
    if said.is_empty() { format!("agent-{job}") } else { said.to_owned() }
}

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
        let away = matches!(&self.runner, Runner::Guarded(guarded) if !guarded.is_attached());
        self.watched.publish(&self.core, away, &self.snapshot);
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
        let Self { core, connection, registration, keep, watched, runner, .. } = self;
        let Connection::Open(socket) = connection else { return false };
        if !socket.is_idle() {
            return false;
        }
        let frames = core.poll_transmit().unwrap_or_default();
        watched.writing(&frames);
        let mut batch = Vec::with_capacity(frames.len());
        for frame in frames {
            let original = match runner {
                Runner::Code(_) => None,
                Runner::Guarded(guarded) => guarded.original(&frame),
            };
            let encode = || wire::encode(frame, registration, |job| keep.acceptance(job));
            batch.push(original.unwrap_or_else(encode));
        }
        // Behind everything that the core decides, and to a server that knows who speaks.
        if let Runner::Guarded(guarded) = runner
            && core.link() == LinkState::Registered
        {
            batch.extend(guarded.passed());
        }
        !batch.is_empty() && socket.send(batch)
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
                    let late = DialError::TimedOut(self.policy.dial_within);
                    self.watched.dial_failed(&late, self.core.was_accepted());
                }
                Connection::Open(_) => self.watched.hung_up(),
            },
            Output::Arm(timer) => {
                let wait = self.policy.wait(&timer, self.core.attempt(), fastrand::u32(..));
                self.timers.arm(timer, Instant::now() + wait);
            }
            Output::Disarm(timer) => self.timers.disarm(&timer),
            Output::Event(event) => self.happened(&event),
            Output::Exit(_) => {}
            asked @ (Output::Ask(_)
            | Output::Forget(_)
            | Output::Probe
            | Output::Launch(_)
            | Output::Notify(_)
            | Output::Tell(..)
            | Output::Cancel(_)
            | Output::Kill(_)
            | Output::Release(_)) => self.ask(asked),
        }
    }

    /// Does what is asked of user code, or has the worker behind guard do it.
    fn ask(&mut self, asked: Output) {
        // From the job's answer to its assignment, whoever runs it.
        let answered = if let Output::Launch(job) = &asked { self.assigned(job) } else { None };
        let mut deadline = None;
        if let Output::Tell(job, reason) = &asked {
            deadline = Some(self.stop_deadline(*reason));
            self.watched.told(job, *reason);
        }
        let draining = Draining { deadline: self.drain_deadline() };
        let Self { runner, keep, watched, source, rescues, .. } = self;
        let runner = match runner {
            Runner::Code(runner) => runner,
            Runner::Guarded(guarded) => {
                guarded.asked(asked);
                return self.hear_of_guarded();
            }
        };
        match asked {
            // Who starts a job by hand has decided on it.
            Output::Ask(job) => {
                if let (Source::Server { .. }, Some(info)) = (source, keep.info(&job)) {
                    runner.ask(&job, info);
                }
            }
            Output::Forget(job) => runner.forget(&job),
            Output::Probe => runner.probe(),
            Output::Launch(job) => self.launch(&job, answered),
            Output::Notify(job) => {
                watched.spans.happened(&job, "draining");
                runner.notify(&job, draining);
            }
            Output::Tell(job, reason) => {
                // Another agent comes before this one goes (DRAIN-6).
                if let (Some(rescues), StopReason::DrainDeadline) = (&*rescues, reason) {
                    rescues.orphaned(&job, false);
                }
                runner.tell(&job, reason, deadline.unwrap_or(draining.deadline));
            }
            Output::Cancel(job) => {
                watched.spans.happened(&job, "cancelled");
                runner.cancel(&job);
            }
            Output::Kill(job) => {
                watched.spans.happened(&job, "killed");
                runner.kill(&job);
            }
            Output::Release(job) => {
                if let Some(rescues) = rescues {
                    rescues.ended(&job);
                }
                runner.release(&job);
            }
            Output::Dial
            | Output::HangUp
            | Output::Arm(_)
            | Output::Disarm(_)
            | Output::Event(_)
            | Output::Exit(_) => {}
        }
    }

    fn assigned(&mut self, job: &JobId) -> Option<Duration> {
        let answered = self.keep.lap(job)?;
        self.metrics.dispatch_seconds.of(Stage::AnsweredToAssigned).observe(answered);
        Some(Duration::from_secs_f64(answered))
    }

    fn open(&mut self) {
        if let Source::Server { dial, .. } = &self.source {
            self.connection = Connection::Opening(dial());
        }
    }

    fn launch(&mut self, job: &JobId, answered: Option<Duration>) {
        let Self { runner: Runner::Code(runner), keep, watched, source, rescues, .. } = self else { return };
        let server = match source {
            Source::Server { url, .. } => url,
            Source::Solo(solo) => &solo.url,
        };
        if let Some(launch) = keep.launch(job, server, watched.worker_id()) {
            if let Some(rescues) = rescues {
                let identity = agent_identity(&launch.given.identity, job);
                rescues.assigned(&livekit::Job::from(&*launch.info), &identity);
            }
            let trace = watched.spans.begin(job, &launch.info, answered);
            runner.launch(job, launch.info, launch.given, trace);
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
                self.prune();
            }
            // The first report after a registration is not to be two and a half seconds late.
            Event::Registered => self.refresh_load(),
            Event::Phase(Phase::Draining) => {
                if let Runner::Code(runner) = &self.runner {
                    runner.drain();
                }
            }
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
