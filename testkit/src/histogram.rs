//! Owns a set of durations as a figure: its percentiles, its picture, its JSON. Refuses averages, which hide the tail.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of the picture.
const COLUMNS: usize = 40;

/// Durations, kept one by one. Percentiles are exact: the smallest sample that is not below the asked share of all samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Histogram {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        let mut sorted: Vec<Duration> = samples.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Histogram {
    /// The number of samples.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The sample at `permille` thousandths of all: 500 is the median, 999 is p99.9. Zero where there is no sample.
    pub fn permille(&self, permille: usize) -> Duration {
        let rank = (self.sorted.len() * permille.min(1000)).div_ceil(1000);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.permille(500)
    }

    /// Nine of ten samples are at most this.
    pub fn p90(&self) -> Duration {
        self.permille(900)
    }

    /// All but one in a hundred samples are at most this.
    pub fn p99(&self) -> Duration {
        self.permille(990)
    }

    /// All but one in a thousand samples are at most this.
    pub fn p99_9(&self) -> Duration {
        self.permille(999)
    }

    /// The largest sample.
    pub fn max(&self) -> Duration {
        self.permille(1000)
    }

    /// Samples in [`COLUMNS`] equal steps from zero to the largest.
    fn columns(&self) -> [usize; COLUMNS] {
        let mut columns = [0; COLUMNS];
        let width = self.max().as_nanos().max(1);
        for sample in &self.sorted {
            let column = sample.as_nanos() * COLUMNS as u128 / (width + 1);
            columns[column as usize] += 1;
        }
        columns
    }
}

/// One line of bars from zero to the largest sample, and one of figures. Any column with a sample shows.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let highest = columns.iter().max().copied().unwrap_or_default().max(1);
        let bar = |count: &usize| match *count {
            0 => ' ',
            count => BARS[(count * (BARS.len() - 1)).div_ceil(highest).min(BARS.len() - 1)],
        };
        let bars: String = columns.iter().map(bar).collect();
        writeln!(f, "0 {bars} {:.1?}", self.max())?;
        let (p50, p90, p99, p99_9) = (self.p50(), self.p90(), self.p99(), self.p99_9());
        write!(f, "n={} p50={p50:.1?} p90={p90:.1?} p99={p99:.1?} p99.9={p99_9:.1?}", self.count())
    }
}

/// Figures in whole microseconds.
#[derive(Serialize)]
struct Figures {
    count: usize,
    p50_us: u128,
    p90_us: u128,
    p99_us: u128,
    p99_9_us: u128,
    max_us: u128,
    columns: Vec<usize>,
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Figures {
            count: self.count(),
            p50_us: self.p50().as_micros(),
            p90_us: self.p90().as_micros(),
            p99_us: self.p99().as_micros(),
            p99_9_us: self.p99_9().as_micros(),
            max_us: self.max().as_micros(),
            columns: self.columns().to_vec(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let histogram: Histogram = (1..=1000).rev().map(Duration::from_millis).collect();
        assert_eq!(histogram.p50(), Duration::from_millis(500));
        assert_eq!(histogram.p99(), Duration::from_millis(990));
        assert_eq!(histogram.p99_9(), Duration::from_millis(999));
        assert_eq!(histogram.max(), Duration::from_secs(1));
        assert_eq!(Histogram::from_iter([Duration::from_secs(3)]).p50(), Duration::from_secs(3));
        assert_eq!(Histogram::default().p99(), Duration::ZERO);
    }

    #[test]
    fn a_single_outlier_shows() {
        let samples = std::iter::repeat_n(Duration::from_millis(1), 10_000).chain([Duration::from_secs(1)]);
        let drawn = Histogram::from_iter(samples).to_string();
        let first = drawn.lines().next().expect("two lines");
        assert!(first.starts_with("0 █"), "{drawn}");
        assert!(first.contains("▂ 1.0s") || first.contains("▁ 1.0s"), "{drawn}");
    }

    #[test]
    fn json_has_the_figures() {
        let json =
            serde_json::to_value(Histogram::from_iter([Duration::from_millis(2)])).expect("serialises");
        assert_eq!((json["count"].as_u64(), json["p99_us"].as_u64()), (Some(1), Some(2000)));
    }
}
