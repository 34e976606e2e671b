//! The log on sled: entries under `e` and their index, named values under a letter of their own.

use std::path::Path;

use bytes::Bytes;

use super::sled_database::SledDatabase;
use super::{LogEngine, LogValue};
use crate::Result;

/// Entries removed in one batch.
const REMOVE_BATCH: u64 = 1_000;
const ENTRY: u8 = b'e';

/// The log.
pub(crate) struct SledLog(SledDatabase);

impl SledLog {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        SledDatabase::open(directory, "log").map(Self)
    }

    fn remove(&self, indexes: impl Iterator<Item = u64>) -> Result<()> {
        let keys = indexes.map(|index| entry_key(index).to_vec());
        self.0.apply_in_order(std::iter::empty(), keys)
    }

    fn indexes(&self, first: u64, last: u64) -> Result<Option<(u64, u64)>> {
        let mut found = None;
        self.0.scan(&entry_key(first), &entry_end(last), &mut |key, _| {
            found = Some((entry_index(key), last));
            Ok(false)
        })?;
        Ok(found)
    }
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn entry_end(last: u64) -> Vec<u8> {
    last.checked_add(1)
        .map_or_else(|| vec![ENTRY + 1], |next| entry_key(next).to_vec())
}

fn entry_index(key: &[u8]) -> u64 {
    key.get(1..9)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

fn value_key(name: LogValue) -> &'static [u8] {
    match name {
        LogValue::Vote => b"v",
        LogValue::Purged => b"p",
    }
}

impl LogEngine for SledLog {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let keys: Vec<_> = entries.iter().map(|(index, _)| entry_key(*index)).collect();
        let rows = keys
            .iter()
            .zip(entries)
            .map(|(key, (_, value))| (&key[..], &value[..]));
        self.0.apply_in_order(rows, std::iter::empty())
    }

    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        let mut found = Vec::new();
        self.0
            .scan(&entry_key(first), &entry_end(last), &mut |_, value| {
                found.push(value);
                Ok(true)
            })?;
        Ok(found)
    }

    fn last(&self) -> Result<Option<Bytes>> {
        self.0.last(&[ENTRY], &[ENTRY + 1])
    }

    fn truncate(&self, first: u64) -> Result<()> {
        let mut last = None;
        self.0.scan(&entry_key(first), &[ENTRY + 1], &mut |key, _| {
            last = Some(entry_index(key));
            Ok(true)
        })?;
        let Some(mut last) = last else { return Ok(()) };
        while last >= first {
            let from = last.saturating_sub(REMOVE_BATCH - 1).max(first);
            self.remove((from..=last).rev())?;
            let Some(next) = from.checked_sub(1) else { break };
            last = next;
        }
        Ok(())
    }

    fn purge(&self, last: u64) -> Result<()> {
        while let Some((first, _)) = self.indexes(0, last)? {
            self.remove(first..=last.min(first.saturating_add(REMOVE_BATCH - 1)))?;
        }
        Ok(())
    }

    fn set(&self, name: LogValue, value: &[u8]) -> Result<()> {
        self.0
            .apply_in_order(std::iter::once((value_key(name), value)), std::iter::empty())
    }

    fn get(&self, name: LogValue) -> Result<Option<Bytes>> {
        self.0.get(value_key(name))
    }

    fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}
