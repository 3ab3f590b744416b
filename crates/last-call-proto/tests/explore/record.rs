//! What a watcher from outside knows of one worker: what went in, what came out, what crossed the wire.
//!
//! Owns the bookkeeping that the clauses are stated over. Refuses to ask the core, which might be wrong.

use std::collections::{BTreeMap, BTreeSet};

use last_call_proto::{
    Answer, Decision, End, Event, FromServer, Input, JobId, Load, Outcome, Output, Phase, Report, Status,
    StopReason, Timer, ToServer,
};

/// Everything noted about one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    /// The phase that the inputs ask for; `Draining` stands for both ends.
    pub(crate) wanted: Phase,
    pub(crate) forced: bool,
    /// The worker says that nothing is left to wait for; force changes nothing any more.
    pub(crate) drained: bool,
    /// The drain budget is spent.
    pub(crate) spent: bool,
    pub(crate) wedged: bool,
    pub(crate) load: Load,
    pub(crate) ever_registered: bool,
    pub(crate) line: Line,
    pub(crate) lives: BTreeMap<JobId, Life>,
    /// Jobs that the drain or the force ended.
    pub(crate) cut: BTreeSet<JobId>,
    pub(crate) exit: Option<Outcome>,
}

/// Everything noted about the connection that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) registered: bool,
    pub(crate) confirmed: bool,
    /// The worker leaves, and has not said so here.
    pub(crate) full_due: bool,
    pub(crate) said: Option<Status>,
    pub(crate) leaving: bool,
    /// A ping was due, and nothing came since.
    pub(crate) unheard: bool,
}

/// Everything noted about one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Life {
    /// Offers on this connection without an answer.
    pub(crate) open: u8,
    /// User code thinks about an offer; copies of it are answered with it.
    pub(crate) asked: bool,
    /// User code said that the dispatch ends here.
    pub(crate) user_ends: bool,
    pub(crate) acceptance: Acceptance,
    pub(crate) run: Option<Run>,
    pub(crate) end: Option<Ending>,
}

/// How an acceptance stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Acceptance {
    #[default]
    No,
    /// Decided, and not on the wire yet.
    Decided,
    Sent,
    /// Sent, and waited for in vain.
    Overdue,
}

/// A job between launch and end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    /// Launched although its slot was given up.
    pub(crate) overdue: bool,
    pub(crate) notified: bool,
    pub(crate) told: Option<Told>,
    pub(crate) cancelled: bool,
    pub(crate) finishing: bool,
}

/// Whose word it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    ByDrain,
    ByOthers,
}

/// A job that is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ending {
    pub(crate) success: bool,
    pub(crate) report: Reported,
    pub(crate) released: bool,
}

/// Where the last report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reported {
    Waits,
    Taken,
    Written,
}

impl Record {
    pub(crate) fn life(&self, job: &JobId) -> Option<&Life> {
        self.lives.get(job)
    }

    pub(crate) fn run(&self, job: &JobId) -> Option<&Run> {
        self.life(job)?.run.as_ref()
    }

    fn at(&mut self, job: &JobId) -> &mut Life {
        self.lives.entry(job.clone()).or_default()
    }

