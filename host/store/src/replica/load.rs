//! Building the state in memory from its rows, when a member starts or a snapshot was installed.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cache::ValueCache;
use super::history::scan_records;
use super::{Mark, Replica, Upkeep, rows};
use crate::auth::AuthState;
use crate::engine::{StateBatch, StateEngine};
use crate::lock::{Mutex, RwLock};
use crate::metrics::StoreMetrics;
use crate::mvcc::{Item, Rev, State};
use crate::watch::Hub;
use crate::{Error, Result};

impl Replica {
    /// Opens the state of an engine.
    pub(crate) fn open(engine: Arc<dyn StateEngine>, metrics: Arc<StoreMetrics>) -> Result<Arc<Self>> {
        if engine.get(&rows::INSTALLING)?.is_some() {
            // The snapshot's sender still has it; a half-installed one is worth nothing.
            wipe(&*engine)?;
            let mut batch = StateBatch::default();
            batch.delete(rows::INSTALLING);
            engine.apply(batch)?;
        }
        let (state, garbage) = load(&*engine)?;
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        let state = Arc::new(RwLock::new(state));
        let upkeep = Upkeep::start(engine.clone(), state.clone())?;
        upkeep.begin(compact_revision, garbage);
        Ok(Arc::new(Self {
            hub: Arc::new(Hub::new(revision, metrics.clone())),
            state,
            values: Mutex::new(ValueCache::default()),
            tokens: Mutex::default(),
            installs: AtomicU64::new(0),
            engine,
            upkeep,
            metrics,
        }))
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
    let restored = engine.get(&rows::RESTORED)?;
    let restored = restored.map(|value| integer(&value).ok_or_else(|| damaged("the restored revision")));
    let applied = applied.max(restored.transpose()?.unwrap_or(0));
    if let Some(row) = engine.get(&rows::AUTH)? {
        state.auth = Arc::new(AuthState::decode(&row)?);
    }
    if let Some(row) = engine.get(&rows::ALARMS)? {
        state.alarms = rows::decode_alarms(&row)?;
    }
    // What an interrupted apply left; the log still has its entry.
    let unfinished = rows::record(Rev {
        main: applied + 1,
        sub: 0,
    });
    engine.remove_range(&unfinished, &[rows::RECORD + 1])?;
    scan_records(engine, 0, applied, &mut |rev, record| {
        state.take(&record.key, Item::of(rev, &record));
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
