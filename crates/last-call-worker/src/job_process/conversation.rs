//! One job in one process: what the link says of the job goes there, what becomes of it comes back.
//!
//! Owns the translation. Refuses to end the job: whoever drops this future does, and the process with it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use last_call_proto::{End, JobId};
use livekit_protocol as livekit;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::pool::Processes;
use super::process::Process;
use super::wire::{Assignment, Failure, News, Order, Stop, Why, milliseconds};
use crate::job::{JobContext, StopReason, Stopping, panic_text};
use crate::process::{Ended, Pings};
use crate::runner::FromUser;

/// Processes that a job is offered to in turn. One that was warm may be found dead, or frozen.
const TRIES: u32 = 3;
/// A process says within this time that it has the job, or is replaced. It does nothing else then.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);
/// What a process has said before its end is read within this time, where something that it started holds the socket.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Processes {
    /// Runs a job in a process of its own, from the assignment to the end.
    pub(crate) async fn run(
        self,
        job: JobContext,
        mut cancelled: oneshot::Receiver<()>,
        events: mpsc::UnboundedSender<FromUser>,
        id: JobId,
    ) {
        let assigned = Instant::now();
        let conversation =
            Conversation { job: job.clone(), events: events.clone(), id: id.clone(), assigned };
        let whole = async {
            let mut why = String::new();
            for _ in 0..TRIES {
                let process = tokio::select! {
                    biased;
                    Ok(()) = &mut cancelled => Err("cancelled before a process was there for it".to_owned()),
                    given = self.take(&id) => given,
                };
                let mut process = match process {
                    Ok(process) => process,
                    Err(why) => return End::Failed(why.into()),
                };
                match conversation.give(&mut process).await {
                    Ok(()) => return conversation.run(process, cancelled).await,
                    Err(ended) => {
                        tracing::warn!(
                            pid = process.pid(),
                            ended,
                            "a process did not take its job: another gets it"
                        );
                        why = ended;
                    }
                }
            }
            End::Failed(format!("no process took it; the last one ended: {why}").into())
        };
        // A fault here fails the job, and does not hold the drain.
        let end = AssertUnwindSafe(whole).catch_unwind().await.unwrap_or_else(|panic| {
            End::Failed(format!("a fault of Last Call: {}", panic_text(panic.as_ref())).into())
        });
        job.trace().end(&end);
        let _ = events.send(FromUser::Ended(id, end));
    }
}

struct Conversation {
    job: JobContext,
    events: mpsc::UnboundedSender<FromUser>,
    id: JobId,
    assigned: Instant,
}

impl Conversation {
    /// Gives it the job; or says how it ended, where the job certainly has not begun there.
    async fn give(&self, process: &mut Process) -> Result<(), String> {
        process.serves(&self.id);
        let given = async {
            process.say(Order::Run(Box::new(self.assignment()))).await;
            // Pings that it was sent while it waited may be answered before.
            while let Some(news) = process.next().await {
                if matches!(news, News::Taken(_)) {
                    return true;
                }
            }
            false
        };
        match timeout(TAKEN_WITHIN, given).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(_) => process.supervised.kill(Some(Ended::Unresponsive(TAKEN_WITHIN))),
        }
        Err(process.ended().await)
    }

    async fn run(&self, mut process: Process, mut cancelled: oneshot::Receiver<()>) -> End {
        tracing::debug!(process = process.pid(), "the job's process");
        let (mut noticed, mut told, mut cancelling, mut gone) = (false, false, false, false);
        let (child, settings) = (process.supervised.clone(), process.settings.clone());
        let watched = settings.limits.watch_memory(&child, &self.job);
        let mut pings = settings.limits.ping_limit.map(Pings::new);
        let mut answers = 0;
        let end = child.ended();
        let last_words = sleep(Duration::MAX);
        tokio::pin!(watched, end, last_words);
        loop {
            tokio::select! {
                biased;
                news = process.next() => match news {
                    Some(News::Succeeded(_)) => {
                        tokio::spawn(process.leave(self.job.clone()));
                        return End::Success;
                    }
                    Some(News::JobFailed(Failure { text, kind })) => {
                        tokio::spawn(process.leave(self.job.clone()));
                        if !kind.is_empty() {
                            self.job.trace().exception(&kind, &text);
                        }
                        return End::Failed(text.into());
                    }
                    Some(News::Pong(_)) => answers += 1,
                    Some(news) => self.happened(news),
                    None => return self.died(&process).await,
                },
                _ = &mut end, if !gone => {
                    gone = true;
                    last_words.as_mut().reset(tokio::time::Instant::now() + LAST_WORDS);
                }
                () = &mut last_words, if gone => return self.died(&process).await,
                draining = self.job.draining(), if !noticed => {
                    noticed = true;
                    process.say(Order::Draining(left(draining.deadline))).await;
                }
                stopping = self.job.stopping(), if !told => {
                    told = true;
                    process.say(Order::Stop(stop(&stopping))).await;
                }
                Ok(()) = &mut cancelled, if !cancelling => {
                    cancelling = true;
                    process.say(Order::Cancel(true)).await;
                }
                due = next(&mut pings, || answers) => match due {
                    Ok(()) => process.say(Order::Ping(true)).await,
                    Err(ended) => child.kill(Some(ended)),
                },
                () = &mut watched => {}
            }
        }
    }

    fn happened(&self, news: News) {
        let event = match news {
            News::Started(_) => FromUser::Started(self.assigned.elapsed()),
            News::Finishing(_) => FromUser::Finishing(self.id.clone()),
            News::StopRequested(reason) => return self.job.shutdown(reason),
            // Said before, or handled where they end the conversation.
            News::Warm(_)
            | News::Failed(_)
            | News::Taken(_)
            | News::Pong(_)
            | News::Succeeded(_)
            | News::JobFailed(_) => return,
        };
        let _ = self.events.send(event);
    }

    /// Its process is gone, and it had not said how it ended.
    async fn died(&self, process: &Process) -> End {
        let ended = process.ended().await;
        self.job.process_died();
        End::Failed(format!("its process ended: {ended}").into())
    }

    fn assignment(&self) -> Assignment {
        Assignment {
            job: Some(livekit::Job::from(self.job.info())),
            identity: self.job.identity().to_owned(),
            url: self.job.url().to_owned(),
            token: self.job.token().to_owned(),
            worker_id: self.job.worker_id().to_owned(),
            trace: self.job.trace().carried(),
        }
    }
}

/// Never, without pings.
async fn next(pings: &mut Option<Pings>, answers: impl Fn() -> u64) -> Result<(), Ended> {
    match pings {
        Some(pings) => pings.next(answers).await,
        None => std::future::pending().await,
    }
}

fn left(deadline: Instant) -> u64 {
    milliseconds(deadline.saturating_duration_since(Instant::now()))
}

fn stop(stopping: &Stopping) -> Stop {
    let why = match stopping.reason {
        StopReason::Terminated => Why::Terminated,
        StopReason::Requested(_) => Why::Requested,
        StopReason::DrainDeadline => Why::DrainDeadline,
    };
    Stop { why: why.into(), left_ms: left(stopping.deadline) }
}
