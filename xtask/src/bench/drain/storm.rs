//! Many offers: in a drain, where each must be declined at once (DRAIN-3), and while serving, where a handler rejects them (JOB-1).
//!
//! Owns the storms. Refuses to wait between an offer and the next: the rate is the server's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::proto;
use last_call_testkit::proto::server_message::Message as ToWorker;
use last_call_testkit::{Job, Signal, Stub, Tally};
use serde_json::json;

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{PATIENCE, Subject, rest};
use crate::bench::seen;

const DECLINE: Promise = Promise::p99(Duration::from_millis(5));
const TO_FULL: Promise = Promise::p99_and_max(Duration::from_millis(10), Duration::from_millis(100));
/// Offers a second while serving.
const SERVING_RATE: u32 = 1000;
/// How long a worker serves before it is signalled.
const SERVING: Duration = Duration::from_secs(2);

pub(super) fn measure(probe: &Subject, offers: u64, serving: usize, report: &mut Report) -> Result<()> {
    for rate in [1000, 5000] {
        report.section(&format!("{offers} offers in a drain, {rate}/s"));
        let tally = in_drain(probe, rate, offers)?;
        let what = format!("offer → declined, in a drain, {rate}/s");
        report.times(probe.name, &what, tally.latencies, DECLINE);
        report.none(probe.name, "offers accepted in a drain", tally.accepted, tally.offered);
        report.none(probe.name, "offers unanswered in a drain", tally.unanswered, tally.offered);
        report.none(probe.name, "offers answered with terminate", tally.terminated, tally.offered);
    }
    report.section("1,000 offers/s while serving, rejected by user code");
    serve(probe, serving, report)
}

/// A worker that drains with one running job, and `total` offers.
pub(in crate::bench) fn in_drain(subject: &Subject, rate: u32, total: u64) -> Result<Tally> {
    let stub = Stub::auto()?;
    let worker = subject.serve(&stub, &[])?;
    seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
    let mark = stub.mark();
    worker.signal(Signal::SIGTERM)?;
    seen::first(&stub, mark, PATIENCE, seen::is_full).context("no WS_FULL")?;
    let storm = stub.storm(rate, total);
    let takes = Duration::from_secs(total / u64::from(rate) * 3);
    let tally = storm.finish(takes + PATIENCE, PATIENCE)?;
    end_job(&stub, "long")?;
    worker.end()?;
    Ok(tally)
}

/// Ends a running job from the server's side, on whichever connection the worker has now.
pub(in crate::bench) fn end_job(stub: &Stub, job: &str) -> Result<()> {
    let connection = stub.registered().context("the worker is not connected")?;
    stub.send(connection, ToWorker::Termination(proto::JobTermination { job_id: job.to_owned() }))
}

fn serve(probe: &Subject, workers: usize, report: &mut Report) -> Result<()> {
    let (mut offers, mut to_full) = (Vec::new(), Vec::new());
    for turn in 0..workers {
        let stub = Stub::auto()?;
        let worker = probe.serve(&stub, &[])?;
        // Without a job the worker would leave, and with it what is on its way.
        seen::run_jobs(&stub, &[("long".to_owned(), json!({"sleep": 3600}))])?;
        let first = stub.offers().len();
        let stop = AtomicBool::new(false);
        let full = std::thread::scope(|scope| {
            let offering = scope.spawn(|| offer_rejects(&stub, &stop));
            rest(SERVING + Duration::from_millis(13 * turn as u64));
            let (mark, signalled) = (stub.mark(), Instant::now());
            let sent = worker.signal(Signal::SIGTERM);
            let full = seen::first(&stub, mark, PATIENCE, seen::is_full);
            stop.store(true, Ordering::Relaxed);
            // It does not panic; if it did, too few offers would show it.
            let _ = offering.join();
            sent.and(full.context("no WS_FULL amid offers"))
                .map(|full| full.at.saturating_duration_since(signalled))
        })?;
        to_full.push(full);
        let all_answered = || stub.offers().iter().all(|offer| offer.answer.is_some());
        let deadline = Instant::now() + PATIENCE;
        while !all_answered() && Instant::now() < deadline {
            rest(Duration::from_millis(5));
        }
        ensure!(stub.offers().len() > first, "the server made no offer");
        offers.extend(stub.offers().into_iter().filter(|offer| offer.job_id != "long"));
        end_job(&stub, "long")?;
        worker.end()?;
    }
    let tally = Tally::of(&offers);
    report.times(probe.name, "offer → rejected by user code, 1,000/s", tally.latencies, Promise::NONE);
    report.none(probe.name, "offers accepted against user code", tally.accepted, tally.offered);
    report.none(probe.name, "offers unanswered while serving", tally.unanswered, tally.offered);
    let to_full = to_full.into_iter().collect();
    report.times(probe.name, "SIGTERM → WS_FULL, amid rejected offers", to_full, TO_FULL);
    Ok(())
}

/// Offers jobs that the handler rejects, until told to stop or the worker is gone.
fn offer_rejects(stub: &Stub, stop: &AtomicBool) {
    let began = Instant::now();
    for number in 0_u32.. {
        let due = began + Duration::from_secs(1) * number / SERVING_RATE;
        rest(due.saturating_duration_since(Instant::now()));
        let job = Job::new(format!("reject-{number}")).metadata(r#"{"reject": true}"#);
        if stop.load(Ordering::Relaxed) || stub.offer(job).is_err() {
            return;
        }
    }
}
