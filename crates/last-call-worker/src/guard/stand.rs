//! The one loop of guard: signals, the worker's process, its registrations.
//!
//! Owns the order of things. Refuses to decide: [`Ward`] does about the process, and each link's core about calls.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use last_call_proto::{End, JobId, Leaving, Outcome, Ward, WardInput, WardOutput, WardTimer};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval};

use super::child::{Change, Process};
use super::connection::{self, Arrival};
use super::forward::Forward;
use super::front::Front;
use super::guarded::{Call, FromWorker};
use super::registrations::Registrations;
use super::rooms::{LOOK_EVERY, Rooms};
use super::secrets::Secrets;
use super::shim::{News, Shim, ShimNews};
use super::tally::Tally;
use crate::http::{Beat, WorkerInfo};
use crate::link::{Control, Report};
use crate::observe::{Snapshot, Verb};
use crate::process::{Descendants, Ended, Held, Said, Start, Supervised, program_of};
use crate::rescue::Rescues;
use crate::signal::ToLink;
use crate::start::RESCUES_WITHIN;
use crate::systemd::Systemd;
use crate::timers::{every, until};

/// How often it shows that it lives, and looks for links to let go.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A worker that ran so long did not fail at its start.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Links that were told to leave at once are waited for this long: a frame on its way out has [`Policy::flush_within`]
/// (`last_call_proto`), and the close less.
const LINKS_WITHIN: Duration = Duration::from_secs(2);

/// A look at a wedged worker that takes longer is given up.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// What a worker's start needs: a fresh command for each.
pub(super) type MakeCommand = Box<dyn Fn() -> io::Result<Command> + Send>;

/// Everything that the loop is made of.
pub(super) struct Stand {
    pub(super) ward: Ward,
    pub(super) registrations: Registrations,
    pub(super) command: MakeCommand,
    pub(super) shim: Option<Shim>,
    pub(super) news: Option<News>,
    pub(super) rooms: Rooms,
    pub(super) rescues: Option<Rescues>,
    pub(super) signals: ToLink,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) verbs: mpsc::UnboundedReceiver<Verb>,
    pub(super) streams: mpsc::UnboundedReceiver<std::net::TcpStream>,
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    pub(super) secrets: Arc<Secrets>,
    /// What the worker dials.
    pub(super) front: Front,
    /// What it dials for its proxies, if it has some.
    pub(super) forward: Option<Forward>,
    pub(super) shown: watch::Receiver<Snapshot>,
    pub(super) info: Arc<std::sync::OnceLock<WorkerInfo>>,
    pub(super) systemd: Option<Systemd>,
    pub(super) beat: Arc<Beat>,
    pub(super) on_wedged: Option<String>,
    /// From the signal to the end of the last call.
    pub(super) drain_within: Duration,
    pub(super) exit_within: Duration,
    pub(super) register_within: Duration,
}

/// How guard's life went.
pub(super) struct Left {
    pub(super) report: Report,
    /// The worker's own end, where guard leaves because of it.
    pub(super) with: Option<Ended>,
    /// Guard itself had one, and lost sight of calls.
    pub(super) fault: bool,
}

enum Happened {
    Control(Control),
    Arrived(Box<Arrival>),
    Connected(std::net::TcpStream),
    Call(Call),
    News(ShimNews),
    /// These calls' agents have left their rooms.
    Gone(Vec<JobId>),
    /// Something that the worker started has ended.
    Descendant,
    LookIntoRooms,
    Left(Option<Report>),
    Process(Change),
    /// All rescues, but of these jobs' calls, which have no agent.
    Settled(Vec<JobId>),
    Due(WardTimer),
    Late,
    Shown,
    Beat,
}

