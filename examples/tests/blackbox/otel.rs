//! OpenTelemetry, seen from the collector: what arrives, what never does, and that the worker waits for none
//! of it.
//!
//! Owns the spans and metrics of built workers. Refuses the reading of the variables, which has its own tests.

use std::process::Command;

use last_call_testkit::{Job, Options, Signal, Stub};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::collector::{Collector, Manner, text};
use crate::rig::{Running, SECRET, Start, probe, until};
use crate::seen::Seen;

fn stub() -> Stub {
    Stub::auto().expect("a stub")
}

/// Probe that exports to `collector`: spans at once, metrics at the exit only.
fn exporting(stub: &Stub, collector: &Collector) -> Start {
    probe(stub.url())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "1")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
}

#[track_caller]
fn drained(worker: &Running) {
    worker.send(Signal::SIGTERM);
    worker.ends_with(0);
}

/// Everything that arrived by the time that the spans of these jobs have.
#[track_caller]
fn spans_with(collector: &Collector, jobs: &[&str]) -> Vec<Span> {
    let is_of = |span: &Span, job: &str| text(&span.attributes, "lk.job_id").as_deref() == Some(job);
    let arrived = |job: &&str| collector.spans().iter().any(|span| is_of(span, job));
    until("the spans of jobs to arrive", || jobs.iter().all(arrived));
    collector.spans()
}

/// The span of this name that belongs to `job`.
#[track_caller]
fn span_of(spans: &[Span], name: &str, job: &str) -> Span {
    let job = job_span(spans, job);
    let found = spans.iter().find(|span| span.name == name && span.trace_id == job.trace_id);
    found.unwrap_or_else(|| panic!("no span {name} in {spans:#?}")).clone()
}

#[track_caller]
fn job_span(spans: &[Span], job: &str) -> Span {
    let is_it = |span: &&Span| text(&span.attributes, "lk.job_id").as_deref() == Some(job);
    spans.iter().find(is_it).unwrap_or_else(|| panic!("no span of {job} in {spans:#?}")).clone()
}

fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name.as_str()).collect()
}

fn number(metrics: &[Metric], name: &str) -> Option<i64> {
    let data = metrics.iter().find(|metric| metric.name == name)?.data.as_ref()?;
    let points = if let metric::Data::Sum(sum) = data {
        &sum.data_points
    } else if let metric::Data::Gauge(gauge) = data {
        &gauge.data_points
    } else {
        return None;
    };
    match points.first()?.value? {
        number_data_point::Value::AsInt(number) => Some(number),
        number_data_point::Value::AsDouble(_) => None,
    }
}

#[test]
fn a_job_is_a_span_with_those_of_user_code_inside() {
    let (stub, collector) = (stub(), Collector::start(Manner::Answers));
    let worker = exporting(&stub, &collector)
        .env("OTEL_SERVICE_NAME", "concierge")
        .register(&stub, &["--log-level", "trace"]);
    stub.offer(Job::new("call").agent("greeter").metadata(r#"{"spans": true}"#)).expect("registered");
    let spans = spans_with(&collector, &["call"]);
    drained(&worker);

    let job = job_span(&spans, "call");
    assert_eq!(job.name, "job_entrypoint");
    assert!(job.parent_span_id.is_empty(), "{job:#?}");
    assert_eq!(text(&job.attributes, "lk.agent_name").as_deref(), Some("greeter"));
    assert_eq!(text(&job.attributes, "lk.pii.room_name").as_deref(), Some("room-call"));
    assert_eq!(events(&job), ["accepted", "assigned"]);
    assert!(job.events[0].time_unix_nano <= job.start_time_unix_nano);
    assert_eq!(job.status.unwrap_or_default().code(), StatusCode::Unset);

    let greet = span_of(&spans, "greet", "call");
    assert_eq!(greet.parent_span_id, job.span_id);
    assert_eq!(text(&greet.attributes, "turn").as_deref(), Some("IntValue(1)"));
    assert_eq!(events(&greet), ["hello"]);
    assert_eq!(span_of(&spans, "think", "call").parent_span_id, greet.span_id);
    assert_eq!(span_of(&spans, "listen", "call").parent_span_id, job.span_id);
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["greet", "job_entrypoint", "listen", "think"], "nothing of the framework's own");
}

#[test]
fn a_failure_is_an_error_and_an_exception() {
    let (stub, collector) = (stub(), Collector::start(Manner::Answers));
    let worker = exporting(&stub, &collector).register(&stub, &[]);
    stub.run_job("raises", json!({"raise": true}));
    stub.run_job("panics", json!({"panic": true}));
    let spans = spans_with(&collector, &["raises", "panics"]);
    drained(&worker);
    for (id, kind, said) in [
        ("raises", "dyn core::error::Error", "told to raise"),
        ("panics", "panic", "panicked: told to panic"),
    ] {
        let job = job_span(&spans, id);
        let status = job.status.clone().unwrap_or_default();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, said));
        assert_eq!(events(&job), ["accepted", "assigned", "exception"]);
        let exception = &job.events[2].attributes;
        assert_eq!(text(exception, "exception.message").as_deref(), Some(said));
        let of = text(exception, "exception.type").unwrap_or_default();
        assert!(of.contains(kind), "{of}");
    }
}

