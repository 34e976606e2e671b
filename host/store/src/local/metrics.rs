//! What the metrics ask a running store for, and the leader changes that it sees.

use std::sync::Arc;

use tokio::sync::watch;

use super::LocalStore;
use super::server::Server;
use crate::metrics::Sampled;
use crate::mvcc::Span;
use crate::{KeyRange, RaftView, StoreMetrics};

impl LocalStore {
    /// The store's metrics; they outlive a shutdown with what they had counted.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }
}

/// Makes the metrics ask this store until it is gone.
pub(super) fn start(server: &Arc<Server>) {
    let (metrics, views) = (server.replica.metrics(), server.consensus.watch_view());
    let asked = Arc::downgrade(server);
    metrics.sample_by(move || asked.upgrade().map(|server| sample(&server)));
    tokio::spawn(count_leaders(metrics.clone(), views));
}

fn sample(server: &Server) -> Sampled {
    let (raft, sizes) = (server.consensus.view(), server.sizes());
    let (watchers, pending) = server.replica.hub().counts();
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let all = Span::of(&KeyRange::Prefix("".into()));
    server.replica.look(|state| Sampled {
        has_leader: raft.leader != 0,
        is_leader: raft.leader == server.identity.member_id,
        is_learner: raft.is_learner,
        committed: raft.index,
        applied: raft.applied_index,
        db_bytes: sizes.db_size_bytes,
        db_in_use_bytes: sizes.db_size_in_use_bytes,
        quota_bytes: i64::try_from(sizes.quota_bytes).unwrap_or(i64::MAX),
        keys: number(state.index.count_latest(&all)),
        revision: state.revision,
        compact_revision: state.compact_revision,
        leases: number(state.leases.iter().count()),
        watchers: number(watchers),
        pending_events: number(pending),
    })
}

/// Counts leaders that were not the one before. Ends with consensus.
async fn count_leaders(metrics: Arc<StoreMetrics>, mut views: watch::Receiver<RaftView>) {
    let mut before = 0;
    loop {
        let leader = views.borrow_and_update().leader;
        if leader != 0 && leader != before {
            before = leader;
            metrics.leader_changes.inc();
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}
