//! A job's process: what `run` does there in place of a worker.
//!
//! Owns the way in, and one job. Refuses to drain: signals are for the worker to judge, which says by the socket what
//! is to become of the job. Refuses to live without the worker.
//!
//! The process knows itself by its standard input: a socket whose other end its parent made, with a greeting in it.
//! A variable would have to be removed from the environment, which is not safe beside threads, or be inherited by
//! whatever the job starts.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use last_call_proto::{End, JobId, StopReason};
use rustix::net::{AddressFamily, RecvFlags, SocketType, sockopt};
use rustix::process::getppid;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Assignment, Failure, FromProcess, GREETING, News, Order, ToProcess, Why};
use crate::error::StartError;
use crate::job::{Draining, Given, JobApi, JobContext, JobInfo};
use crate::jobs::Jobs;
use crate::link::Control as LinkControl;
use crate::log::{FLUSH_WITHIN, flush};
use crate::otel::JobTrace;
use crate::program::Worker;
use crate::runner::{FromUser, TaskRunner};
use crate::secret::Secret;

/// The worker reports a job's end within this time, or has no connection to the server.
const REPORTED_WITHIN: Duration = Duration::from_secs(1);

/// The socket to the worker.
pub(crate) struct Control {
    socket: StdUnixStream,
    /// Log lines are text for people, as the worker's are.
    pub(crate) pretty: bool,
}

/// Whether this process was started for a job, and the socket then. Standard input is empty from here on, as nothing
/// that the job starts may get that socket.
///
/// Where the worker is gone already, the process ends here.
pub(crate) fn recognise() -> Option<Control> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    if !is_greeted(stdin) {
        return None;
    }
    adopt(stdin).unwrap_or_else(|error| {
        crate::run::say(&StartError::System { what: "way to serve a job", error });
        exit(1)
    })
}

fn is_greeted(stdin: BorrowedFd<'_>) -> bool {
    // Anything else than a socket is an error here, and a terminal most of the time.
    let socket = sockopt::socket_type(stdin).is_ok_and(|kind| kind == SocketType::STREAM)
        && rustix::net::getsockname(stdin).is_ok_and(|name| name.address_family() == AddressFamily::UNIX);
    let mut greeting = [0; GREETING.len()];
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    socket && rustix::net::recv(stdin, &mut greeting, peek).is_ok() && greeting == *GREETING
}

fn adopt(stdin: BorrowedFd<'_>) -> io::Result<Option<Control>> {
    let mut socket = StdUnixStream::from(stdin.try_clone_to_owned()?);
    let mut greeting = [0; GREETING.len() + 1];
    socket.read_exact(&mut greeting)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // In this order: a worker that dies between the two is seen by the second.
    crate::process::end_with_the_parent()?;
    if !is_of_the_parent(&socket) {
        return Err(io::Error::other("the worker that it was started for is gone"));
    }
    Ok(Some(Control { socket, pretty: greeting.last() == Some(&1) }))
}

#[cfg(target_os = "linux")]
fn is_of_the_parent(socket: &StdUnixStream) -> bool {
    sockopt::socket_peercred(socket).is_ok_and(|peer| Some(peer.pid) == getppid())
}

/// Elsewhere the socket tells: it ends with the worker.
#[cfg(not(target_os = "linux"))]
fn is_of_the_parent(_socket: &StdUnixStream) -> bool {
    getppid().is_some_and(|parent| !parent.is_init())
}

/// Serves one job, and ends the process.
pub(crate) fn run(control: Control, worker: Worker, user: &Handle, api: JobApi) -> ! {
    let runtime = Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(serve(control, worker, user.clone(), api)),
        Err(_) => Err(Gone),
    };
    flush(FLUSH_WITHIN);
    // And not by a return: what `main` does behind `run` is for the worker's end.
    exit(i32::from(code.is_err()))
}

/// The worker is gone, or does not want this process any more.
struct Gone;

async fn serve(control: Control, worker: Worker, user: Handle, api: JobApi) -> Result<(), Gone> {
    control.socket.set_nonblocking(true).map_err(|_| Gone)?;
    let (read, socket) = UnixStream::from_std(control.socket).map_err(|_| Gone)?.into_split();
    let (events, heard) = mpsc::unbounded_channel();
    let (warm, warmed) = oneshot::channel();
    let (begin, mut begun) = mpsc::unbounded_channel();
    let program = Arc::new(worker.program);
    let runner = TaskRunner::new(user.clone(), program, None, Some(api), events, warmed, Jobs::default());
    let mut serving = Serving { runner, socket, orders: wire::read(read), heard, job: None };
    let mut failed = crate::start::prewarm(worker.prewarm, &user, warm, begin);
    tokio::select! {
        begun = begun.recv() => if !matches!(begun, Some(LinkControl::Start)) {
            let why = failed.try_recv().unwrap_or_default();
            serving.say(News::Failed(why)).await?;
            return Err(Gone);
        },
        // Nothing is asked of a process that is not warm.
        _ = serving.orders.recv() => return Err(Gone),
    }
    serving.say(News::Warm(true)).await?;
    serving.run().await
}

