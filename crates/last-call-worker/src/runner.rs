//! Runs user code as tasks on the user's runtime: request handlers, entrypoints, callbacks. Where jobs are processes,
//! what runs for one here is the future that watches its process.
//!
//! Owns the isolation of one job from another and the way back to the core. Refuses to decide when a job
//! must stop.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use last_call_proto::{Decision, End, JobId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::guard::FromWorker;
use crate::job::{
    Draining, Given, JobApi, JobContext, JobInfo, JobPhase, State, StopReason, Stopping, panic_text,
};
use crate::job_process::Processes;
use crate::jobs::Jobs;
use crate::offer::{JobRequest, Reply};
use crate::otel::JobTrace;
use crate::program::Program;

/// What user code tells the core.
#[derive(Debug)]
pub(crate) enum FromUser {
    /// It runs: sent before the request handler is called.
    Heartbeat(JobId),
    ProbeAnswered,
    /// The load that the user's own function gave, of 1.
    Load(f64),
    Decided(JobId, Reply),
    /// The request handler panicked; what it said.
    DecisionFailed(JobId, String),
    StopRequested(JobId),
    /// An entrypoint starts, so long after its assignment.
    Started(Duration),
    Finishing(JobId),
    Ended(JobId, End),
    /// The job's process died without an end of its own; that it ended follows.
    Died(JobId),
    /// The worker behind guard did something.
    Worker(FromWorker),
}

impl FromUser {
    /// The decision as the core knows it.
    pub(crate) fn decision(reply: &Reply) -> Decision {
        match reply {
            Reply::Accept(_) => Decision::Accept,
            Reply::Reject => Decision::Reject,
            Reply::Terminate => Decision::Terminate,
        }
    }
}

/// What a job may do once its end has been reported.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
/// Runs each job as a task of one runtime.
pub(crate) struct TaskRunner {
    user: Handle,
    program: Arc<Program>,
    /// Where entrypoints run elsewhere.
    processes: Option<Processes>,
    /// Where entrypoints run here, and there is a server.
    api: Option<JobApi>,
    events: mpsc::UnboundedSender<FromUser>,
    state: Prewarmed,
    load_asked: Arc<AtomicBool>,
    /// Those that run, for operators.
    jobs: Jobs,
    asked: HashMap<JobId, AbortHandle>,
    /// Jobs that are over and say goodbye.
    leaving: JoinSet<()>,
    running: HashMap<JobId, Running>,
}

/// What prewarming makes, which is there before the first job is.
enum Prewarmed {
    Waiting(oneshot::Receiver<Option<State>>),
    Done(Option<State>),
}

impl Prewarmed {
    fn get(&mut self) -> Option<State> {
        if let Self::Waiting(waiting) = self {
            *self = Self::Done(waiting.try_recv().ok().flatten());
        }
        match self {
            Self::Done(state) => state.clone(),
            Self::Waiting(_) => None,
        }
    }
}

struct Running {
    phase: watch::Sender<JobPhase>,
    cancel: Option<oneshot::Sender<()>>,
    task: AbortHandle,
    context: JobContext,
}

