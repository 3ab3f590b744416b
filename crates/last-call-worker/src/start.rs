//! Starting a worker and seeing it to its end: the threads and what they share.
//!
//! Owns the operations thread, and the link until its end, on whichever thread that is. Refuses exit codes,
//! which are [`crate::run`]'s.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use last_call_proto::{Limits, Policy};
use livekit_protocol as livekit;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::admin::{self, AdminSocket};
use crate::api::Api;
use crate::config::Config;
use crate::error::StartError;
use crate::http::{self, Beat, Ops, WorkerInfo};
use crate::job::{JobApi, State};
use crate::job_process::{self, Processes, Supervisor};
use crate::link::{Connection, Control, Dial, Keep, Link, Report, Runner, Solo, Source, Watched};
use crate::load::LoadSampler;
use crate::metrics::Metrics;
use crate::observe::Snapshot;
use crate::program::{Permissions, Program, Worker};
use crate::rescue::{Rescues, Which};
use crate::runner::TaskRunner;
use crate::signal::{Signals, ToLink};
use crate::socket::Dialler;
use crate::systemd::Systemd;
use crate::timers::Timers;
use crate::token::Keys;

/// Answers of the operations thread that are still under way at the end are waited for this long.
pub(crate) const OPERATIONS_WITHIN: Duration = Duration::from_millis(90);

/// Rescues that are under way when the worker has left are waited for this long.
pub(crate) const RESCUES_WITHIN: Duration = Duration::from_secs(5);

/// What came of a worker.
#[derive(Debug)]
pub(crate) enum Finished {
    /// It left.
    Left(Report),
    /// Prewarming failed; nothing was registered.
    PrewarmFailed(String),
    /// The link panicked: a fault of this crate.
    LinkDied,
}

/// How everyone speaks to the link.
pub(crate) struct Controls {
    pub(crate) control: mpsc::UnboundedSender<Control>,
    pub(crate) orders: mpsc::UnboundedReceiver<Control>,
    /// Where the process is the worker's: its signals.
    pub(crate) signals: Option<Signals>,
    /// Threads that were there before any of the worker's.
    pub(crate) threads: usize,
}

/// Refuses what could not keep its promises.
fn check(worker: &Worker) -> Result<(), StartError> {
    if cfg!(panic = "abort") {
        return Err(StartError::PanicAborts);
    }
    if !worker.has_entrypoint() {
        let advice = "the worker has no entrypoint; give it one by Worker::entrypoint";
        return Err(StartError::Usage(advice.to_owned()));
    }
    Ok(())
}

/// A worker that needs nothing more but a thread for its link.
pub(crate) struct Started {
    runtime: Runtime,
    link: Link,
    operations: Option<std_mpsc::Receiver<()>>,
    supervisor: Option<Supervisor>,
    prewarm_failed: oneshot::Receiver<String>,
}

impl Started {
    /// Drives the link on this thread until the worker has left.
    pub(crate) fn run(mut self) -> Finished {
        let report = catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(self.link.run_out())));
        let deadline = Instant::now() + OPERATIONS_WITHIN;
        // Nothing is ever sent: each disconnects when its thread is done. They work side by side.
        let goodbyes = report.as_ref().ok().and_then(|(_, goodbyes)| goodbyes.as_ref());
        let done = [self.supervisor.map(Supervisor::stop), self.operations];
        for thread in done.iter().flatten().chain(goodbyes) {
            let _ = thread.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        // A name that is being looked up must not hold the exit.
        self.runtime.shutdown_background();
        match (self.prewarm_failed.try_recv(), report) {
            (Ok(text), _) => Finished::PrewarmFailed(text),
            (Err(_), Ok((report, _))) => Finished::Left(report),
            (Err(_), Err(_)) => Finished::LinkDied,
        }
    }

    /// As [`Started::run`], on a thread of its own.
    pub(crate) fn run_aside(self) -> Result<oneshot::Receiver<Finished>, StartError> {
        let (finished, ended) = oneshot::channel();
        // Nobody may be left to hear of it.
        thread("last-call-link", move || drop(finished.send(self.run())))?;
        Ok(ended)
    }
}

