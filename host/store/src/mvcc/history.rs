//! What the index holds of one key: its revisions, each with what a comparison, a size or a hash needs.
//!
//! Most keys have one revision, so the newest lies in place and only what came before it on the heap.

use super::{Record, Rev};
use crate::{LeaseId, Revision};

/// One revision of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) rev: Rev,
    pub(crate) create_revision: Revision,
    /// 0 for a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value_bytes: u32,
    /// Of the whole record and its revision.
    pub(crate) hash: u32,
}

impl Item {
    /// What is remembered of a record.
    pub(crate) fn of(rev: Rev, record: &Record) -> Self {
        Self {
            rev,
            create_revision: record.create_revision,
            version: if record.deleted { 0 } else { record.version },
            lease: record.lease,
            value_bytes: u32::try_from(record.value.len()).unwrap_or(u32::MAX),
            hash: record.hash(rev),
        }
    }

    /// A key that does not exist, to a comparison.
    pub(crate) const MISSING: Self = Self {
        rev: Rev { main: 0, sub: 0 },
        create_revision: 0,
        version: 0,
        lease: 0,
        value_bytes: 0,
        hash: 0,
    };

    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// The revisions of one key; one at least, and at most one of a main revision.
#[derive(Debug, Clone)]
pub(crate) struct History {
    newest: Item,
    /// Oldest first. Boxed, because few keys have any.
    #[allow(clippy::box_collection)]
    older: Option<Box<Vec<Item>>>,
}

impl History {
    pub(crate) fn new(first: Item) -> Self {
        Self {
            newest: first,
            older: None,
        }
    }

    pub(crate) fn push(&mut self, item: Item) {
        debug_assert!(self.newest.rev < item.rev);
        let older = self.older.get_or_insert_default();
        if older.len() == older.capacity() {
            older.reserve_exact((older.len() / 2).max(1));
        }
        older.push(self.newest);
        self.newest = item;
    }

    /// All of them, oldest first.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.older().iter().chain([&self.newest])
    }

    fn older(&self) -> &[Item] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The key as a read at `revision` sees it.
    pub(crate) fn at(&self, revision: Revision) -> Option<Item> {
        let item = self.newest_upto(revision)?;
        (!item.is_tombstone()).then_some(item)
    }

    /// The newest item, a tombstone perhaps, not after `revision`.
    fn newest_upto(&self, revision: Revision) -> Option<Item> {
        if self.newest.rev.main <= revision {
            return Some(self.newest);
        }
        let older = self.older();
        let after = older.partition_point(|item| item.rev.main <= revision);
        older.get(after.checked_sub(1)?).copied()
    }

    /// The key now.
    pub(crate) fn latest(&self) -> Option<Item> {
        Some(self.newest).filter(|item| !item.is_tombstone())
    }

    /// Whether a later compaction may find something to drop.
    pub(crate) fn is_compactable(&self) -> bool {
        self.older.is_some() || self.newest.is_tombstone()
    }

    /// What reads from `compact_revision` to `revision` can see of it, whether or not what they cannot has been
    /// dropped.
    pub(crate) fn reachable(
        &self,
        compact_revision: Revision,
        revision: Revision,
    ) -> impl Iterator<Item = &Item> {
        let base = self.newest_upto(compact_revision).map(|item| item.rev);
        self.items().filter(move |item| {
            let is_after = item.rev.main > compact_revision && item.rev.main <= revision;
            is_after || (Some(item.rev) == base && !item.is_tombstone())
        })
    }

    /// Forgets what no read at `revision` or later sees, and hands it to `drop`. Returns whether nothing is left
    /// of the key.
    pub(crate) fn compact(&mut self, revision: Revision, mut drop: impl FnMut(Item)) -> bool {
        if self.newest.rev.main <= revision {
            for item in self.older.take().into_iter().flat_map(|older| *older) {
                drop(item);
            }
            if self.newest.is_tombstone() {
                drop(self.newest);
                return true;
            }
            return false;
        }
        let Some(older) = &mut self.older else {
            return false;
        };
        let after = older.partition_point(|item| item.rev.main <= revision);
        let Some(newest) = after.checked_sub(1) else {
            return false;
        };
        let keep_from = if older[newest].is_tombstone() {
            after
        } else {
            newest
        };
        older.drain(..keep_from).for_each(&mut drop);
        if older.is_empty() {
            self.older = None;
        } else {
            older.shrink_to_fit();
        }
        false
    }
}
