//! What the store tells a Prometheus: etcd's own names, types and meanings, so that its dashboards and alerts fit.
//!
//! Parts count as they work, on atomics; a histogram (behind a short lock) is fed once a sync and never once
//! a write. What the parts know anyway, such as sizes and the number of keys, is asked for when somebody reads
//! ([`Sampled`]). Beside the store's own, whoever has more to tell registers it with [`StoreMetrics::extend`].

mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::lock::Mutex;

/// A sync of the log that takes longer is logged (etcd's threshold).
pub(crate) const SLOW_SYNC: Duration = Duration::from_secs(1);
/// An entry that takes longer to apply is logged (etcd's `warning-apply-duration`).
pub(crate) const SLOW_APPLY: Duration = Duration::from_millis(100);
/// A linearizable read that waits longer for its index is counted as slow (etcd's retry).
pub(crate) const SLOW_READ_INDEX: Duration = Duration::from_millis(500);

/// Of etcd's `wal_fsync` and `backend_commit`: 1 ms to 8 s. The first ones are ours; disks have become quicker.
const SYNC_SECONDS: [f64; 17] = [
    0.000_125, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512,
    1.024, 2.048, 4.096, 8.192,
];

/// What is asked for when the metrics are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sampled {
    pub(crate) has_leader: bool,
    pub(crate) is_leader: bool,
    pub(crate) is_learner: bool,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) db_bytes: u64,
    pub(crate) db_in_use_bytes: u64,
    pub(crate) quota_bytes: i64,
    pub(crate) keys: i64,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) leases: i64,
    pub(crate) watchers: i64,
    pub(crate) pending_events: i64,
}

type Sampler = Box<dyn Fn() -> Option<Sampled> + Send + Sync>;

/// The metrics of one store.
pub struct StoreMetrics {
    registry: Mutex<Registry>,
    sampler: Mutex<Option<Sampler>>,
    gauges: SampledGauges,
    pub(crate) leader_changes: Counter,
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_failed: Counter,
    pub(crate) slow_applies: Counter,
    pub(crate) slow_read_indexes: Counter,
    pub(crate) failed_read_indexes: Counter,
    pub(crate) log_sync: Histogram,
    pub(crate) log_bytes: Gauge,
    pub(crate) state_sync: Histogram,
    pub(crate) snapshot_save: Histogram,
    pub(crate) defragment: Histogram,
    pub(crate) snapshots_applying: Gauge,
    pub(crate) puts: Counter,
    pub(crate) ranges: Counter,
    pub(crate) deletes: Counter,
    pub(crate) txns: Counter,
    pub(crate) events: Counter,
    pub(crate) slow_watchers: Gauge,
    pub(crate) compacted_keys: Counter,
    pub(crate) leases_granted: Counter,
    pub(crate) leases_revoked: Counter,
    pub(crate) leases_renewed: Counter,
    pub(crate) leases_expired: Counter,
}

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

/// One gauge for each field of [`Sampled`].
#[derive(Default)]
struct SampledGauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge,
    applied: Gauge,
    db: Gauge,
    db_in_use: Gauge,
    quota: Gauge,
    keys: Gauge,
    revision: Gauge,
    compact_revision: Gauge,
    leases: Gauge,
    watchers: Gauge,
    pending_events: Gauge,
}

/// Registers metrics; the counters' `_total` is added by the encoding.
struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::<i64, AtomicI64>::default())
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: impl IntoIterator<Item = f64>) -> Histogram {
        self.add(name, help, Histogram::new(buckets))
    }
}

