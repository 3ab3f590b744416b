//! guard's ward: the process of the worker that it stands in front of.
//!
//! Owns when that process starts, starts again, is told to end and is ended, and when guard may leave. Refuses to know
//! about calls: whoever drives this says when the last one is over.

use alloc::collections::VecDeque;

/// When a worker that ended by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// After a failure: a signal, or an exit code other than 0.
    #[default]
    OnFailure,
    /// However it ended.
    Always,
    /// Not at all: guard leaves with it.
    Never,
}

/// When a worker hears of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// With the signal: it drains beside guard.
    Now,
    /// When its last call is over, and it can do no harm.
    WhenIdle,
}

/// What holds for the ward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WardLimits {
    /// When it is started again.
    pub restart: Restart,
    /// When it hears of a drain; `None` goes by what its handshakes tell of it.
    pub forward: Option<Forward>,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WardInput {
    /// The driver is ready.
    Begin,
    /// The process ended by itself or by somebody's signal.
    Ended {
        /// With exit code 0.
        success: bool,
    },
    /// It registered; whether it is known to drain well when it is told to while calls run.
    Registered {
        /// By its name and version.
        drains_well: bool,
    },
    /// SIGTERM and its like came to guard.
    Drain,
    /// Nothing is owed to the server or to a call any more, and no connection to the server is left.
    Idle,
    /// SIGQUIT and its like: leave at once. [`WardInput::Idle`] follows, since the connections to the server leave at once
    /// too, and say which calls were cut off.
    Force,
    /// A timer is due.
    Fired(WardTimer),
}

/// The waits. The driver knows how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WardTimer {
    /// When to start it again, after so many failures in a row.
    Restart(u32),
    /// When it has run for so long that the next failure is the first of a row.
    Steady,
    /// When a worker that was told to end, and has no calls, is ended.
    Kill,
    /// When connections to the server that are to leave at once are waited for no more.
    Links,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WardOutput {
    /// Start the process.
    Start,
    /// Ask it to end (SIGTERM), and not its job processes.
    Terminate,
    /// End it at once, with whatever it started.
    Kill,
    /// Wait, and say that it is due; begun anew if it runs.
    Arm(WardTimer),
    /// Wait no more.
    Disarm(WardTimer),
    /// It will not come back: let the connections to the server drain. [`WardInput::Idle`] follows.
    GiveUp,
    /// Leave. Always the last.
    Leave(Leaving),
}

/// How guard leaves, as far as its ward goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaving {
    /// After a drain.
    Drained,
    /// Because the process ended, and is not to be started again.
    WithIt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Process {
    #[default]
    Absent,
    Runs,
    /// It was told to end.
    Told,
}

/// The state machine. Give it one input, then poll until nothing is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ward {
    limits: WardLimits,
    process: Process,
    ever_registered: bool,
    /// As far as the process that runs has told.
    drains_well: Option<bool>,
    failures: u32,
    draining: bool,
    forced: bool,
    idle: bool,
    given_up: bool,
    left: bool,
    outputs: VecDeque<WardOutput>,
}

/// Failures in a row that make a difference.
const FAILURES_COUNTED: u32 = 8;

impl Ward {
    /// A worker that is not started.
    #[must_use]
    pub fn new(limits: WardLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes one input.
    pub fn handle(&mut self, input: WardInput) {
        if self.left {
            return;
        }
        match input {
            WardInput::Begin => self.start(),
            WardInput::Ended { success } => self.ended(success),
            WardInput::Registered { drains_well } => {
                self.ever_registered = true;
                // Each registration of the process has a say: the signal is for all of them.
                self.drains_well = Some(drains_well && self.drains_well.unwrap_or(true));
            }
            WardInput::Drain => self.drain(),
            WardInput::Idle => {
                // Once: each SIGTERM says it again, and is no reason to wait anew.
                if !core::mem::replace(&mut self.idle, true) {
                    self.terminate();
                }
            }
            WardInput::Force => self.force(),
            WardInput::Fired(WardTimer::Restart(_)) => self.start(),
            WardInput::Fired(WardTimer::Steady) => self.failures = 0,
            WardInput::Fired(WardTimer::Kill) => self.kill(),
            WardInput::Fired(WardTimer::Links) => self.idle = true,
        }
        if self.idle && self.process == Process::Absent {
            self.left = true;
            let with_it = self.given_up && !self.draining;
            let leaving = if with_it { Leaving::WithIt } else { Leaving::Drained };
            self.outputs.push_back(WardOutput::Leave(leaving));
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<WardOutput> {
        self.outputs.pop_front()
    }

    /// Whether the process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process != Process::Absent
    }

    fn start(&mut self) {
        if self.process == Process::Absent && !self.over() {
            self.process = Process::Runs;
            self.drains_well = None;
            self.outputs.extend([WardOutput::Start, WardOutput::Arm(WardTimer::Steady)]);
        }
    }

    fn ended(&mut self, success: bool) {
        if self.process == Process::Absent {
            return;
        }
        self.process = Process::Absent;
        self.outputs.extend([WardOutput::Disarm(WardTimer::Steady), WardOutput::Disarm(WardTimer::Kill)]);
        if self.over() {
            return;
        }
        let again = match self.limits.restart {
            // What never registered has an error that its next start would repeat.
            _ if !self.ever_registered => false,
            Restart::Always => true,
            Restart::OnFailure => !success,
            Restart::Never => false,
        };
        if again {
            self.outputs.push_back(WardOutput::Arm(WardTimer::Restart(self.failures)));
            self.failures = (self.failures + 1).min(FAILURES_COUNTED);
        } else {
            self.given_up = true;
            self.outputs.push_back(WardOutput::GiveUp);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        let by_handshake = if self.drains_well == Some(true) { Forward::Now } else { Forward::WhenIdle };
        if self.limits.forward.unwrap_or(by_handshake) == Forward::Now {
            self.tell();
        }
    }

    fn force(&mut self) {
        self.draining = true;
        self.kill();
        if !self.forced && !self.idle {
            self.outputs.push_back(WardOutput::Arm(WardTimer::Links));
        }
        self.forced = true;
    }

    /// It has no call: it may end, and must.
    fn terminate(&mut self) {
        self.tell();
        if self.process == Process::Told {
            self.outputs.push_back(WardOutput::Arm(WardTimer::Kill));
        }
    }

    /// Once: a second SIGTERM kills the calls of some workers.
    fn tell(&mut self) {
        if self.process == Process::Runs {
            self.process = Process::Told;
            self.outputs.push_back(WardOutput::Terminate);
        }
    }

    /// Its end is heard of as any other.
    fn kill(&mut self) {
        if self.process != Process::Absent {
            self.process = Process::Told;
            self.outputs.push_back(WardOutput::Kill);
        }
    }

    fn over(&self) -> bool {
        self.draining || self.idle || self.given_up
    }
}
