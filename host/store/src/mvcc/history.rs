//! What the index holds of one key: its revisions, oldest first, each with what a comparison needs.

use super::Rev;
use crate::{LeaseId, Revision};

/// One revision of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) rev: Rev,
    pub(crate) create_revision: Revision,
    /// 0 for a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Item {
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// The revisions of one key. Never empty; a key is changed at most once in a main revision.
#[derive(Debug, Clone)]
pub(crate) struct History {
    items: Vec<Item>,
}

impl History {
    pub(crate) fn new(first: Item) -> Self {
        Self { items: vec![first] }
    }

    pub(crate) fn push(&mut self, item: Item) {
        debug_assert!(self.items.last().is_none_or(|last| last.rev < item.rev));
        self.items.push(item);
    }

    /// The key as a read at `revision` sees it.
    pub(crate) fn at(&self, revision: Revision) -> Option<Item> {
        let after = self.items.partition_point(|item| item.rev.main <= revision);
        let item = *self.items.get(after.checked_sub(1)?)?;
        (!item.is_tombstone()).then_some(item)
    }

    /// The key now.
    pub(crate) fn latest(&self) -> Option<Item> {
        self.items.last().copied().filter(|item| !item.is_tombstone())
    }

    /// Whether a later compaction may find something to drop.
    pub(crate) fn is_compactable(&self) -> bool {
        self.items.len() > 1 || self.latest().is_none()
    }

    /// Forgets what no read at `revision` or later sees, and returns it. Whether anything is left is
    /// [`History::is_empty`].
    pub(crate) fn compact(&mut self, revision: Revision) -> Vec<Rev> {
        let after = self.items.partition_point(|item| item.rev.main <= revision);
        let Some(newest) = after.checked_sub(1) else {
            return Vec::new();
        };
        let keep_from = if self.items[newest].is_tombstone() {
            after
        } else {
            newest
        };
        let dropped = self.items.drain(..keep_from).map(|item| item.rev).collect();
        self.items.shrink_to_fit();
        dropped
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
