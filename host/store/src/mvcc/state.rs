//! The state in memory: revisions, index and leases, and how applied changes move it on.
//!
//! Owned by the state machine, which alone writes it, after the same changes are in the engine. What a
//! restart rebuilds from the engine's records equals what applying had left.

use bytes::Bytes;

use super::index::KeyIndex;
use super::{Change, Item, Record, Rev};
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
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: REVISION_EMPTY,
            compact_revision: 0,
            index: KeyIndex::default(),
            leases: LeaseTable::default(),
        }
    }
}

impl State {
    /// Takes in the changes of one write, all of one main revision.
    pub(crate) fn publish(&mut self, changes: &[Change]) {
        for change in changes {
            self.take(change.rev, &change.record);
        }
    }

    /// Takes in one record, in revision order: a change, or what a restart reads from disk.
    pub(crate) fn take(&mut self, rev: Rev, record: &Record) {
        let before = self.index.latest(&record.key).map_or(0, |item| item.lease);
        self.leases.move_key(&record.key, before, record.lease);
        self.index.push(
            &record.key,
            Item {
                rev,
                create_revision: record.create_revision,
                version: if record.deleted { 0 } else { record.version },
                lease: record.lease,
            },
        );
        self.revision = self.revision.max(rev.main);
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

    /// Forgets history before `revision`; returns the records that are no longer reachable. Those at
    /// exactly `revision` must stay on disk until the next compaction.
    pub(crate) fn compact(&mut self, revision: Revision) -> Vec<Rev> {
        self.compact_revision = revision;
        self.index.compact(revision)
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
