//! The thread that brings the applied state to disk, and carries out compactions.
//!
//! It sleeps without a timer while there is nothing to do. A sync comes [`SYNC_AFTER`] after the first write,
//! or at once over [`SYNC_BYTES_MAX`]. A compaction goes over the index in slices, each a short hold of the
//! state's lock, and then deletes records in small batches with a pause between, those of one key oldest first.
//! Who reads at a revision for a while holds compactions beyond it back ([`Pin`]); who reads all of the disk
//! holds deletes back ([`DiskPin`]). And it gives memory back, when it is calm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::rows;
use super::whole::Sum;
use crate::engine::{StateBatch, StateEngine};
use crate::lock::RwLock;
use crate::metrics::StoreMetrics;
use crate::mvcc::{Rev, State};
use crate::{Error, Result, Revision};

const SYNC_AFTER: Duration = Duration::from_millis(100);
const SYNC_BYTES_MAX: usize = 16 * 1024 * 1024;
const DELETE_BATCH: usize = 128;
const DELETE_PAUSE: Duration = Duration::from_millis(4);
/// Keys gone over in one hold of the state's lock: some tens of microseconds.
const COMPACT_KEYS: usize = 512;
const COMPACT_PAUSE: Duration = Duration::from_micros(500);
/// Memory is given back after so many bytes were written, once nothing was for a while,
const GIVE_BACK_BYTES: usize = 4 * 1024 * 1024;
const CALM_AFTER: Duration = Duration::from_millis(200);
/// or where that does not come, so long after the first of them.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(10);

/// What is being compacted.
#[derive(Default)]
struct Compaction {
    /// What was last asked for.
    wanted: Revision,
    /// What all of the index has been compacted to.
    done: Revision,
    /// A pass over the index: its revision, and the key where it goes on.
    pass: Option<(Revision, Box<[u8]>)>,
    /// What the pass has found so far: deleted by revision, as the rows lie, when it is through.
    found: Vec<Rev>,
    /// Revisions that are being read at, with their readers.
    pinned: BTreeMap<Revision, usize>,
    /// Unreachable records of exactly the revision last compacted to, which a watch may still begin at; they go
    /// with the next.
    deferred: Vec<Rev>,
}