#[test]
fn what_ends_a_job_is_an_event_of_its_span() {
    let (stub, collector) = (stub(), Collector::start(Manner::Answers));
    let worker = exporting(&stub, &collector)
        .register(&stub, &["--drain-timeout", "4s", "--drain-reserve", "2s", "--stop-grace", "100ms"]);
    let deaf = json!({"sleep": 3600, "ignore_cancel": true});
    for (job, orders) in [("ended", &deaf), ("stays", &json!({"sleep": 3600})), ("holds", &deaf)] {
        stub.run_job(job, orders.clone());
        worker.await_diary(job, "started");
    }
    stub.terminate("ended").expect("the connection stands");
    let ended = job_span(&spans_with(&collector, &["ended"]), "ended");
    assert_eq!(events(&ended), ["accepted", "assigned", "terminated", "cancelled", "killed"]);
    assert!(ended.events.is_sorted_by_key(|event| event.time_unix_nano));
    assert_eq!(ended.status.unwrap_or_default().code(), StatusCode::Error);
    worker.send(Signal::SIGTERM);
    // The job that holds its thread keeps the worker from leaving meanwhile.
    let stays = job_span(&spans_with(&collector, &["stays"]), "stays");
    assert_eq!(events(&stays), ["accepted", "assigned", "draining", "drain_deadline"]);
    worker.ends_with(4);
}

#[test]
fn the_last_of_all_leaves_before_the_worker() {
    let collector = Collector::start(Manner::Answers);
    // A slow machine may be too slow for the little time there is, though hardly every time.
    until("a span and metrics that only the exit can have sent", || {
        let stub = stub();
        let worker =
            exporting(&stub, &collector).env("OTEL_BSP_SCHEDULE_DELAY", "3600000").register(&stub, &[]);
        stub.run_job("call", json!({}));
        stub.end_of("call");
        drained(&worker);
        let drained = |(_, metrics): &(_, Vec<Metric>)| number(metrics, "last_call_draining") == Some(1);
        !collector.spans().is_empty() && collector.pushes().iter().any(drained)
    });
}

#[test]
fn a_job_that_is_cut_off_by_the_exit_is_seen() {
    let collector = Collector::start(Manner::Answers);
    // As above.
    until("the span of a job that held the only thread", || {
        let stub = stub();
        let worker = exporting(&stub, &collector)
            .register(&stub, &["--user-threads=1", "--drain-timeout=400ms", "--drain-reserve=200ms"]);
        stub.run_job("holds", json!({"sleep": 3600, "ignore_cancel": true}));
        worker.await_diary("holds", "started");
        worker.send(Signal::SIGTERM);
        worker.ends_with(4);
        collector.spans().iter().any(|span| events(span).last() == Some(&"killed"))
    });
}

