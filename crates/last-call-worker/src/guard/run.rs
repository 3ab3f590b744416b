//! The program `last-call guard`: from the options to the exit code.
//!
//! Owns the threads, and what guard and worker need before the one loop begins. Refuses user code: none runs here.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use last_call_proto::{Forward, Limits, Load, Policy, Restart, Ward, WardLimits};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::front::Front;
use super::guarded::Surroundings;
use super::options::{ForwardWhen, GuardOptions, RestartWhen, SecretsMode};
use super::registrations::{Parts, Registrations};
use super::rooms::Rooms;
use super::secrets::{Right, Secrets};
use super::shim::Shim;
use super::stand::{Left, MakeCommand, Stand};
use super::{forward, front};
use crate::admin::AdminSocket;
use crate::api::Api;
use crate::config::{self, Mode};
use crate::error::StartError;
use crate::exit::Exit;
use crate::http::{Beat, Ops, WorkerInfo};
use crate::load::{CurrentLoad, LoadSampler};
use crate::metrics::Metrics;
use crate::observe::{Snapshot, Verb};
use crate::options::Http;
use crate::process::Ended;
use crate::rescue::Which;
use crate::run::{as_a_program, log_outcome, log_panics};
use crate::secret::Secret;
use crate::signal::{Signals, ToLink};
use crate::socket::Dialler;
use crate::start::{Controls, OPERATIONS_WITHIN, listen, start_operations, take};
use crate::systemd::Systemd;
use crate::token::Keys;

/// guard's own port: the worker behind it has one too.
const PORT: u16 = 8082;

/// Runs guard with its worker until nothing is left of either; the code to exit with. Call it first in a `main` that is
/// not async. `command` makes the command that starts the worker, which is to end with its parent.
#[must_use]
pub fn run_guard(
    options: GuardOptions,
    command: impl Fn(&[OsString]) -> io::Result<Command> + Send + 'static,
) -> ExitCode {
    crate::process::restore_name();
    as_a_program(
        || (options.reap, options),
        |options: GuardOptions, controls| {
            let program = options.program.clone();
            guard(&options, controls, Box::new(move || command(&program)))
        },
    )
}

fn guard(options: &GuardOptions, controls: Controls, command: MakeCommand) -> Result<ExitCode, StartError> {
    if cfg!(panic = "abort") {
        return Err(StartError::PanicAborts);
    }
    let telemetry = crate::otel::start();
    config::logging(&options.log, Mode::Production, io::stdout().is_terminal())?;
    telemetry.log();
    log_panics();
    crate::init::warn_without_one(controls.threads);
    crate::process::begin().map_err(|error| StartError::System { what: "thread", error })?;
    let Started { runtime, stand, operations } = start(options, controls, command)?;
    let left = catch_unwind(AssertUnwindSafe(|| runtime.block_on(stand.run())));
    let deadline = Instant::now() + OPERATIONS_WITHIN;
    // Nothing is ever sent: it disconnects when its thread is done.
    let _ = operations.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    crate::process::kill_all();
    crate::otel::finish();
    runtime.shutdown_background();
    let left = left.map_err(|_| StartError::LinkDied)?;
    let code = leave(&left);
    crate::log::flush(crate::log::FLUSH_WITHIN);
    Ok(code)
}

fn leave(left: &Left) -> ExitCode {
    let exit = Exit::from(&left.report.outcome);
    let code = match left.with.as_ref().map(code) {
        _ if left.fault => Exit::Internal as u8,
        Some(code) if exit == Exit::Finished => said(code),
        // Its own code says that something failed, too.
        Some(code) if exit == Exit::CutOff && code != 0 => said(code),
        _ => exit as u8,
    };
    log_outcome(&left.report, code);
    code.into()
}

/// The worker's own code, where it does not mean something else of guard.
fn said(code: u8) -> u8 {
    const GUARDS: [Exit; 4] = [Exit::Refused, Exit::CutOff, Exit::Forced, Exit::Internal];
    if GUARDS.iter().any(|exit| *exit as u8 == code) { Exit::Failed as u8 } else { code }
}

