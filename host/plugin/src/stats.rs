//! What is counted for each plugin: calls, their latency, faults. Lock-free on the hot path.
//!
//! The histogram has four buckets for each power of two of microseconds: an eighth of error at most, a
//! fixed two kilobytes. Read by the status writer and the metrics page.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use capstan_kinds::plugin::Verdicts;
use capstan_points::admission::Verdict;
use capstan_points::{Fault, FaultKind};

use crate::decision::Said;
use crate::lock::lock;

/// The kinds of fault that are counted, and how the metrics page names them.
pub(crate) const FAULT_KINDS: [(FaultKind, &str); 6] = [
    (FaultKind::Trap, "trap"),
    (FaultKind::Deadline, "deadline"),
    (FaultKind::Memory, "memory"),
    (FaultKind::Garbage, "garbage"),
    (FaultKind::Reported, "reported"),
    (FaultKind::Host, "host"),
];

const BUCKETS: usize = 4 * 64;
/// Bytes of the last error that are kept.
const ERROR_LENGTH_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Stats {
    calls: AtomicU64,
    faults: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
    /// The most linear memory that one instance has held.
    memory_bytes: AtomicU64,
    last_error: Mutex<String>,
    verdicts: Mutex<Verdicts>,
    /// All faults by kind, in the order of [`FAULT_KINDS`].
    kinds: [AtomicU64; FAULT_KINDS.len()],
}

/// A reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) calls: u64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
    /// Traps, overrun deadlines, memory limits hit, invalid answers.
    pub(crate) traps: u64,
    pub(crate) seconds_total: f64,
    /// The most linear memory that one instance has held.
    pub(crate) memory_bytes: u64,
    pub(crate) last_error: String,
    pub(crate) verdicts: Verdicts,
    /// Faults by kind, in the order of [`FAULT_KINDS`].
    pub(crate) faults: [u64; FAULT_KINDS.len()],
    /// Calls by the upper edge of their bucket, in nanoseconds; only buckets that hold some.
    pub(crate) histogram: Vec<(u64, u64)>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            last_error: Mutex::default(),
            verdicts: Mutex::default(),
            kinds: [const { AtomicU64::new(0) }; FAULT_KINDS.len()],
        }
    }
}

impl Stats {
    pub(crate) fn record(&self, took: Duration, fault: Option<&Fault>) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
        if let Some(fault) = fault {
            self.note_fault(fault);
        }
    }

    /// A fault outside of a counted call, or found in its answer.
    pub(crate) fn note_fault(&self, fault: &Fault) {
        if let Some(place) = FAULT_KINDS.iter().position(|(kind, _)| *kind == fault.kind) {
            self.kinds[place].fetch_add(1, Relaxed);
        }
        if is_severe(fault.kind) {
            self.faults.fetch_add(1, Relaxed);
        }
        self.note_error(&fault.to_string());
    }

    pub(crate) fn note_error(&self, error: &str) {
        let mut end = error.len().min(ERROR_LENGTH_MAX);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        *lock(&self.last_error) = error[..end].to_owned();
    }

    /// What an admission policy said of a request.
    pub(crate) fn note_verdict(&self, said: Said<'_>) {
        let mut verdicts = lock(&self.verdicts);
        match said {
            Said::Verdict(Verdict::Allow(_)) => verdicts.allowed += 1,
            Said::Verdict(Verdict::Deny(_)) => verdicts.denied += 1,
            Said::Verdict(Verdict::Warn(_)) => verdicts.warned += 1,
            Said::Verdict(Verdict::Audit(_)) => verdicts.audited += 1,
            Said::Excepted(_) => verdicts.excepted += 1,
            Said::Faulted(_) => {}
        }
    }

    /// An instance holds this much linear memory.
    pub(crate) fn note_memory(&self, bytes: usize) {
        self.memory_bytes.fetch_max(bytes as u64, Relaxed);
    }

    /// Forgets everything but the memory, as after the rehearsal before a revision serves: its warm instances
    /// already hold theirs.
    pub(crate) fn clear(&self) {
        for counter in self
            .buckets
            .iter()
            .chain(&self.kinds)
            .chain([&self.calls, &self.faults, &self.nanos])
        {
            counter.store(0, Relaxed);
        }
        *lock(&self.verdicts) = Verdicts::default();
        lock(&self.last_error).clear();
    }

    pub(crate) fn read(&self) -> Reading {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        Reading {
            calls: self.calls.load(Relaxed),
            p50_micros: quantile(&counts, 50),
            p99_micros: quantile(&counts, 99),
            traps: self.faults.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            seconds_total: self.nanos.load(Relaxed) as f64 / 1e9,
            last_error: lock(&self.last_error).clone(),
            verdicts: *lock(&self.verdicts),
            faults: std::array::from_fn(|place| self.kinds[place].load(Relaxed)),
            histogram: counts
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| (edge_nanos(index), *count))
                .collect(),
        }
    }
}

/// Faults that tell of a sick plugin rather than of a question that it could not answer.
pub(crate) fn is_severe(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Trap | FaultKind::Deadline | FaultKind::Memory | FaultKind::Garbage
    )
}

fn bucket(nanos: u64) -> usize {
    if nanos < 4 {
        return nanos as usize;
    }
    let power = nanos.ilog2() as usize;
    power * 4 + ((nanos >> (power - 2)) & 3) as usize
}

/// The upper edge of the bucket that holds the quantile, in microseconds, at least 1 once anything ran.
fn quantile(counts: &[u64], percent: u64) -> u64 {
    let total: u64 = counts.iter().sum();
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted && seen > 0 {
            return edge_nanos(index).div_ceil(1000).max(1);
        }
    }
    0
}

/// The upper edge of a bucket.
fn edge_nanos(index: usize) -> u64 {
    let (power, quarter) = (index / 4, index as u128 % 4);
    let nanos = if power < 2 {
        index as u128
    } else {
        (5 + quarter) << (power - 2)
    };
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_an_eighth() {
        let stats = Stats::default();
        for micros in 1..=1000u64 {
            stats.record(Duration::from_micros(micros), None);
        }
        let reading = stats.read();
        assert_eq!(reading.calls, 1000);
        assert!((500..=640).contains(&reading.p50_micros), "{reading:?}");
        assert!((990..=1240).contains(&reading.p99_micros), "{reading:?}");
    }

    #[test]
    fn nothing_recorded_reads_as_zero_and_extremes_fit() {
        assert_eq!(Stats::default().read().p99_micros, 0);
        assert!(bucket(u64::MAX) < BUCKETS);
    }
}