impl StoreMetrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let mut to = Register(&mut registry);
        process::register(to.0);
        let gauges = SampledGauges::register(&mut to);
        Arc::new(Self {
            gauges,
            leader_changes: to.counter("etcd_server_leader_changes_seen", "Leader changes seen"),
            proposals_pending: to.gauge(
                "etcd_server_proposals_pending",
                "Proposals that wait to be applied",
            ),
            proposals_failed: to.counter("etcd_server_proposals_failed", "Proposals that failed"),
            slow_applies: to.counter("etcd_server_slow_apply", "Entries that took over 100 ms to apply"),
            slow_read_indexes: to.counter(
                "etcd_server_slow_read_indexes",
                "Linearizable reads that waited over 500 ms for their index",
            ),
            failed_read_indexes: to.counter(
                "etcd_server_read_indexes_failed",
                "Linearizable reads that failed",
            ),
            log_sync: to.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long syncs of the log took",
                SYNC_SECONDS,
            ),
            log_bytes: to.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes of entries written to the log",
            ),
            state_sync: to.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "How long syncs of the state took",
                SYNC_SECONDS,
            ),
            snapshot_save: to.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "How long checkpoints of the state took",
                exponential_buckets(0.001, 2.0, 14),
            ),
            defragment: to.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "How long defragmentations took",
                exponential_buckets(0.1, 2.0, 13),
            ),
            snapshots_applying: to.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "Snapshots that are being installed",
            ),
            puts: to.counter("etcd_mvcc_put", "Puts"),
            ranges: to.counter("etcd_mvcc_range", "Ranges"),
            deletes: to.counter("etcd_mvcc_delete", "Deletes"),
            txns: to.counter("etcd_mvcc_txn", "Transactions"),
            events: to.counter("etcd_debugging_mvcc_events", "Events sent to watchers"),
            slow_watchers: to.gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that are catching up",
            ),
            compacted_keys: to.counter(
                "etcd_debugging_mvcc_db_compaction_keys",
                "Records that compactions removed",
            ),
            leases_granted: to.counter("etcd_debugging_lease_granted", "Leases granted"),
            leases_revoked: to.counter("etcd_debugging_lease_revoked", "Leases revoked"),
            leases_renewed: to.counter("etcd_debugging_lease_renewed", "Leases renewed by the leader"),
            leases_expired: to.counter("etcd_debugging_server_lease_expired", "Leases that ran out"),
            sampler: Mutex::default(),
            registry: Mutex::new(registry),
        })
    }

    /// All metrics in the OpenMetrics text format, which every Prometheus reads:
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn text(&self) -> String {
        let sampled = self.sampler.lock().as_ref().and_then(|sample| sample());
        if let Some(sampled) = sampled {
            self.gauges.set(&sampled);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }

    /// Adds metrics of a part above the store to its text.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// Who answers what is asked for when the metrics are read.
    pub(crate) fn sample_by(&self, sampler: impl Fn() -> Option<Sampled> + Send + Sync + 'static) {
        *self.sampler.lock() = Some(Box::new(sampler));
    }

    /// Counts a linearizable read's wait for its index.
    pub(crate) fn waited_for_read_index(&self, since: Instant, succeeded: bool) {
        if since.elapsed() > SLOW_READ_INDEX {
            self.slow_read_indexes.inc();
        }
        if !succeeded {
            self.failed_read_indexes.inc();
        }
    }

    /// Counts an applied entry, and logs a slow one.
    pub(crate) fn applied(&self, since: Instant, index: u64, bytes: usize) {
        let took = since.elapsed();
        if took > SLOW_APPLY {
            self.slow_applies.inc();
            tracing::warn!(
                index,
                bytes,
                took_ms = took.as_millis() as u64,
                expected_ms = SLOW_APPLY.as_millis() as u64,
                "apply request took too long"
            );
        }
    }
}

/// Counts a proposal as pending for as long as it lives.
pub(crate) struct Pending<'a>(&'a StoreMetrics);

impl<'a> Pending<'a> {
    pub(crate) fn of(metrics: &'a StoreMetrics) -> Self {
        metrics.proposals_pending.inc();
        Self(metrics)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.proposals_pending.dec();
    }
}

impl SampledGauges {
    fn register(to: &mut Register<'_>) -> Self {
        Self {
            has_leader: to.gauge("etcd_server_has_leader", "Whether a leader is known: 1 or 0"),
            is_leader: to.gauge("etcd_server_is_leader", "Whether this member leads: 1 or 0"),
            is_learner: to.gauge(
                "etcd_server_is_learner",
                "Whether this member is a learner: 1 or 0",
            ),
            committed: to.gauge(
                "etcd_server_proposals_committed_total",
                "Index of the last committed entry",
            ),
            applied: to.gauge(
                "etcd_server_proposals_applied_total",
                "Index of the last applied entry",
            ),
            db: to.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes on disk"),
            db_in_use: to.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes on disk that are in use",
            ),
            quota: to.gauge("etcd_server_quota_backend_bytes", "The quota of space in bytes"),
            keys: to.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist"),
            revision: to.gauge("etcd_debugging_mvcc_current_revision", "The revision"),
            compact_revision: to.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction",
            ),
            leases: to.gauge("etcd_debugging_lease_total", "Leases that exist"),
            watchers: to.gauge("etcd_debugging_mvcc_watcher_total", "Watchers"),
            pending_events: to.gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Messages that wait to be taken by watchers",
            ),
        }
    }

    fn set(&self, now: &Sampled) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (gauge, value) in [
            (&self.has_leader, i64::from(now.has_leader)),
            (&self.is_leader, i64::from(now.is_leader)),
            (&self.is_learner, i64::from(now.is_learner)),
            (&self.committed, number(now.committed)),
            (&self.applied, number(now.applied)),
            (&self.db, number(now.db_bytes)),
            (&self.db_in_use, number(now.db_in_use_bytes)),
            (&self.quota, now.quota_bytes),
            (&self.keys, now.keys),
            (&self.revision, now.revision),
            (&self.compact_revision, now.compact_revision),
            (&self.leases, now.leases),
            (&self.watchers, now.watchers),
            (&self.pending_events, now.pending_events),
        ] {
            gauge.inner().store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_etcds_names_and_what_was_counted() {
        let metrics = StoreMetrics::new();
        metrics.sample_by(|| {
            Some(Sampled {
                has_leader: true,
                applied: 7,
                ..Sampled::default()
            })
        });
        metrics.leader_changes.inc();
        metrics.log_sync.observe(0.003);
        let pending = Pending::of(&metrics);
        metrics.extend(|registry| registry.register("extra", "An extra one", Gauge::<i64>::default()));
        let text = metrics.text();
        for line in [
            "etcd_server_has_leader 1",
            "etcd_server_proposals_applied_total 7",
            "etcd_server_proposals_pending 1",
            "etcd_server_leader_changes_seen_total 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_count 1",
            "etcd_mvcc_put_total 0",
            "extra 0",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        drop(pending);
        assert!(metrics.text().contains("etcd_server_proposals_pending 0"));
    }
}
