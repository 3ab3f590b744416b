//! Probe: the black-box worker that tests, checks and benchmarks drive. Its contract is docs/probe.md.
//!
//! Owns what a job does when told to by its metadata, and what it writes down. Refuses anything a real
//! agent would do.

mod diary;
mod ending;
mod orders;
mod others;
mod settings;
mod told;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use last_call::prelude::*;
use last_call::{ParticipantInfo, Permissions};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::diary::{Diary, Entry};
use crate::ending::Ending;
use crate::orders::{As, Orders};
use crate::settings::{Busy, Prewarm, Settings};

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => return settings::complain(&error),
    };
    settings::command_line(&settings, |cli| last_call::run_with(cli, worker(&settings)))
}

fn worker(settings: &Settings) -> Worker {
    let accept_delay = settings.accept_delay;
    let busy = settings.busy;
    let prewarm = settings.prewarm;
    let diary = settings.job_dir.clone();
    let mut worker = Worker::new(settings.agent_name.clone())
        .job_type(settings.job_type)
        .prewarm(move || async move {
            busy_threads(busy);
            match prewarm {
                None => Ok(()),
                Some(Prewarm::Fails) => Err(Error::from("told to fail in prewarming")),
                Some(Prewarm::Hangs) => std::future::pending().await,
                Some(Prewarm::Exits) => std::process::exit(7),
            }
        })
        .on_request(move |request| decide(request, accept_delay))
        .entrypoint(move |job| run(job, diary.clone()));
    if let Some(load) = settings.load {
        worker = worker.load(move || load);
    }
    if settings.listener {
        worker = worker.permissions(Permissions { publish: false, hidden: true, ..Permissions::default() });
    }
    worker
}

async fn decide(request: JobRequest, delay: Duration) -> Reply {
    // Orders that cannot be read fail the job, where their error is seen.
    let orders = Orders::read(request.metadata()).unwrap_or_default();
    let delay = orders.accept_delay.unwrap_or(delay);
    if !delay.is_zero() {
        // Even a sleep of nothing lasts a millisecond.
        tokio::time::sleep(delay).await;
    }
    if orders.reject { request.reject() } else { acceptance(&request, orders.accept).into() }
}

fn acceptance(request: &JobRequest, said: As) -> Acceptance {
    let acceptance = request.accept().name(said.name).metadata(said.metadata);
    let acceptance = match said.identity {
        Some(identity) => acceptance.identity(identity),
        None => acceptance,
    };
    said.attributes.into_iter().fold(acceptance, |acceptance, (key, value)| acceptance.attribute(key, value))
}

async fn run(job: JobContext, dir: Option<std::path::PathBuf>) -> Result<(), Error> {
    let diary = Diary::open(dir.as_deref(), job.id())?;
    let orders = Orders::read(job.metadata())?;
    if orders.tell
        && let Some(dir) = &dir
    {
        told::write(dir, job.id(), &told(&job))?;
    }
    if orders.spans {
        open_spans(&job).await;
    }
    diary.write(Entry::Started);
    let noticed = diary.clone();
    let watching = job.clone();
    job.spawn(async move {
        watching.draining().await;
        noticed.write(Entry::Draining);
    });
    if orders.connect {
        job.connect().await?;
        diary.write(Entry::Connected);
    }
    if orders.stray {
        let stray = others::leave_one()?;
        tracing::info!(stray, "a program was started");
    }
    if orders.orphans > 0 {
        others::leave(orders.orphans)?;
    }
    let ending = Ending::new(diary);
    tokio::select! {
        () = work(&orders) => {}
        stopping = job.stopping(), if !orders.ignore_cancel => {
            tracing::info!(reason = %stopping.reason, "told to stop");
            return Ok(());
        }
    }
    ending.end_as_told(&orders)
}

/// All that a job is given.
fn told(job: &JobContext) -> Value {
    let info = job.info();
    json!({
        "job": info.id(),
        "dispatch": info.dispatch_id(),
        "type": info.job_type().as_str(),
        "room": job.room().name(),
        "participant": job.participant().map(ParticipantInfo::identity),
        "metadata": job.metadata(),
        "attributes": job.attributes(),
        "agent_name": info.agent_name(),
        "deployment": info.deployment(),
        "identity": job.identity(),
        "url": job.url(),
        "worker": job.worker_id(),
        "token": job.token(),
    })
}

/// A span with another inside it, and one in a task of its own.
async fn open_spans(job: &JobContext) {
    async {
        tracing::info!(words = 2, "hello");
        tracing::info_span!("think").in_scope(|| ());
    }
    .instrument(tracing::info_span!("greet", turn = 1))
    .await;
    let (over, listened) = tokio::sync::oneshot::channel::<()>();
    // Dropped with its task, which ends the wait as well.
    let listening = async move { drop(over) };
    job.spawn(async { listening.instrument(tracing::info_span!("listen")).await });
    let _ = listened.await;
}

async fn work(orders: &Orders) {
    let until = Instant::now() + orders.sleep;
    if orders.busy {
        spin(until).await;
    } else if orders.ignore_cancel {
        // Not even a dropped future ends this: it holds its thread.
        while Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    } else {
        tokio::time::sleep(orders.sleep).await;
    }
}

/// Takes every thread of the user runtime: nine tenths of the time in slices of 10 ms, or for good, at the
/// cost of a core each or of none.
fn busy_threads(busy: Option<Busy>) {
    let Some(busy) = busy else { return };
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    for _ in 0..threads {
        tokio::spawn(async move {
            match busy {
                Busy::Slices => spin(Instant::now() + Duration::from_secs(24 * 3600)).await,
                Busy::Block => loop {
                    std::hint::spin_loop();
                },
                Busy::Sleep => loop {
                    std::thread::park();
                },
            }
        });
    }
}

async fn spin(until: Instant) {
    while Instant::now() < until {
        let slice = Instant::now();
        while slice.elapsed() < Duration::from_millis(9) {
            std::hint::spin_loop();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
