//! Owns what happens when a machine lacks something a test needs. Refuses to let a test pass by not running where it counts.

use std::fmt::Display;

/// Says on standard error that the calling test does not run, and why: an error shows its causes too. The test then returns.
///
/// # Panics
/// Where `CI` or `LAST_CALL_NO_SKIP` is set: there, a missing tool is a failure.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen by the person who runs it")]
pub fn skip(missing: impl Display) {
    let strict = ["CI", "LAST_CALL_NO_SKIP"].iter().find(|name| std::env::var_os(name).is_some());
    if let Some(name) = strict {
        panic!("a test cannot run: {missing:#} ({name} is set, so nothing may be skipped)");
    }
    eprintln!("\n=== NOT RUN: {missing:#} ===\n");
}
