//! The newest entries in memory: readable before they are on disk, and quick to apply.

use std::collections::VecDeque;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use super::types::Entry;

/// Bytes of entries kept beyond those that must be.
const TAIL_BYTES_MAX: usize = 1024 * 1024;
/// What an entry costs beside its command.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

/// Entries of consecutive indexes, the last of which is the log's last.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl LogTail {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Entries before `end` are on disk: what is too much may go.
    pub(super) fn synced(&mut self, end: u64) {
        while self.bytes > TAIL_BYTES_MAX
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.log_id().index < end)
        {
            self.pop_front();
        }
    }

    /// Entries from `first` to `last`, as far as there are any; none where older ones are asked for.
    pub(super) fn read(&self, first: u64, last: u64) -> Option<Vec<Entry>> {
        let oldest = self.entries.front()?.log_id().index;
        let skip = usize::try_from(first.checked_sub(oldest)?).ok()?;
        let found = self
            .entries
            .iter()
            .skip(skip)
            .take_while(|entry| entry.log_id().index <= last);
        Some(found.cloned().collect())
    }

    pub(super) fn truncate(&mut self, first: u64) {
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.log_id().index >= first)
        {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= cost(&entry);
            }
        }
    }

    pub(super) fn purge(&mut self, last: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id().index <= last)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }
}

pub(super) fn cost(entry: &Entry) -> usize {
    let command = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    command + ENTRY_BYTES
}
