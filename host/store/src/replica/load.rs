//! Building the state in memory from its rows, when a member starts or a snapshot was installed.

use std::sync::Arc;

use super::cache::ValueCache;
use super::history::scan_records;
use super::{Mark, Replica, Upkeep, rows};
use crate::engine::{StateBatch, StateEngine};
use crate::lock::{Mutex, RwLock};
use crate::mvcc::{Rev, State};
use crate::watch::Hub;
use crate::{Error, Result};

impl Replica {
    /// Opens the state of an engine.
    pub(crate) fn open(engine: Arc<dyn StateEngine>) -> Result<Arc<Self>> {
        if engine.get(&rows::INSTALLING)?.is_some() {
            // The snapshot's sender still has it; a half-installed one is worth nothing.
            wipe(&*engine)?;
            let mut batch = StateBatch::default();
            batch.delete(rows::INSTALLING);
            engine.apply(batch)?;
        }
        let (state, garbage) = load(&*engine)?;
        let upkeep = Upkeep::start(engine.clone())?;
        let this = Self {
            hub: Arc::new(Hub::new(state.revision)),
            state: RwLock::new(state),
            values: Mutex::new(ValueCache::default()),
            deferred: Mutex::new(Vec::new()),
            engine,
            upkeep,
        };
        this.collect(garbage);
        Ok(Arc::new(this))
    }

    /// Hands unreachable records to the background, but for those of exactly the compact revision.
    pub(super) fn collect(&self, mut unreachable: Vec<Rev>) {
        let compact_revision = self.state.read().compact_revision;
        let mut deferred = self.deferred.lock();
        unreachable.append(&mut deferred);
        // The oldest first: a key's tombstone must never be gone before the values that it ends.
        unreachable.sort_unstable();
        let (now, later) = unreachable
            .into_iter()
            .partition(|rev| rev.main < compact_revision);
        *deferred = later;
        self.upkeep.delete(now);
    }
}

/// Reads everything; also returns the records that a compaction left unreachable and did not yet delete.
pub(super) fn load(engine: &dyn StateEngine) -> Result<(State, Vec<Rev>)> {
    let mut state = State::default();
    let damaged = |what: &str| Error::Corrupt(format!("the state: {what}"));
    engine.scan(&[rows::LEASE], &[rows::LEASE + 1], &mut |key, value| {
        let id = rows::lease_id(key).ok_or_else(|| damaged("a lease's row has a wrong key"))?;
        state.leases.grant(
            id,
            integer(&value).ok_or_else(|| damaged("a lease's row is too short"))?,
        );
        Ok(true)
    })?;
    let applied = engine.get(&rows::mark(Mark::Applied))?;
    let applied = applied.and_then(|row| rows::split_mark(Mark::Applied, row));
    let applied = applied.map_or(0, |(revision, _)| revision);
    // What an interrupted apply left; the log still has its entry.
    let unfinished = rows::record(Rev {
        main: applied + 1,
        sub: 0,
    });
    engine.remove_range(&unfinished, &[rows::RECORD + 1])?;
    scan_records(engine, 0, applied, &mut |rev, record| {
        state.take(rev, &record);
        Ok(true)
    })?;
    let compacted = engine.get(&rows::COMPACT)?;
    let compacted = compacted.map(|value| integer(&value).ok_or_else(|| damaged("the compact revision")));
    let mut garbage = Vec::new();
    if let Some(revision) = compacted.transpose()? {
        garbage = state.compact(revision);
    }
    state.revision = state.revision.max(applied);
    Ok((state, garbage))
}

fn integer(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Removes every row but the mark of an installation.
pub(super) fn wipe(engine: &dyn StateEngine) -> Result<()> {
    engine.remove_range(&[0], &rows::INSTALLING)?;
    engine.remove_range(&[rows::INSTALLING[0] + 1], &[u8::MAX])
}
