//! What user code sees of one job: who calls, whether the worker drains, and what belongs to the job.
//!
//! Owns [`JobContext`]. Refuses to run anything itself: the runner does, and the core says when it ends.

mod farewell;
mod info;
mod phase;
mod server;
mod tasks;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use last_call_proto::JobId;
use tokio::sync::{mpsc, watch};

pub(crate) use farewell::Farewell;
pub use info::{JobInfo, JobType, ParticipantInfo, RoomInfo};
pub(crate) use phase::JobPhase;
pub use phase::{Draining, StopReason, Stopping};
pub(crate) use server::JobApi;
pub(crate) use tasks::{Tasks, panic_text};

use crate::jobs::{Jobs, Usage};
use crate::otel::JobTrace;
use crate::runner::FromUser;
use crate::secret::Secret;

/// An error of user code: anything that `?` turns into a boxed error.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Callback = Box<dyn FnOnce(String) -> BoxFuture<()> + Send>;
pub(crate) type State = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static CURRENT: JobContext;
}

/// One job, as its entrypoint sees it. Cheap to clone; every clone is the same job.
#[derive(Clone)]
pub struct JobContext(Arc<Inner>);

struct Inner {
    info: Arc<JobInfo>,
    given: Given,
    trace: JobTrace,
    phase: watch::Receiver<JobPhase>,
    tasks: Tasks,
    callbacks: Mutex<Vec<Callback>>,
    farewell: Farewell,
    fields: Mutex<BTreeMap<String, String>>,
    events: mpsc::UnboundedSender<FromUser>,
    requested: Mutex<Option<String>>,
    failed_with: Mutex<&'static str>,
    jobs: Jobs,
}

/// What came with the assignment.
pub(crate) struct Given {
    pub(crate) identity: String,
    pub(crate) url: String,
    pub(crate) token: Secret,
    pub(crate) worker_id: String,
    pub(crate) state: Option<State>,
    pub(crate) api: Option<JobApi>,
}

impl JobContext {
    pub(crate) fn new(
        info: Arc<JobInfo>,
        given: Given,
        trace: JobTrace,
        phase: watch::Receiver<JobPhase>,
        events: mpsc::UnboundedSender<FromUser>,
        jobs: Jobs,
    ) -> Self {
        Self(Arc::new(Inner {
            info,
            given,
            trace,
            phase,
            tasks: Tasks::default(),
            callbacks: Mutex::default(),
            farewell: Farewell::default(),
            fields: Mutex::default(),
            events,
            requested: Mutex::default(),
            failed_with: Mutex::default(),
            jobs,
        }))
    }

    /// The job that the running task belongs to: the entrypoint's, its shutdown callbacks', or that of a
    /// task started by [`JobContext::spawn`]. `None` everywhere else, in a task started by `tokio::spawn`
    /// too.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The job's id ("AJ_…").
    #[must_use]
    pub fn id(&self) -> &str {
        self.info().id()
    }

    /// Everything that the offer said: room, participant, metadata, attributes.
    #[must_use]
    pub fn info(&self) -> &JobInfo {
        &self.0.info
    }

    /// The room to join.
    #[must_use]
    pub fn room(&self) -> &RoomInfo {
        self.info().room()
    }

    /// The participant that the job is for; `None` for a job of type [`JobType::Room`].
    #[must_use]
    pub fn participant(&self) -> Option<&ParticipantInfo> {
        self.info().participant()
    }

    /// The dispatch's metadata. Personal data: never logged by this crate.
    #[must_use]
    pub fn metadata(&self) -> &str {
        self.info().metadata()
    }

    /// The dispatch's attributes. Personal data: never logged by this crate.
    #[must_use]
    pub fn attributes(&self) -> &HashMap<String, String> {
        self.info().attributes()
    }

