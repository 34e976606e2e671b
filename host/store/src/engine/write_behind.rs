//! A state engine that answers a write at once and carries it out on a thread of its own, many together.
//!
//! The log has every write until the state is synced, so nothing has to wait for this one. Order is kept: what
//! the inner engine holds is always what some number of batches left, and a mark that is written again and
//! again goes down once a group, after the records that it stands for. Reads of single rows see what waits;
//! everything else first waits until it is carried out.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use super::{StateBatch, StateEngine, Visit};
use crate::{Error, Result};

/// A group is written so long after its first batch,
const GROUP_AFTER: Duration = Duration::from_millis(5);
/// or when it has so many bytes.
const GROUP_BYTES: usize = 256 * 1024;
/// Bytes that may wait; then writers do.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a row costs in memory beside its bytes.
const ROW_BYTES: usize = 160;
/// The keys of marks are one letter.
const MARK_KEY_BYTES: usize = 1;

/// The engine.
pub(crate) struct WriteBehind {
    inner: Arc<dyn StateEngine>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<StateBatch>,
    /// The newest value of each row that waits or is being written, and the batch that it is of.
    rows: HashMap<Vec<u8>, (u64, Option<Bytes>)>,
    bytes: usize,
    /// Of the last batch taken in, and of the last one written.
    taken: u64,
    written: u64,
    /// Somebody waits for all of it.
    is_wanted: bool,
    stopping: bool,
    failed: Option<Error>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until stopped, and then until nothing waits.
    fn run(&self, inner: &dyn StateEngine) {
        let mut queue = self.queue();
        loop {
            if queue.waiting.is_empty() {
                if queue.stopping {
                    return;
                }
                queue = self.wait(queue);
                continue;
            }
            if !queue.is_due() {
                let waited = self
                    .changed
                    .wait_timeout_while(queue, GROUP_AFTER, |queue| !queue.is_due());
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let batches = std::mem::take(&mut queue.waiting);
            let (bytes, upto) = (std::mem::take(&mut queue.bytes), queue.taken);
            drop(queue);
            let written = write(inner, batches);
            queue = self.queue();
            match written {
                Ok(()) => queue.settle(upto),
                Err(error) => {
                    tracing::error!(%error, bytes, "writing the state");
                    queue.failed.get_or_insert(error);
                    queue.waiting.clear();
                    queue.bytes = 0;
                }
            }
            self.changed.notify_all();
        }
    }

    /// Returns when everything taken in before is written.
    fn drain(&self) -> Result<()> {
        let mut queue = self.queue();
        let upto = queue.taken;
        while queue.written < upto {
            queue.alive()?;
            queue.is_wanted = true;
            self.changed.notify_all();
            queue = self.wait(queue);
        }
        queue.alive()
    }
}

impl Queue {
    fn alive(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn is_due(&self) -> bool {
        self.is_wanted || self.stopping || self.bytes >= GROUP_BYTES
    }

    fn settle(&mut self, upto: u64) {
        self.written = upto;
        self.is_wanted = false;
        self.rows.retain(|_, (batch, _)| *batch > upto);
    }

    fn take(&mut self, batch: StateBatch) {
        self.taken += 1;
        self.bytes += batch.size_bytes() + ROW_BYTES * (batch.puts.len() + batch.deletes.len());
        for (key, value) in &batch.puts {
            self.rows.insert(key.clone(), (self.taken, Some(value.clone())));
        }
        for key in &batch.deletes {
            self.rows.insert(key.clone(), (self.taken, None));
        }
        self.waiting.push(batch);
    }
}

/// Writes batches in their order, those that may be written together as one.
fn write(inner: &dyn StateEngine, batches: Vec<StateBatch>) -> Result<()> {
    let mut group = StateBatch::default();
    let mut marks: Vec<(Vec<u8>, Bytes)> = Vec::new();
    for batch in batches {
        if batch.is_atomic || !batch.deletes.is_empty() {
            write_group(inner, &mut group, &mut marks)?;
            inner.apply(batch)?;
            continue;
        }
        for (key, value) in batch.puts {
            if key.len() == MARK_KEY_BYTES {
                marks.retain(|(other, _)| *other != key);
                marks.push((key, value));
            } else {
                group.put(key, value);
            }
        }
    }
    write_group(inner, &mut group, &mut marks)
}

fn write_group(
    inner: &dyn StateEngine,
    group: &mut StateBatch,
    marks: &mut Vec<(Vec<u8>, Bytes)>,
) -> Result<()> {
    let mut group = std::mem::take(group);
    for (key, value) in marks.drain(..) {
        group.put(key, value);
    }
    if group.puts.is_empty() {
        Ok(())
    } else {
        inner.apply(group)
    }
}

impl WriteBehind {
    /// Starts the thread; it ends when this is dropped, after all is written.
    pub(crate) fn start(inner: Arc<dyn StateEngine>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (worker, engine) = (shared.clone(), inner.clone());
        let thread = thread::Builder::new()
            .name("store-state".into())
            .spawn(move || worker.run(&*engine));
        let thread = thread.map_err(|error| Error::Unavailable(format!("starting a thread: {error}")))?;
        Ok(Self {
            inner,
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.shared.queue().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl StateEngine for WriteBehind {
    fn apply(&self, batch: StateBatch) -> Result<()> {
        let mut queue = self.shared.queue();
        while queue.bytes >= WAITING_BYTES_MAX {
            queue.alive()?;
            queue = self.shared.wait(queue);
        }
        queue.alive()?;
        let (was_empty, was_due) = (queue.waiting.is_empty(), queue.is_due());
        queue.take(batch);
        if was_empty || (!was_due && queue.is_due()) {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.shared.drain()
    }

    fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.shared.drain()?;
        self.inner.remove_range(start, end)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let waiting = self.shared.queue().rows.get(key).map(|(_, value)| value.clone());
        waiting.map_or_else(|| self.inner.get(key), Ok)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.shared.drain()?;
        self.inner.scan(start, end, visit)
    }

    fn sync(&self) -> Result<()> {
        self.shared.drain()?;
        self.inner.sync()
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SledState;

    fn mark(value: u32) -> StateBatch {
        let mut batch = StateBatch::default();
        batch.put([b'r', value as u8].to_vec(), value.to_be_bytes().to_vec());
        batch.put(*b"a", value.to_be_bytes().to_vec());
        batch
    }

    #[test]
    fn what_waits_is_read_and_the_last_mark_wins() {
        let dir = tempfile::tempdir().unwrap();
        let sled = Arc::new(SledState::open(dir.path()).unwrap());
        let state = WriteBehind::start(sled.clone()).unwrap();
        for round in 0..200_u32 {
            state.apply(mark(round)).unwrap();
            assert_eq!(state.get(b"a").unwrap().unwrap()[..], round.to_be_bytes());
            if round % 50 == 7 {
                let mut batch = StateBatch::default();
                batch.delete([b'r', round as u8]);
                batch.is_atomic = round % 2 == 0;
                state.apply(batch).unwrap();
                assert!(state.get(&[b'r', round as u8]).unwrap().is_none());
            }
        }
        let mut rows = 0;
        let mut count = |_: &[u8], _| {
            rows += 1;
            Ok(true)
        };
        state.scan(b"r", b"s", &mut count).unwrap();
        assert_eq!(rows, 196);
        state.apply(mark(7)).unwrap();
        drop(state);
        assert_eq!(sled.get(b"a").unwrap().unwrap()[..], 7_u32.to_be_bytes());
    }
}