impl TaskRunner {
    pub(crate) fn new(
        user: Handle,
        program: Arc<Program>,
        processes: Option<Processes>,
        api: Option<JobApi>,
        events: mpsc::UnboundedSender<FromUser>,
        prewarmed: oneshot::Receiver<Option<State>>,
        jobs: Jobs,
    ) -> Self {
        let state = Prewarmed::Waiting(prewarmed);
        Self {
            user,
            program,
            processes,
            api,
            events,
            state,
            load_asked: Arc::default(),
            jobs,
            asked: HashMap::new(),
            leaving: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Sends a heartbeat, refreshes the user's own load, and asks about an offer, in this order.
    pub(crate) fn ask(&mut self, job: &JobId, info: Arc<JobInfo>) {
        let (program, events, id) = (self.program.clone(), self.events.clone(), job.clone());
        let task = self.user.spawn(async move {
            let _ = events.send(FromUser::Heartbeat(id.clone()));
            report_load(&program, &events);
            let decided =
                AssertUnwindSafe(async { program.decide(JobRequest::new(info)).await }).catch_unwind();
            let _ = events.send(match decided.await {
                Ok(reply) => FromUser::Decided(id, reply),
                Err(panic) => FromUser::DecisionFailed(id, panic_text(panic.as_ref())),
            });
        });
        self.asked.insert(job.clone(), task.abort_handle());
    }

    /// Stops to ask about an offer.
    pub(crate) fn forget(&mut self, job: &JobId) {
        if let Some(task) = self.asked.remove(job) {
            task.abort();
        }
    }

    /// The question about an offer is answered.
    pub(crate) fn answered(&mut self, job: &JobId) {
        self.asked.remove(job);
    }

    pub(crate) fn probe(&self) {
        let events = self.events.clone();
        self.user.spawn(async move { events.send(FromUser::ProbeAnswered) });
    }

    /// Refreshes the user's own load, if there is a function for it.
    pub(crate) fn refresh_load(&self) {
        // One question is enough for code that does not answer.
        if self.program.has_load() && !self.load_asked.swap(true, Ordering::Relaxed) {
            let (program, events) = (self.program.clone(), self.events.clone());
            let asked = self.load_asked.clone();
            self.user.spawn(async move {
                report_load(&program, &events);
                asked.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Starts a job's entrypoint.
    pub(crate) fn launch(&mut self, job: &JobId, info: Arc<JobInfo>, mut given: Given, trace: JobTrace) {
        given.state = self.state.get();
        given.api.clone_from(&self.api);
        let (phase, seen) = watch::channel(JobPhase::default());
        let (cancel, cancelled) = oneshot::channel();
        self.jobs.begin(job);
        let context = JobContext::new(info, given, trace, seen, self.events.clone(), self.jobs.clone());
        let (program, events, id) = (self.program.clone(), self.events.clone(), job.clone());
        let task = if let Some(processes) = self.processes.clone() {
            let runtime = processes.runtime.clone();
            let job_context = context.clone();
            runtime.spawn(async move {
                let whole = processes.run(job_context.clone(), cancelled, events, id);
                job_context.enter(whole).await;
            })
        } else {
            let assigned = Instant::now();
            let job_context = context.clone();
            self.user.spawn(async move {
                let _ = events.send(FromUser::Started(assigned.elapsed()));
                // Here and not on the link: it starts the job's span, which may be code of the program's.
                job_context.enter(run_job(program, job_context.clone(), cancelled, events, id)).await;
            })
        };
        let task = task.abort_handle();
        self.running.insert(job.clone(), Running { phase, cancel: Some(cancel), task, context });
    }

    /// The worker drains.
    pub(crate) fn drain(&self) {
        if let Some(processes) = &self.processes {
            processes.drain();
        }
    }

    /// A job that was launched and not released yet.
    pub(crate) fn job(&self, job: &JobId) -> Option<&JobContext> {
        self.running.get(job).map(|running| &running.context)
    }

    pub(crate) fn notify(&self, job: &JobId, draining: Draining) {
        if let Some(running) = self.running.get(job) {
            running.phase.send_modify(|phase| phase.draining = Some(draining));
        }
    }

    pub(crate) fn tell(&self, job: &JobId, reason: last_call_proto::StopReason, deadline: Instant) {
        if let Some(running) = self.running.get(job) {
            let reason = match reason {
                last_call_proto::StopReason::Terminated => StopReason::Terminated,
                last_call_proto::StopReason::Requested => StopReason::Requested(running.context.requested()),
                last_call_proto::StopReason::DrainDeadline => StopReason::DrainDeadline,
            };
            let stopping = Stopping { reason, deadline };
            running.phase.send_modify(|phase| phase.stopping = Some(stopping));
        }
    }

    /// Cancels a job's entrypoint; its shutdown callbacks run.
    pub(crate) fn cancel(&mut self, job: &JobId) {
        if let Some(cancel) = self.running.get_mut(job).and_then(|running| running.cancel.take()) {
            // A job that is over already needs no cancelling.
            let _ = cancel.send(());
        }
    }

    /// Ends a job. Code that blocks its thread is left behind: nothing ends a thread but its process.
    pub(crate) fn kill(&mut self, job: &JobId) {
        self.jobs.end(job);
        if let Some(running) = self.running.remove(job) {
            running.task.abort();
            running.context.tasks().close();
            running.context.trace().killed(&self.user);
            self.let_go(running);
        }
    }

    /// The job's last report is out: forget it.
    pub(crate) fn release(&mut self, job: &JobId) {
        self.jobs.end(job);
        if let Some(running) = self.running.remove(job) {
            self.let_go(running);
        }
    }

    /// Waits until every job that is over has said goodbye, which it has within a second.
    pub(crate) async fn said_goodbye(&mut self) {
        while self.leaving.join_next().await.is_some() {}
    }

    /// Gives up everything of the user's; its destructors run on the user's runtime. What is returned disconnects when
    /// every job has said goodbye.
    pub(crate) fn leave(mut self) -> std_mpsc::Receiver<()> {
        let (saying, said) = std_mpsc::channel();
        self.user.clone().spawn(async move {
            self.said_goodbye().await;
            drop(saying);
            let Self { program, state, running, .. } = self;
            drop((program, state, running));
        });
        said
    }

    /// The job says goodbye; and what may hold the last reference to user data is dropped where user code runs, and not
    /// on the link.
    fn let_go(&mut self, running: Running) {
        while self.leaving.try_join_next().is_some() {}
        let goodbye = async move {
            let mut farewells = JoinSet::new();
            for farewell in running.context.farewell().take() {
                farewells.spawn(running.context.enter(farewell));
            }
            let all = async { while farewells.join_next().await.is_some() {} };
            if tokio::time::timeout(FAREWELL_WITHIN, all).await.is_err() {
                tracing::warn!(job_id = running.context.id(), within = ?FAREWELL_WITHIN, "a job's farewell is not done");
            }
            drop(running);
        };
        self.leaving.spawn_on(goodbye, &self.user);
    }
}

fn report_load(program: &Program, events: &mpsc::UnboundedSender<FromUser>) {
    // A load function that panics counts as the whole load: it must not draw calls.
    if let Some(load) = program.load() {
        let _ = events.send(FromUser::Load(load));
    }
}

/// The type of an exception that is a panic.
const PANIC: &str = "panic";

/// One job from the entrypoint to the last callback.
async fn run_job(
    program: Arc<Program>,
    job: JobContext,
    cancelled: oneshot::Receiver<()>,
    events: mpsc::UnboundedSender<FromUser>,
    id: JobId,
) {
    // Its error's text and its destructors are user code too.
    let end = AssertUnwindSafe(run_entrypoint(&program, &job, cancelled)).catch_unwind().await;
    let mut end = end.unwrap_or_else(|panic| panicked(&job, panic.as_ref()));
    let _ = events.send(FromUser::Finishing(id.clone()));
    let task = job.tasks().cancel().await;
    let callback = run_callbacks(&job).await.map(|text| format!("a shutdown callback panicked: {text}"));
    if let (End::Success, Some(text)) = (&end, task.or(callback)) {
        end = failed(&job, PANIC, &text);
    }
    job.trace().end(&end);
    let _ = events.send(FromUser::Ended(id, end));
}

async fn run_entrypoint(program: &Program, job: &JobContext, cancelled: oneshot::Receiver<()>) -> End {
    let entrypoint = AssertUnwindSafe(async { program.entry(job.clone()).await }).catch_unwind();
    tokio::select! {
        biased;
        Ok(()) = cancelled => End::Failed("cancelled: it did not return within its grace period".into()),
        failure = job.tasks().failure() => failed(job, PANIC, &failure),
        result = entrypoint => match result {
            Ok(Ok(())) => End::Success,
            Ok(Err(error)) => failed(job, program.error_type, &crate::error::whole_text(error.as_ref())),
            Err(panic) => panicked(job, panic.as_ref()),
        },
    }
}

fn panicked(job: &JobContext, panic: &(dyn Any + Send)) -> End {
    failed(job, PANIC, &format!("panicked: {}", panic_text(panic)))
}

fn failed(job: &JobContext, kind: &'static str, text: &str) -> End {
    job.failed(kind, text);
    End::Failed(text.into())
}

/// Runs all shutdown callbacks at once, and says what the first one to panic said.
async fn run_callbacks(job: &JobContext) -> Option<String> {
    let reason = job.stop_reason();
    let mut callbacks = JoinSet::new();
    for callback in job.take_callbacks() {
        let reason = reason.clone();
        callbacks.spawn(job.enter(async move { callback(reason).await }));
    }
    let mut panicked = None;
    while let Some(done) = callbacks.join_next().await {
        if let Err(error) = done
            && let Ok(panic) = error.try_into_panic()
        {
            panicked.get_or_insert_with(|| panic_text(panic.as_ref()));
        }
    }
    panicked
}
