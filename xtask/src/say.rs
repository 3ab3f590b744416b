//! The one door through which chores speak: progress goes to stderr, results go to stdout.
//!
//! Refuses to fail: a reader that has closed the pipe does not stop a chore.

use std::fmt::Display;
use std::io::{self, Write as _};

/// One line about what happens now.
pub(crate) fn progress(line: impl Display) {
    let _closed_pipe = writeln!(io::stderr().lock(), "{line}");
}

/// One line of what was asked for.
pub(crate) fn result(line: impl Display) {
    let _closed_pipe = writeln!(io::stdout().lock(), "{line}");
}
