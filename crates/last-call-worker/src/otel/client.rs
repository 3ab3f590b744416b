//! The way to the collector: one blocking POST at a time, on the thread that exports.
//!
//! Owns its time limit, its trust, its credentials and the one warning of an outage. Refuses redirects, which would carry
//! the collector's credentials elsewhere.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Uri;
use hyper::header::HeaderMap;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::push::Target;

/// A collector's answer may be this long: it is empty, or says what was wrong.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Set at the exit.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing from now on: the last line of the log is the worker's own.
pub(super) fn fall_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// An HTTP client for one kind of telemetry.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    headers: HeaderMap,
    /// What it carries, for people.
    kind: &'static str,
    /// The last request failed: a collector that is away is not worth a line every few seconds.
    failing: AtomicBool,
}

impl Client {
    pub(super) fn new(target: &Target, kind: &'static str) -> Self {
        let mut config = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0);
        if target.endpoint.scheme_str() == Some("https") {
            config = config.tls_config(tls());
        }
        let (agent, headers) = (config.build().into(), target.headers.clone());
        Self { agent, headers, kind, failing: AtomicBool::new(false) }
    }

    /// Posts, and says so if that failed and the request before did not.
    pub(super) fn post(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (collector, kind) = (authority(request.uri()), self.kind);
        request.headers_mut().extend(self.headers.clone());
        let answer = self.exchange(request);
        let failed = match &answer {
            Ok(success) if success.status().is_success() => {
                self.failing.store(false, Ordering::Relaxed);
                return answer;
            }
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => error.to_string(),
        };
        if self.failing.swap(true, Ordering::Relaxed) || SILENT.load(Ordering::Relaxed) {
            tracing::debug!(collector, kind, error = failed, "telemetry was not exported");
        } else {
            tracing::warn!(
                collector,
                kind,
                error = failed,
                "telemetry was not exported; trying on, and saying no more until it is"
            );
        }
        answer
    }

    fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let (parts, mut body) = self.agent.run(Request::from_parts(parts, body.as_ref()))?.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

impl HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        Box::pin(ready(self.post(request).map_err(Into::into)))
    }
}

/// Trust as the link has it: the system's roots, and Mozilla's where the system has none.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    let found: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let roots = if found.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(found)) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build()
}

/// Host and port, without the password that a URL may hold.
fn authority(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", hyper::http::uri::Authority::as_str);
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}
