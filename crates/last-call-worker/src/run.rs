//! `run`: a whole worker program, from the command line to the exit code.
//!
//! Owns the process: signals first, then threads, then user code, and the main thread, which becomes the link's.
//! Refuses to start where it could not keep its promises.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use last_call_proto::Outcome;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::config::{self, Config, Mode};
use crate::error::StartError;
use crate::exit::Exit;
use crate::job::JobApi;
use crate::job_process;
use crate::link::{self, Report, Solo};
use crate::options::{Cli, Command, ConnectOptions, Options, Program, Runner};
use crate::program::Worker;
use crate::signal::Signals;
use crate::socket::Dialler;
use crate::start::{self, Controls, Finished, Started};

/// How often a user thread looks for tasks that other threads gave it, in tasks: a heartbeat must not wait
/// behind many of a busy program's own.
const LOOK_FOR_OTHERS_EVERY: u32 = 3;

// DRAIN-5: the waits of an exit follow each other, and each may be waited out.
const _: () = {
    let waits = link::CLOSE_WITHIN.as_millis()
        + start::OPERATIONS_WITHIN.as_millis()
        + crate::otel::FLUSH_WITHIN.as_millis()
        + crate::log::FLUSH_WITHIN.as_millis();
    assert!(waits <= 250, "an exit may take longer than 250 ms after the last job");
    assert!(
        job_process::STOP_WITHIN.as_millis() <= start::OPERATIONS_WITHIN.as_millis(),
        "the exit does not wait for the last processes"
    );
    // So that the admin socket's file is removed behind the last answer.
    assert!(
        crate::http::LAST_ANSWERS_WITHIN.as_millis() < start::OPERATIONS_WITHIN.as_millis(),
        "the exit does not wait for the last answers"
    );
};

/// Runs a worker program: reads the command line, and returns the code to exit with.
///
/// Call it first in a `main` that is not async. It owns signals, threads and logs; user code runs on a
/// runtime of its own and may block, spin or panic there without touching the drain. Before `run` begins
/// SIGTERM ends the process, which is harmless: nothing is registered yet.
///
/// With `--runner process` each job's process runs `main` up to here again, and as process 1, or with `--reap`, this
/// stays as an init whose child does: build the worker before, and nothing else. In a job's process `run` does not
/// return.
///
/// For flags of your own see [`run_with`]; for a worker inside a program that has a runtime,
/// [`Worker::serve`].
#[must_use]
pub fn run(worker: Worker) -> ExitCode {
    guarded(worker, |()| crate::command_line::parse::<Program>().cli, ())
}

/// As [`run`], with a command line that was parsed already: flatten [`Cli`] into your own, and parse it with
/// [`crate::parse`], which knows the configuration file; clap's own `parse` knows flags and variables only.
#[must_use]
pub fn run_with(cli: Cli, worker: Worker) -> ExitCode {
    guarded(worker, |cli| cli, cli)
}

/// As [`run_with`], for a program that has only `start`, under a name of its own, has parsed its options, and starts
/// a process for each job itself.
#[must_use]
pub fn run_start(mut options: Options, worker: Worker) -> ExitCode {
    if options.runner == Runner::Process {
        let error =
            StartError::Usage("--runner process: each job has a process of its own here anyway".to_owned());
        say(&error);
        return Exit::from(&error).into();
    }
    options.runner = Runner::Program;
    guarded(worker, |options| Cli { command: Command::Start(Box::new(options)) }, options)
}

fn guarded<T>(worker: Worker, cli: impl FnOnce(T) -> Cli, given: T) -> ExitCode {
    crate::process::restore_name();
    if let Some(control) = job_process::recognise() {
        return serve_a_job(control, &cli(given).command, worker);
    }
    as_a_program(
        || {
            let command = cli(given).command;
            (command.reaps(), command)
        },
        |command, controls| program(command, worker, controls).map(ExitCode::from),
    )
}

/// What every program of this crate begins with: an init where one is wanted, and signals before anything that takes
/// time. `read` says whether one is wanted.
pub(crate) fn as_a_program<T>(
    read: impl FnOnce() -> (bool, T),
    body: impl FnOnce(T, Controls) -> Result<ExitCode, StartError>,
) -> ExitCode {
    if let Some(ended) = crate::init::as_process_1() {
        leave(ended);
    }
    let (control, orders) = mpsc::unbounded_channel();
    // Before anything else that takes time: from here on no signal is lost.
    let signals = Signals::catch();
    let threads = job_process::other_threads();
    let (reaps, given) = read();
    match crate::init::by_choice(reaps) {
        Ok(None) => {}
        Ok(Some(ended)) => leave(ended),
        Err(error) => {
            say(&error);
            return Exit::from(&error).into();
        }
    }
    let signals = signals.map_err(|error| StartError::System { what: "signal handlers", error });
    let controls = signals.map(|signals| Controls { control, orders, signals: Some(signals), threads });
    controls.and_then(|controls| body(given, controls)).unwrap_or_else(|error| {
        say(&error);
        Exit::from(&error).into()
    })
}

/// Leaves as an init, and not by a return: what `main` does behind `run` is for the worker's end.
fn leave(code: u8) -> ! {
    std::process::exit(code.into())
}

fn program(command: Command, worker: Worker, controls: Controls) -> Result<Exit, StartError> {
    if Handle::try_current().is_ok() {
        return Err(StartError::InsideRuntime);
    }
    match command {
        Command::Start(options) => start(&options, Mode::Production, worker, controls),
        Command::Dev(options) => start(&options, Mode::Development, worker, controls),
        Command::Connect(options) => connect(&options, worker, controls),
    }
}

