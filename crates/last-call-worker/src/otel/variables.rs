//! The variables of OpenTelemetry's specification, as far as they decide where telemetry goes.
//!
//! Owns their reading. Refuses those that the SDK reads itself: resource, sampler, batches.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::push::Target;

/// One kind of telemetry, as the variables name it.
pub(super) struct Signal {
    name: &'static str,
    path: &'static str,
}

pub(super) const TRACES: Signal = Signal { name: "TRACES", path: "/v1/traces" };
pub(super) const METRICS: Signal = Signal { name: "METRICS", path: "/v1/metrics" };

/// The environment; an empty variable is an unset one.
pub(super) struct Variables<G>(G);

impl<G: Fn(&str) -> Option<String>> Variables<G> {
    pub(super) fn new(get: G) -> Self {
        Self(get)
    }

    /// Where `signal` goes; `None` is nowhere.
    ///
    /// # Errors
    /// Says which variable makes no sense, and what would.
    pub(super) fn target(&self, signal: &Signal) -> Result<Option<Target>, String> {
        if self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let exporter = format!("OTEL_{}_EXPORTER", signal.name);
        match self.get(&exporter).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => return Err(format!("{exporter} is {other:?}: use otlp or none")),
        }
        let Some(endpoint) = self.endpoint(signal)? else { return Ok(None) };
        if let Some((name, protocol)) = self.of(signal, "PROTOCOL").filter(|(_, to)| to != "http/protobuf") {
            return Err(format!(
                "{name} is {protocol:?}: use http/protobuf, and the collector's port for it, by default 4318"
            ));
        }
        let headers = self.of(signal, "HEADERS").map(|(name, text)| headers(&name, &text)).transpose()?;
        Ok(Some(Target {
            endpoint,
            headers: headers.unwrap_or_default(),
            timeout: self.milliseconds(self.of(signal, "TIMEOUT"), Duration::from_secs(10))?,
            interval: self
                .milliseconds(self.whole("OTEL_METRIC_EXPORT_INTERVAL"), Duration::from_secs(60))?,
        }))
    }

    fn endpoint(&self, signal: &Signal) -> Result<Option<Uri>, String> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
        let (name, text) = match (self.get(&own), self.get("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(url), _) => (own.as_str(), url),
            (None, Some(base)) => {
                ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}{}", base.trim_end_matches('/'), signal.path))
            }
            (None, None) => return Ok(None),
        };
        // What was given is not shown: it may hold a password.
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        uri.map(Some)
            .ok_or_else(|| format!("{name} is no URL of a collector: it looks like http://127.0.0.1:4318"))
    }

    fn milliseconds(&self, given: Option<(String, String)>, otherwise: Duration) -> Result<Duration, String> {
        let Some((name, text)) = given else { return Ok(otherwise) };
        let milliseconds = text.parse().ok().filter(|milliseconds| *milliseconds > 0);
        milliseconds
            .map(Duration::from_millis)
            .ok_or_else(|| format!("{name} is {text:?}: use a whole number of milliseconds above 0"))
    }

    /// The signal's own variable, or that of all signals, with its name.
    fn of(&self, signal: &Signal, what: &str) -> Option<(String, String)> {
        self.whole(&format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name))
            .or_else(|| self.whole(&format!("OTEL_EXPORTER_OTLP_{what}")))
    }

    fn whole(&self, name: &str) -> Option<(String, String)> {
        Some((name.to_owned(), self.get(name)?))
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// `key=value,key=value`, percent-encoded. The values are secrets and never shown.
fn headers(name: &str, text: &str) -> Result<HeaderMap, String> {
    let header = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        Some((HeaderName::try_from(key.trim()).ok()?, HeaderValue::from_bytes(&value).ok()?))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let headers = pairs.map(header).collect::<Option<Vec<_>>>();
    headers
        .map(HeaderMap::from_iter)
        .ok_or_else(|| format!("{name} is no list of headers: it looks like key=value,key=value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(signal: &Signal, set: &[(&str, &str)]) -> Result<Option<Target>, String> {
        let get =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Variables::new(get).target(signal)
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        for set in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[BASE, ("OTEL_SDK_DISABLED", "True")],
            &[BASE, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(matches!(target(&TRACES, set), Ok(None)), "{set:?}");
        }
    }

    #[test]
    fn each_kind_has_its_path_and_its_own_variables_win() {
        let endpoint =
            |signal, set: &[_]| target(signal, set).map(|target| target.map(|to| to.endpoint.to_string()));
        assert_eq!(endpoint(&TRACES, &[BASE]), Ok(Some("http://collector:4318/v1/traces".into())));
        assert_eq!(endpoint(&METRICS, &[BASE]), Ok(Some("http://collector:4318/v1/metrics".into())));
        let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://elsewhere/push");
        assert_eq!(endpoint(&METRICS, &[BASE, own]), Ok(Some("https://elsewhere/push".into())));
        assert_eq!(endpoint(&TRACES, &[own]), Ok(None));
    }

    #[test]
    fn headers_are_percent_encoded() {
        let set = [BASE, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20a+b=, x-scope=1,")];
        let headers = target(&METRICS, &set).expect("fine").expect("exported").headers;
        assert_eq!(headers["authorization"], "Basic a+b=");
        assert_eq!(headers["x-scope"], "1");
    }

    #[test]
    fn what_makes_no_sense_is_named_and_secrets_are_not_shown() {
        for (set, named) in [
            ((BASE.0, "collector:4318 secret"), BASE.0),
            ((BASE.0, "grpc://me:secret@collector"), BASE.0),
            (("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), "http/protobuf"),
            (("OTEL_EXPORTER_OTLP_HEADERS", "secret"), "OTEL_EXPORTER_OTLP_HEADERS"),
            (("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"), "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is \"10s\""),
            (("OTEL_TRACES_EXPORTER", "console"), "OTEL_TRACES_EXPORTER is \"console\""),
        ] {
            let error = target(&TRACES, &[set, BASE]).err().expect(set.0);
            assert!(error.contains(named) && !error.contains("secret"), "{error}");
        }
    }
}
