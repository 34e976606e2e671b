//! A histogram by powers of two, which stands in for the crate of this name under openraft.
//!
//! The original's first use fills 26 MB of tables that stay for good. This one needs half a kilobyte for each
//! histogram and is coarser: a percentile is told as the largest value of its bucket. It has what openraft
//! calls and no more. Put in its place by `[patch.crates-io]` in the root `Cargo.toml`.

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = u64::BITS as usize + 1;

/// Counts of values by the number of their binary digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            slot: PhantomData,
        }
    }
}

impl<T> Histogram<T> {
    /// One without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Takes in a value so many times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += count;
    }

    /// How many values were taken in.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The percentiles that openraft tells.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }

    /// A value that so many thousandths of all are not above; 0 where there are none.
    fn permille(&self, part: u64) -> u64 {
        let wanted = u128::from(self.total()) * u128::from(part);
        let mut seen = 0;
        for (digits, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += u128::from(*count) * 1_000;
            if seen >= wanted {
                return u64::MAX.checked_shr(u64::BITS - digits as u32).unwrap_or(0);
            }
        }
        0
    }
}

/// Some percentiles, in the values' own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples, p50, p99, ..
        } = self;
        write!(formatter, "{samples} values, p50 {p50}, p99 {p99}")
    }
}

/// Histograms under one another, a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// One without lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.0.push((name.to_owned(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.0 {
            writeln!(formatter, "{name}: {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn percentiles_are_the_largest_values_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(0, 1);
        histogram.record_n(5, 98);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99), (100, 0, 7, 7));
        assert_eq!(stats.p99_9, u64::MAX);
    }
}
