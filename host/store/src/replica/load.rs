//! Building the state in memory from its rows, when a member starts or a snapshot was installed.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cache::ValueCache;
use super::history::scan_records;
use super::whole::{Rest, Sum};
use super::{Mark, Replica, Upkeep, rows};
use crate::auth::AuthState;
use crate::engine::{StateBatch, StateEngine};
use crate::lock::{Mutex, RwLock};
use crate::metrics::StoreMetrics;
use crate::mvcc::{Item, Rev, State};
use crate::watch::Hub;
use crate::{Error, Result, Revision};

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
        let Loaded {
            state,
            garbage,
            written,
            deleted,
        } = load(&*engine)?;
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        let state = Arc::new(RwLock::new(state));
        let upkeep = Upkeep::start(engine.clone(), state.clone(), metrics.clone())?;
        upkeep.begin(compact_revision, garbage, deleted);
        Ok(Arc::new(Self {
            hub: Arc::new(Hub::new(revision, metrics.clone())),
            state,
            values: Mutex::new(ValueCache::default()),
            tokens: Mutex::default(),
            installs: AtomicU64::new(0),
            written: Mutex::new(written),
            engine,
            upkeep,
            metrics,
        }))
    }
}

/// A state that was read from disk.
pub(super) struct Loaded {
    pub(super) state: State,
    /// Records that a compaction left unreachable and did not yet delete.
    pub(super) garbage: Vec<Rev>,
    pub(super) written: (Sum, Rest),
    /// Of the records that were deleted.
    pub(super) deleted: Sum,
}

/// Reads everything, and sees whether it is whole.
pub(super) fn load(engine: &dyn StateEngine) -> Result<Loaded> {
    let mut state = State::default();
    let damaged = |what: &str| Error::Corrupt(format!("the state: {what}"));
    let rest = Rest::read(engine)?;
    engine.scan(&[rows::LEASE], &[rows::LEASE + 1], &mut |key, value| {
        let id = rows::lease_id(key).ok_or_else(|| damaged("a lease's row has a wrong key"))?;
        state.leases.grant(
            id,
            integer(&value).ok_or_else(|| damaged("a lease's row is too short"))?,
        );
        Ok(true)
    })?;
    let (applied, sum) = newest(engine)?;
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
    let deleted = finish_deleting(engine)?;
    let mut found = Sum::default();
    scan_records(engine, 0, applied, &mut |rev, record| {
        found.add(rev);
        state.take(&record.key, Item::of(rev, &record));
        Ok(true)
    })?;
    if found != sum.without(deleted) {
        return Err(damaged("records are missing: its data file is damaged"));
    }
    let compacted = engine.get(&rows::COMPACT)?;
    let compacted = compacted.map(|value| integer(&value).ok_or_else(|| damaged("the compact revision")));
    let mut garbage = Vec::new();
    if let Some(revision) = compacted.transpose()? {
        garbage = state.compact(revision);
    }
    state.revision = state.revision.max(applied);
    Ok(Loaded {
        state,
        garbage,
        written: (sum, rest),
        deleted,
    })
}

/// The revision of the last applied entry, or that of a restored backup, and the sum of the records up to it.
fn newest(engine: &dyn StateEngine) -> Result<(Revision, Sum)> {
    let damaged = |what: &str| Error::Corrupt(format!("the state: {what}"));
    let applied = engine.get(&rows::mark(Mark::Applied))?;
    let applied =
        applied.map(|row| rows::split_mark(Mark::Applied, row).ok_or_else(|| damaged("the applied mark")));
    let restored = engine.get(&rows::RESTORED)?;
    let restored =
        restored.map(|row| rows::split_restored(row).ok_or_else(|| damaged("the restored revision")));
    let restored = restored.transpose()?;
    Ok(match applied.transpose()? {
        Some((revision, sum, _)) => (revision.max(restored.map_or(0, |(revision, _)| revision)), sum),
        None => restored.unwrap_or_default(),
    })
}

/// Deletes the records that a compaction was deleting when the member stopped: they are counted as gone.
fn finish_deleting(engine: &dyn StateEngine) -> Result<Sum> {
    let Some(row) = engine.get(&rows::DELETED)? else {
        return Ok(Sum::default());
    };
    let split = rows::split_deleted(row);
    let (sum, last) = split.ok_or_else(|| Error::Corrupt("the state: the row of deleted records".into()))?;
    let mut batch = StateBatch::default();
    last.into_iter().for_each(|rev| batch.delete(rows::record(rev)));
    engine.apply(batch)?;
    Ok(sum)
}

fn integer(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Removes every row but the mark of an installation.
pub(super) fn wipe(engine: &dyn StateEngine) -> Result<()> {
    engine.remove_range(&[0], &rows::INSTALLING)?;
    engine.remove_range(&[rows::INSTALLING[0] + 1], &[u8::MAX])
}
