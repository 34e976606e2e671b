//! Where bytes are kept: one small trait for the log, one for the state, and sled behind both.
//!
//! The two are separate databases, so that purging the log does not fragment the state and syncing the log
//! does not flush the state. Nothing above this module knows sled. Durable means synced by an
//! fdatasync: what sled itself asks for does not reach the disk's platter (`sled_sync`).

mod frame;
mod metered;
mod paired;
mod plain_log;
#[cfg(test)]
pub(crate) mod power_loss;
mod sled_database;
mod sled_log;
mod sled_state;
mod sled_sync;
mod space;
mod write_behind;

use bytes::Bytes;

pub(crate) use metered::Metered;
pub(crate) use paired::pair;
pub(crate) use plain_log::PlainLog;
pub(crate) use sled_log::SledLog;
pub(crate) use sled_state::SledState;
pub(crate) use space::SpaceGuard;
pub(crate) use write_behind::WriteBehind;

use crate::{Error, Result};

/// The log: entries by index, and a few named values.
pub(crate) trait LogEngine: Send + Sync + 'static {
    /// Writes entries of consecutive indexes; durable after the next [`LogEngine::sync`].
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()>;
    /// Entries from `first` to `last`, both included, as far as there are any.
    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>>;
    /// The newest entry.
    fn last(&self) -> Result<Option<Bytes>>;
    /// Removes entries from `first` on, the newest first, so that a cut leaves no hole.
    fn truncate(&self, first: u64) -> Result<()>;
    /// Removes entries up to `last`, oldest first.
    fn purge(&self, last: u64) -> Result<()>;
    /// Writes a named value; durable after the next sync.
    fn set(&self, name: LogValue, value: &[u8]) -> Result<()>;
    /// Reads a named value.
    fn get(&self, name: LogValue) -> Result<Option<Bytes>>;
    /// Returns when everything written before is on disk.
    fn sync(&self) -> Result<()>;
    /// The number of the last sync that had something to do; it comes back with what that sync brought to disk.
    fn sequence(&self) -> u64;
    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}

/// What keeps the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogEngineKind {
    /// A sled database of its own.
    #[default]
    Sled,
    /// Plain preallocated files: quicker, and smaller in memory.
    Plain,
}

impl LogEngineKind {
    pub(crate) const ALL: [Self; 2] = [Self::Sled, Self::Plain];
}

impl std::fmt::Display for LogEngineKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Sled => "sled",
            Self::Plain => "plain",
        })
    }
}

impl std::str::FromStr for LogEngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        named.ok_or_else(|| Error::Invalid(format!("a log of kind {text:?} is not known: sled or plain")))
    }
}

/// The log's named values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogValue {
    Vote,
    Purged,
    /// How far the state had been synced; see `paired`.
    StateSynced,
}

impl LogValue {
    /// All of them, each at its own number.
    pub(crate) const ALL: [Self; 3] = [Self::Vote, Self::Purged, Self::StateSynced];
}

/// Changes of the state: first the puts in their order, then the deletes in theirs.
#[derive(Debug, Default)]
pub(crate) struct StateBatch {
    pub(crate) puts: Vec<(Vec<u8>, Bytes)>,
    pub(crate) deletes: Vec<Vec<u8>>,
    /// A crash leaves all of it or nothing, and not a beginning of it. Dear; see the engine.
    pub(crate) is_atomic: bool,
    bytes: usize,
}

impl StateBatch {
    pub(crate) fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.puts.push((key, value));
    }

    pub(crate) fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.deletes.push(key.into());
    }

    /// Bytes of what it puts.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes
    }
}

/// The state: sorted rows. Keys of one first byte have one length, so none is another's prefix.
pub(crate) trait StateEngine: Send + Sync + 'static {
    /// Applies a batch; durable after the next [`StateEngine::sync`]. After a crash the batches applied
    /// before are there too, in order.
    fn apply(&self, batch: StateBatch) -> Result<()>;
    /// Returns when everything applied before is carried out, if not on disk: so that who writes much does not
    /// fill the room of those who must not wait.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// Removes all rows with `start <= key < end`, whatever is in them.
    fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()>;
    /// Reads a row.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// Visits rows with `start <= key < end` in order, until `visit` says stop.
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<()>;
    /// Returns when everything applied before is on disk.
    fn sync(&self) -> Result<()>;
    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}

/// Is shown a row; answers whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], Bytes) -> Result<bool> + 'a;

/// The decoders of the engines, for the fuzzer.
#[cfg(test)]
pub(crate) fn fuzz_targets() -> Vec<crate::fuzz::Target> {
    let mut targets = plain_log::fuzz_targets();
    targets.push(frame::fuzz_target());
    targets.push(sled_log::fuzz_target());
    targets
}

/// Sorts an I/O failure: no space is the user's to mend, all else is damage or unavailability.
pub(crate) fn io_error(doing: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::NoSpace(format!("{doing}: {error}"))
        }
        _ => Error::Unavailable(format!("{doing}: {error}")),
    }
}