/// Starts `worker` against a server: probes first, then prewarming, then the registration.
pub(crate) fn serve(
    worker: Worker,
    config: Config,
    user: &Handle,
    controls: Controls,
) -> Result<Started, StartError> {
    check(&worker)?;
    let Controls { control, orders, signals, threads: _ } = controls;
    let program = Arc::new(worker.program);
    let load = LoadSampler::new();
    let current = (!program.has_load()).then(|| load.current());
    let (snapshot, shown) = watch::channel(Snapshot::default());
    let (verbs, verbs_taken) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    crate::otel::export(&metrics, &shown);
    let beat = Arc::new(Beat::new());
    let ops = Ops {
        info: Arc::new(OnceLock::from(info(&program, &config.agent_name))),
        snapshot: shown,
        verbs,
        metrics: metrics.clone(),
        beat: beat.clone(),
        admin_token: config.admin_token,
        admin_host: config.admin_host,
    };
    let listener = config.http.map(listen).transpose()?;
    let server = config.endpoint.authority();
    let dialler = Dialler::new(config.endpoint);
    let api = Api::new(dialler.clone(), config.keys.clone());
    let rescues = crate::rescue::start(&config.rescue, Which::Off, api.clone(), metrics.clone())?;
    let source = server_of(dialler, config.keys);
    let (runtime, signals) = take(signals)?;
    // Not before: a signal that ended the process by itself would leave the file behind.
    let admin = config.admin_socket.as_deref().map(AdminSocket::bind).transpose();
    let admin = admin.map_err(|error| StartError::Admin(error.to_string()))?;
    let operations = start_operations(Arc::new(ops), listener, admin, load)?;

    let asked = config.processes;
    let pool = asked.map(|asked| job_process::start(asked, metrics.clone(), control.clone()));
    let pool = pool.transpose()?;
    let processes = pool.as_ref().map(|pool| pool.processes.clone());
    let (warm, warmed) = oneshot::channel();
    // Whose signals are not the worker's is no service of its own either.
    let systemd = signals.is_some().then(|| Systemd::from_env(server.clone())).flatten();
    let registration = registration(&program, config.agent_name, config.deployment);
    let parts = Parts {
        limits: config.limits,
        policy: config.policy,
        source,
        registration,
        watched: Watched::new(server),
        orders,
        signals,
        systemd,
        verbs: verbs_taken,
        load: current,
        metrics,
        snapshot,
        beat,
        rescues: rescues.clone(),
    };
    let link = make_link(parts, program, processes, api.into(), user.clone(), warmed);
    let (supervisor, prewarm_failed) = match pool {
        // Each process prewarms, and the first that has decides.
        Some(pool) => (Some(pool.supervisor), pool.failed),
        None => (None, prewarm(worker.prewarm, user, warm, control)),
    };
    Ok(Started { runtime, link, operations: Some(operations), supervisor, prewarm_failed })
}

fn info(program: &Program, agent_name: &str) -> WorkerInfo {
    WorkerInfo {
        agent_name: agent_name.to_owned(),
        worker_type: program.job_type.as_str(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// The server that `dialler` reaches; each connection has a token of its own.
fn server_of(dialler: Dialler, keys: Keys) -> Source {
    let url = dialler.endpoint().as_str().to_owned();
    let dial: Dial = Box::new(move || {
        let (dialler, token) = (dialler.clone(), keys.worker_token());
        Box::pin(async move { dialler.dial(&token?).await })
    });
    Source::Server { url, dial }
}

/// Runs one job in a room, without a server's dispatch.
pub(crate) fn connect(
    worker: Worker,
    solo: Solo,
    policy: Policy,
    api: JobApi,
    user: &Handle,
    controls: Controls,
) -> Result<Started, StartError> {
    check(&worker)?;
    let Controls { control, orders, signals, threads: _ } = controls;
    let (runtime, signals) = take(signals)?;
    let (warm, warmed) = oneshot::channel();
    let parts = Parts {
        limits: Limits { threshold: None, ..Limits::default() },
        policy,
        source: Source::Solo(solo),
        registration: livekit::RegisterWorkerRequest::default(),
        watched: Watched::default(),
        orders,
        signals,
        systemd: None,
        verbs: mpsc::unbounded_channel().1,
        load: None,
        metrics: Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))),
        snapshot: watch::channel(Snapshot::default()).0,
        beat: Arc::new(Beat::new()),
        rescues: None,
    };
    let link = make_link(parts, Arc::new(worker.program), None, api, user.clone(), warmed);
    let prewarm_failed = prewarm(worker.prewarm, user, warm, control);
    Ok(Started { runtime, link, operations: None, supervisor: None, prewarm_failed })
}

/// What a link is made of before prewarming is done.
struct Parts {
    limits: Limits,
    policy: Policy,
    source: Source,
    registration: livekit::RegisterWorkerRequest,
    watched: Watched,
    orders: mpsc::UnboundedReceiver<Control>,
    signals: Option<ToLink>,
    systemd: Option<Systemd>,
    verbs: mpsc::UnboundedReceiver<crate::observe::Verb>,
    load: Option<Arc<crate::load::CurrentLoad>>,
    metrics: Arc<Metrics>,
    snapshot: watch::Sender<Snapshot>,
    beat: Arc<Beat>,
    rescues: Option<Rescues>,
}

