//! The page as a scraper sees it.

use last_call_proto::Load;

use super::label::LabelValue;
use std::time::Duration;

use super::*;
use crate::observe::DrainProgress;

fn page(metrics: &Metrics, snapshot: &Snapshot) -> Vec<String> {
    metrics.encode(snapshot).lines().map(str::to_owned).collect()
}

fn has(page: &[String], line: &str) {
    let name = line.split(['{', ' ']).next().unwrap_or(line);
    let near: Vec<_> = page.iter().filter(|have| have.contains(name)).collect();
    assert!(near.iter().any(|have| *have == line), "no {line:?} in {near:#?}");
}

#[test]
fn every_series_exists_from_the_start() {
    let metrics = Metrics::new("1.2.3");
    let page = page(&metrics, &Snapshot::default());
    has(&page, "last_call_build_info{version=\"1.2.3\"} 1");
    for counter in [
        "offers",
        "offers_accepted",
        "offers_lost",
        "late_decisions",
        "assignments_missed",
        "assignments_unknown",
        "reconnects",
        "registrations",
    ] {
        has(&page, &format!("last_call_{counter}_total 0"));
        has(&page, &format!("# TYPE last_call_{counter} counter"));
    }
    for gauge in ["registered", "draining", "wedged", "drain_jobs_remaining"] {
        has(&page, &format!("last_call_{gauge} 0"));
    }
    for reason in DeclineReason::ALL {
        has(&page, &format!("last_call_offers_declined_total{{reason=\"{}\"}} 0", reason.text()));
    }
    for outcome in ["success", "failed"] {
        has(&page, &format!("last_call_jobs_total{{outcome=\"{outcome}\"}} 0"));
    }
    for reason in ["undecodable", "text", "oversized", "unknown", "out_of_order"] {
        has(&page, &format!("last_call_frames_rejected_total{{reason=\"{reason}\"}} 0"));
    }
    for stage in Stage::ALL {
        has(&page, &format!("last_call_dispatch_latency_seconds_count{{stage=\"{}\"}} 0", stage.text()));
    }
    has(&page, "last_call_signal_to_full_seconds_bucket{le=\"0.01\"} 0");
    assert_eq!(page.last().map(String::as_str), Some("# EOF"));
}

#[test]
fn keeps_the_names_of_the_python_sdk() {
    let metrics = Metrics::new("1");
    metrics.initialize_seconds.observe(0.3);
    metrics.child_processes.set(4);
    let snapshot = Snapshot { active_jobs: 3, load: Load::from_thousandths(250), ..Snapshot::default() };
    let page = page(&metrics, &snapshot);
    let node = node_name();
    has(&page, &format!("lk_agents_active_job_count{{nodename=\"{node}\"}} 3"));
    has(&page, &format!("lk_agents_child_process_count{{nodename=\"{node}\"}} 4"));
    has(&page, &format!("lk_agents_worker_load{{nodename=\"{node}\"}} 0.25"));
    let bucket = "lk_agents_proc_initialize_duration_seconds_bucket";
    for (le, count) in [("0.1", 0), ("0.5", 1), ("1.0", 1), ("2.0", 1), ("5.0", 1), ("10.0", 1), ("+Inf", 1)]
    {
        has(&page, &format!("{bucket}{{nodename=\"{node}\",le=\"{le}\"}} {count}"));
    }
}

#[test]
fn counts_by_label() {
    let metrics = Metrics::new("1");
    metrics.declined.of(DeclineReason::Wedged).inc();
    metrics.jobs.of(Outcome::Failed).inc_by(2);
    metrics.frames_rejected.of(Rejected::OutOfOrder).inc();
    metrics.dispatch_seconds.of(Stage::AssignedToStarted).observe(2.5);
    let page = page(&metrics, &Snapshot::default());
    has(&page, "last_call_offers_declined_total{reason=\"wedged\"} 1");
    has(&page, "last_call_jobs_total{outcome=\"failed\"} 2");
    has(&page, "last_call_frames_rejected_total{reason=\"out_of_order\"} 1");
    has(&page, "last_call_dispatch_latency_seconds_bucket{le=\"2.0\",stage=\"assigned_to_started\"} 0");
    has(&page, "last_call_dispatch_latency_seconds_bucket{le=\"3.0\",stage=\"assigned_to_started\"} 1");
}

#[test]
fn a_drain_shows_what_is_left() {
    let metrics = Metrics::new("1");
    let now = SystemTime::now();
    let drain = DrainProgress {
        started: now - Duration::from_secs(40),
        budget: Duration::from_secs(100),
        jobs_at_start: 5,
        jobs_finished: 2,
        declined: 9,
    };
    let mut snapshot = Snapshot {
        phase: Phase::Draining,
        active_jobs: 2,
        accepted_jobs: 1,
        drain: Some(drain),
        ..Snapshot::default()
    };
    metrics.from_snapshot.set(&snapshot, now);
    assert_eq!(metrics.from_snapshot.drain_seconds_remaining.get(), 60.0);
    let text = page(&metrics, &snapshot);
    has(&text, "last_call_draining 1");
    has(&text, "last_call_drain_jobs_remaining 3");

    snapshot.phase = Phase::Drained;
    metrics.from_snapshot.set(&snapshot, now + Duration::from_secs(61));
    assert_eq!(metrics.from_snapshot.drain_seconds_remaining.get(), 0.0, "spent, not below");
    metrics.from_snapshot.set(&snapshot, now - Duration::from_secs(3600));
    assert_eq!(metrics.from_snapshot.drain_seconds_remaining.get(), 100.0, "a clock set back");
}
