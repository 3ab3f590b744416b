//! The variables of OpenTelemetry's specification: where telemetry goes, which spans, and how they wait.
//!
//! Owns their reading. Refuses those of the resource, which the SDK reads itself, and to repeat a value that
//! may hold a secret.

use std::ffi::OsString;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use super::push::Target;

/// One kind of telemetry, as the variables name it.
pub(super) struct Signal {
    name: &'static str,
    path: &'static str,
}

const TRACES: Signal = Signal { name: "TRACES", path: "/v1/traces" };
pub(super) const METRICS: Signal = Signal { name: "METRICS", path: "/v1/metrics" };

/// Spans that wait, and spans of one request, at most: the SDK takes memory for as many at once.
const SPANS: usize = 65_536;

/// Where spans go, which of them, and how they wait.
pub(super) struct SpanTarget {
    pub(super) target: Target,
    pub(super) gzip: bool,
    pub(super) sampler: Sampler,
    pub(super) delay: Duration,
    pub(super) queue: usize,
    pub(super) batch: usize,
}

/// The environment; an empty variable is an unset one.
pub(super) struct Variables<G>(G);

impl<G: Fn(&str) -> Option<OsString>> Variables<G> {
    pub(super) fn new(get: G) -> Self {
        Self(get)
    }

    /// Where `signal` goes; `None` is nowhere.
    ///
    /// # Errors
    /// Says which variable makes no sense, and what would.
    pub(super) fn target(&self, signal: &Signal) -> Result<Option<Target>, String> {
        if self.get("OTEL_SDK_DISABLED")?.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let exporter = format!("OTEL_{}_EXPORTER", signal.name);
        match self.get(&exporter)?.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => return Err(format!("{exporter} is {other:?}: use otlp or none")),
        }
        let Some(endpoint) = self.endpoint(signal)? else { return Ok(None) };
        if let Some((name, protocol)) = self.of(signal, "PROTOCOL")?.filter(|(_, to)| to != "http/protobuf") {
            return Err(format!(
                "{name} is {protocol:?}: use http/protobuf, and the collector's port for it, by default 4318"
            ));
        }
        let headers = self.of(signal, "HEADERS")?.map(|(name, text)| headers(&name, &text)).transpose()?;
        Ok(Some(Target {
            endpoint,
            headers: headers.unwrap_or_default(),
            timeout: milliseconds(self.of(signal, "TIMEOUT")?, Duration::from_secs(10))?,
            interval: milliseconds(self.whole("OTEL_METRIC_EXPORT_INTERVAL")?, Duration::from_secs(60))?,
        }))
    }

    /// Where spans go, and what is said of them alone.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub(super) fn spans(&self) -> Result<Option<SpanTarget>, String> {
        let Some(target) = self.target(&TRACES)? else { return Ok(None) };
        let gzip = match self.of(&TRACES, "COMPRESSION")? {
            None => false,
            Some((name, text)) => match text.to_ascii_lowercase().as_str() {
                "gzip" => true,
                "none" => false,
                _ => return Err(format!("{name} is {text:?}: use gzip or none")),
            },
        };
        Ok(Some(SpanTarget {
            target,
            gzip,
            sampler: self.sampler()?,
            delay: milliseconds(self.whole("OTEL_BSP_SCHEDULE_DELAY")?, Duration::from_secs(5))?,
            queue: spans(self.whole("OTEL_BSP_MAX_QUEUE_SIZE")?, 2048)?,
            batch: spans(self.whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")?, 512)?,
        }))
    }

    fn sampler(&self) -> Result<Sampler, String> {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const KNOWN: &str = "always_on, always_off or traceidratio, or one of these behind parentbased_";
        let text = self.get(NAME)?.unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (root, parent_based) =
            text.strip_prefix("parentbased_").map_or((text.as_str(), false), |root| (root, true));
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()?),
            _ => return Err(format!("{NAME} is {text:?}: use {KNOWN}")),
        };
        Ok(if parent_based { Sampler::ParentBased(Box::new(root)) } else { root })
    }

    fn ratio(&self) -> Result<f64, String> {
        let Some((name, text)) = self.whole("OTEL_TRACES_SAMPLER_ARG")? else { return Ok(1.0) };
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| format!("{name} is {text:?}: use a number from 0 to 1"))
    }

    fn endpoint(&self, signal: &Signal) -> Result<Option<Uri>, String> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
        let (name, text, path) = match (self.get(&own)?, self.get("OTEL_EXPORTER_OTLP_ENDPOINT")?) {
            (Some(url), _) => (own.as_str(), url, None),
            (None, Some(base)) => ("OTEL_EXPORTER_OTLP_ENDPOINT", base, Some(signal.path)),
            (None, None) => return Ok(None),
        };
        // What was given is not shown: it may hold a password.
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        uri.and_then(|uri| path.map_or(Some(uri.clone()), |path| below(&uri, path)))
            .map(Some)
            .ok_or_else(|| format!("{name} is no URL of a collector: it looks like http://127.0.0.1:4318"))
    }

    /// The signal's own variable, or that of all signals, with its name.
    fn of(&self, signal: &Signal, what: &str) -> Result<Option<(String, String)>, String> {
        match self.whole(&format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name))? {
            None => self.whole(&format!("OTEL_EXPORTER_OTLP_{what}")),
            own => Ok(own),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<(String, String)>, String> {
        Ok(self.get(name)?.map(|value| (name.to_owned(), value)))
    }

    fn get(&self, name: &str) -> Result<Option<String>, String> {
        let value = (self.0)(name).map(OsString::into_string).transpose();
        let value = value.map_err(|_| format!("{name} is not in UTF-8"))?;
        Ok(value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()))
    }
}

