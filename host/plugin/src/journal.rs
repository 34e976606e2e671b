//! What plugins said lately, by plugin: a bounded ring of decisions and one of log lines each.
//!
//! Entries are numbered in the order in which they came, so that a reader asks for what is new since the last. Written
//! by the admission bridge and by `imports::log`; read through the host.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

use crate::lock::lock;

/// Entries of one plugin that are kept.
const ENTRIES_MAX: usize = 512;

/// A numbered entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry<T> {
    /// Rises by one with each entry of the plugin.
    pub number: u64,
    /// What was said.
    #[serde(flatten)]
    pub said: T,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// RFC 3339.
    pub time: String,
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// One line.
    pub message: String,
}

/// Rings by plugin.
#[derive(Debug)]
pub(crate) struct Journal<T>(Mutex<BTreeMap<String, Ring<T>>>);

#[derive(Debug)]
struct Ring<T> {
    entries: VecDeque<Entry<T>>,
    last_number: u64,
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Journal<T> {
    pub(crate) fn write(&self, plugin: &str, said: T) {
        let mut rings = lock(&self.0);
        if !rings.contains_key(plugin) {
            let (entries, last_number) = (VecDeque::new(), 0);
            rings.insert(plugin.to_owned(), Ring { entries, last_number });
        }
        let Some(ring) = rings.get_mut(plugin) else { return };
        if ring.entries.len() == ENTRIES_MAX {
            ring.entries.pop_front();
        }
        ring.last_number += 1;
        let number = ring.last_number;
        ring.entries.push_back(Entry { number, said });
    }

    /// Entries after this number, oldest first.
    pub(crate) fn after(&self, plugin: &str, number: u64) -> Vec<Entry<T>> {
        let rings = lock(&self.0);
        let entries = rings.get(plugin).into_iter().flat_map(|ring| &ring.entries);
        entries.filter(|entry| entry.number > number).cloned().collect()
    }

    /// Forgets a plugin that is gone.
    pub(crate) fn remove(&self, plugin: &str) {
        lock(&self.0).remove(plugin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
        let journal = Journal::default();
        (0..ENTRIES_MAX + 3).for_each(|n| journal.write("a", n));
        let all = journal.after("a", 0);
        assert_eq!((all.len(), all[0].number, all[0].said), (ENTRIES_MAX, 4, 3));
        assert_eq!(journal.after("a", ENTRIES_MAX as u64 + 2).len(), 1);
        assert!(journal.after("b", 0).is_empty());
    }
}
