//! One job in one process: what the link says of the job goes there, what becomes of it comes back.
//!
//! Owns the translation. Refuses to end the job: whoever drops this future does, and the process with it.

use std::time::{Duration, Instant};

use last_call_proto::{End, JobId};
use livekit_protocol as livekit;
use tokio::sync::{mpsc, oneshot};

use super::pool::Processes;
use super::process::Process;
use super::wire::{Assignment, Failure, News, Order, Stop, Why, milliseconds};
use crate::job::{JobContext, StopReason, Stopping};
use crate::process::{Ended, Pings};
use crate::runner::FromUser;

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
        let given = tokio::select! {
            biased;
            Ok(()) = &mut cancelled => Err("cancelled before a process was there for it".to_owned()),
            given = self.take(&id) => given,
        };
        let end = match given {
            Ok(process) => {
                let conversation =
                    Conversation { job: job.clone(), events: events.clone(), id: id.clone(), assigned };
                conversation.run(process, cancelled).await
            }
            Err(why) => End::Failed(why.into()),
        };
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
    async fn run(&self, mut process: Process, mut cancelled: oneshot::Receiver<()>) -> End {
        tracing::debug!(process = process.pid(), "the job's process");
        process.say(Order::Run(Box::new(self.assignment()))).await;
        let (mut noticed, mut told, mut cancelling) = (false, false, false);
        let (child, settings) = (process.supervised.clone(), process.settings.clone());
        let watched = settings.limits.watch_memory(&child, &self.job);
        tokio::pin!(watched);
        let mut pings = Pings::new(&settings.limits);
        let mut answered = Instant::now();
        loop {
            tokio::select! {
                biased;
                news = process.next() => match news {
                    Some(News::Succeeded(_)) => {
                        tokio::spawn(process.leave());
                        return End::Success;
                    }
                    Some(News::JobFailed(Failure { text, kind })) => {
                        tokio::spawn(process.leave());
                        if !kind.is_empty() {
                            self.job.trace().exception(&kind, &text);
                        }
                        return End::Failed(text.into());
                    }
                    Some(News::Pong(_)) => answered = Instant::now(),
                    Some(news) => self.happened(news),
                    None => return End::Failed(format!("its process ended: {}", process.ended().await).into()),
                },
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
                due = next(&mut pings, || answered.elapsed()) => match due {
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
            News::Warm(_) | News::Failed(_) | News::Succeeded(_) | News::JobFailed(_) | News::Pong(_) => {
                return;
            }
        };
        let _ = self.events.send(event);
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
async fn next(pings: &mut Option<Pings>, answered: impl Fn() -> Duration) -> Result<(), Ended> {
    match pings {
        Some(pings) => pings.next(answered).await,
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
