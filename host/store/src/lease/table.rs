//! The leases that exist and the keys attached to each. Pure; part of the replicated state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::LeaseId;

#[derive(Debug, Default)]
struct Lease {
    ttl_seconds: i64,
    keys: BTreeSet<Bytes>,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
}

impl LeaseTable {
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl_seconds: i64) {
        self.leases.insert(
            id,
            Lease {
                ttl_seconds,
                keys: BTreeSet::new(),
            },
        );
    }

    pub(crate) fn revoke(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    pub(crate) fn ttl_seconds(&self, id: LeaseId) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.ttl_seconds)
    }

    /// The keys of a lease, ascending.
    pub(crate) fn keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.leases
            .get(&id)
            .map(|lease| lease.keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Moves a key from one lease to another; 0 is none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl_seconds))
    }
}
