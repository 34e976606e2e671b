//! The index: every key with its history, sorted, with counts.
//!
//! Two levels: blocks of at most [`BLOCK_KEYS_MAX`] sorted keys, each knowing how many of its keys exist
//! now, so that counting a long range costs its number of blocks and not of keys. One writer, the state
//! machine; readers share a lock around it for as long as it takes to collect revisions.

use std::collections::HashSet;

use bytes::Bytes;

use super::history::{History, Item};
use super::{Rev, Span};
use crate::Revision;

/// Keys in a block before it is split in two.
const BLOCK_KEYS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Block {
    entries: Vec<(Bytes, History)>,
    live: usize,
}

impl Block {
    fn first(&self) -> &[u8] {
        self.entries.first().map_or(&[], |(key, _)| &key[..])
    }

    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other[..].cmp(key))
    }
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    blocks: Vec<Block>,
    /// Keys of which a compaction may drop something.
    compactable: HashSet<Bytes>,
}

impl KeyIndex {
    /// Adds a revision of a key, newer than all it has.
    pub(crate) fn push(&mut self, key: &Bytes, item: Item) {
        let at = self.block_of(key);
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let block = &mut self.blocks[at];
        let (before, position) = match block.position(key) {
            Ok(position) => {
                let history = &mut block.entries[position].1;
                let before = history.latest().is_some();
                history.push(item);
                (before, position)
            }
            Err(position) => {
                block.entries.insert(position, (key.clone(), History::new(item)));
                (false, position)
            }
        };
        let history = &block.entries[position].1;
        block.live = block.live + usize::from(!item.is_tombstone()) - usize::from(before);
        if history.is_compactable() {
            self.compactable.insert(block.entries[position].0.clone());
        }
        if block.entries.len() > BLOCK_KEYS_MAX {
            self.split(at);
        }
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
    ) -> impl Iterator<Item = (&'a Bytes, Item)> + 'a {
        let first = self.block_of(&span.start);
        let blocks = self.blocks.get(first..).unwrap_or_default();
        blocks
            .iter()
            .flat_map(|block| block.entries.iter())
            .skip_while(|(key, _)| key[..] < span.start[..])
            .take_while(|(key, _)| span.is_before_end(key))
            .filter_map(move |(key, history)| Some((key, history.at(revision)?)))
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
                let inside = block.entries.iter().filter(|(key, _)| span.contains(key));
                inside.filter(|(_, history)| history.latest().is_some()).count()
            };
        }
        count
    }

    /// Forgets what no read at `revision` or later sees, and returns it.
    pub(crate) fn compact(&mut self, revision: Revision) -> Vec<Rev> {
        let mut dropped = Vec::new();
        let candidates: Vec<Bytes> = self.compactable.drain().collect();
        for key in candidates {
            let at = self.block_of(&key);
            let Some(block) = self.blocks.get_mut(at) else {
                continue;
            };
            let Ok(position) = block.position(&key) else {
                continue;
            };
            let history = &mut block.entries[position].1;
            dropped.extend(history.compact(revision));
            if history.is_empty() {
                block.entries.remove(position);
                if block.entries.is_empty() {
                    self.blocks.remove(at);
                }
            } else if history.is_compactable() {
                self.compactable.insert(key);
            }
        }
        dropped
    }

    fn history(&self, key: &[u8]) -> Option<&History> {
        let block = self.blocks.get(self.block_of(key))?;
        block
            .position(key)
            .ok()
            .map(|position| &block.entries[position].1)
    }

    /// The block that holds the key, or would.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks
            .partition_point(|block| block.first() <= key)
            .saturating_sub(1)
    }

    fn split(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        let entries = block.entries.split_off(block.entries.len() / 2);
        let live = entries
            .iter()
            .filter(|(_, history)| history.latest().is_some())
            .count();
        block.live -= live;
        self.blocks.insert(at + 1, Block { entries, live });
    }
}

#[cfg(test)]
mod tests;
