//! Engines that tell how long their syncs take, and log the slow ones.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;

use super::{LogEngine, LogValue, StateBatch, StateEngine, Visit};
use crate::Result;
use crate::metrics::{SLOW_SYNC, StoreMetrics};

/// An engine and where it is counted.
pub(crate) struct Metered<E: ?Sized> {
    metrics: Arc<StoreMetrics>,
    engine: Arc<E>,
}

impl<E: ?Sized> Metered<E> {
    pub(crate) fn new(engine: Arc<E>, metrics: Arc<StoreMetrics>) -> Self {
        Self { metrics, engine }
    }
}

fn timed(what: &str, histogram: &Histogram, sync: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let answer = sync();
    let took = start.elapsed();
    histogram.observe(took.as_secs_f64());
    if took > SLOW_SYNC {
        let (took_ms, expected_ms) = (took.as_millis() as u64, SLOW_SYNC.as_millis() as u64);
        tracing::warn!(took_ms, expected_ms, "slow fdatasync of the {what}");
    }
    answer
}

impl LogEngine for Metered<dyn LogEngine> {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let bytes: usize = entries.iter().map(|(_, entry)| entry.len()).sum();
        self.metrics
            .log_bytes
            .inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.engine.append(entries)
    }

    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        self.engine.read(first, last)
    }

    fn last(&self) -> Result<Option<Bytes>> {
        self.engine.last()
    }

    fn truncate(&self, first: u64) -> Result<()> {
        self.engine.truncate(first)
    }

    fn purge(&self, last: u64) -> Result<()> {
        self.engine.purge(last)
    }

    fn set(&self, name: LogValue, value: &[u8]) -> Result<()> {
        self.engine.set(name, value)
    }

    fn get(&self, name: LogValue) -> Result<Option<Bytes>> {
        self.engine.get(name)
    }

    fn sync(&self) -> Result<()> {
        timed("log", &self.metrics.log_sync, || self.engine.sync())
    }

    fn sequence(&self) -> u64 {
        self.engine.sequence()
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}

impl StateEngine for Metered<dyn StateEngine> {
    fn apply(&self, batch: StateBatch) -> Result<()> {
        self.engine.apply(batch)
    }

    fn settle(&self) -> Result<()> {
        self.engine.settle()
    }

    fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.engine.remove_range(start, end)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.engine.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.engine.scan(start, end, visit)
    }

    fn sync(&self) -> Result<()> {
        timed("state", &self.metrics.state_sync, || self.engine.sync())
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}