/// What was written since memory was given back.
#[derive(Debug, Default)]
struct Spent {
    bytes: usize,
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Spent {
    /// A sync brought so many bytes to disk.
    fn wrote(&mut self, bytes: usize, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.since.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to give memory back, if at all.
    fn due(&self) -> Option<Instant> {
        let (since, last) = (self.since?, self.last?);
        (self.bytes >= GIVE_BACK_BYTES).then(|| (last + CALM_AFTER).min(since + GIVE_BACK_WITHIN))
    }
}

#[derive(Default)]
struct Work {
    dirty_bytes: usize,
    dirty_since: Option<Instant>,
    spent: Spent,
    compaction: Compaction,
    garbage: VecDeque<Rev>,
    /// Of all records that were ever deleted.
    deleted: Sum,
    is_deleting: bool,
    disk_pins: usize,
    /// Those who wait until all garbage is gone from disk.
    waiting: Vec<oneshot::Sender<Result<()>>>,
    stopping: bool,
}

/// The thread's handle.
pub(crate) struct Upkeep {
    engine: Arc<dyn StateEngine>,
    state: Arc<RwLock<State>>,
    metrics: Arc<StoreMetrics>,
    work: Mutex<Work>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// While it lives, what can be read at its revision stays so.
pub(crate) struct Pin(Arc<Upkeep>, Revision);

impl Drop for Pin {
    fn drop(&mut self) {
        let mut work = self.0.work();
        if let Some(readers) = work.compaction.pinned.get_mut(&self.1) {
            *readers -= 1;
            if *readers == 0 {
                work.compaction.pinned.remove(&self.1);
            }
        }
        drop(work);
        self.0.changed.notify_all();
    }
}

/// While it lives, no record is deleted from disk.
pub(crate) struct DiskPin(Arc<Upkeep>);

impl Drop for DiskPin {
    fn drop(&mut self) {
        self.0.work().disk_pins -= 1;
        self.0.changed.notify_all();
    }
}

impl Compaction {
    /// The pass to go on with, or to begin; none while readers hold it back.
    fn next(&mut self) -> Option<(Revision, Box<[u8]>)> {
        if let Some(pass) = self.pass.take() {
            return Some(pass);
        }
        let pinned = self.pinned.keys().next().copied();
        let target = pinned.map_or(self.wanted, |pinned| pinned.min(self.wanted));
        (target > self.done).then(|| (target, Box::default()))
    }

    fn is_finished(&self) -> bool {
        self.done >= self.wanted && self.pass.is_none()
    }
}

impl Work {
    /// Takes in what a slice of a pass dropped, the oldest of each key first.
    fn collect(&mut self, revision: Revision, dropped: Vec<Rev>) {
        for rev in dropped {
            if rev.main < revision {
                self.compaction.found.push(rev);
            } else {
                self.compaction.deferred.push(rev);
            }
        }
    }

    fn is_sync_due(&self) -> bool {
        let is_late = self
            .dirty_since
            .is_some_and(|since| since.elapsed() >= SYNC_AFTER);
        is_late || self.dirty_bytes >= SYNC_BYTES_MAX
    }
}

impl Upkeep {
    pub(super) fn start(
        engine: Arc<dyn StateEngine>,
        state: Arc<RwLock<State>>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Arc<Self>> {
        let this = Arc::new(Self {
            engine,
            state,
            metrics,
            work: Mutex::new(Work::default()),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        });
        let worker = this.clone();
        let thread = thread::Builder::new()
            .name("store-upkeep".into())
            .spawn(move || worker.run());
        let thread = thread.map_err(|error| Error::Unavailable(format!("starting a thread: {error}")))?;
        *lock(&this.thread) = Some(thread);
        Ok(this)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    /// So many bytes wait for a sync.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut work = self.work();
        let was_below = work.dirty_bytes < SYNC_BYTES_MAX;
        work.dirty_bytes += bytes;
        let is_news = work.dirty_since.is_none() || (was_below && work.dirty_bytes >= SYNC_BYTES_MAX);
        work.dirty_since.get_or_insert_with(Instant::now);
        drop(work);
        if is_news {
            self.changed.notify_all();
        }
    }

    /// Forgets history below a revision, later. The state says already that it is gone.
    pub(super) fn compact(&self, revision: Revision) {
        let mut work = self.work();
        work.compaction.wanted = work.compaction.wanted.max(revision);
        drop(work);
        self.changed.notify_all();
    }

    /// A state that was just read from disk: compacted to a revision, which left these records unreachable.
    pub(super) fn begin(&self, revision: Revision, mut unreachable: Vec<Rev>, deleted: Sum) {
        unreachable.sort_unstable();
        let mut work = self.work();
        work.garbage.clear();
        work.deleted = deleted;
        work.compaction.found.clear();
        work.compaction.deferred.clear();
        work.compaction.pass = None;
        work.compaction.wanted = revision;
        work.compaction.done = revision;
        work.collect(revision, unreachable);
        let found = std::mem::take(&mut work.compaction.found);
        work.garbage.extend(found);
        drop(work);
        self.changed.notify_all();
    }

    /// Returns when all that compaction left is gone from disk.
    pub(crate) async fn deleted(&self) -> Result<()> {
        let (done, waiting) = oneshot::channel();
        self.work().waiting.push(done);
        self.changed.notify_all();
        waiting
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the store is shutting down".into())))
    }

    /// Keeps all that can be read at a revision for as long as the pin lives. Called with the state's lock held,
    /// at a revision that is not compacted.
    pub(super) fn pin(self: &Arc<Self>, revision: Revision) -> Pin {
        *self.work().compaction.pinned.entry(revision).or_default() += 1;
        Pin(self.clone(), revision)
    }

    /// Keeps all records on disk for as long as the pin lives.
    pub(super) fn pin_disk(self: &Arc<Self>) -> DiskPin {
        let mut work = self.work();
        work.disk_pins += 1;
        while work.is_deleting {
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        DiskPin(self.clone())
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.work().stopping = true;
        self.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    fn run(&self) {
        let mut work = self.work();
        while !work.stopping {
            if work.is_sync_due() {
                work = self.sync(work);
            } else if let Some((revision, from)) = work.compaction.next() {
                work = self.compact_some(work, revision, &from);
            } else if !work.garbage.is_empty() && work.disk_pins == 0 {
                work = self.delete_some(work);
            } else if !work.waiting.is_empty() && work.garbage.is_empty() && work.compaction.is_finished() {
                work = self.answer(work);
            } else if work.spent.due().is_some_and(|due| due <= Instant::now()) {
                work.spent = Spent::default();
                drop(work);
                crate::memory::give_back();
                work = self.work();
            } else {
                work = self.wait_for_work(work);
            }
        }
        work.waiting.clear();
    }

    fn compact_some<'a>(
        &'a self,
        work: MutexGuard<'a, Work>,
        revision: Revision,
        from: &[u8],
    ) -> MutexGuard<'a, Work> {
        drop(work);
        let mut dropped = Vec::new();
        let next = {
            let mut state = self.state.write();
            state
                .index
                .compact_some(from, revision, COMPACT_KEYS, &mut dropped)
        };
        let mut work = self.work();
        if from.is_empty() {
            // What the pass before this one left to it.
            let deferred = std::mem::take(&mut work.compaction.deferred);
            work.collect(revision, deferred);
        }
        work.collect(revision, dropped);
        match next {
            Some(key) => work.compaction.pass = Some((revision, key)),
            None => {
                let mut found = std::mem::take(&mut work.compaction.found);
                drop(work);
                found.sort_unstable();
                work = self.work();
                work.garbage.extend(found);
                work.compaction.done = work.compaction.done.max(revision);
            }
        }
        self.wait(work, COMPACT_PAUSE)
    }

    fn delete_some<'a>(&'a self, mut work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let count = work.garbage.len().min(DELETE_BATCH);
        let records: Vec<Rev> = work.garbage.drain(..count).collect();
        work.is_deleting = true;
        records.iter().for_each(|rev| work.deleted.add(*rev));
        let mut batch = StateBatch::default();
        batch.put(rows::DELETED, rows::deleted(work.deleted, &records));
        drop(work);
        for rev in records {
            batch.delete(rows::record(rev));
        }
        // What fails is found again at the next start, and the next write reports the engine's failure.
        if let Err(error) = self.engine.apply(batch).and_then(|()| self.engine.settle()) {
            tracing::error!(%error, "deleting compacted records");
        }
        self.metrics.compacted_keys.inc_by(count as u64);
        self.wrote(0);
        let mut work = self.work();
        work.is_deleting = false;
        self.changed.notify_all();
        self.wait(work, DELETE_PAUSE)
    }

    fn answer<'a>(&'a self, mut work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let waiting = std::mem::take(&mut work.waiting);
        drop(work);
        let synced = self.engine.sync();
        for done in waiting {
            let _ = done.send(synced.clone());
        }
        self.work()
    }

    fn sync<'a>(&'a self, mut work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        work.dirty_since = None;
        let bytes = std::mem::take(&mut work.dirty_bytes);
        work.spent.wrote(bytes, Instant::now());
        drop(work);
        // The next write meets the same failure and stops the store.
        if let Err(error) = self.engine.sync() {
            tracing::error!(%error, "syncing the state");
        }
        self.work()
    }

    fn wait_for_work<'a>(&'a self, work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let sync = work.dirty_since.map(|since| since + SYNC_AFTER);
        match sync.into_iter().chain(work.spent.due()).min() {
            None => self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
            Some(next) => self.wait(work, next.saturating_duration_since(Instant::now())),
        }
    }

    fn wait<'a>(&self, work: MutexGuard<'a, Work>, time: Duration) -> MutexGuard<'a, Work> {
        self.changed
            .wait_timeout(work, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_it_is_calm_or_has_not_been_for_long() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut spent = Spent::default();
        assert_eq!(spent.due(), None);
        spent.wrote(GIVE_BACK_BYTES - 1, at(0));
        assert_eq!(spent.due(), None, "little was written");
        spent.wrote(1, at(100));
        assert_eq!(spent.due(), Some(at(100) + CALM_AFTER));
        spent.wrote(0, at(200));
        assert_eq!(spent.due(), Some(at(200) + CALM_AFTER), "it waits for calm");
        spent.wrote(1, at(9_950));
        assert_eq!(spent.due(), Some(at(0) + GIVE_BACK_WITHIN), "but not for ever");
    }
}
