//! The state in memory: revisions, index and leases, and how applied changes move it on.
//!
//! Owned by the state machine, which alone writes it, after the same changes are in the engine. What a
//! restart rebuilds from the engine's records equals what applying had left.

use std::sync::Arc;

use bytes::Bytes;

use super::index::KeyIndex;
use super::{Item, Rev};
use crate::alarm::Alarms;
use crate::auth::AuthState;
use crate::lease::LeaseTable;
use crate::{Error, Result, Revision};

/// The revision of an empty store, so that the first write makes 2 as in etcd.
pub(crate) const REVISION_EMPTY: Revision = 1;

/// Everything but the values.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    /// 0 before the first compaction.
    pub(crate) compact_revision: Revision,
    pub(crate) index: KeyIndex,
    pub(crate) leases: LeaseTable,
    pub(crate) auth: Arc<AuthState>,
    pub(crate) alarms: Alarms,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: REVISION_EMPTY,
            compact_revision: 0,
            index: KeyIndex::default(),
            leases: LeaseTable::default(),
            auth: Arc::default(),
            alarms: Alarms::default(),
        }
    }
}

impl State {
    /// Takes in one record, in revision order: a change, or what a restart reads from disk.
    pub(crate) fn take(&mut self, key: &[u8], item: Item) {
        let before = self.index.push(key, item);
        self.leases.move_key(key, before, item.lease);
        self.revision = self.revision.max(item.rev.main);
    }

    /// Whether a compaction at `revision` may go ahead.
    pub(crate) fn check_compact(&self, revision: Revision) -> Result<()> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted {
                compact_revision: self.compact_revision,
            });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision {
                revision: self.revision,
            });
        }
        Ok(())
    }

    /// Forgets history before `revision` at once; returns the records that are no longer reachable. Those at
    /// exactly `revision` must stay on disk until the next compaction. For a state that nobody reads yet.
    pub(crate) fn compact(&mut self, revision: Revision) -> Vec<Rev> {
        self.compact_revision = revision;
        let (mut from, mut dropped) = (Some(Box::default()), Vec::new());
        while let Some(key) = from {
            from = self.index.compact_some(&key, revision, usize::MAX, &mut dropped);
        }
        dropped
    }

    /// The revision at which a read that asks for `asked` looks; 0 asks for now.
    pub(crate) fn read_revision(&self, asked: Revision) -> Result<Revision> {
        if asked <= 0 {
            return Ok(self.revision);
        }
        if asked > self.revision {
            return Err(Error::FutureRevision {
                revision: self.revision,
            });
        }
        if asked < self.compact_revision {
            return Err(Error::Compacted {
                compact_revision: self.compact_revision,
            });
        }
        Ok(asked)
    }

    /// Which keys a lease's end deletes.
    pub(crate) fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.leases.keys(id)
    }
}
