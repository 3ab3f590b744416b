//! The pool's driver: the thread `last-call-processes`, on which every process of the worker is watched.
//!
//! Owns the warm processes and the jobs that wait for one. Refuses user code, which has the whole of another process.

use std::collections::HashMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use last_call_proto::{JobId, Pool, PoolInput, PoolLimits, PoolOutput, ProcessId, policy};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use super::process::{Leaving, Process, Seat, Settings};
use super::wire::{News, Order};
use crate::error::StartError;
use crate::link::Control;
use crate::metrics::Metrics;
use crate::process::{Groups, Limits, Pings};

/// Processes that start at the same time, for each core. Starting is work; prewarming is often waiting.
const STARTING_A_CORE: usize = 8;
/// The first wait after a process that died unused, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A process that waits for a job, and whose user code has not answered for so long, is replaced.
const IDLE_PING_LIMIT: Duration = Duration::from_secs(15);
/// Processes that were killed at the end are waited for this long.
const REAPED_WITHIN: Duration = Duration::from_millis(30);

/// Processes whose job is over may leave for this long before they are killed.
const LEFT_WITHIN: Duration = Duration::from_millis(20);

/// A warm process for a job, or why there is none.
pub(super) type Given = Result<Process, String>;

/// What the pool is told.
pub(super) enum PoolOrder {
    /// A job needs a process.
    Want(JobId, oneshot::Sender<Given>),
    /// A job needs none any more.
    Forget(JobId),
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
        let mut question = Question { orders: &self.orders, job, answered: false };
        let given = given.await.unwrap_or_else(|_| gone());
        question.answered = true;
        given
    }

    /// The worker drains: processes are not replaced any more.
    pub(crate) fn drain(&self) {
        let _ = self.orders.send(PoolOrder::Drain);
    }
}

/// A job's question for a process, taken back when dropped before the answer.
struct Question<'j> {
    orders: &'j mpsc::UnboundedSender<PoolOrder>,
    job: &'j JobId,
    answered: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // A pool that is gone has forgotten it.
            let _ = self.orders.send(PoolOrder::Forget(self.job.clone()));
        }
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

/// What a stopped supervisor is given until every process is gone.
pub(crate) const STOP_WITHIN: Duration =
    crate::process::STRAYS_WITHIN.saturating_add(REAPED_WITHIN).saturating_add(LEFT_WITHIN);

impl Supervisor {
    /// Has every process killed that is left. What is returned disconnects when that is done.
    pub(crate) fn stop(self) -> std_mpsc::Receiver<()> {
        drop(self.stop);
        self.done
    }
}

/// A pool that was started.
pub(crate) struct Started {
    pub(crate) processes: Processes,
    pub(crate) supervisor: Supervisor,
    /// Why the worker does not begin, if it does not.
    pub(crate) failed: oneshot::Receiver<String>,
}

/// What the options ask for.
pub(crate) struct Asked {
    /// Processes that are kept warm.
    pub(crate) idle: usize,
    pub(crate) initialize_within: Duration,
    pub(crate) limits: Limits,
}

/// Starts the pool. Of the processes that it keeps warm the first decides whether the worker begins.
pub(crate) fn start(
    asked: Asked,
    metrics: Arc<Metrics>,
    control: mpsc::UnboundedSender<Control>,
) -> Result<Started, StartError> {
    let Asked { idle, initialize_within, limits } = asked;
    let system = |what| move |error| StartError::System { what, error };
    crate::process::begin().map_err(system("way to start processes"))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("runtime for processes"))?;
    let groups = limits.groups().map_err(StartError::Usage)?;
    groups.iter().for_each(Groups::warn);
    let leaving = Leaving::default();
    let (orders, taken) = mpsc::unbounded_channel();
    let (fail, failed) = oneshot::channel();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let driver = Driver {
        core: Pool::new(PoolLimits { idle, refills: (cores / 2).max(1), starting: cores * STARTING_A_CORE }),
        settings: Arc::new(Settings { initialize_within, limits, groups, metrics, leaving: leaving.clone() }),
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
            // Those that say goodbye to their rooms.
            let _ = tokio::time::timeout(LEFT_WITHIN, leaving.none()).await;
            crate::process::kill_all();
            // So that none is left to whoever is this worker's init.
            let _ = tokio::time::timeout(REAPED_WITHIN, crate::process::all_reaped()).await;
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
                PoolOrder::Forget(job) => {
                    self.wanting.remove(&job);
                    PoolInput::Forget(job)
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
            let why = format!("the first process did not get through main and prewarm: {}", self.why);
            let _ = beginning.failed.send(why);
            let _ = beginning.control.send(Control::Force);
        }
    }

    fn handle(&mut self, input: PoolInput) {
        self.core.handle(input);
        while let Some(output) = self.core.poll_output() {
            match output {
                PoolOutput::Spawn(process) => self.spawn(process),
                PoolOutput::Assign(process, job) => self.assign(process, &job),
                // It ends when nobody can want it any more.
                PoolOutput::Retire(process) => drop(self.idle.remove(&process)),
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

/// Holds a warm process until a job takes it, or it dies or answers no more.
async fn wait_for_a_job(mut process: Process) {
    let mut pings = Pings::new(IDLE_PING_LIMIT);
    let mut answers = 0;
    loop {
        let (waits, mut wanted) = oneshot::channel();
        let _ = process.seat.orders.send(PoolOrder::Warm(process.seat.process, waits));
        let want = loop {
            tokio::select! {
                biased;
                want = &mut wanted => break want.ok(),
                news = process.next() => match news {
                    Some(News::Pong(_)) => answers += 1,
                    // Whatever else it says is its end, or a fault. A job may have been given to it meanwhile, and finds
                    // out that it has to ask again.
                    _ => {
                        wanted.close();
                        let Ok(want) = wanted.try_recv() else {
                            process.seat.why = process.ended().await;
                            return;
                        };
                        break Some(want);
                    }
                },
                due = pings.next(|| answers) => match due {
                    Ok(()) => process.say(Order::Ping(true)).await,
                    Err(ended) => process.supervised.kill(Some(ended)),
                },
            }
        };
        // Retired, or the pool is gone: it ends here.
        let Some(want) = want else { return };
        match want.send(Ok(process)) {
            Err(Ok(back)) => process = back,
            // The job has it.
            Ok(()) | Err(Err(_)) => return,
        }
    }
}
