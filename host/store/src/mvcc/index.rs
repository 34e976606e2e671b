//! The index: every key with its history, sorted, with counts.
//!
//! Two levels: blocks of at most [`BLOCK_KEYS_MAX`] sorted keys, each knowing how many of its keys exist
//! now, so that counting a long range costs its number of blocks and not of keys, and how many a compaction
//! may find something at, so that it passes over the others. One writer at a time; readers share a lock around
//! it for as long as it takes to collect revisions. Keys are copies, lest they keep records alive.

use super::history::{History, Item};
use super::{Rev, Span};
use crate::{LeaseId, Revision};

/// Keys in a block before it is split in two.
const BLOCK_KEYS_MAX: usize = 256;
/// Keys by which a block grows.
const BLOCK_KEYS_STEP: usize = 32;
/// What a record takes beside its key and value, in the store's accounts.
const RECORD_BYTES: u64 = 64;

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    history: History,
}

impl Entry {
    fn size_bytes(&self, item: &Item) -> u64 {
        self.key.len() as u64 + u64::from(item.value_bytes) + RECORD_BYTES
    }
}

#[derive(Debug, Default)]
struct Block {
    entries: Vec<Entry>,
    live: usize,
    compactable: usize,
}

impl Block {
    fn of(entries: Vec<Entry>) -> Self {
        let count =
            |which: fn(&History) -> bool| entries.iter().filter(|entry| which(&entry.history)).count();
        Self {
            live: count(|history| history.latest().is_some()),
            compactable: count(History::is_compactable),
            entries,
        }
    }

    fn first(&self) -> &[u8] {
        self.entries.first().map_or(&[], |entry| &entry.key)
    }

    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (*entry.key).cmp(key))
    }

    /// How many of its keys exist, and how many are compactable, before and after a change of one.
    fn recount(&mut self, before: (bool, bool), position: usize) {
        let history = &self.entries[position].history;
        let after = (history.latest().is_some(), history.is_compactable());
        self.live = self.live + usize::from(after.0) - usize::from(before.0);
        self.compactable = self.compactable + usize::from(after.1) - usize::from(before.1);
    }
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    blocks: Vec<Block>,
    size_bytes: u64,
}

impl KeyIndex {
    /// Adds a revision of a key, newer than all it has; returns the lease that the key had.
    pub(crate) fn push(&mut self, key: &[u8], item: Item) -> LeaseId {
        let at = self.block_of(key);
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let block = &mut self.blocks[at];
        let (before, lease, position) = match block.position(key) {
            Ok(position) => {
                let history = &mut block.entries[position].history;
                let before = (history.latest().is_some(), history.is_compactable());
                let lease = history.latest().map_or(0, |latest| latest.lease);
                history.push(item);
                (before, lease, position)
            }
            Err(position) => {
                if block.entries.len() == block.entries.capacity() {
                    block.entries.reserve_exact(BLOCK_KEYS_STEP);
                }
                let history = History::new(item);
                block.entries.insert(
                    position,
                    Entry {
                        key: key.into(),
                        history,
                    },
                );
                ((false, false), 0, position)
            }
        };
        block.recount(before, position);
        self.size_bytes += block.entries[position].size_bytes(&item);
        if block.entries.len() > BLOCK_KEYS_MAX {
            self.split(at);
        }
        lease
    }

    /// The key as a read at `revision` sees it.
    pub(crate) fn get(&self, key: &[u8], revision: Revision) -> Option<Item> {
        self.history(key)?.at(revision)
    }

    /// The key now.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<Item> {
        self.history(key)?.latest()
    }

    /// The keys of a span that a read at `revision` sees, ascending.
    pub(crate) fn range<'a>(
        &'a self,
        span: &'a Span,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a [u8], Item)> + 'a {
        let first = self.block_of(&span.start);
        let blocks = self.blocks.get(first..).unwrap_or_default();
        blocks
            .iter()
            .flat_map(|block| block.entries.iter())
            .skip_while(|entry| *entry.key < span.start[..])
            .take_while(|entry| span.is_before_end(&entry.key))
            .filter_map(move |entry| Some((&*entry.key, entry.history.at(revision)?)))
    }

    /// How many keys of the span exist now.
    pub(crate) fn count_latest(&self, span: &Span) -> usize {
        let mut count = 0;
        for (at, block) in self.blocks.iter().enumerate().skip(self.block_of(&span.start)) {
            if at > 0 && !span.is_before_end(block.first()) {
                break;
            }
            let next = self.blocks.get(at + 1);
            let is_whole = block.first() >= &span.start[..]
                && next.map_or(span.end.is_none(), |next| span.is_before_end(next.first()));
            count += if is_whole {
                block.live
            } else {
                let inside = block.entries.iter().filter(|entry| span.contains(&entry.key));
                inside.filter(|entry| entry.history.latest().is_some()).count()
            };
        }
        count
    }

    /// Bytes of all that is remembered, with a record's own.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Goes over some keys from `from` on, about `keys_max` where there is something to do, and forgets of them
    /// what no read at `revision` or later sees: it is added to `dropped`, the oldest of each key first. Returns
    /// where to go on, or nothing at the end.
    pub(crate) fn compact_some(
        &mut self,
        from: &[u8],
        revision: Revision,
        keys_max: usize,
        dropped: &mut Vec<Rev>,
    ) -> Option<Box<[u8]>> {
        let mut at = self.block_of(from);
        let mut seen = 0;
        while seen < keys_max {
            let block = self.blocks.get_mut(at)?;
            if block.compactable > 0 {
                seen += block.entries.len();
                let mut freed = 0;
                block.entries.retain_mut(|Entry { key, history }| {
                    let key_bytes = key.len() as u64;
                    !history.compact(revision, |item| {
                        freed += key_bytes + u64::from(item.value_bytes) + RECORD_BYTES;
                        dropped.push(item.rev);
                    })
                });
                *block = Block::of(std::mem::take(&mut block.entries));
                self.size_bytes -= freed;
                if block.entries.is_empty() {
                    self.blocks.remove(at);
                    continue;
                }
            } else {
                // Passing over is cheap, but it is under the lock too.
                seen += 1;
            }
            at += 1;
        }
        self.blocks.get(at).map(|block| block.first().into())
    }

    /// Visits the histories of some keys from `from` on, `keys_max` or a few more. Returns where to go on.
    pub(crate) fn visit_some(
        &self,
        from: &[u8],
        keys_max: usize,
        mut visit: impl FnMut(&[u8], &History),
    ) -> Option<Box<[u8]>> {
        let mut seen = 0;
        for block in &self.blocks[self.block_of(from).min(self.blocks.len())..] {
            if seen >= keys_max {
                return Some(block.first().into());
            }
            for entry in block.entries.iter().filter(|entry| *entry.key >= *from) {
                visit(&entry.key, &entry.history);
            }
            seen += block.entries.len();
        }
        None
    }

    fn history(&self, key: &[u8]) -> Option<&History> {
        let block = self.blocks.get(self.block_of(key))?;
        let position = block.position(key).ok()?;
        Some(&block.entries[position].history)
    }

    /// The block that holds the key, or would.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks
            .partition_point(|block| block.first() <= key)
            .saturating_sub(1)
    }

    fn split(&mut self, at: usize) {
        let mut lower = std::mem::take(&mut self.blocks[at].entries);
        let upper = lower.split_off(lower.len() / 2);
        lower.shrink_to_fit();
        self.blocks[at] = Block::of(lower);
        self.blocks.insert(at + 1, Block::of(upper));
    }
}

#[cfg(test)]
mod tests;
