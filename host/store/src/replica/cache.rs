//! Recently written and read records, bounded by bytes, the oldest dropped first.

use std::collections::{HashMap, VecDeque};

use crate::mvcc::{Record, Rev};

/// Bytes of keys and values that are kept.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an entry costs beside its key and value: its places in map and queue, four pieces of heap.
const ENTRY_BYTES: usize = 2 * size_of::<Record>() + 160;

/// Records by revision.
#[derive(Debug, Default)]
pub(super) struct ValueCache {
    records: HashMap<Rev, Record>,
    order: VecDeque<Rev>,
    bytes: usize,
}

impl ValueCache {
    pub(super) fn get(&self, rev: Rev) -> Option<Record> {
        self.records.get(&rev).cloned()
    }

    pub(super) fn insert(&mut self, rev: Rev, record: Record) {
        let bytes = cost(&record);
        if bytes > CACHE_BYTES_MAX / 4 || self.records.insert(rev, record).is_some() {
            return;
        }
        self.order.push_back(rev);
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(record) = self.records.remove(&oldest) {
                self.bytes -= cost(&record);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn cost(record: &Record) -> usize {
    record.key.len() + record.value.len() + ENTRY_BYTES
}
