//! The log and the state as a pair: each remembers how far the other had been synced, and one that comes back from
//! its file with less is refused as damaged.
//!
//! An engine takes the end of its file, where it is damaged, for what a crash left unfinished, and drops it. By
//! itself it cannot know better. The state's mark is written with each of its syncs, the log's with the next of
//! its own; so a mark never costs a sync, and says what was on disk before itself. What is damaged at the very end
//! of the log, synced after the state last was, goes unnoticed after a crash; after a shutdown in order nothing
//! does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes};

use super::{LogEngine, LogValue, StateBatch, StateEngine, Visit};
use crate::lock::Mutex;
use crate::{Error, Result};

/// The state's row: the number of its sync, and how far the log had been synced before it. Nobody who replaces the
/// whole state removes it.
const MARK: [u8; 1] = [u8::MAX];

/// What each knows of the other.
struct Pair {
    log_synced: AtomicU64,
    state_synced: AtomicU64,
}

struct PairedLog {
    inner: Arc<dyn LogEngine>,
    pair: Arc<Pair>,
    /// What the log says of the state. Held during a sync.
    told: Mutex<u64>,
}

struct PairedState {
    inner: Arc<dyn StateEngine>,
    pair: Arc<Pair>,
    /// The number of the last sync that was begun.
    begun: Mutex<u64>,
}

/// Joins them after a look at whether both are whole.
pub(crate) fn pair(
    log: Arc<dyn LogEngine>,
    state: Arc<dyn StateEngine>,
) -> Result<(Arc<dyn LogEngine>, Arc<dyn StateEngine>)> {
    let (begun, log_expected) = read_mark(&*state)?;
    let state_expected = match log.get(LogValue::StateSynced)? {
        Some(mut value) => value
            .try_get_u64()
            .map_err(|_| damaged("the log", 8, value.len() as u64))?,
        None => 0,
    };
    if log.sequence() < log_expected {
        return Err(damaged("the log", log_expected, log.sequence()));
    }
    if begun < state_expected {
        return Err(damaged("the state", state_expected, begun));
    }
    let pair = Arc::new(Pair {
        log_synced: AtomicU64::new(log.sequence()),
        state_synced: AtomicU64::new(begun),
    });
    let log = PairedLog {
        inner: log,
        pair: pair.clone(),
        told: Mutex::new(state_expected),
    };
    let state = PairedState {
        inner: state,
        pair,
        begun: Mutex::new(begun),
    };
    Ok((Arc::new(log), Arc::new(state)))
}

fn read_mark(state: &dyn StateEngine) -> Result<(u64, u64)> {
    let Some(mut row) = state.get(&MARK)? else {
        return Ok((0, 0));
    };
    if row.len() < 16 {
        return Err(damaged("the state", 16, row.len() as u64));
    }
    Ok((row.get_u64(), row.get_u64()))
}

fn damaged(what: &str, expected: u64, found: u64) -> Error {
    Error::Corrupt(format!(
        "{what} ends at sync {found}, and sync {expected} had been on disk: its files are damaged, or older ones"
    ))
}

impl LogEngine for PairedLog {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        self.inner.append(entries)
    }

    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        self.inner.read(first, last)
    }

    fn last(&self) -> Result<Option<Bytes>> {
        self.inner.last()
    }

    fn truncate(&self, first: u64) -> Result<()> {
        self.inner.truncate(first)
    }

    fn purge(&self, last: u64) -> Result<()> {
        self.inner.purge(last)
    }

    fn set(&self, name: LogValue, value: &[u8]) -> Result<()> {
        self.inner.set(name, value)
    }

    fn get(&self, name: LogValue) -> Result<Option<Bytes>> {
        self.inner.get(name)
    }

    fn sync(&self) -> Result<()> {
        let mut told = self.told.lock();
        let state = self.pair.state_synced.load(Ordering::Acquire);
        if *told != state {
            self.inner.set(LogValue::StateSynced, &state.to_be_bytes())?;
            *told = state;
        }
        self.inner.sync()?;
        self.pair
            .log_synced
            .fetch_max(self.inner.sequence(), Ordering::AcqRel);
        Ok(())
    }

    fn sequence(&self) -> u64 {
        self.inner.sequence()
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

impl StateEngine for PairedState {
    fn apply(&self, batch: StateBatch) -> Result<()> {
        self.inner.apply(batch)
    }

    fn settle(&self) -> Result<()> {
        self.inner.settle()
    }

    fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.inner.remove_range(start, end)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.inner.scan(start, end, visit)
    }

    fn sync(&self) -> Result<()> {
        let number = {
            // Marks are written in the order of their numbers.
            let mut begun = self.begun.lock();
            let number = *begun + 1;
            let mut row = Vec::with_capacity(16);
            row.put_u64(number);
            row.put_u64(self.pair.log_synced.load(Ordering::Acquire));
            let mut batch = StateBatch::default();
            batch.put(MARK, row);
            self.inner.apply(batch)?;
            *begun = number;
            number
        };
        self.inner.sync()?;
        self.pair.state_synced.fetch_max(number, Ordering::AcqRel);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}
