//! Metrics on their way: the page of `/metrics`, pushed at every interval and once more at the end.
//!
//! Owns the thread `last-call-otel`. Refuses to count anything itself, and to try again: the next push says
//! it all.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use opentelemetry_http::Request;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use prost::Message;

use super::SCOPE;
use super::client::Client;
use super::page::{self, Times};

/// Where one kind of telemetry goes, and how often.
pub(super) struct Target {
    pub(super) endpoint: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
}

/// The thread that pushes, which ends with this.
pub(super) struct Push(Sender<Sender<()>>);

impl Push {
    /// Starts to push what `page` makes.
    pub(super) fn start(
        target: &'static Target,
        resource: &Resource,
        started: SystemTime,
        page: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let client = Client::new(target, "metrics");
        let exporter = Exporter { target, client, resource: of(resource), started, page };
        std::thread::Builder::new().name("last-call-otel".into()).spawn(move || exporter.run(&ordered))?;
        Ok(Self(orders))
    }

    /// Pushes now; what comes back says when that is over.
    pub(super) fn last(&self) -> Receiver<()> {
        let (over, seen) = mpsc::channel();
        // A thread that is gone drops it, which is seen too.
        let _ = self.0.send(over);
        seen
    }
}

struct Exporter<P> {
    target: &'static Target,
    client: Client,
    resource: resource::v1::Resource,
    started: SystemTime,
    page: P,
}

impl<P: Fn() -> String> Exporter<P> {
    fn run(self, ordered: &Receiver<Sender<()>>) {
        loop {
            let order = ordered.recv_timeout(self.target.interval);
            if matches!(order, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            // The client says that it fails.
            let _ = self.client.post(self.request());
            if let Ok(over) = order {
                let _ = over.send(());
            }
        }
    }

    fn request(&self) -> Request<opentelemetry_http::Bytes> {
        let times = Times { started: nanoseconds(self.started), now: nanoseconds(SystemTime::now()) };
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = page::metrics(&(self.page)(), times);
        let scoped = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource.clone());
        let all = ResourceMetrics { resource, scope_metrics: vec![scoped], ..ResourceMetrics::default() };
        let message = ExportMetricsServiceRequest { resource_metrics: vec![all] };
        let mut request = Request::new(message.encode_to_vec().into());
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.target.endpoint.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        request
    }
}

fn of(resource: &Resource) -> resource::v1::Resource {
    let attributes = ResourceAttributesWithSchema::from(resource).attributes.0;
    resource::v1::Resource { attributes, ..Default::default() }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    since.try_into().unwrap_or(u64::MAX)
}
