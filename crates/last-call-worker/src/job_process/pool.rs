//! The pool's driver: the thread `last-call-processes`, on which every process of the worker is watched.
//!
//! Owns the warm processes and the jobs that wait for one. Refuses user code, which has the whole of another process.

use std::collections::HashMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use last_call_proto::{JobId, Pool, PoolInput, PoolLimits, PoolOutput, ProcessId, policy};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use super::process::{Process, Seat, Settings};
use crate::error::StartError;
use crate::link::Control;
use crate::metrics::Metrics;
use crate::process::{Executable, Limits};

/// Processes that start at the same time, for each core. Starting is work; prewarming is often waiting.
const STARTING_A_CORE: usize = 8;
/// The first wait after a process that died unused, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Processes that were killed at the end are waited for this long.
const STOP_WITHIN: Duration = Duration::from_millis(150);

/// A warm process for a job, or why there is none.
pub(super) type Given = Result<Process, String>;

/// What the pool is told.
pub(super) enum PoolOrder {
    /// A job needs a process.
    Want(JobId, oneshot::Sender<Given>),
    /// A process is warm; it waits here for who wants it.
    Warm(ProcessId, oneshot::Sender<oneshot::Sender<Given>>),
    /// A process is gone, and why.
    Gone(ProcessId, String),
    Due,
    Drain,
}

/// The pool, as the runner has it.
#[derive(Clone)]
pub(crate) struct Processes {
    pub(crate) runtime: Handle,
    orders: mpsc::UnboundedSender<PoolOrder>,
}

impl Processes {
    /// A process for this job, once there is one. Cancel safe: one that comes too late goes back.
    pub(super) async fn take(&self, job: &JobId) -> Given {
        let (want, given) = oneshot::channel();
        let gone = || Err("the pool of processes is gone: a fault of Last Call".to_owned());
        if self.orders.send(PoolOrder::Want(job.clone(), want)).is_err() {
            return gone();
        }
        given.await.unwrap_or_else(|_| gone())
    }

    /// The worker drains: processes are not replaced any more.
    pub(crate) fn drain(&self) {
        let _ = self.orders.send(PoolOrder::Drain);
    }
}

/// How a worker begins: with the first warm process, or not at all.
struct Beginning {
    control: mpsc::UnboundedSender<Control>,
    failed: oneshot::Sender<String>,
}

/// The thread that the pool lives on.
pub(crate) struct Supervisor {
    stop: oneshot::Sender<()>,
    done: std_mpsc::Receiver<()>,
}

impl Supervisor {
    /// Kills every process that is left.
    pub(crate) fn stop(self) {
        drop(self.stop);
        // Nothing is ever sent: it disconnects when the thread is done.
        let _ = self.done.recv_timeout(2 * STOP_WITHIN);
    }
}

/// A pool that was started.
pub(crate) struct Started {
    pub(crate) processes: Processes,
    pub(crate) supervisor: Supervisor,
    /// Why the worker does not begin, if it does not.
    pub(crate) failed: oneshot::Receiver<String>,
}

/// Starts the pool. Of `idle` processes the first decides whether the worker begins.
pub(crate) fn start(
    idle: usize,
    initialize_within: Duration,
    limits: Limits,
    metrics: Arc<Metrics>,
    control: mpsc::UnboundedSender<Control>,
) -> Result<Started, StartError> {
    let system = |what| move |error| StartError::System { what, error };
    // Before a deploy replaces the file.
    Executable::own().map_err(system("handle on its own executable"))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("runtime for processes"))?;
    let groups = limits.groups().map_err(StartError::Usage)?;
    let (orders, taken) = mpsc::unbounded_channel();
    let (fail, failed) = oneshot::channel();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let driver = Driver {
        core: Pool::new(PoolLimits { idle, refills: (cores / 2).max(1), starting: cores * STARTING_A_CORE }),
        settings: Arc::new(Settings { initialize_within, limits, groups, metrics }),
        orders: orders.clone(),
        wanting: HashMap::new(),
        idle: HashMap::new(),
        why: String::new(),
        beginning: Some(Beginning { control, failed: fail }),
    };
    let processes = Processes { runtime: runtime.handle().clone(), orders };
    let (stop, stopped) = oneshot::channel::<()>();
    let (working, done) = std_mpsc::channel::<()>();
    let body = move || {
        runtime.block_on(async {
            tokio::select! {
                () = driver.run(taken, idle == 0) => {}
                _ = stopped => {}
            }
            crate::process::kill_all();
            // So that none is left to whoever is this worker's init.
            let _ = tokio::time::timeout(STOP_WITHIN, crate::process::all_reaped()).await;
        });
        drop(runtime);
        drop(working);
    };
    let thread = std::thread::Builder::new().name("last-call-processes".to_owned()).spawn(body);
    thread.map_err(system("thread"))?;
    Ok(Started { processes, supervisor: Supervisor { stop, done }, failed })
}