/// What changes while it runs.
struct State {
    beat: Interval,
    looks: Interval,
    /// What the worker has started, where it runs.
    descendants: Option<Descendants>,
    process: Process,
    timers: BTreeMap<WardTimer, Instant>,
    arrivals: (mpsc::UnboundedSender<Arrival>, mpsc::UnboundedReceiver<Arrival>),
    /// When it is said that the worker passes guard by.
    late_at: Option<Instant>,
    last_end: Option<Ended>,
    wedged: bool,
    /// Processes that jobs run in, as far as they are known.
    job_processes: BTreeMap<JobId, Held>,
    tally: Tally,
    /// When the drain began.
    drained_at: Option<Instant>,
    leaving: Option<Leaving>,
    /// Waits for rescues that are under way when everything else is over.
    settling: Option<JoinHandle<Vec<JobId>>>,
    /// Told to leave at once.
    forced: bool,
}

impl Stand {
    /// Runs until the worker is gone and nothing is owed to anybody.
    pub(super) async fn run(mut self) -> Left {
        let look_every = self.systemd.as_ref().and_then(Systemd::look_every);
        let mut state = State {
            beat: every(look_every.unwrap_or(BEAT_EVERY).min(BEAT_EVERY)),
            looks: every(LOOK_EVERY),
            descendants: None,
            process: Process::None,
            timers: BTreeMap::new(),
            arrivals: mpsc::unbounded_channel(),
            late_at: None,
            last_end: None,
            wedged: false,
            job_processes: BTreeMap::new(),
            tally: Tally::new(),
            drained_at: None,
            leaving: None,
            settling: None,
            forced: false,
        };
        self.ward(WardInput::Begin, &mut state);
        loop {
            if let (Some(leaving), None) = (state.leaving, &state.settling) {
                let with = (leaving == Leaving::WithIt).then_some(state.last_end).flatten();
                return Left { report: state.tally.whole(), with, fault: self.registrations.fault() };
            }
            let happened = self.happens(&mut state).await;
            self.beat.beat();
            self.take(happened, &mut state);
        }
    }

