//! `last-call run`, a worker whose agent is any program, one process for each job; and `last-call guard`, before a
//! worker that is any program.
//!
//! Owns the way from the command line to both. Refuses to know what the program does: what passes between the
//! two is in docs/exec.md, and nothing else does.

mod accept;
mod control;
mod document;
mod job;
mod launch;
mod options;

use std::process::ExitCode;
use std::sync::Arc;

use last_call_worker::process::Executable;
use last_call_worker::{GuardOptions, StartError, Worker};

use self::accept::AcceptIf;
use self::job::Agent;
pub(crate) use self::launch::{asked_for as launch_asked_for, launch};
pub(crate) use self::options::RunOptions;
use crate::failure::Failure;

/// Takes jobs until it has drained.
pub(crate) fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    // First of all: a deploy may replace the file at any moment.
    Executable::own()
        .map_err(|error| StartError::System { what: "way back to its own executable", error })?;
    let RunOptions { worker: of_worker, job_type, accept_if, agent } = options;
    let agent = Arc::new(Agent::new(agent, of_worker.limits())?);
    let accept_if = accept_if.as_deref().map(AcceptIf::new).transpose()?.map(Arc::new);
    // Threads not before `run_start`, where this process may become an init, which has none.
    let prepared = agent.clone();
    let mut worker =
        Worker::new("").job_type(job_type.into()).prewarm(move || async move { prepared.begin() });
    if let Some(accept_if) = accept_if {
        worker = worker.on_request(move |request| {
            let accept_if = accept_if.clone();
            async move { accept_if.decide(request).await }
        });
    }
    let worker = worker.entrypoint(move |job| {
        let agent = agent.clone();
        async move { agent.answer(job).await }
    });
    Ok(last_call_worker::run_start(of_worker, worker))
}

/// Stands guard before a worker that is any program.
pub(crate) fn guard(options: GuardOptions) -> Result<ExitCode, Failure> {
    // First of all: a deploy may replace the file at any moment.
    Executable::own()
        .map_err(|error| StartError::System { what: "way back to its own executable", error })?;
    job::found(options.program()).map_err(Failure::Usage)?;
    Ok(last_call_worker::run_guard(options, launch::kept))
}
