//! The way to the collector: one blocking POST at a time, on the thread that exports.
//!
//! Owns its time limit, its trust and the one warning that it fails. Refuses redirects, which would carry
//! the collector's credentials elsewhere.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Uri;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::push::Target;

/// A collector's answer may be this long: it is empty, or says what was wrong.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Set by the first failure of the process: a collector that is away is not worth a line every few seconds.
static SAID: AtomicBool = AtomicBool::new(false);

/// Says nothing from now on: the last line of the log is the worker's own.
pub(super) fn fall_silent() {
    SAID.store(true, Ordering::Relaxed);
}

/// An HTTP client for one kind of telemetry.
#[derive(Debug)]
pub(super) struct Client(Agent);

impl Client {
    pub(super) fn new(target: &Target) -> Self {
        let mut config = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0);
        if target.endpoint.scheme_str() == Some("https") {
            config = config.tls_config(tls());
        }
        Self(config.build().into())
    }

    /// Posts, and says once if that failed.
    pub(super) fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let collector = authority(request.uri());
        let answer = self.exchange(request);
        let failed = match &answer {
            Ok(answer) if answer.status().is_success() => return Ok(answer.clone()),
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => error.to_string(),
        };
        if SAID.swap(true, Ordering::Relaxed) {
            tracing::debug!(collector, error = failed, "telemetry was not exported");
        } else {
            tracing::warn!(
                collector,
                error = failed,
                "telemetry was not exported; trying on, and saying no more of it"
            );
        }
        answer
    }

    fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let (parts, mut body) = self.0.run(Request::from_parts(parts, body.as_ref()))?.into_parts();
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