    async fn happens(&mut self, state: &mut State) -> Happened {
        let State { beat, looks, .. } = state;
        let first = state.timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
        let due = async {
            until(first.map(|(_, at)| at)).await;
            first.map(|(timer, _)| timer)
        };
        let late = until(state.late_at);
        let settled = async {
            match &mut state.settling {
                // Who asked has panicked: nobody is to wait for that.
                Some(settling) => settling.await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        };
        let descendant = async {
            match &mut state.descendants {
                Some(descendants) => descendants.next().await,
                None => std::future::pending().await,
            }
        };
        let news = async {
            match &mut self.news {
                Some(news) => news.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            control = self.signals.next() => Happened::Control(control),
            Some(control) = self.control.recv() => Happened::Control(control),
            Some(verb) = self.verbs.recv() => Happened::Control(verb.into()),
            Some(call) = self.calls.recv() => Happened::Call(call),
            news = news => Happened::News(news),
            Some(stream) = self.streams.recv() => Happened::Connected(stream),
            Some(arrival) = state.arrivals.1.recv() => Happened::Arrived(Box::new(arrival)),
            left = self.registrations.left() => Happened::Left(left),
            jobs = self.rooms.gone() => Happened::Gone(jobs),
            change = state.process.next() => Happened::Process(change),
            lost = settled => Happened::Settled(lost),
            _ = descendant => Happened::Descendant,
            _ = looks.tick() => Happened::LookIntoRooms,
            Some(timer) = due => Happened::Due(timer),
            () = late => Happened::Late,
            Ok(()) = self.shown.changed() => Happened::Shown,
            _ = beat.tick() => Happened::Beat,
        }
    }

    fn take(&mut self, happened: Happened, state: &mut State) {
        match happened {
            Happened::Control(control) => self.controlled(&control, state),
            Happened::Connected(stream) => {
                let arrivals = state.arrivals.0.clone();
                tokio::spawn(connection::serve(stream, self.secrets.clone(), arrivals));
            }
            Happened::Arrived(arrival) => self.arrived(*arrival, state),
            Happened::Call(call) => {
                state.tally.heard(&call, self.rescues.is_some());
                self.call(call, state);
            }
            Happened::News(news) => self.heard(news, state),
            Happened::Gone(jobs) => {
                for job in jobs {
                    tracing::info!(job_id = %job, "its agent has left the room, and its worker says nothing: it has ended");
                    self.registrations.tell(|| FromWorker::JobDied(job.clone(), End::Success));
                }
            }
            Happened::Descendant | Happened::LookIntoRooms => self.rooms.look(),
            Happened::Left(report) => self.left(report, state),
            Happened::Process(change) => self.changed(change, state),
            Happened::Settled(lost) => {
                state.settling = None;
                state.tally.lost(lost, state.forced);
            }
            Happened::Due(timer) => {
                state.timers.remove(&timer);
                self.ward(WardInput::Fired(timer), state);
            }
            Happened::Late => {
                state.late_at = None;
                tracing::error!(
                    waited_s = self.register_within.as_secs_f64(),
                    "the worker has not registered through guard, which guards nothing so far: it does not get along \
                     with its server, or it passes guard by; look for a URL in its code (AgentServer(ws_url=…)), for \
                     load_dotenv(override=True) with a LIVEKIT_URL, for a --url flag"
                );
            }
            Happened::Shown => {
                let wedged = self.shown.borrow_and_update().wedged;
                if wedged && !std::mem::replace(&mut state.wedged, wedged) {
                    self.look_at_wedged(state);
                }
                state.wedged = wedged;
            }
            Happened::Beat => {
                self.registrations.let_go(std::time::Instant::now());
            }
        }
        if let Some(systemd) = &mut self.systemd {
            systemd.look(&self.shown.borrow(), Instant::now());
        }
    }

    fn controlled(&mut self, control: &Control, state: &mut State) {
        let drained_before = self.registrations.draining();
        self.registrations.control(control);
        match control {
            Control::Start | Control::Quiet | Control::Unquiet => {}
            Control::Drain(seen) => {
                if !drained_before {
                    state.late_at = None;
                    if self.registrations.is_empty() {
                        tracing::info!("draining: the worker has no registration");
                    }
                }
                state.drained_at.get_or_insert(Instant::from_std(*seen));
                self.rescues.iter().for_each(Rescues::draining);
                self.ward(WardInput::Drain, state);
                self.idle_if_alone(state);
            }
            Control::Force => {
                state.forced = true;
                if state.settling.is_some() {
                    tracing::warn!("told to leave at once, while calls are dispatched again");
                    self.settle(Duration::ZERO, state);
                }
                self.ward(WardInput::Force, state);
                self.idle_if_alone(state);
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival, state: &mut State) {
        state.late_at = None;
        let drains_well = arrival.connection.sdk.drains_well();
        // The first one is what operators see.
        self.info.get_or_init(|| WorkerInfo {
            agent_name: arrival.request.agent_name.clone(),
            worker_type: arrival.request.r#type().as_str_name(),
            version: env!("CARGO_PKG_VERSION"),
        });
        self.ward(WardInput::Registered { drains_well }, state);
        self.registrations.arrived(arrival);
    }

    fn call(&mut self, call: Call, state: &mut State) {
        match call {
            Call::Began { job, agent, reported } => {
                let id = JobId::from(job.id.as_str());
                let room = job.room.as_ref().map_or("", |room| room.name.as_str());
                self.secrets.begin(id.clone(), room);
                // Until the shim names the job's process, whose end is heard of then.
                if !reported {
                    self.rooms.begin(id, room, &agent);
                }
                if let Some(rescues) = &self.rescues {
                    rescues.assigned(&job, &agent);
                }
            }
            Call::Ended(job) => {
                state.job_processes.remove(&job);
                self.secrets.end(&job);
                self.rooms.end(&job);
                if let Some(rescues) = &self.rescues {
                    rescues.ended(&job);
                }
            }
            Call::Orphaned(job) => {
                // Where the worker lives, the job's own process died, and its next one may die of the same.
                let suspect = matches!(state.process, Process::Runs(_));
                if let Some(rescues) = &self.rescues {
                    rescues.orphaned(&job, suspect);
                }
            }
            Call::Unheard(frame) => self.registrations.tell(|| FromWorker::Termination(frame.clone())),
            Call::Strayed(frame, sdk) => {
                self.registrations.tell(|| FromWorker::Report(frame.clone(), sdk));
            }
            // Where its process is not known, nothing ends a job that does not end by itself.
            Call::Terminate(job) => drop(state.job_processes.get(&job).map(Held::terminate)),
            Call::Kill(job) => drop(state.job_processes.get(&job).map(Held::kill)),
        }
    }

    fn heard(&mut self, news: ShimNews, state: &mut State) {
        match news {
            ShimNews::Process { pid } => tracing::debug!(pid, "a process for jobs has started"),
            ShimNews::Started { pid, job } => {
                self.rooms.end(&job);
                // One that has ended already is told of next.
                if let Some(process) = i32::try_from(pid).ok().and_then(|pid| Held::open(pid).ok()) {
                    state.job_processes.insert(job, process);
                }
            }
            ShimNews::Ended { job, ended, .. } => {
                state.job_processes.remove(&job);
                self.registrations.tell(|| {
                    let end = if ended.success() {
                        End::Success
                    } else {
                        End::Failed(format!("its process ended: {ended}").into())
                    };
                    FromWorker::JobDied(job.clone(), end)
                });
            }
        }
    }

    fn left(&mut self, report: Option<Report>, state: &mut State) {
        if let Some(report) = report {
            state.tally.left(report);
            if *state.tally.outcome() == Outcome::Refused {
                return self.controlled(&Control::Force, state);
            }
        }
        self.idle_if_alone(state);
    }

    /// Without a link nothing is owed to anybody. Where calls were cut off, the time for them is over for the worker too.
    fn idle_if_alone(&mut self, state: &mut State) {
        if self.registrations.draining() && self.registrations.is_empty() {
            if self.ward.is_running() && *state.tally.outcome() != Outcome::Finished {
                self.ward(WardInput::Force, state);
            }
            self.ward(WardInput::Idle, state);
        }
    }

    fn changed(&mut self, change: Change, state: &mut State) {
        match change {
            Change::Started(pid) => {
                tracing::info!(pid, "the worker runs");
                state.descendants = Some(Descendants::of(pid));
            }
            Change::NotStarted(error) => {
                tracing::error!(%error, "the worker cannot be started; is the program there and executable?");
                self.ended(Ended::Exit(CANNOT_START), state);
            }
            Change::Ended(ended) => self.ended(ended, state),
        }
    }

    fn ended(&mut self, ended: Ended, state: &mut State) {
        if self.registrations.draining() {
            tracing::info!(%ended, "the worker has ended");
        } else {
            tracing::error!(%ended, "the worker has ended by itself");
        }
        let success = ended.success();
        state.last_end = Some(ended);
        state.late_at = None;
        state.job_processes.clear();
        // Before anything is dispatched again: a job's process that lives would talk on beside its successor.
        if let Some(left) = state.descendants.take() {
            left.kill();
        }
        self.registrations.died();
        self.ward(WardInput::Ended { success }, state);
        // Also where the drain is the answer to this end.
        state.tally.ended(self.registrations.draining());
    }

    fn ward(&mut self, input: WardInput, state: &mut State) {
        self.ward.handle(input);
        while let Some(output) = self.ward.poll_output() {
            match output {
                WardOutput::Start => self.start(state),
                WardOutput::Terminate => state.process.terminate(),
                WardOutput::Kill => {
                    if state.process.kill() {
                        return self.ended(Ended::Signal(SIGKILL), state);
                    }
                }
                WardOutput::Arm(timer) => {
                    let wait = match timer {
                        WardTimer::Restart(failures) => {
                            let wait = last_call_proto::policy::restart_wait(failures, fastrand::u32(..));
                            tracing::info!(wait_s = wait.as_secs_f64(), "the worker is started again");
                            wait
                        }
                        WardTimer::Steady => STEADY_AFTER,
                        WardTimer::Kill => self.exit_within,
                        WardTimer::Links => LINKS_WITHIN,
                    };
                    state.timers.insert(timer, Instant::now() + wait);
                }
                WardOutput::Disarm(timer) => drop(state.timers.remove(&timer)),
                WardOutput::GiveUp => {
                    tracing::error!("the worker is not started again: guard leaves with it");
                    self.rescues.iter().for_each(Rescues::draining);
                    self.registrations.control(&Control::Drain(std::time::Instant::now()));
                    if self.registrations.is_empty() {
                        self.ward.handle(WardInput::Idle);
                    }
                }
                WardOutput::Leave(leaving) => self.leave(leaving, state),
            }
        }
    }

    fn leave(&self, leaving: Leaving, state: &mut State) {
        state.leaving = Some(leaving);
        if !self.registrations.is_empty() || self.registrations.fault() {
            state.tally.abandon();
        }
        // What a platform was told to give is drain and exit; and no more.
        let given = self.drain_within.saturating_add(self.exit_within);
        let left = state.drained_at.and_then(|at| at.checked_add(given));
        let left = left.map(|until| until.saturating_duration_since(Instant::now()));
        self.settle(left.map_or(RESCUES_WITHIN, |left| left.min(RESCUES_WITHIN)), state);
    }

    fn settle(&self, within: Duration, state: &mut State) {
        let settle = |rescues: Rescues| tokio::spawn(async move { rescues.settle(within).await });
        state.settling = self.rescues.clone().map(settle);
    }

    /// Runs the command that looks at a worker which does not listen.
    fn look_at_wedged(&self, state: &State) {
        let (Some(look), Process::Runs(child)) = (&self.on_wedged, &state.process) else { return };
        let mut command = Command::new("sh");
        let worker = program_of(child.pid()).to_string();
        command.args(["-c", look]).env("LAST_CALL_WORKER_PID", worker).stdin(Stdio::null());
        // It runs where the worker can read its environment.
        self.secrets.environment(&mut command);
        tokio::spawn(async move {
            let hear = |said: Said<'_>| {
                if let Said::Line { text, .. } = said {
                    tracing::warn!(on_wedged = true, "{text}");
                }
            };
            match Supervised::spawn(command, hear).await {
                Ok(looking) => {
                    let ended = tokio::time::timeout(LOOK_WITHIN, looking.ended()).await;
                    tracing::info!(ended = ?ended.ok().map(|ended| ended.to_string()), "--on-wedged has run");
                }
                Err(error) => tracing::warn!(%error, "--on-wedged cannot be run"),
            }
        });
    }

    fn start(&mut self, state: &mut State) {
        state.late_at = Some(Instant::now() + self.register_within);
        let mut command = match (self.command)() {
            Ok(command) => command,
            Err(error) => {
                state.process = Process::starting(async { Err(error) });
                return;
            }
        };
        command.stdin(Stdio::null()).env("LIVEKIT_URL", &self.front.url);
        // systemd hears of guard, which knows how the worker is.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(variable);
        }
        self.secrets.environment(&mut command);
        if let Some(forward) = &self.forward {
            forward.environment(&mut command);
        }
        if let Some(shim) = &self.shim {
            shim.environment(&mut command);
        }
        let start = Start { prints_by_itself: true, ..command.into() };
        state.process = Process::starting(Supervised::spawn(start, |_| {}));
    }
}

/// What a shell says of a command that cannot be run.
const CANNOT_START: i32 = 126;
const SIGKILL: i32 = Signal::SIGKILL as i32;