/// As a shell says it.
fn code(ended: &Ended) -> u8 {
    let code = match ended {
        Ended::Exit(code) => *code,
        Ended::Signal(signal) => 128 + signal,
        Ended::OutOfMemory
        | Ended::MemoryLimit { .. }
        | Ended::InitTimeout(_)
        | Ended::Unresponsive(_)
        | Ended::Unknown => 128 + nix::sys::signal::Signal::SIGKILL as i32,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

struct Started {
    runtime: Runtime,
    stand: Stand,
    operations: std::sync::mpsc::Receiver<()>,
}

/// The link's runtime, with what operators see beside it.
struct Operated {
    runtime: Runtime,
    signals: ToLink,
    operations: std::sync::mpsc::Receiver<()>,
    snapshot: watch::Sender<Snapshot>,
    shown: watch::Receiver<Snapshot>,
    verbs: mpsc::UnboundedReceiver<Verb>,
    metrics: Arc<Metrics>,
    info: Arc<OnceLock<WorkerInfo>>,
    beat: Arc<Beat>,
    load: Option<Arc<CurrentLoad>>,
}

fn operate(options: &GuardOptions, signals: Option<Signals>) -> Result<Operated, StartError> {
    let sampler = LoadSampler::new();
    let load = options.load_threshold.map(|_| sampler.current());
    let (snapshot, shown) = watch::channel(Snapshot::default());
    let (asked, verbs) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    crate::otel::export(&metrics, &shown);
    let (info, beat) = (Arc::new(OnceLock::new()), Arc::new(Beat::new()));
    let ops = Ops {
        info: info.clone(),
        snapshot: shown.clone(),
        verbs: asked,
        metrics: metrics.clone(),
        beat: beat.clone(),
        admin_token: config::non_empty("LAST_CALL_ADMIN_TOKEN").map(Secret::from),
        admin_host: config::non_empty("LAST_CALL_ADMIN_HOST"),
    };
    let address = options.http.unwrap_or(Http(Some(SocketAddr::from(([0, 0, 0, 0], PORT))))).0;
    let listener = address.map(listen).transpose()?;
    let (runtime, signals) = take(signals)?;
    let signals = signals.ok_or_else(no_signals)?;
    let admin = options.admin_socket.as_deref().map(AdminSocket::bind).transpose();
    let admin = admin.map_err(|error| StartError::Admin(error.to_string()))?;
    let operations = start_operations(Arc::new(ops), listener, admin, sampler)?;
    Ok(Operated { runtime, signals, operations, snapshot, shown, verbs, metrics, info, beat, load })
}

fn start(options: &GuardOptions, controls: Controls, command: MakeCommand) -> Result<Started, StartError> {
    let endpoint = config::endpoint(&options.server)?;
    let keys = config::keys(&options.server)?;
    let Controls { control: _, orders, signals, threads: _ } = controls;
    let Operated { runtime, signals, operations, snapshot, shown, verbs, metrics, info, beat, load } =
        operate(options, signals)?;
    let secrets = Arc::new(secrets(options, keys.clone())?);
    let dialler = Dialler::new(endpoint.clone());
    let (front, streams) = front::start(dialler.clone(), secrets.clone())?;
    let forward = forward::start(&front, config::non_empty)?;
    let shim = shim(options, endpoint.as_str(), &front);
    let news = {
        let _within = runtime.enter();
        shim.as_ref().and_then(|shim| shim.news().ok())
    };
    let api = Api::new(dialler.clone(), keys.clone());
    let rooms = Rooms::new(api.clone(), front.runtime.clone());
    let rescues = crate::rescue::start(&options.rescue, Which::Crashed, api, metrics.clone())?;
    let (calls, calls_taken) = mpsc::unbounded_channel();
    let systemd = Systemd::from_env(endpoint.authority());
    let parts = Parts {
        dialler,
        keys,
        limits: limits(options),
        policy: policy(options),
        load,
        metrics: metrics.clone(),
        beat: beat.clone(),
        surroundings: Surroundings {
            url: endpoint.as_str().to_owned(),
            jobs: metrics.running.clone(),
            calls,
        },
    };
    let stand = Stand {
        ward: Ward::new(ward(options)),
        registrations: Registrations::new(parts, snapshot),
        command,
        front,
        forward,
        shim,
        news,
        rooms,
        rescues,
        signals,
        control: orders,
        verbs,
        streams,
        calls: calls_taken,
        secrets,
        shown,
        info,
        systemd,
        beat,
        on_wedged: options.on_wedged.clone(),
        drain_within: policy(options).drain.total(),
        exit_within: options.exit_within,
        register_within: options.register_within,
    };
    Ok(Started { runtime, stand, operations })
}

fn secrets(options: &GuardOptions, keys: Keys) -> Result<Secrets, StartError> {
    match (options.secrets, &options.allow) {
        (SecretsMode::Hold, Some(allowed)) => Secrets::hold(keys, allowed.clone()),
        (SecretsMode::Hold, None) => Secrets::hold(keys, Right::USUAL.to_vec()),
        (SecretsMode::Pass, None) => Ok(Secrets::pass(keys)),
        (SecretsMode::Pass, Some(_)) => Err(StartError::Usage(
            "--allow is for a worker without the secret: say --secrets hold as well".to_owned(),
        )),
    }
}

/// The shim, unless it is not wanted or cannot be: then job processes see guard's address.
fn shim(options: &GuardOptions, server: &str, front: &Front) -> Option<Shim> {
    // The key that a worker without the secret has is of no use with the server itself.
    if options.no_shim || options.secrets == SecretsMode::Hold {
        return None;
    }
    let shim = Shim::new(server, &front.url);
    shim.inspect_err(|error| {
        tracing::warn!(
            %error,
            "no shim: job processes see guard's address in LIVEKIT_URL, and calls of Node are not seen to end; give \
             guard a directory for temporary files (TMPDIR)"
        );
    })
    .ok()
}

/// What the worker says of its own load goes by its own threshold: here only the whole counts as full.
fn limits(options: &GuardOptions) -> Limits {
    let own = options.load_threshold.and_then(|threshold| threshold.0).map(Load::from_fraction);
    Limits {
        max_jobs: options.max_jobs,
        threshold: own.or(Some(Load::WHOLE)),
        server_target: Load::from_fraction(options.server_target_load),
        counts_itself: true,
    }
}

fn policy(options: &GuardOptions) -> Policy {
    Policy { answer_within: options.answer_within, ..config::policy(&options.stop) }
}

fn ward(options: &GuardOptions) -> WardLimits {
    WardLimits {
        restart: match options.restart {
            RestartWhen::OnFailure => Restart::OnFailure,
            RestartWhen::Always => Restart::Always,
            RestartWhen::Never => Restart::Never,
        },
        forward: options.forward.map(|forward| match forward {
            ForwardWhen::Now => Forward::Now,
            ForwardWhen::WhenIdle => Forward::WhenIdle,
        }),
    }
}

fn no_signals() -> StartError {
    StartError::Usage("guard needs the signals of its process".to_owned())
}