    /// The identity that this agent has in the room.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.0.given.identity
    }

    /// The server to join the room on: the assignment's, or the worker's own.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.given.url
    }

    /// The join token, valid for an hour. Whoever has it is this agent: never log it.
    #[must_use]
    pub fn token(&self) -> &str {
        self.0.given.token.expose()
    }

    /// The worker's id at the server when the job was assigned.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.0.given.worker_id
    }

    /// What `prewarm` made: one for all jobs of the process.
    ///
    /// # Panics
    /// If `prewarm` made something else than an `S`, or there is none. Fails the job, touches no other.
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(&self) -> &S {
        self.try_state().unwrap_or_else(|| {
            panic!("no state of type {}: it must be what Worker::prewarm returns", std::any::type_name::<S>())
        })
    }

    /// As [`JobContext::state`], with `None` where that panics.
    #[must_use]
    pub fn try_state<S: Send + Sync + 'static>(&self) -> Option<&S> {
        self.0.given.state.as_deref()?.downcast_ref()
    }

    /// Waits until the worker drains, and says until when the job may go on by itself. For ever if it does
    /// not drain. Cancel safe, cheap, and may be called often: a drain that began is told at once.
    pub async fn draining(&self) -> Draining {
        phase::until(self.0.phase.clone(), |phase| phase.draining).await
    }

    /// Whether the worker drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.phase.borrow().draining.is_some()
    }

    /// Waits until this job is told to stop: by the server, by [`JobContext::shutdown`], at the drain
    /// deadline. The entrypoint is cancelled at the [`Stopping::deadline`]. Cancel safe.
    pub async fn stopping(&self) -> Stopping {
        phase::until(self.0.phase.clone(), |phase| phase.stopping.clone()).await
    }

    /// Asks for this job to stop: [`JobContext::stopping`] resolves, and the entrypoint is cancelled if it
    /// does not return within its grace period. Returns at once; only the first reason counts.
    pub fn shutdown(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut requested = self.lock(&self.0.requested);
        if requested.is_none() {
            *requested = Some(reason);
            // A worker that is gone ends its jobs anyway.
            let _ = self.0.events.send(FromUser::StopRequested(JobId::from(self.id())));
        }
    }

    /// Says that the job's own process died without an end of its own: its call may be rescued (CALL-2), where the worker
    /// was asked to, and the job was not told to stop. For an entrypoint that has a process for the job.
    pub fn process_died(&self) {
        // A worker that is gone rescues nothing.
        let _ = self.0.events.send(FromUser::Died(JobId::from(self.id())));
    }

    /// Runs `callback` with the reason once the entrypoint is over, however it ended; all callbacks run at once, within
    /// the job's grace period or what the drain left of it. The reason is what told the job to stop first: the words given
    /// to [`JobContext::shutdown`], "room disconnected" where the agent is out of its room for good, "the server ended the
    /// job", "the drain deadline has come"; empty where the entrypoint ended by itself.
    pub fn add_shutdown_callback<F, Fut>(&self, callback: F)
    where
        F: FnOnce(String) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.lock(&self.0.callbacks).push(Box::new(move |reason| Box::pin(callback(reason))));
    }

    /// Runs `farewell` once the job's end has been reported to the server, within a second: for what the server would
    /// take for the job's failure before, as leaving the room (JOB-3). All farewells run at once, on the user's runtime.
    pub fn add_farewell(&self, farewell: impl Future<Output = ()> + Send + 'static) {
        self.0.farewell.add(Box::pin(farewell));
    }

    /// Something that another crate keeps with the job, one of each type: made when it is asked for the first time, let
    /// go when the job's end has been reported.
    #[must_use]
    pub fn keep<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.0.farewell.keep()
    }

    /// Starts a task that belongs to the job: it has the job's log fields and [`JobContext::current`], is
    /// cancelled when the entrypoint is over and joined before the job ends; its panic fails the job. It
    /// runs on the runtime of the task that calls. Once the entrypoint is over, nothing is started.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(self.enter(task));
    }

    /// Puts a field on every log line of the job from now on.
    pub fn log_field(&self, key: impl Into<String>, value: impl fmt::Display) {
        // User code, and it may log: not under the lock.
        let (key, value) = (key.into(), value.to_string());
        self.lock(&self.0.fields).insert(key, value);
    }

    pub(crate) fn log_fields(&self) -> BTreeMap<String, String> {
        self.lock(&self.0.fields).clone()
    }

    /// `future`, as a part of this job.
    pub(crate) fn enter<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        use tracing::Instrument;
        let info = self.info();
        let span = tracing::error_span!(
            "job",
            job_id = info.id(),
            room = info.room().name(),
            agent_name = info.agent_name()
        );
        CURRENT.scope(self.clone(), self.trace().run(future)).instrument(span)
    }

    /// For the operators' pages.
    pub(crate) fn uses(&self, process: u32, usage: Option<Usage>) {
        self.0.jobs.uses(&JobId::from(self.id()), process, usage);
    }

    pub(crate) fn farewell(&self) -> &Farewell {
        &self.0.farewell
    }

    /// Waits until the job's end has been reported.
    pub(crate) async fn released(&self) {
        let mut phase = self.0.phase.clone();
        while phase.changed().await.is_ok() {}
    }

    pub(crate) fn trace(&self) -> &JobTrace {
        &self.0.trace
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn take_callbacks(&self) -> Vec<Callback> {
        std::mem::take(&mut *self.lock(&self.0.callbacks))
    }

    /// User code failed, with this type of error.
    pub(crate) fn failed(&self, kind: &'static str, text: &str) {
        self.trace().exception(kind, text);
        *self.lock(&self.0.failed_with) = kind;
    }

    /// The type of the error that user code failed with; empty if it did not.
    pub(crate) fn failed_with(&self) -> &'static str {
        *self.lock(&self.0.failed_with)
    }

    /// The words that the job gave when it asked to stop.
    pub(crate) fn requested(&self) -> String {
        self.lock(&self.0.requested).clone().unwrap_or_default()
    }

    /// The reason that shutdown callbacks are told: empty where nothing told the job to stop.
    pub(crate) fn stop_reason(&self) -> String {
        self.0
            .phase
            .borrow()
            .stopping
            .as_ref()
            .map(|stopping| stopping.reason.to_string())
            .unwrap_or_default()
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        // What a panicking holder leaves behind is whole: every section is one assignment.
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.id())
            .field("room", &self.room().name())
            .finish_non_exhaustive()
    }
}
