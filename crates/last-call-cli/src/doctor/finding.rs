//! What doctor has found, as a line for a person.
//!
//! Owns the three levels and how a line begins. Refuses to look at anything.

use std::fmt;

use crate::shown;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was looked at: its value, and what to do where something is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { level: Level::Ok, text: text.into() }
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into() }
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self { level: Level::Error, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        // Values of others' files are on the line. Not cut: what to do stands at its end.
        write!(f, "{level:<8} {}", shown::lines(&self.text).replace('\n', " "))
    }
}
