//! Waiting for what has no event of its own.
//!
//! Owns the looks and their end. Refuses an error: what does not come fails the test at the line that waits.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Asks again and again, until it is so.
///
/// # Panics
/// Where it is not within that time.
#[track_caller]
pub fn until(what: &str, within: Duration, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !so() {
        assert!(Instant::now() < deadline, "waited {within:?} for {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}