    pub(crate) fn leaves(&self) -> bool {
        self.wanted == Phase::Draining
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (&JobId, &Run)> {
        self.lives.iter().filter_map(|(job, life)| Some((job, life.run.as_ref()?)))
    }

    pub(crate) fn accepted(&self, which: Acceptance) -> impl Iterator<Item = &JobId> {
        self.lives.iter().filter(move |(_, life)| life.acceptance == which).map(|(job, _)| job)
    }

    /// Slots that are taken: running jobs and jobs whose assignment is awaited.
    pub(crate) fn slots(&self) -> u32 {
        let waits = self.accepted(Acceptance::Decided).count() + self.accepted(Acceptance::Sent).count();
        u32::try_from(self.running().count() + waits).expect("a handful of jobs")
    }

    pub(crate) fn heard(&mut self, input: &Input) {
        match input {
            Input::Connected => self.line = Line { full_due: self.leaves(), ..Line::default() },
            Input::Lost(_) => self.hung_up(),
            Input::Received(frame) => self.received(frame),
            Input::Fired(timer) => self.fired(timer),
            Input::Decided(job, Decision::Terminate) => self.at(job).user_ends = true,
            Input::Finishing(job) => {
                if let Some(run) = &mut self.at(job).run {
                    run.finishing = true;
                }
            }
            Input::Ended(job, end) => self.over(job, *end == End::Success),
            Input::Load(load) => self.load = *load,
            Input::Drain => self.leave(),
            Input::Force if !self.drained => {
                self.leave();
                self.forced = true;
                self.abandon();
            }
            Input::Quiet if self.wanted == Phase::Serving => self.wanted = Phase::Quiet,
            Input::Unquiet if self.wanted == Phase::Quiet => self.wanted = Phase::Serving,
            Input::Flushed => {
                for end in self.lives.values_mut().filter_map(|life| life.end.as_mut()) {
                    if end.report == Reported::Taken {
                        end.report = Reported::Written;
                    }
                }
            }
            Input::Start
            | Input::Garbage
            | Input::Heartbeat(_)
            | Input::ProbeAnswered
            | Input::Decided(..)
            | Input::StopRequested(_)
            | Input::Force
            | Input::Quiet
            | Input::Unquiet => {}
        }
    }

    fn leave(&mut self) {
        if !self.leaves() {
            self.wanted = Phase::Draining;
            self.line.full_due = true;
        }
    }

    /// Acceptances that the worker does not wait for any more, since its time is up.
    fn abandon(&mut self) {
        let sent = self.accepted(Acceptance::Sent).cloned().collect::<Vec<_>>();
        for job in sent {
            self.at(&job).acceptance = Acceptance::No;
            self.cut.insert(job);
        }
    }

    fn received(&mut self, frame: &FromServer) {
        self.line.unheard = false;
        match frame {
            FromServer::Registered => {
                self.line.confirmed = true;
                self.ever_registered = true;
            }
            FromServer::Offer(job) => {
                let life = self.at(job);
                life.open += u8::from(!life.asked);
            }
            FromServer::Termination(job) => self.at(job).acceptance = Acceptance::No,
            FromServer::GoAway => self.line.leaving |= self.line.confirmed,
            FromServer::Assignment(_) | FromServer::Other => {}
        }
    }

    fn fired(&mut self, timer: &Timer) {
        if let Timer::Assignment(job) = timer {
            let life = self.at(job);
            // One that never left is still owed to the server, but it holds no slot.
            life.acceptance = Acceptance::Overdue;
        }
        self.line.unheard |= *timer == Timer::Ping;
        if *timer == Timer::DrainKill {
            self.spent = true;
            self.abandon();
        }
    }

    fn over(&mut self, job: &JobId, success: bool) {
        let life = self.at(job);
        if life.run.take().is_some() {
            life.end = Some(Ending { success, report: Reported::Waits, released: false });
        }
    }

    fn hung_up(&mut self) {
        self.line = Line::default();
        for life in self.lives.values_mut() {
            life.open = 0;
            life.asked = false;
            life.user_ends = false;
            life.acceptance = Acceptance::No;
            life.end.take_if(|end| end.report != Reported::Waits && end.released);
            if let Some(end) = &mut life.end
                && end.report != Reported::Waits
            {
                end.report = Reported::Written;
            }
        }
    }

    pub(crate) fn did(&mut self, output: &Output, cause: &Input) {
        match output {
            Output::HangUp => self.hung_up(),
            Output::Launch(job) => {
                let life = self.at(job);
                let overdue = life.acceptance == Acceptance::Overdue;
                life.acceptance = Acceptance::No;
                life.run = Some(Run { overdue, ..Run::default() });
            }
            Output::Notify(job) => self.running_at(job, |run| run.notified = true),
            Output::Tell(job, reason) => {
                let told = if *reason == StopReason::DrainDeadline { Told::ByDrain } else { Told::ByOthers };
                self.running_at(job, |run| run.told = Some(told));
            }
            Output::Cancel(job) => {
                let by_drain = self.run(job).is_some_and(|run| run.told == Some(Told::ByDrain));
                if by_drain || *cause == Input::Fired(Timer::DrainCancel) {
                    self.cut.insert(job.clone());
                }
                self.running_at(job, |run| run.cancelled = true);
            }
            Output::Kill(job) => {
                if matches!(cause, Input::Force | Input::Fired(Timer::DrainKill)) {
                    self.cut.insert(job.clone());
                }
                self.over(job, false);
            }
            Output::Release(job) => {
                if let Some(end) = &mut self.at(job).end {
                    end.released = true;
                }
            }
            Output::Ask(job) => self.at(job).asked = true,
            Output::Forget(job) => self.at(job).asked = false,
            Output::Event(Event::Accepted(job)) => {
                let life = self.at(job);
                life.asked = false;
                life.acceptance = Acceptance::Decided;
            }
            Output::Event(Event::Declined(job, _))
                if matches!(cause, Input::Drain | Input::Quiet | Input::Force) =>
            {
                // Taken back before it left.
                self.at(job).acceptance = Acceptance::No;
            }
            Output::Event(Event::Phase(Phase::Drained)) => self.drained = true,
            Output::Event(Event::Wedged) => self.wedged = true,
            Output::Event(Event::Recovered) => self.wedged = false,
            Output::Exit(outcome) => self.exit = Some(outcome.clone()),
            Output::Dial | Output::Arm(_) | Output::Disarm(_) | Output::Probe | Output::Event(_) => {}
        }
    }

    fn running_at(&mut self, job: &JobId, change: impl FnOnce(&mut Run)) {
        if let Some(run) = &mut self.at(job).run {
            change(run);
        }
    }

    pub(crate) fn wrote(&mut self, frames: &[ToServer]) {
        for frame in frames {
            match frame {
                ToServer::Register => self.line.registered = true,
                ToServer::Status(status) => {
                    self.line.said = Some(*status);
                    self.line.full_due = false;
                }
                ToServer::Answer(job, answer) => {
                    let life = self.at(job);
                    life.open = life.open.saturating_sub(1);
                    life.user_ends = false;
                    if *answer == Answer::Accept && life.acceptance == Acceptance::Decided {
                        life.acceptance = Acceptance::Sent;
                    }
                }
                ToServer::Report(job, Report::Success | Report::Failed(_)) => {
                    if let Some(end) = &mut self.at(job).end {
                        end.report = Reported::Taken;
                    }
                }
                ToServer::Ping | ToServer::Report(_, Report::Running) | ToServer::Migrate(_) => {}
            }
        }
    }

    /// Forgets what no clause can ask about any more, so that histories that differ in nothing else meet.
    pub(crate) fn tidy(&mut self) {
        for life in self.lives.values_mut() {
            life.end.take_if(|end| end.released && end.report == Reported::Written);
        }
        self.lives.retain(|_, life| *life != Life::default());
    }
}