/// This process is one job's: it is told what to do, and its end is no worker's.
fn serve_a_job(control: job_process::Control, command: &Command, worker: Worker) -> ExitCode {
    match prepare_for_a_job(&control, command) {
        Ok((user, api)) => job_process::run_child(control, worker, user.handle(), api),
        Err(error) => {
            say(&error);
            Exit::from(&error).into()
        }
    }
}

fn prepare_for_a_job(
    control: &job_process::Control,
    command: &Command,
) -> Result<(Runtime, JobApi), StartError> {
    let (options, mode) = match command {
        Command::Start(options) => (options, Mode::Production),
        Command::Dev(options) => (options, Mode::Development),
        Command::Connect(_) => return Err(StartError::Usage("connect runs its job as a task".to_owned())),
    };
    let ignored = crate::signal::leave_to_the_worker();
    ignored.map_err(|error| StartError::System { what: "signal handlers", error })?;
    // What is wrong with its variables the worker has said.
    let _ = crate::otel::start();
    config::logging(&options.log, mode, control.pretty)?;
    log_panics();
    let limits = &options.limits;
    let confined = crate::process::confine(limits.cgroup.as_deref(), limits.open_files);
    confined.map_err(|error| StartError::System { what: "limits of a job's process", error })?;
    Ok((user_runtime(options.user_threads)?, JobApi::of(options.server.clone())))
}

fn start(options: &Options, mode: Mode, worker: Worker, controls: Controls) -> Result<Exit, StartError> {
    let telemetry = crate::otel::start();
    config::logging(&options.log, mode, io::stdout().is_terminal())?;
    telemetry.log();
    log_panics();
    crate::init::warn_without_one(controls.threads);
    let config = Config::new(options, mode, &worker.program.agent_name)?;
    if config.processes.is_some() {
        job_process::warn_of_what_is_repeated(controls.threads);
    }
    let user = user_runtime(config.user_threads)?;
    let started = start::serve(worker, config, user.handle(), controls)?;
    finish(started, user, |report| Exit::from(&report.outcome))
}

fn connect(options: &ConnectOptions, worker: Worker, controls: Controls) -> Result<Exit, StartError> {
    let telemetry = crate::otel::start();
    config::logging(&options.log, Mode::Development, true)?;
    telemetry.log();
    log_panics();
    crate::init::warn_without_one(controls.threads);
    let endpoint = config::endpoint(&options.server)?;
    let keys = config::keys(&options.server)?;
    let identity = options.identity.clone().unwrap_or_else(|| format!("agent-{:08x}", fastrand::u32(..)));
    let token = keys.join_token(&options.room, &identity);
    let token = token.map_err(|error| StartError::Usage(format!("cannot make a join token: {error}")))?;
    let solo = Solo {
        url: endpoint.as_str().to_owned(),
        room: options.room.clone(),
        identity,
        agent_name: worker.program.agent_name.clone(),
        token,
    };
    let user = user_runtime(None)?;
    let (policy, api) = (config::policy(&options.stop), Api::new(Dialler::new(endpoint), keys).into());
    let started = start::connect(worker, solo, policy, api, user.handle(), controls)?;
    finish(started, user, |report| {
        let exit = Exit::from(&report.outcome);
        if exit == Exit::Finished && report.failed > 0 { Exit::Failed } else { exit }
    })
}

/// Drives the worker to its end, says how it went, and leaves whatever still runs behind.
fn finish(started: Started, user: Runtime, exit: fn(&Report) -> Exit) -> Result<Exit, StartError> {
    let finished = started.run();
    // What ends a job's process may not have its turn any more.
    crate::process::kill_all();
    // First, for the spans of killed jobs end on threads of the user's runtime.
    crate::otel::finish();
    user.shutdown_background();
    let exit = match finished {
        Finished::Left(report) => {
            let exit = exit(&report);
            log_outcome(&report, exit as u8);
            Ok(exit)
        }
        Finished::PrewarmFailed(text) => Err(StartError::Prewarm(text)),
        Finished::LinkDied => Err(StartError::LinkDied),
    };
    crate::log::flush(crate::log::FLUSH_WITHIN);
    exit
}

/// The last line of the log (DRAIN-8).
pub(crate) fn log_outcome(report: &Report, exit_code: u8) {
    let Report { outcome, succeeded, failed, why_cut_off } = report;
    match outcome {
        Outcome::Forced(cut) if cut.is_empty() => {
            tracing::info!(succeeded, failed, exit_code, "left at once, as told: no job ran");
        }
        Outcome::Finished => tracing::info!(succeeded, failed, exit_code, "left: every job had its end"),
        Outcome::CutOff(jobs) | Outcome::Forced(jobs) => {
            let cut_off = jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let why = if matches!(outcome, Outcome::CutOff(_)) { *why_cut_off } else { "forced to leave" };
            tracing::error!(succeeded, failed, cut_off, exit_code, why, "left: jobs were cut off");
        }
        Outcome::Refused => tracing::error!(exit_code, "left: the server refused the worker"),
    }
}

fn user_runtime(threads: Option<u16>) -> Result<Runtime, StartError> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.into());
    }
    builder.enable_all().thread_name("user").global_queue_interval(LOOK_FOR_OTHERS_EVERY);
    builder.build().map_err(|error| StartError::System { what: "runtime for user code", error })
}

/// Panics become log lines, with the fields of the job that they happened in.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, panic = crate::job::panic_text(panic.payload()), "panicked");
    }));
}

pub(crate) fn say(error: &StartError) {
    // A program that did not start has no log yet; nobody may be left to read this.
    let _ = writeln!(io::stderr(), "error: {error}");
}
