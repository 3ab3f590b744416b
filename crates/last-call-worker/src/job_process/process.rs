//! One job's process, from its start to its end.
//!
//! Owns the socket to it, its place in the pool, and why it is gone. Refuses to outlive its owner: dropped, it is
//! killed with all that it started.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use last_call_proto::{JobId, ProcessId};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::pool::PoolOrder;
use super::wire::{self, FromProcess, GREETING, News, Order, ToProcess};
use crate::job::JobContext;
use crate::metrics::Metrics;
use crate::process::{Ended, Executable, Groups, Limits, Said, Start, Stream, Supervised};

/// A process that has let go of its socket, or has said all, has this long to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The end of a job is reported within this time, or there is no connection to report it on.
const REPORTED_WITHIN: Duration = Duration::from_millis(500);

/// What all processes of a worker have in common.
pub(super) struct Settings {
    pub(super) initialize_within: Duration,
    pub(super) limits: Limits,
    pub(super) groups: Option<Groups>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) leaving: Leaving,
}

/// How many processes are on their way out by themselves.
#[derive(Clone, Default)]
pub(super) struct Leaving(watch::Sender<usize>);

impl Leaving {
    /// Counts one, until what is returned is dropped.
    fn one_more(&self) -> impl Drop + use<> {
        struct One(watch::Sender<usize>);
        impl Drop for One {
            fn drop(&mut self) {
                self.0.send_modify(|count| *count -= 1);
            }
        }
        self.0.send_modify(|count| *count += 1);
        One(self.0.clone())
    }

    /// Waits until there is none.
    pub(super) async fn none(&self) {
        // The sender is here: this does not fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A place in the pool: given back when dropped.
pub(super) struct Seat {
    pub(super) process: ProcessId,
    pub(super) orders: mpsc::UnboundedSender<PoolOrder>,
    /// Why it is given back.
    pub(super) why: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A pool that is gone has no use for it.
        let _ = self.orders.send(PoolOrder::Gone(self.process, std::mem::take(&mut self.why)));
    }
}

/// A process that is initialised.
pub(super) struct Process {
    pub(super) supervised: Arc<Supervised>,
    pub(super) settings: Arc<Settings>,
    whose: Arc<Whose>,
    socket: OwnedWriteHalf,
    heard: mpsc::Receiver<FromProcess>,
    pub(super) seat: Seat,
    _counted: Counted,
}

/// One of the processes that live, as the metrics have it.
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.child_processes.dec();
    }
}

impl Process {
    /// Starts one, and waits until it is warm. Where it does not get there its seat says why.
    pub(super) async fn start(mut seat: Seat, settings: &Arc<Settings>) -> Option<Self> {
        let begun = Instant::now();
        let whose = Arc::new(Whose::default());
        let (supervised, socket) = match spawn(settings.groups.clone(), whose.clone()).await {
            Ok(spawned) => spawned,
            Err(error) => {
                seat.why = format!("the system starts no process: {error}");
                return None;
            }
        };
        settings.metrics.child_processes.inc();
        let counted = Counted(settings.metrics.clone());
        let (read, socket) = socket.into_split();
        let supervised = Arc::new(supervised);
        let settings = settings.clone();
        let mut process = Self {
            supervised,
            settings: settings.clone(),
            whose,
            socket,
            heard: wire::read(read),
            seat,
            _counted: counted,
        };
        process.seat.why = match timeout(settings.initialize_within, process.next()).await {
            Ok(Some(News::Warm(_))) => {
                settings.metrics.initialize_seconds.observe(begun.elapsed().as_secs_f64());
                return Some(process);
            }
            Ok(Some(News::Failed(text))) => text,
            Ok(_) => process.ended().await,
            Err(_) => {
                process.supervised.kill(Some(Ended::InitTimeout(settings.initialize_within)));
                process.ended().await
            }
        };
        None
    }

    pub(super) fn pid(&self) -> u32 {
        self.supervised.pid()
    }

    /// From here on what it prints is this job's.
    pub(super) fn serves(&self, job: &JobId) {
        // One job for each process.
        let _ = self.whose.job.set(job.to_string());
    }

    /// Says this to it. Not cancel safe. One that is gone hears nothing, and [`Process::next`] tells.
    pub(super) async fn say(&mut self, order: Order) {
        let _ = wire::write(&mut self.socket, &ToProcess::from(order)).await;
    }

    /// What it says next; `None` once it says nothing more. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<News> {
        // A frame without news is none.
        self.heard.recv().await?.news
    }

    /// Waits until it is gone, which it must be soon, and says how it ended.
    pub(super) async fn ended(&self) -> String {
        let Ok(ended) = timeout(END_WITHIN, self.supervised.ended()).await else {
            self.supervised.kill(None);
            return "it let go of its connection to the worker, and was killed".to_owned();
        };
        ended.text(&self.supervised.last_error())
    }

    /// It has said all: it leaves by itself once the job's end is reported, or is killed.
    pub(super) async fn leave(mut self, job: JobContext) {
        let _leaving = self.settings.leaving.one_more();
        let _ = timeout(REPORTED_WITHIN, job.released()).await;
        self.say(Order::Reported(true)).await;
        let _ = timeout(END_WITHIN, self.supervised.ended()).await;
    }
}

/// Whose lines they are.
#[derive(Default)]
struct Whose {
    process: OnceLock<u32>,
    job: OnceLock<String>,
}

/// This program once more, with the same arguments and the same environment, and the socket as its standard input.
async fn spawn(groups: Option<Groups>, whose: Arc<Whose>) -> io::Result<(Supervised, UnixStream)> {
    let (mut ours, theirs) = StdUnixStream::pair()?;
    ours.write_all(GREETING)?;
    ours.write_all(&[u8::from(crate::log::is_pretty())])?;
    ours.set_nonblocking(true)?;
    let mut command = Executable::own()?.command();
    command.args(std::env::args_os().skip(1)).stdin(Stdio::from(OwnedFd::from(theirs)));
    let start = Start { groups, deaf: true, ..command.into() };
    let heard = whose.clone();
    let supervised = Supervised::spawn(start, move |said| hear(&said, &heard)).await?;
    let _ = whose.process.set(supervised.pid());
    Ok((supervised, UnixStream::from_std(ours)?))
}

/// Standard output has the lines of the process's own log, which are whole already.
fn hear(said: &Said<'_>, whose: &Whose) {
    let (pid, job_id) = (whose.process.get(), whose.job.get());
    match *said {
        Said::Line { stream: Stream::Stdout, text, cut: 0 } => crate::log::pass_on(text),
        Said::Line { stream: Stream::Stdout, text, cut } => {
            let bytes = text.len() as u64 + cut;
            tracing::warn!(pid, job_id, bytes, "a line of a job's process was dropped: too long");
        }
        Said::Line { stream: Stream::Stderr, text, .. } => {
            tracing::warn!(pid, job_id, text, "a job's process on stderr");
        }
        Said::Dropped { stream, lines } => {
            let stream = stream.as_str();
            tracing::warn!(pid, job_id, stream, lines, "lines of a job's process were dropped: too many");
        }
    }
}
