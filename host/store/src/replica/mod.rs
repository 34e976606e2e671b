//! The applied state: memory, disk and watchers together. No Raft in it.
//!
//! Written by one caller, the state machine, one command at a time: decide ([`crate::mvcc`]), write the
//! engine, publish the index, hand the events to the hub. Read by anyone at any time; a reader holds the
//! state's lock only while it collects revisions, never while it reads values. What is written reaches the
//! disk a little later ([`upkeep`]): until then the log has it.

mod apply;
mod cache;
mod command;
#[cfg(test)]
mod fuzz;
mod hash;
mod history;
mod image;
mod load;
mod restore;
mod rows;
mod stream;
mod upkeep;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub(crate) use command::{Command, Outcome};
#[cfg(test)]
pub(crate) use fuzz::fuzz_targets;
pub(crate) use image::{Image, ImageHead, ImageSource};
pub(crate) use restore::restore;
pub use restore::{ImageReader, ImageRecord, RestoreSource};
pub(crate) use rows::Mark;
pub(crate) use upkeep::Upkeep;

use crate::auth::Tokens;
use crate::engine::StateEngine;
use crate::lock::{Mutex, RwLock};
use crate::metrics::StoreMetrics;
use crate::mvcc::{State, plan_range};
use crate::watch::{History, Hub};
use crate::{Error, HashKv, RangeRequest, RangeResponse, Result, Txn, TxnResponse, Watch, WatchRequest};
use cache::ValueCache;
use whole::{Rest, Sum};

/// How often a read of the newest revision starts over because a compaction overtook it.
const READ_ATTEMPTS_MAX: usize = 16;

/// One member's applied state.
pub(crate) struct Replica {
    engine: Arc<dyn StateEngine>,
    state: Arc<RwLock<State>>,
    values: Mutex<ValueCache>,
    /// Who was let in here.
    tokens: Mutex<Tokens>,
    hub: Arc<Hub>,
    upkeep: Arc<Upkeep>,
    /// How often the whole state was replaced.
    installs: AtomicU64,
    /// Of all records that were ever written, and what the other rows are.
    written: Mutex<(Sum, Rest)>,
    metrics: Arc<StoreMetrics>,
}

impl Replica {
    /// Answers a read from what is applied.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        for _ in 0..READ_ATTEMPTS_MAX {
            self.metrics.ranges.inc();
            let plan = plan_range(&self.state.read(), request)?;
            let at = plan.at;
            match plan.fetch(self) {
                // A compaction may have overtaken the read between planning and fetching.
                Err(Error::Corrupt(_)) if self.state.read().compact_revision > at => {}
                answer => return answer,
            }
        }
        Err(Error::Unavailable("compactions keep overtaking this read".into()))
    }

    /// Answers a transaction that cannot change anything.
    pub(crate) fn read_txn(&self, txn: &Txn) -> Result<TxnResponse> {
        self.metrics.txns.inc();
        crate::mvcc::execute(&self.state.read(), self, txn).map(|(response, _)| response)
    }

    /// Looks at the state in memory.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read())
    }

    /// Subscribes to changes.
    pub(crate) fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<Watch> {
        let history: Arc<dyn History> = self.clone();
        self.hub.watch(&history, request)
    }

    /// Reads one of the rows that the state machine keeps with the state.
    pub(crate) fn mark(&self, mark: Mark) -> Result<Option<Bytes>> {
        let Some(row) = self.engine.get(&rows::mark(mark))? else {
            return Ok(None);
        };
        let split = rows::split_mark(mark, row).map(|(_, _, value)| value);
        split
            .map(Some)
            .ok_or_else(|| Error::Corrupt("the state: a mark's row is too short".into()))
    }

    /// Whether this is a restored backup, to which nothing but entries of its new cluster was applied.
    pub(crate) fn is_restored(&self) -> Result<bool> {
        Ok(self.engine.get(&rows::RESTORED)?.is_some())
    }

    /// Returns when everything applied before is on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    /// Changes when a snapshot replaces the state.
    fn installs(&self) -> u64 {
        self.installs.load(Ordering::Acquire)
    }

    pub(crate) fn tokens(&self) -> &Mutex<Tokens> {
        &self.tokens
    }

    pub(crate) fn metrics(&self) -> &Arc<StoreMetrics> {
        &self.metrics
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn upkeep(&self) -> &Arc<Upkeep> {
        &self.upkeep
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.upkeep.stop();
    }
}