/// Prewarms, and lets the link begin; why not, if it fails.
pub(crate) fn prewarm(
    prewarm: Option<crate::program::Prewarm>,
    user: &Handle,
    warm: oneshot::Sender<Option<State>>,
    control: mpsc::UnboundedSender<Control>,
) -> oneshot::Receiver<String> {
    let (failed, failure) = oneshot::channel();
    let Some(prewarm) = prewarm else {
        let _ = warm.send(None);
        let _ = control.send(Control::Start);
        return failure;
    };
    // One task to the end: what prewarming started may already hold every thread.
    user.spawn(async move {
        let why = match AssertUnwindSafe(async { prewarm().await }).catch_unwind().await {
            Ok(Ok(state)) => {
                let _ = warm.send(Some(state));
                let _ = control.send(Control::Start);
                return;
            }
            Ok(Err(error)) => crate::error::whole_text(error.as_ref()),
            Err(panic) => format!("it panicked: {}", crate::job::panic_text(panic.as_ref())),
        };
        let _ = failed.send(why);
        let _ = control.send(Control::Force);
    });
    failure
}

/// The link's runtime, which has the signals from here on: none of them ends the process by itself.
pub(crate) fn take(signals: Option<Signals>) -> Result<(Runtime, Option<ToLink>), StartError> {
    let runtime = current_thread("a runtime for the link")?;
    let signals = {
        let _within = runtime.enter();
        signals.map(Signals::hand_over).transpose()
    };
    let signals = signals.map_err(|error| StartError::System { what: "way for signals", error })?;
    Ok((runtime, signals))
}

fn make_link(
    parts: Parts,
    program: Arc<Program>,
    processes: Option<Processes>,
    api: JobApi,
    user: Handle,
    warmed: oneshot::Receiver<Option<State>>,
) -> Link {
    let (to_link, from_user) = mpsc::unbounded_channel();
    Link {
        core: last_call_proto::Worker::new(parts.limits),
        policy: parts.policy,
        source: parts.source,
        registration: parts.registration,
        runner: Runner::Code(Box::new(TaskRunner::new(
            user,
            program,
            processes,
            Some(api),
            to_link,
            warmed,
            parts.metrics.running.clone(),
        ))),
        signals: parts.signals,
        control: parts.orders,
        verbs: parts.verbs,
        from_user,
        load: parts.load,
        metrics: parts.metrics,
        snapshot: parts.snapshot,
        systemd: parts.systemd,
        watched: parts.watched,
        beat: parts.beat,
        keep: Keep::default(),
        rescues: parts.rescues,
        connection: Connection::default(),
        timers: Timers::default(),
    }
}

/// Serves until the link has left, and says on the channel when the last answer is out.
pub(crate) fn start_operations(
    ops: Arc<Ops>,
    listener: Option<TcpListener>,
    admin: Option<AdminSocket>,
    load: LoadSampler,
) -> Result<std_mpsc::Receiver<()>, StartError> {
    let runtime = current_thread("a runtime for operations")?;
    let (serving, done) = std_mpsc::channel();
    thread("last-call-ops", move || {
        runtime.block_on(async move {
            let mut shown = ops.snapshot.clone();
            tokio::spawn(load.run());
            let mut served = JoinSet::new();
            if let Some(listener) = listener {
                served.spawn(logged("probes and metrics", http::serve(listener, ops.clone())));
            }
            if let Some(admin) = admin {
                served.spawn(logged("the admin socket", admin::serve(admin, ops)));
            }
            while shown.changed().await.is_ok() {}
            served.join_all().await;
        });
        drop(serving);
    })?;
    Ok(done)
}

async fn logged(what: &'static str, serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(what, %error, "no longer served");
    }
}

pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| StartError::Http { address: address.to_string(), error })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "probes and metrics");
    }
    Ok(listener)
}

pub(crate) fn current_thread(what: &'static str) -> Result<Runtime, StartError> {
    Builder::new_current_thread().enable_all().build().map_err(|error| StartError::System { what, error })
}

pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|error| StartError::System { what: "thread", error })
}

fn registration(program: &Program, agent_name: String, deployment: String) -> livekit::RegisterWorkerRequest {
    let Permissions { publish, subscribe, publish_data, update_metadata, hidden } = program.permissions;
    livekit::RegisterWorkerRequest {
        r#type: livekit::JobType::from(program.job_type).into(),
        agent_name,
        deployment,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allowed_permissions: Some(livekit::ParticipantPermission {
            can_publish: publish,
            can_subscribe: subscribe,
            can_publish_data: publish_data,
            can_update_metadata: update_metadata,
            hidden,
            ..Default::default()
        }),
        ..Default::default()
    }
}
