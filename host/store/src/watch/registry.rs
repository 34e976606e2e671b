//! Which watchers want a key: exact keys and prefixes by hash, other spans one by one.
//!
//! A lookup of a key costs one probe for each length that any watched prefix has.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::KeyRange;
use crate::mvcc::Span;

pub(super) type WatcherId = u64;

/// Ranges by the quickest way to find them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    keys: HashMap<Bytes, Vec<WatcherId>>,
    prefixes: HashMap<Bytes, Vec<WatcherId>>,
    /// How many distinct prefixes have each length.
    prefix_lengths: BTreeMap<usize, usize>,
    spans: Vec<(Span, WatcherId)>,
}

impl Registry {
    pub(super) fn insert(&mut self, range: &KeyRange, id: WatcherId) {
        match range {
            KeyRange::Key(key) => self.keys.entry(key.clone()).or_default().push(id),
            KeyRange::Prefix(prefix) => {
                let watchers = self.prefixes.entry(prefix.clone()).or_default();
                if watchers.is_empty() {
                    *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
                }
                watchers.push(id);
            }
            KeyRange::Span(..) | KeyRange::From(_) => self.spans.push((Span::of(range), id)),
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, id: WatcherId) {
        match range {
            KeyRange::Key(key) => {
                remove_from(&mut self.keys, key, id);
            }
            KeyRange::Prefix(prefix) => {
                if remove_from(&mut self.prefixes, prefix, id)
                    && let Some(count) = self.prefix_lengths.get_mut(&prefix.len())
                {
                    *count -= 1;
                    if *count == 0 {
                        self.prefix_lengths.remove(&prefix.len());
                    }
                }
            }
            KeyRange::Span(..) | KeyRange::From(_) => self.spans.retain(|(_, other)| *other != id),
        }
    }

    /// Adds the watchers of a key to `found`.
    pub(super) fn find(&self, key: &[u8], found: &mut Vec<WatcherId>) {
        found.extend(self.keys.get(key).into_iter().flatten());
        for length in self
            .prefix_lengths
            .keys()
            .take_while(|length| **length <= key.len())
        {
            found.extend(self.prefixes.get(&key[..*length]).into_iter().flatten());
        }
        found.extend(
            self.spans
                .iter()
                .filter(|(span, _)| span.contains(key))
                .map(|(_, id)| *id),
        );
    }
}

/// Whether the range has no watcher any more.
fn remove_from(ranges: &mut HashMap<Bytes, Vec<WatcherId>>, range: &Bytes, id: WatcherId) -> bool {
    let Some(watchers) = ranges.get_mut(range) else {
        return false;
    };
    watchers.retain(|other| *other != id);
    let is_last = watchers.is_empty();
    if is_last {
        ranges.remove(range);
    }
    is_last
}
