//! What a child prints, as lines: bounded in length and in rate, so that a chatty one costs itself.
//!
//! Owns the cutting and the counting. Refuses to stop reading: a child whose pipe is full would stand still.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of one line at most; the rest of it is dropped, and counted.
const LINE: usize = 64 * 1024;
/// Lines of one stream that may come at once.
const BURST: u32 = 1000;
/// Lines of one stream a second, in the long run.
const EACH_SECOND: u32 = 200;

/// Where a child said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a child said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'l> {
    /// One line, without its end.
    Line {
        /// Where.
        stream: Stream,
        /// The text; bytes that are not UTF-8 are replaced.
        text: &'l str,
        /// Bytes of it that were too many.
        cut: u64,
    },
    /// Lines that came too fast, since the last one.
    Dropped {
        /// Where.
        stream: Stream,
        /// How many.
        lines: u64,
    },
}

/// Reads `pipe` to its end. `each` gets every line, without its end, and how many bytes of it were too many.
pub async fn read(mut pipe: impl AsyncRead + Unpin, mut each: impl FnMut(&str, u64)) {
    let mut chunk = [0; 4096];
    let mut line = Line::default();
    // A pipe that fails has no more to say.
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let mut rest = &chunk[..read];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.add(&rest[..end]);
            line.take(&mut each);
            rest = &rest[end + 1..];
        }
        line.add(rest);
    }
    if line.cut > 0 || !line.bytes.is_empty() {
        line.take(&mut each);
    }
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: u64,
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let room = LINE - self.bytes.len();
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        self.bytes.extend_from_slice(fits);
        self.cut += rest.len() as u64;
    }

    fn take(&mut self, each: &mut impl FnMut(&str, u64)) {
        let text = String::from_utf8_lossy(&self.bytes);
        each(text.trim_end_matches('\r'), self.cut);
        self.bytes.clear();
        self.cut = 0;
    }
}

/// How many lines may still pass: a burst of 1,000, and 200 a second in the long run.
#[derive(Debug)]
pub struct Rate {
    left: u32,
    filled: Instant,
    dropped: u64,
}

impl Rate {
    /// A burst may come at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now, dropped: 0 }
    }

    /// Whether a line may pass, and how many before it were dropped and not told yet.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let each = Duration::from_secs(1) / EACH_SECOND;
        let gained = now.saturating_duration_since(self.filled).as_nanos() / each.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(BURST);
            self.filled = now;
        }
        if self.left == 0 {
            self.dropped += 1;
            return None;
        }
        self.left -= 1;
        Some(self.take_dropped())
    }

    /// How many were dropped since it was last told.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<(String, u64)> {
        let mut lines = Vec::new();
        read(bytes, |text, cut| lines.push((text.to_owned(), cut))).await;
        lines
    }

    #[tokio::test]
    async fn lines_end_at_line_ends_and_at_the_end() {
        let expected = ["a", "", "b\u{fffd}", "c"].map(|text| (text.to_owned(), 0));
        assert_eq!(lines(b"a\r\n\nb\xff\nc").await, expected);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_an_end_costs_no_more_than_a_line() {
        let mut bytes = vec![b'x'; LINE + 100_000];
        bytes.extend_from_slice(b"\nnext\n");
        let expected = [("x".repeat(LINE), 100_000), ("next".to_owned(), 0)];
        assert_eq!(lines(&bytes).await, expected);
    }

    #[test]
    fn lines_that_come_too_fast_are_counted_and_the_rest_passes() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert!((0..BURST).all(|_| rate.pass(start) == Some(0)));
        assert!((0..7).all(|_| rate.pass(start).is_none()));
        let later = start + Duration::from_secs(1);
        assert_eq!(rate.pass(later), Some(7));
        assert_eq!(
            (1..=EACH_SECOND).filter(|_| rate.pass(later).is_some()).count(),
            EACH_SECOND as usize - 1
        );
        assert_eq!(rate.take_dropped(), 1);
    }
}