struct Driver {
    core: Pool,
    settings: Arc<Settings>,
    orders: mpsc::UnboundedSender<PoolOrder>,
    wanting: HashMap<JobId, oneshot::Sender<Given>>,
    idle: HashMap<ProcessId, oneshot::Sender<oneshot::Sender<Given>>>,
    /// Why the latest process is gone.
    why: String,
    /// Until the worker has begun.
    beginning: Option<Beginning>,
}

impl Driver {
    async fn run(mut self, mut taken: mpsc::UnboundedReceiver<PoolOrder>, begin_at_once: bool) {
        if begin_at_once {
            self.begin();
        }
        self.handle(PoolInput::Start);
        while let Some(order) = taken.recv().await {
            let input = match order {
                PoolOrder::Want(job, want) => {
                    self.wanting.insert(job.clone(), want);
                    PoolInput::Launch(job)
                }
                PoolOrder::Warm(process, waits) => {
                    self.begin();
                    self.idle.insert(process, waits);
                    PoolInput::Warm(process)
                }
                PoolOrder::Gone(process, why) => {
                    self.idle.remove(&process);
                    self.why = why;
                    self.fail_to_begin();
                    PoolInput::Gone(process)
                }
                PoolOrder::Due => PoolInput::Due,
                PoolOrder::Drain => PoolInput::Drain,
            };
            self.handle(input);
        }
    }

    fn begin(&mut self) {
        if let Some(beginning) = self.beginning.take() {
            let _ = beginning.control.send(Control::Start);
        }
    }

    fn fail_to_begin(&mut self) {
        if let Some(beginning) = self.beginning.take() {
            let _ = beginning.failed.send(self.why.clone());
            let _ = beginning.control.send(Control::Force);
        }
    }

    fn handle(&mut self, input: PoolInput) {
        self.core.handle(input);
        while let Some(output) = self.core.poll_output() {
            match output {
                PoolOutput::Spawn(process) => self.spawn(process),
                PoolOutput::Assign(process, job) => self.assign(process, &job),
                PoolOutput::Fail(job) => {
                    if let Some(want) = self.wanting.remove(&job) {
                        let _ = want.send(Err(format!("its process did not start: {}", self.why)));
                    }
                }
                PoolOutput::Arm(failures) => self.rest(failures),
            }
        }
    }

    fn spawn(&self, process: ProcessId) {
        let (orders, settings) = (self.orders.clone(), self.settings.clone());
        let seat = Seat { process, orders, why: String::new() };
        tokio::spawn(async move {
            if let Some(process) = Process::start(seat, &settings).await {
                wait_for_a_job(process).await;
            }
        });
    }

    fn assign(&mut self, process: ProcessId, job: &JobId) {
        let Some(want) = self.wanting.remove(job) else { return };
        let refused = match self.idle.remove(&process) {
            Some(waits) => waits.send(want).err(),
            None => Some(want),
        };
        // It died just now; the news of that are on their way.
        if let Some(want) = refused {
            let _ = self.orders.send(PoolOrder::Want(job.clone(), want));
        }
    }

    fn rest(&self, failures: u8) {
        let wait = policy::backoff(BACKOFF.0, BACKOFF.1, failures - 1, fastrand::u32(..));
        tracing::warn!(
            error = self.why,
            failures,
            "a process died before it had a job; another is started soon"
        );
        let orders = self.orders.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = orders.send(PoolOrder::Due);
        });
    }
}

/// Holds a warm process until a job takes it, or it dies.
async fn wait_for_a_job(mut process: Process) {
    loop {
        let (waits, wanted) = oneshot::channel();
        let _ = process.seat.orders.send(PoolOrder::Warm(process.seat.process, waits));
        let want = tokio::select! {
            biased;
            // It has nothing to say: whatever it says is its end, or a fault.
            _ = process.next() => None,
            want = wanted => want.ok(),
        };
        let Some(want) = want else {
            process.seat.why = process.ended().await;
            return;
        };
        match want.send(Ok(process)) {
            Err(Ok(back)) => process = back,
            // The job has it.
            Ok(()) | Err(Err(_)) => return,
        }
    }
}