#[test]
fn metrics_are_pushed_as_they_are_served() {
    let (stub, collector) = (stub(), Collector::start(Manner::Answers));
    let worker = exporting(&stub, &collector)
        .env("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=concierge,deployment=green")
        .register(&stub, &[]);
    stub.run_job("call", json!({"sleep": 3600}));
    let seen = |name, value| {
        let pushes = collector.pushes();
        pushes.last().is_some_and(|(_, metrics)| number(metrics, name) == Some(value))
    };
    until("the push that shows the job", || seen("lk_agents_active_job_count", 1));
    until("the push that counts the offer", || seen("last_call_offers_accepted", 1));
    let (resource, metrics) = collector.pushes().pop().expect("pushed");
    assert_eq!(text(&resource, "service.name").as_deref(), Some("concierge"));
    assert_eq!(text(&resource, "deployment").as_deref(), Some("green"));
    assert!(text(&resource, "service.instance.id").is_some_and(|id| id.len() == 32));
    let page = worker.get("/metrics").body;
    let served: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let pushed: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(pushed, served);
}

#[test]
fn drain_5_a_collector_that_never_answers_holds_no_exit() {
    let (stub, collector) = (stub(), Collector::start(Manner::Silent));
    let worker = exporting(&stub, &collector)
        .env("OTEL_METRIC_EXPORT_INTERVAL", "1")
        // An exit that waited for one answer would outlast the test's patience.
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
        .register(&stub, &[]);
    stub.run_job("call", json!({}));
    stub.end_of("call");
    let asked = |path| collector.received().iter().any(|request| request.path == path);
    until("both kinds to wait for an answer", || asked("/v1/traces") && asked("/v1/metrics"));
    drained(&worker);
    assert_eq!(worker.last_words()["message"], "left: every job had its end");
}

#[test]
fn each_outage_of_a_collector_is_one_warning_for_each_kind() {
    let (stub, collector) = (stub(), Collector::start(Manner::Fails));
    let worker = exporting(&stub, &collector).env("OTEL_METRIC_EXPORT_INTERVAL", "1").register(&stub, &[]);
    let pushes = || {
        let before = collector.pushes().len();
        // The first of them may have had its answer before the collector changed.
        until("many pushes", || collector.pushes().len() > before + 20);
    };
    stub.run_job("call", json!({}));
    spans_with(&collector, &["call"]);
    pushes();
    collector.becomes(Manner::Answers);
    pushes();
    collector.becomes(Manner::Fails);
    pushes();
    drained(&worker);
    let warnings: Vec<_> = worker.logs().into_iter().filter(|line| line["level"] == "WARN").collect();
    let mut kinds: Vec<_> = warnings.iter().filter_map(|warning| warning["kind"].as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["metrics", "metrics", "spans"], "{warnings:#?}");
    for warning in warnings {
        assert_eq!(warning["error"], "it answered 500 Internal Server Error");
        assert_eq!(warning["collector"].as_str().map(|at| format!("http://{at}")), Some(collector.url()));
    }
}

#[test]
fn without_an_endpoint_no_thread_is_started() {
    let stub = stub();
    let (quiet, collector) = (probe(stub.url()).register(&stub, &[]), Collector::start(Manner::Answers));
    let disabled = exporting(&stub, &collector).env("OTEL_SDK_DISABLED", "true").register(&stub, &[]);
    let loud = exporting(&stub, &collector).register(&stub, &[]);
    assert!(exporters(&quiet).is_empty() && exporters(&disabled).is_empty());
    assert_eq!(exporters(&loud).len(), 2, "{:?}", exporters(&loud));
}

/// The threads of a worker that export, by the names that the kernel has.
fn exporters(worker: &Running) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).expect("the worker runs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.contains("OpenTelemetry") || name.contains("last-call-otel")).collect()
}

