//! The page of `/metrics`, read as OTLP metrics: one registry, one set of names, two ways out.
//!
//! Owns the mapping that OpenTelemetry's specification has for OpenMetrics, for the kinds that the page uses.
//! Refuses to be a general parser: the page is this crate's own.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric,
    number_data_point,
};

/// The nanoseconds since 1970 that every point of one export has: since when it counts, and now.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) started: u64,
    pub(super) now: u64,
}

type Labels = Vec<(String, String)>;

/// A line of the page: a name, its labels, a value.
struct Sample<'p> {
    name: &'p str,
    labels: Labels,
    value: &'p str,
}

/// Everything on `page`, in its order.
pub(super) fn metrics(page: &str, times: Times) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut help = "";
    for line in page.lines() {
        if let Some((_, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = text.trim_end_matches('.');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            metrics.push(Metric {
                name: name.to_owned(),
                description: help.to_owned(),
                unit: if name.ends_with("_seconds") { "s".to_owned() } else { String::new() },
                data: data(kind),
                ..Metric::default()
            });
        } else if let (Some(sample), Some(metric)) = (sample(line), metrics.last_mut()) {
            add(metric, sample, times);
        }
    }
    metrics
}

fn data(kind: &str) -> Option<metric::Data> {
    let temporality = AggregationTemporality::Cumulative.into();
    match kind {
        "counter" => {
            let sum = Sum { aggregation_temporality: temporality, is_monotonic: true, ..Sum::default() };
            Some(metric::Data::Sum(sum))
        }
        "gauge" | "info" => Some(metric::Data::Gauge(Gauge::default())),
        "histogram" => {
            let data_points = Vec::new();
            Some(metric::Data::Histogram(Histogram { data_points, aggregation_temporality: temporality }))
        }
        _ => None,
    }
}

fn add(metric: &mut Metric, sample: Sample<'_>, times: Times) {
    match &mut metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points.push(number(sample, times)),
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.push(number(sample, times)),
        Some(metric::Data::Histogram(histogram)) => bucket(histogram, sample, times),
        _ => {}
    }
}

fn number(sample: Sample<'_>, times: Times) -> NumberDataPoint {
    let whole = sample.value.parse().map(number_data_point::Value::AsInt);
    let value = whole.or_else(|_| sample.value.parse().map(number_data_point::Value::AsDouble));
    NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        value: value.ok(),
        ..NumberDataPoint::default()
    }
}

/// One line of a histogram: its sum and count, then each bucket with all below it.
fn bucket(histogram: &mut Histogram, mut sample: Sample<'_>, times: Times) {
    let bound = sample.labels.iter().position(|(key, _)| key == "le").map(|at| sample.labels.remove(at).1);
    let attributes = attributes(sample.labels);
    let known = histogram.data_points.iter().position(|point| point.attributes == attributes);
    let at = known.unwrap_or_else(|| {
        histogram.data_points.push(HistogramDataPoint {
            attributes,
            start_time_unix_nano: times.started,
            time_unix_nano: times.now,
            ..HistogramDataPoint::default()
        });
        histogram.data_points.len() - 1
    });
    let point = &mut histogram.data_points[at];
    if sample.name.ends_with("_sum") {
        point.sum = sample.value.parse().ok();
    } else if sample.name.ends_with("_count") {
        point.count = sample.value.parse().unwrap_or_default();
    } else if let (Some(bound), Ok(below)) = (bound, sample.value.parse::<u64>()) {
        let lower: u64 = point.bucket_counts.iter().sum();
        point.bucket_counts.push(below.saturating_sub(lower));
        // The last bucket has no bound.
        point.explicit_bounds.extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
    }
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    let value = |text| AnyValue { value: Some(any_value::Value::StringValue(text)) };
    labels
        .into_iter()
        .map(|(key, text)| KeyValue { key, value: Some(value(text)), ..KeyValue::default() })
        .collect()
}

/// `name{key="value"} 1`; `None` for a line that is no sample.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    (name != "#").then_some(Sample { name, labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => value.push(match characters.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.push((key.to_owned(), value));
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::{DeclineReason, Metrics, Stage};
    use crate::observe::Snapshot;

    const TIMES: Times = Times { started: 3, now: 5 };

    fn of<'m>(metrics: &'m [Metric], name: &str) -> &'m Metric {
        let names: Vec<_> = metrics.iter().map(|metric| &metric.name).collect();
        metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
    }

    #[test]
    fn everything_that_is_counted_comes_out() {
        let counted = Metrics::new("1.2.3");
        counted.offers.inc_by(7);
        counted.declined.of(DeclineReason::Wedged).inc();
        for seconds in [0.002, 0.3, 0.4, 100.0] {
            counted.dispatch_seconds.of(Stage::OfferedToAnswered).observe(seconds);
        }
        let page = counted.encode(&Snapshot { active_jobs: 3, ..Snapshot::default() });
        let metrics = metrics(&page, TIMES);
        assert_eq!(metrics.len(), page.matches("# TYPE ").count());

        let Some(metric::Data::Sum(offers)) = &of(&metrics, "last_call_offers").data else { panic!() };
        assert!(offers.is_monotonic);
        assert_eq!(offers.aggregation_temporality, AggregationTemporality::Cumulative as i32);
        let [point] = offers.data_points.as_slice() else { panic!("{offers:?}") };
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (3, 5));

        let Some(metric::Data::Sum(declined)) = &of(&metrics, "last_call_offers_declined").data else {
            panic!()
        };
        assert_eq!(declined.data_points.len(), page.matches("last_call_offers_declined_total{").count());
        let wedged = attributes(vec![("reason".into(), "wedged".into())]);
        let wedged = declined.data_points.iter().find(|point| point.attributes == wedged);
        assert_eq!(wedged.and_then(|point| point.value), Some(number_data_point::Value::AsInt(1)));

        let Some(metric::Data::Gauge(jobs)) = &of(&metrics, "lk_agents_active_job_count").data else {
            panic!()
        };
        assert_eq!(jobs.data_points[0].attributes[0].key, "nodename");
        assert_eq!(jobs.data_points[0].value, Some(number_data_point::Value::AsInt(3)));

        let dispatch = of(&metrics, "last_call_dispatch_latency_seconds");
        assert_eq!(dispatch.unit, "s");
        assert_eq!(dispatch.description, "A job's way into the worker");
        let Some(metric::Data::Histogram(dispatch)) = &dispatch.data else { panic!() };
        let offered = attributes(vec![("stage".into(), "offered_to_answered".into())]);
        let point = dispatch.data_points.iter().find(|point| point.attributes == offered).expect("the stage");
        assert_eq!(point.count, 4);
        assert!(point.sum.is_some_and(|sum| (sum - 100.702).abs() < 1e-9));
        assert_eq!(point.explicit_bounds.first(), Some(&0.001));
        assert_eq!(point.explicit_bounds.last(), Some(&7.5));
        assert_eq!(point.bucket_counts, [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn labels_with_every_odd_character_are_read_back() {
        let odd = "a\"b\\c\nd},e=\"f";
        let mut registry = Registry::default();
        let family = Family::<[(&str, String); 2], Counter>::default();
        family.get_or_create(&[("one", odd.to_owned()), ("two", String::new())]).inc();
        registry.register("odd", "Odd", family);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a page");
        let metrics = metrics(&page, TIMES);
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!() };
        let expected = attributes(vec![("one".into(), odd.into()), ("two".into(), String::new())]);
        assert_eq!(sum.data_points[0].attributes, expected);
    }
}
