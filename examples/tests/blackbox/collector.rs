//! A collector of OpenTelemetry's, small enough to stand in a test: OTLP over HTTP/1.1, in protobuf.
//!
//! Owns what it was sent. Refuses what a real one does with it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// What it does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    Answers,
    /// Takes the request, and never says a word.
    Silent,
    /// Is broken, and says so.
    Fails,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    /// The header lines, keys in lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

/// A collector on a port of loopback. Its threads end with the test.
pub(crate) struct Collector {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::default());
        let (manner, shared) = (Arc::new(Mutex::new(manner)), Arc::clone(&received));
        let obeyed = Arc::clone(&manner);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (obeyed, received) = (Arc::clone(&obeyed), Arc::clone(&shared));
                thread::spawn(move || serve(&connection, &obeyed, &received));
            }
        });
        Self { address, manner, received }
    }

    /// From the next request on.
    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.received().into_iter().filter(|request| request.path == "/v1/traces");
        let decoded = requests.map(|request| {
            ExportTraceServiceRequest::decode(request.body.as_slice()).expect("spans in protobuf")
        });
        let of_scopes = decoded.flat_map(|request| request.resource_spans).flat_map(|all| all.scope_spans);
        of_scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Every push of metrics so far: the resource's attributes, and the metrics.
    pub(crate) fn pushes(&self) -> Vec<(Vec<KeyValue>, Vec<Metric>)> {
        let requests = self.received().into_iter().filter(|request| request.path == "/v1/metrics");
        let decoded = requests.map(|request| {
            ExportMetricsServiceRequest::decode(request.body.as_slice()).expect("metrics in protobuf")
        });
        decoded
            .flat_map(|request| request.resource_metrics)
            .map(|all| {
                let resource = all.resource.map(|resource| resource.attributes).unwrap_or_default();
                (resource, all.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect())
            })
            .collect()
    }
}

/// The text of an attribute; that of a number is `IntValue(1)`.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    if let any_value::Value::StringValue(text) = value.value.as_ref()? {
        return Some(text.clone());
    }
    value.value.as_ref().map(|value| format!("{value:?}"))
}

fn serve(connection: &TcpStream, manner: &Mutex<Manner>, received: &Mutex<Vec<Received>>) {
    let mut reader = BufReader::new(connection);
    while let Ok(Some(request)) = read(&mut reader) {
        received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let answer = match *manner.lock().unwrap_or_else(PoisonError::into_inner) {
            Manner::Answers => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Manner::Fails => "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n",
            Manner::Silent => continue,
        };
        if (&mut &*connection).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Received>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Vec<_> =
        headers.map(|(key, value)| format!("{}:{value}", key.to_ascii_lowercase())).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body)?;
    Ok(Some(Received { path, headers, body }))
}
