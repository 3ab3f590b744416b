//! A run's results: figures against their promises, sizes, counts; printed as they come, kept as one value.
//!
//! Owns the verdicts. Refuses to fail for a time: a missed promise is marked, and only counts decide the exit code.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use last_call_testkit::{Histogram, Machine};
use serde::Serialize;

use crate::say;

/// What is promised of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) p99: Option<Duration>,
    pub(crate) max: Option<Duration>,
}

impl Promise {
    /// Nothing is promised.
    pub(crate) const NONE: Self = Self { p99: None, max: None };

    pub(crate) const fn max(max: Duration) -> Self {
        Self { p99: None, max: Some(max) }
    }

    pub(crate) const fn p99(p99: Duration) -> Self {
        Self { p99: Some(p99), max: None }
    }

    pub(crate) const fn p99_and_max(p99: Duration, max: Duration) -> Self {
        Self { p99: Some(p99), max: Some(max) }
    }

    /// Whether it is kept; nothing where there is none.
    pub(crate) fn kept_by(self, times: &Histogram) -> Option<bool> {
        if self == Self::NONE || times.count() == 0 {
            return None;
        }
        let within = |limit: Option<Duration>, time| limit.is_none_or(|limit| time <= limit);
        Some(within(self.p99, times.p99()) && within(self.max, times.max()))
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("p99", self.p99), ("max", self.max)];
        let parts: Vec<String> = parts
            .iter()
            .filter_map(|(name, limit)| limit.map(|limit| format!("{name} ≤ {limit:?}")))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Times of one thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) subject: &'static str,
    pub(crate) what: String,
    pub(crate) times: Histogram,
    #[serde(serialize_with = "in_words")]
    pub(crate) promise: Promise,
    pub(crate) kept: Option<bool>,
}

fn in_words<S: serde::Serializer>(promise: &Promise, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(promise)
}

/// One number with its unit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Size {
    subject: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    at_most: Option<f64>,
}

/// How often something happened that must not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Count {
    subject: &'static str,
    what: String,
    count: usize,
    of: usize,
    must_be_zero: bool,
}

/// Everything that a run has found so far.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    seconds: u64,
    pub(crate) figures: Vec<Figure>,
    sizes: Vec<Size>,
    counts: Vec<Count>,
    #[serde(skip)]
    started: Instant,
}

impl Report {
    /// An empty one; the machine's load is that of this moment.
    pub(crate) fn begin() -> Self {
        let machine = Machine::this();
        say::result(&machine);
        let (figures, sizes, counts) = (Vec::new(), Vec::new(), Vec::new());
        Self { machine, seconds: 0, figures, sizes, counts, started: Instant::now() }
    }

    /// A heading.
    pub(crate) fn section(&mut self, title: &str) {
        say::result(format_args!("\n{title}"));
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.seconds = self.started.elapsed().as_secs();
        say::result(format_args!("\n{} s in all", self.seconds));
    }

    pub(crate) fn times(&mut self, subject: &'static str, what: &str, times: Histogram, promise: Promise) {
        let kept = promise.kept_by(&times);
        let of = if promise == Promise::NONE { String::new() } else { format!(" ({promise})") };
        say::result(format_args!("{} {subject}: {what}{of}", mark(kept)));
        for line in format!("{times} max={:.1?}", times.max()).lines() {
            say::result(format_args!("    {line}"));
        }
        self.figures.push(Figure { subject, what: what.to_owned(), times, promise, kept });
    }

    pub(crate) fn size(
        &mut self,
        subject: &'static str,
        what: &str,
        value: f64,
        unit: &'static str,
        at_most: Option<f64>,
    ) {
        let kept = at_most.map(|limit| value <= limit);
        let of = at_most.map(|limit| format!(" (≤ {limit} {unit})")).unwrap_or_default();
        say::result(format_args!("{} {subject}: {what}: {value:.1} {unit}{of}", mark(kept)));
        self.sizes.push(Size { subject, what: what.to_owned(), value, unit, at_most });
    }

    /// A count that must be zero.
    pub(crate) fn none(&mut self, subject: &'static str, what: &str, count: usize, of: usize) {
        self.count(subject, what, count, of, true);
    }

    /// A count that is only shown: another framework's.
    pub(crate) fn count(
        &mut self,
        subject: &'static str,
        what: &str,
        count: usize,
        of: usize,
        must_be_zero: bool,
    ) {
        let kept = must_be_zero.then_some(count == 0);
        say::result(format_args!("{} {subject}: {what}: {count} of {of}", mark(kept)));
        self.counts.push(Count { subject, what: what.to_owned(), count, of, must_be_zero });
    }

    /// Fails where a count that must be zero is not.
    ///
    /// # Errors
    /// With each such count.
    pub(crate) fn verdict(&self) -> Result<()> {
        let broken = self.counts.iter().filter(|count| count.must_be_zero && count.count > 0);
        let broken: Vec<String> =
            broken.map(|Count { what, count, of, .. }| format!("{what}: {count} of {of}")).collect();
        ensure!(broken.is_empty(), "a promise is broken: {}", broken.join("; "));
        Ok(())
    }
}

fn mark(kept: Option<bool>) -> char {
    match kept {
        Some(true) => '✓',
        Some(false) => '✗',
        None => '·',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[u64]) -> Histogram {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn each_part_of_a_promise_counts() {
        let promise = Promise::p99_and_max(Duration::from_millis(10), Duration::from_millis(100));
        assert_eq!(promise.kept_by(&times(&[1, 10])), Some(true));
        assert_eq!(promise.kept_by(&times(&[1, 11])), Some(false));
        let many: Vec<u64> = std::iter::repeat_n(1, 999).chain([101]).collect();
        assert_eq!(promise.kept_by(&times(&many)), Some(false), "the maximum is over its limit");
        assert_eq!(promise.kept_by(&times(&[])), None, "no sample keeps no promise");
        assert_eq!(Promise::NONE.kept_by(&times(&[1])), None);
    }

    #[test]
    fn only_a_count_that_must_be_zero_fails_a_run() {
        let mut report = Report::begin();
        report.none("a", "missed", 0, 10);
        report.count("b", "missed", 3, 10, false);
        report.size("a", "memory", 20.0, "MiB", Some(15.0));
        assert!(report.verdict().is_ok());
        report.none("a", "accepted", 1, 10);
        assert!(report.verdict().expect_err("one was accepted").to_string().contains("accepted: 1 of 10"));
    }
}
