//! The state on sled.

use std::path::Path;

use bytes::Bytes;

use super::sled_database::SledDatabase;
use super::{StateBatch, StateEngine, Visit};
use crate::Result;

/// The state.
pub(crate) struct SledState(SledDatabase);

impl SledState {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        SledDatabase::open(directory, "state").map(Self)
    }
}

impl StateEngine for SledState {
    fn apply(&self, batch: StateBatch) -> Result<()> {
        let puts = batch.puts.iter().map(|(key, value)| (&key[..], &value[..]));
        let deletes = batch.deletes.iter().cloned();
        if batch.is_atomic {
            self.0.apply_as_a_whole(puts, deletes)
        } else {
            self.0.apply_in_order(puts, deletes)
        }
    }

    fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.0.remove_range(start, end)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.0.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.0.scan(start, end, visit)
    }

    fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}