struct Serving {
    runner: TaskRunner,
    socket: OwnedWriteHalf,
    orders: mpsc::Receiver<ToProcess>,
    heard: mpsc::UnboundedReceiver<FromUser>,
    job: Option<JobId>,
}

impl Serving {
    async fn say(&mut self, news: News) -> Result<(), Gone> {
        wire::write(&mut self.socket, &FromProcess::from(news)).await.map_err(|_| Gone)
    }

    async fn run(mut self) -> Result<(), Gone> {
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let order = order.and_then(|frame| frame.order).ok_or(Gone)?;
                    if matches!(order, Order::Run(_)) {
                        // First: a process that has not said so may be replaced.
                        self.say(News::Taken(true)).await?;
                    }
                    self.obey(order);
                }
                Some(event) = self.heard.recv() => {
                    let Some((news, last)) = self.news(event) else { continue };
                    if last {
                        // Before the worker hears of the end, and may leave and kill what is left.
                        crate::otel::finish();
                        flush(FLUSH_WITHIN);
                    }
                    self.say(news).await?;
                    if last {
                        self.leave().await;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The agent leaves its room once the server knows how the job ended, or nobody says so any more.
    async fn leave(&mut self) {
        let reported = async {
            while let Some(order) = self.orders.recv().await.and_then(|frame| frame.order) {
                if matches!(order, Order::Reported(_)) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(REPORTED_WITHIN, reported).await;
        if let Some(job) = self.job.take() {
            self.runner.release(&job);
        }
        // A runtime that is blocked says nothing.
        let _ = tokio::time::timeout(REPORTED_WITHIN, self.runner.said_goodbye()).await;
    }

    fn obey(&mut self, order: Order) {
        match (order, self.job.clone()) {
            (Order::Run(assignment), None) => self.launch(*assignment),
            (Order::Draining(left), Some(job)) => {
                self.runner.notify(&job, Draining { deadline: within(left) });
            }
            (Order::Stop(stop), Some(job)) => {
                let reason = match stop.why() {
                    Why::Terminated => StopReason::Terminated,
                    Why::Requested => StopReason::Requested,
                    Why::DrainDeadline => StopReason::DrainDeadline,
                };
                self.runner.tell(&job, reason, within(stop.left_ms));
            }
            (Order::Cancel(_), Some(job)) => self.runner.cancel(&job),
            (Order::Ping(_), _) => self.runner.probe(),
            // One job for each process, and nothing is said of a job before it is there.
            (Order::Reported(_), _)
            | (Order::Run(_), Some(_))
            | (Order::Draining(_) | Order::Stop(_) | Order::Cancel(_), None) => {}
        }
    }

    fn launch(&mut self, assignment: Assignment) {
        let Assignment { job, identity, url, token, worker_id, trace } = assignment;
        let info = JobInfo::from(job.unwrap_or_default());
        let job = JobId::from(info.id());
        let token = Secret::from(token);
        let given = Given { identity, url, token, worker_id, state: None, api: None };
        let info = Arc::new(info);
        let trace = JobTrace::continued(&info, &trace);
        self.runner.launch(&job, info, given, trace);
        self.job = Some(job);
    }

    /// What the worker hears of this, and whether it is the last.
    fn news(&self, event: FromUser) -> Option<(News, bool)> {
        match event {
            FromUser::Started(_) => Some((News::Started(true), false)),
            FromUser::StopRequested(job) => {
                Some((News::StopRequested(self.runner.job(&job)?.requested()), false))
            }
            FromUser::Finishing(_) => Some((News::Finishing(true), false)),
            FromUser::Ended(_, End::Success) => Some((News::Succeeded(true), true)),
            FromUser::Ended(job, End::Failed(text)) => {
                let kind = self.runner.job(&job).map(JobContext::failed_with).unwrap_or_default();
                let failure = Failure { text: text.to_string(), kind: kind.to_owned() };
                Some((News::JobFailed(failure), true))
            }
            FromUser::ProbeAnswered => Some((News::Pong(true), false)),
            // Offers are the worker's.
            FromUser::Heartbeat(_)
            | FromUser::Load(_)
            | FromUser::Decided(..)
            | FromUser::DecisionFailed(..)
            | FromUser::Died(_)
            | FromUser::Worker(_) => None,
        }
    }
}

/// A deadline of more than a century is none.
fn within(left_ms: u64) -> Instant {
    let century = Duration::from_secs(100 * 366 * 24 * 3600);
    Instant::now() + Duration::from_millis(left_ms).min(century)
}
