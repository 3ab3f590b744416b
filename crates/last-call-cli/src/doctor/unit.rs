//! A unit of systemd: what it starts, where, with which variables, and for how long it is left to stop.
//!
//! Owns the reading of one file, as systemd.syntax(7) and systemd.time(7) have it. Refuses drop-ins, environment files
//! and specifiers, which the machine of the unit knows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::finding::Finding;
use super::grace::{Grace, Platform};
use super::manifest::Manifest;
use crate::shown;

pub(super) fn read(text: &str) -> Manifest {
    let mut unit = Manifest {
        grace: Grace::of(Platform::Systemd),
        env: BTreeMap::new(),
        words: Vec::new(),
        // Without WorkingDirectory=.
        place: Some(PathBuf::from("/")),
        wrong: Vec::new(),
    };
    let mut section = String::new();
    for line in lines(text) {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| section == "Service") {
            unit.set(key.trim(), value.trim());
        }
    }
    unit
}

/// Without comments, and with those joined that a backslash parts.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(part) = line.strip_suffix('\\') {
            begun.push_str(part);
            begun.push(' ');
        } else {
            begun.push_str(line);
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines.push(begun);
    lines
}

impl Manifest {
    fn set(&mut self, key: &str, value: &str) {
        match key {
            "TimeoutStopSec" | "TimeoutSec" => match time(value) {
                // It means no limit, too.
                Some(Duration::ZERO) => self.grace.set = Some(Duration::MAX),
                Some(time) => self.grace.set = Some(time),
                None => self.wrong.push(Finding::error(format!(
                    "grace period: {key}={} is no time, and systemd passes it over: use seconds, 5min 20s or infinity",
                    shown::line(value)
                ))),
            },
            "Type" => self.grace.extends = matches!(value, "notify" | "notify-reload"),
            "WorkingDirectory" => self.place = Some(PathBuf::from(value.trim_start_matches('-'))),
            "ExecStart" => self.words = self.split(key, value.trim_start_matches(['-', '@', ':', '+', '!'])),
            // Without a value it takes the ones before it away.
            "Environment" if value.is_empty() => self.env.clear(),
            "Environment" => {
                let pairs = self.split(key, value);
                let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
                self.env.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            }
            _ => {}
        }
    }

    fn split(&mut self, key: &str, value: &str) -> Vec<String> {
        shell_words::split(value).unwrap_or_else(|error| {
            self.wrong.push(Finding::error(format!("unit: {key}= cannot be read: {error}")));
            Vec::new()
        })
    }
}

/// In seconds.
const UNITS: [(&[&str], f64); 9] = [
    (&["us", "usec", "µs", "μs"], 1e-6),
    (&["ms", "msec"], 1e-3),
    // A number alone is one of seconds.
    (&["", "s", "sec", "second", "seconds"], 1.0),
    (&["m", "min", "minute", "minutes"], 60.0),
    (&["h", "hr", "hour", "hours"], 3600.0),
    (&["d", "day", "days"], 86_400.0),
    (&["w", "week", "weeks"], 604_800.0),
    (&["M", "month", "months"], 2_629_800.0),
    (&["y", "year", "years"], 31_557_600.0),
];

/// A span of time, the longest one for `infinity`.
fn time(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(Duration::MAX);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    loop {
        let (number, behind) = cut(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, behind) = cut(behind.trim_start(), char::is_alphabetic);
        let (_, factor) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()?;
        sum = sum.checked_add(part)?;
        rest = behind.trim_start();
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// Where a text stops to be of such characters.
fn cut(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(lines: &str) -> Manifest {
        read(&format!("[Unit]\nTimeoutStopSec=1\n[Service]\n{lines}\n[Install]\nTimeoutStopSec=2"))
    }

    #[test]
    fn a_unit_is_read() {
        let text = "Type=notify\nTimeoutStopSec=30\nEnvironment=B=c\nEnvironment=\nEnvironment=A=b \"C=d e\"\n\
            WorkingDirectory=-/opt/a\nExecStart=-/bin/last-call guard \\\n# why\n  -- python a.py start";
        let Manifest { grace, env, words, place, wrong } = unit(text);
        assert!(grace.extends && wrong.is_empty(), "{wrong:?}");
        assert_eq!((grace.set, words.len()), (Some(Duration::from_secs(30)), 6));
        assert_eq!(words[0], "/bin/last-call");
        assert_eq!(env.into_iter().collect::<Vec<_>>(), [("A", "b"), ("C", "d e")].map(own));
        assert_eq!(place, Some(PathBuf::from("/opt/a")));
        assert_eq!(unit("Type=simple").place, Some(PathBuf::from("/")));
    }

    fn own((key, value): (&str, &str)) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_time_is_read_as_systemd_reads_it() {
        for (text, seconds) in [
            ("90", 90.0),
            ("5min 20s", 320.0),
            ("5min20", 320.0),
            ("2 h", 7200.0),
            ("1h 1m 1s 500ms", 3661.5),
            ("1.5h", 5400.0),
            ("1M", 2_629_800.0),
            ("3us", 3e-6),
            ("1y 1w 1d", 31_557_600.0 + 604_800.0 + 86_400.0),
        ] {
            assert_eq!(time(text), Some(Duration::from_secs_f64(seconds)), "{text}");
            assert_eq!(unit(&format!("TimeoutStopSec={text}")).grace.set, time(text), "{text}");
        }
        for text in ["infinity", "0"] {
            assert_eq!(unit(&format!("TimeoutSec= {text} ")).grace.set, Some(Duration::MAX), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [
            "",
            "soon",
            "-5",
            "5 mins",
            "5min -20s",
            "1.2.3",
            "9e9",
            "1e400y",
            "99999999999999999999y",
            "5,5",
        ] {
            let found = unit(&format!("TimeoutStopSec={text}"));
            assert_eq!(found.grace.set, None, "{text}");
            let said = format!("TimeoutStopSec={text} is no time");
            assert!(matches!(&found.wrong[..], [one] if one.text.contains(&said)), "{:?}", found.wrong);
        }
        for key in ["ExecStart", "Environment"] {
            let found = unit(&format!("{key}=python 'a.py"));
            assert!(matches!(&found.wrong[..], [one] if one.text.contains(key)), "{:?}", found.wrong);
        }
    }
}
