//! The thread that brings the applied state to disk and deletes what compaction left.
//!
//! It sleeps without a timer while there is nothing to do. A sync comes [`SYNC_AFTER`] after the first write,
//! or at once over [`SYNC_BYTES_MAX`]. Deletes come in small batches with a pause between, oldest first, and
//! wait while a snapshot is being read ([`Pin`]).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::rows;
use crate::engine::{StateBatch, StateEngine};
use crate::mvcc::Rev;
use crate::{Error, Result};

const SYNC_AFTER: Duration = Duration::from_millis(100);
const SYNC_BYTES_MAX: usize = 16 * 1024 * 1024;
const DELETE_BATCH: usize = 1_000;
const DELETE_PAUSE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Work {
    dirty_bytes: usize,
    dirty_since: Option<Instant>,
    garbage: VecDeque<Rev>,
    is_deleting: bool,
    pins: usize,
    /// Those who wait until all garbage is gone from disk.
    waiting: Vec<oneshot::Sender<Result<()>>>,
    stopping: bool,
}

/// The thread's handle.
pub(crate) struct Upkeep {
    work: Mutex<Work>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// While it lives, no record is deleted from disk.
pub(crate) struct Pin(Arc<Upkeep>);

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.work().pins -= 1;
        self.0.changed.notify_all();
    }
}

impl Upkeep {
    pub(super) fn start(engine: Arc<dyn StateEngine>) -> Result<Arc<Self>> {
        let this = Arc::new(Self {
            work: Mutex::new(Work::default()),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        });
        let worker = this.clone();
        let thread = thread::Builder::new()
            .name("store-upkeep".into())
            .spawn(move || worker.run(&*engine));
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

    /// Deletes records, later.
    pub(super) fn delete(&self, records: Vec<Rev>) {
        if !records.is_empty() {
            self.work().garbage.extend(records);
            self.changed.notify_all();
        }
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

    /// Keeps all records on disk for as long as the pin lives.
    pub(super) fn pin(self: &Arc<Self>) -> Pin {
        let mut work = self.work();
        work.pins += 1;
        while work.is_deleting {
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        Pin(self.clone())
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.work().stopping = true;
        self.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    fn run(&self, engine: &dyn StateEngine) {
        let mut work = self.work();
        while !work.stopping {
            work = if !work.garbage.is_empty() && work.pins == 0 {
                self.delete_some(engine, work)
            } else if !work.waiting.is_empty() && work.garbage.is_empty() {
                self.answer(engine, work)
            } else {
                self.sync_or_wait(engine, work)
            };
        }
        work.waiting.clear();
    }

    fn delete_some<'a>(
        &'a self,
        engine: &dyn StateEngine,
        mut work: MutexGuard<'a, Work>,
    ) -> MutexGuard<'a, Work> {
        let count = work.garbage.len().min(DELETE_BATCH);
        let records: Vec<Rev> = work.garbage.drain(..count).collect();
        work.is_deleting = true;
        drop(work);
        let mut batch = StateBatch::default();
        for rev in records {
            batch.delete(rows::record(rev));
        }
        // What fails is found again at the next start, and the next write reports the engine's failure.
        if let Err(error) = engine.apply(batch) {
            tracing::error!(%error, "deleting compacted records");
        }
        self.wrote(0);
        let mut work = self.work();
        work.is_deleting = false;
        self.changed.notify_all();
        self.wait(work, DELETE_PAUSE)
    }

    fn answer<'a>(
        &'a self,
        engine: &dyn StateEngine,
        mut work: MutexGuard<'a, Work>,
    ) -> MutexGuard<'a, Work> {
        let waiting = std::mem::take(&mut work.waiting);
        drop(work);
        let synced = engine.sync();
        for done in waiting {
            let _ = done.send(synced.clone());
        }
        self.work()
    }

    fn sync_or_wait<'a>(
        &'a self,
        engine: &dyn StateEngine,
        mut work: MutexGuard<'a, Work>,
    ) -> MutexGuard<'a, Work> {
        let Some(since) = work.dirty_since else {
            return self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        };
        let left = SYNC_AFTER.saturating_sub(since.elapsed());
        if work.dirty_bytes < SYNC_BYTES_MAX && !left.is_zero() {
            return self.wait(work, left);
        }
        work.dirty_since = None;
        work.dirty_bytes = 0;
        drop(work);
        // The next write meets the same failure and stops the store.
        if let Err(error) = engine.sync() {
            tracing::error!(%error, "syncing the state");
        }
        self.work()
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