#[test]
fn a_variable_that_makes_no_sense_is_said_and_keeps_no_worker_from_starting() {
    let (stub, collector) = (stub(), Collector::start(Manner::Answers));
    let worker = exporting(&stub, &collector)
        .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4318")
        .register(&stub, &[]);
    drained(&worker);
    let lines = worker.logs().into_iter().filter(|line| line["message"] == "no telemetry is exported");
    let errors: Vec<_> = lines.map(|line| line["error"].as_str().unwrap_or_default().to_owned()).collect();
    let [protocol, endpoint] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(protocol.starts_with("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is \"grpc\""), "{protocol}");
    assert!(endpoint.starts_with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is no URL"), "{endpoint}");
    assert!(collector.received().is_empty());
}

#[test]
fn a_queue_that_no_memory_could_hold_is_said_and_metrics_go_on() {
    for size in ["18446744073709551615", "100000000000"] {
        let (stub, collector) = (stub(), Collector::start(Manner::Answers));
        let worker = exporting(&stub, &collector).env("OTEL_BSP_MAX_QUEUE_SIZE", size).register(&stub, &[]);
        drained(&worker);
        let mut lines = worker.logs().into_iter().filter(|line| line["level"] == "WARN");
        let error = lines.next().map(|line| line["error"].as_str().unwrap_or_default().to_owned());
        let error = error.expect("a warning");
        assert!(error.starts_with(&format!("OTEL_BSP_MAX_QUEUE_SIZE is {size:?}")), "{error}");
        assert!(lines.next().is_none() && !collector.pushes().is_empty());
    }
}

#[test]
fn the_help_page_names_the_variable() {
    let help = Command::new(env!("CARGO_BIN_EXE_hello")).arg("--help").output().expect("hello runs");
    assert!(String::from_utf8_lossy(&help.stdout).contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{help:?}");
}

#[test]
fn no_secret_and_nothing_personal_is_exported_or_logged() {
    // As short as a line of a hex dump can show whole, wherever in it the dump begins a line.
    const TOKEN: &str = "tok~nary";
    const PASSWORD: &str = "pas~nary";
    let token = TOKEN.repeat(4);
    const PERSONAL: [&str; 4] = [
        "canary-of-the-metadata",
        "canary-of-the-attribute",
        "canary-of-the-caller",
        "canary-of-the-job-token",
    ];
    let [metadata, attribute, caller, job_token] = PERSONAL;
    // One that takes everything, at trace level, and one that fails, whose address is in a warning.
    for manner in [Manner::Answers, Manner::Fails] {
        let (stub, collector) = (
            Stub::start(Options { register: true, ..Options::default() }).expect("a stub"),
            Collector::start(manner),
        );
        // The space at the end makes no URL for who does not trim it, and quotes it.
        let url = collector.url().replace("http://", &format!("http://me:{PASSWORD}@")) + " ";
        let worker = exporting(&stub, &collector)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{token} "))
            .env("OTEL_METRIC_EXPORT_INTERVAL", "50")
            .register(&stub, &["--log-level", "trace"]);
        for (id, mut orders) in [("good", json!({"spans": true})), ("panics", json!({"panic": true}))] {
            orders["note"] = metadata.into();
            let job =
                Job::new(id).metadata(&orders.to_string()).attribute("note", attribute).participant(caller);
            stub.offer(job).expect("registered");
            assert!(stub.answer(id).available);
            stub.assign(id, Some(job_token.to_owned()), None).expect("the connection stands");
            stub.end_of(id);
        }
        until("metrics", || !collector.pushes().is_empty());
        spans_with(&collector, &["good", "panics"]);
        drained(&worker);
        let received = collector.received();
        for request in &received {
            assert!(request.headers.contains(&format!("authorization: Bearer {token}")), "{request:?}");
            let body = String::from_utf8_lossy(&request.body);
            for canary in PERSONAL.into_iter().chain([SECRET, TOKEN, PASSWORD]) {
                assert!(!body.contains(canary), "{} shows {canary}: {body}", request.path);
            }
        }
        let output = worker.output();
        for canary in PERSONAL.into_iter().chain([TOKEN, PASSWORD]) {
            assert!(!output.contains(canary), "the log shows {canary}:\n{output}");
        }
    }
}
