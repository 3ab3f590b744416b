//! The user's program as data: its functions and what it registers as.
//!
//! Owns [`Worker`], the builder. Refuses to run anything.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::job::{BoxFuture, Error, JobContext, JobType, State};
use crate::offer::{JobRequest, Reply};

pub(crate) type Prewarm = Box<dyn FnOnce() -> BoxFuture<Result<State, Error>> + Send>;
type OnRequest = Box<dyn Fn(JobRequest) -> BoxFuture<Reply> + Send + Sync>;
type Entrypoint = Box<dyn Fn(JobContext) -> BoxFuture<Result<(), Error>> + Send + Sync>;
type LoadFunction = Box<dyn Fn() -> f64 + Send + Sync>;

/// What a worker's agents may do in their rooms (`livekit.ParticipantPermission`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Publish tracks. Default yes.
    pub publish: bool,
    /// Subscribe to tracks. Default yes.
    pub subscribe: bool,
    /// Publish data. Default yes.
    pub publish_data: bool,
    /// Change their own metadata and attributes. Default yes.
    pub update_metadata: bool,
    /// Be invisible to the other participants. Default no.
    pub hidden: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { publish: true, subscribe: true, publish_data: true, update_metadata: true, hidden: false }
    }
}

/// A worker: what it is called, and the functions that it calls.
///
/// ```no_run
/// use last_call_worker::{Error, JobContext, Worker};
///
/// fn main() -> std::process::ExitCode {
///     last_call_worker::run(Worker::new("concierge").entrypoint(answer))
/// }
///
/// async fn answer(job: JobContext) -> Result<(), Error> {
///     let draining = job.draining().await;
///     tracing::info!(deadline = ?draining.deadline, "last call");
///     Ok(())
/// }
/// ```
#[must_use]
pub struct Worker {
    pub(crate) prewarm: Option<Prewarm>,
    pub(crate) program: Program,
}

/// The part of a worker that all its jobs share.
pub(crate) struct Program {
    pub(crate) agent_name: String,
    pub(crate) job_type: JobType,
    pub(crate) permissions: Permissions,
    on_request: Option<OnRequest>,
    entrypoint: Option<Entrypoint>,
    /// The type of the errors that the entrypoint returns.
    pub(crate) error_type: &'static str,
    load: Option<LoadFunction>,
}

impl Worker {
    /// A worker whose agents are dispatched by `agent_name`; with an empty one, to every new room. The
    /// environment has the last word (`LIVEKIT_AGENT_NAME_OVERRIDE`).
    pub fn new(agent_name: impl Into<String>) -> Self {
        Self {
            prewarm: None,
            program: Program {
                agent_name: agent_name.into(),
                job_type: JobType::default(),
                permissions: Permissions::default(),
                on_request: None,
                entrypoint: None,
                error_type: "",
                load: None,
            },
        }
    }

    /// What runs for each job, as a task of its own, or with `--runner process` in a process of its own. Its
    /// error, or its panic, fails the job and touches no other. Required.
    ///
    /// State that the closure captured is one per process.
    pub fn entrypoint<F, Fut, E>(mut self, entrypoint: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>,
    {
        self.program.error_type = std::any::type_name::<E>();
        self.program.entrypoint = Some(Box::new(move |job| {
            let answer = entrypoint(job);
            Box::pin(async move { answer.await.map_err(Into::into) })
        }));
        self
    }

    /// What answers offers. Default: accept all. It has `--answer-within` (2 s); later answers are dropped,
    /// and the offer was declined. A panic declines.
    pub fn on_request<F, Fut, R>(mut self, on_request: F) -> Self
    where
        F: Fn(JobRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Into<Reply>,
    {
        self.program.on_request = Some(Box::new(move |request| {
            let reply = on_request(request);
            Box::pin(async move { reply.await.into() })
        }));
        self
    }

    /// What runs once before the worker registers, or with `--runner process` once in each process before it
    /// gets a job; jobs find its result by [`JobContext::state`]. An error ends the start, or that process.
    pub fn prewarm<F, Fut, S, E>(mut self, prewarm: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<S, E>> + Send + 'static,
        S: Send + Sync + 'static,
        E: Into<Error>,
    {
        self.prewarm = Some(Box::new(move || {
            let warming = prewarm();
            Box::pin(async move {
                let state: State = Arc::new(warming.await.map_err(Into::into)?);
                Ok(state)
            })
        }));
        self
    }

    /// The worker's own load, 0 to 1, in place of the measured one. Called every 2.5 s and at each offer,
    /// on the user's runtime; it must not block.
    pub fn load(mut self, load: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.program.load = Some(Box::new(load));
        self
    }

    /// What jobs are for. Default [`JobType::Room`].
    pub fn job_type(mut self, job_type: JobType) -> Self {
        self.program.job_type = job_type;
        self
    }

    /// What agents may do in their rooms.
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.program.permissions = permissions;
        self
    }

    pub(crate) fn has_entrypoint(&self) -> bool {
        self.program.entrypoint.is_some()
    }
}

impl Program {
    pub(crate) async fn decide(&self, request: JobRequest) -> Reply {
        match &self.on_request {
            Some(on_request) => on_request(request).await,
            None => request.accept().into(),
        }
    }

    pub(crate) async fn entry(&self, job: JobContext) -> Result<(), Error> {
        match &self.entrypoint {
            Some(entrypoint) => entrypoint(job).await,
            None => Err("this worker has no entrypoint".into()),
        }
    }

    pub(crate) fn has_load(&self) -> bool {
        self.load.is_some()
    }

    /// What the user's load function says; the whole load if it panics.
    pub(crate) fn load(&self) -> Option<f64> {
        let load = self.load.as_ref()?;
        Some(catch_unwind(AssertUnwindSafe(load)).unwrap_or(1.0))
    }
}
