//! Counters and histograms with labels, written in Prometheus' text form.
//!
//! A row is found by the hash of its labels and changed by atomics, so that a request pays no lock that
//! another one holds for long and no allocation after the first of its kind. Rows are bounded: what comes
//! after the last goes uncounted.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Rows of one family at most.
const ROWS_MAX: usize = 5000;

/// Rows of one kind, by their labels.
#[derive(Debug)]
pub(crate) struct Family<Row> {
    rows: RwLock<HashMap<u64, Arc<(String, Row)>>>,
}

impl<Row> Default for Family<Row> {
    fn default() -> Self {
        Self {
            rows: RwLock::default(),
        }
    }
}

impl<Row> Family<Row> {
    /// The row of these labels, made when they come first; none where there are too many.
    pub(crate) fn row(
        &self,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Row,
    ) -> Option<Arc<(String, Row)>> {
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        let hash = hasher.finish();
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(&hash) {
            return Some(row.clone());
        }
        drop(rows);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= ROWS_MAX {
            return None;
        }
        let row = rows
            .entry(hash)
            .or_insert_with(|| Arc::new((shown(labels), make())));
        Some(row.clone())
    }

    /// All rows with their labels, in the labels' order.
    pub(crate) fn all(&self) -> Vec<Arc<(String, Row)>> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<_> = rows.values().cloned().collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }
}

impl Family<AtomicU64> {
    pub(crate) fn add(&self, labels: &[(&str, &str)], count: u64) {
        if let Some(row) = self.row(labels, AtomicU64::default) {
            row.1.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn write(&self, text: &mut String, name: &str, kind: &str) {
        head(text, name, kind);
        for row in self.all() {
            line(text, name, &row.0, row.1.load(Ordering::Relaxed));
        }
    }
}

impl Family<Histogram> {
    pub(crate) fn write(&self, text: &mut String, name: &str) {
        head(text, name, "histogram");
        for row in self.all() {
            row.1.write(text, name, &row.0);
        }
    }
}

/// How values are spread.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (position, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = self
                .bounds
                .get(position)
                .map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        line(text, &format!("{name}_sum"), labels, sum);
        line(text, &format!("{name}_count"), labels, count);
    }
}

pub(crate) fn head(text: &mut String, name: &str, kind: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

pub(crate) fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// Labels as they stand between the braces.
pub(crate) fn shown(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(text, "{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_and_written_as_prometheus_reads_them() {
        let counters = Family::<AtomicU64>::default();
        counters.add(&[("a", "x\"y"), ("b", "")], 2);
        counters.add(&[("a", "x\"y"), ("b", "")], 3);
        let mut text = String::new();
        counters.write(&mut text, "n_total", "counter");
        assert_eq!(text, "# TYPE n_total counter\nn_total{a=\"x\\\"y\",b=\"\"} 5\n");
        let times = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            times.observe(value);
        }
        let mut text = String::new();
        times.write(&mut text, "t", "");
        let expected =
            "t_bucket{le=\"0.1\"} 2\nt_bucket{le=\"1\"} 3\nt_bucket{le=\"+Inf\"} 4\nt_sum 7.65\nt_count 4\n";
        assert_eq!(text, expected);
    }
}