/// `base` with `path` behind its own, and before its query.
fn below(base: &Uri, path: &str) -> Option<Uri> {
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    let whole = format!("{}{path}{query}", base.path().trim_end_matches('/'));
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(whole.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// At most 49 days: what a clock cannot add is no time to wait.
fn milliseconds(given: Option<(String, String)>, otherwise: Duration) -> Result<Duration, String> {
    let Some((name, text)) = given else { return Ok(otherwise) };
    let milliseconds = text.parse::<u32>().ok().filter(|milliseconds| *milliseconds > 0);
    milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.into())).ok_or_else(|| {
        format!("{name} is {text:?}: use a whole number of milliseconds from 1 to {}", u32::MAX)
    })
}

fn spans(given: Option<(String, String)>, otherwise: usize) -> Result<usize, String> {
    let Some((name, text)) = given else { return Ok(otherwise) };
    let number = text.parse().ok().filter(|number| (1..=SPANS).contains(number));
    number.ok_or_else(|| format!("{name} is {text:?}: use a whole number of spans from 1 to {SPANS}"))
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

    fn variables(set: &[(&str, &str)]) -> Variables<impl Fn(&str) -> Option<OsString>> {
        Variables::new(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    fn target(signal: &Signal, set: &[(&str, &str)]) -> Result<Option<Target>, String> {
        variables(set).target(signal)
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
        let query = (BASE.0, "https://me:pass@collector/otlp/?tenant=a/b");
        let whole = "https://me:pass@collector/otlp/v1/traces?tenant=a/b";
        assert_eq!(endpoint(&TRACES, &[query]), Ok(Some(whole.into())));
    }

    #[test]
    fn spans_wait_and_are_chosen_as_the_variables_say() {
        let read = |set: &[_]| variables(set).spans().expect("fine").expect("exported");
        let usual = read(&[BASE]);
        assert_eq!((usual.delay, usual.queue, usual.batch), (Duration::from_secs(5), 2048, 512));
        assert_eq!(format!("{:?}", usual.sampler), "ParentBased(AlwaysOn)");
        assert!(!usual.gzip);
        let set = read(&[
            BASE,
            ("OTEL_BSP_SCHEDULE_DELAY", " 20 "),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "65536"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
        ]);
        assert_eq!((set.delay, set.queue, set.batch), (Duration::from_millis(20), 65_536, 1));
        assert_eq!(format!("{:?}", set.sampler), "TraceIdRatioBased(0.1)");
        assert!(set.gzip);
    }

    #[test]
    #[cfg(unix)]
    fn a_value_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let read = Variables::new(|name| (name == BASE.0).then(|| OsString::from_vec(vec![b'h', 0xff])));
        assert_eq!(read.spans().err().as_deref(), Some("OTEL_EXPORTER_OTLP_ENDPOINT is not in UTF-8"));
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
            (("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"), "OTEL_EXPORTER_OTLP_COMPRESSION is \"zstd\""),
            (("OTEL_TRACES_SAMPLER", "parentbased_maybe"), "OTEL_TRACES_SAMPLER is \"parentbased_maybe\""),
            (("OTEL_TRACES_SAMPLER_ARG", "1.5"), "OTEL_TRACES_SAMPLER_ARG is \"1.5\""),
            (("OTEL_TRACES_SAMPLER_ARG", "nan"), "OTEL_TRACES_SAMPLER_ARG is \"nan\""),
            (("OTEL_BSP_SCHEDULE_DELAY", "5s"), "OTEL_BSP_SCHEDULE_DELAY is \"5s\""),
            (("OTEL_BSP_MAX_QUEUE_SIZE", "18446744073709551615"), "OTEL_BSP_MAX_QUEUE_SIZE is"),
            (("OTEL_BSP_MAX_QUEUE_SIZE", "65537"), "OTEL_BSP_MAX_QUEUE_SIZE is"),
            (("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is"),
            (("OTEL_EXPORTER_OTLP_TIMEOUT", "4294967296"), "OTEL_EXPORTER_OTLP_TIMEOUT is"),
        ] {
            let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
            let error = variables(&[set, BASE, ratio]).spans().err().expect(set.0);
            assert!(error.contains(named) && !error.contains("secret"), "{error}");
        }
    }
}
