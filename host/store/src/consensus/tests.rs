//! openraft's own storage suite, on our log and state machine; and a log whose disk is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tempfile::TempDir;

use super::durable::{Durable, Reached};
use super::log_store::LogStore;
use super::progress::Progress;
use super::state_machine::StateMachine;
use super::types::{Entry, LogId, TypeConfig, committed};
use crate::engine::{LogEngine, LogEngineKind, LogValue, PlainLog, SledLog, SledState, WriteBehind};
use crate::replica::Replica;

struct Builder(LogEngineKind);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log: Arc<dyn LogEngine> = match self.0 {
            LogEngineKind::Sled => Arc::new(SledLog::open(&path).unwrap()),
            LogEngineKind::Plain => Arc::new(PlainLog::open(&path).unwrap()),
        };
        let (log, _) = LogStore::start(log, None).unwrap();
        // The suite applies entries that it never appended.
        let (_, all) = Durable::new(u64::MAX);
        let machine = machine(&dir, all);
        Ok((dir, log, machine))
    }
}

fn machine(dir: &TempDir, log: Reached) -> StateMachine {
    let state = SledState::open(&dir.path().join("state")).unwrap();
    let state = WriteBehind::start(Arc::new(state)).unwrap();
    let replica = Replica::open(Arc::new(state), crate::metrics::StoreMetrics::new()).unwrap();
    let progress = Progress::new(None, crate::cluster::SNAPSHOT_COUNT);
    StateMachine::open(replica, Arc::new(progress), log).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite() {
    for kind in LogEngineKind::ALL {
        Suite::test_all(Builder(kind)).await.unwrap();
    }
}

/// A log that has no room while it is told so.
struct Full {
    inner: PlainLog,
    is_full: AtomicBool,
}

impl LogEngine for Full {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> crate::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(crate::Error::NoSpace("the disk is full".into()));
        }
        self.inner.append(entries)
    }

    fn read(&self, first: u64, last: u64) -> crate::Result<Vec<Bytes>> {
        self.inner.read(first, last)
    }

    fn last(&self) -> crate::Result<Option<Bytes>> {
        self.inner.last()
    }

    fn truncate(&self, first: u64) -> crate::Result<()> {
        self.inner.truncate(first)
    }

    fn purge(&self, last: u64) -> crate::Result<()> {
        self.inner.purge(last)
    }

    fn set(&self, name: LogValue, value: &[u8]) -> crate::Result<()> {
        self.inner.set(name, value)
    }

    fn get(&self, name: LogValue) -> crate::Result<Option<Bytes>> {
        self.inner.get(name)
    }

    fn sync(&self) -> crate::Result<()> {
        self.inner.sync()
    }

    fn sequence(&self) -> u64 {
        self.inner.sequence()
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

fn blank(index: u64) -> Entry {
    Entry {
        log_id: LogId {
            leader_id: committed(1),
            index,
        },
        payload: EntryPayload::Blank,
    }
}

/// Others may have committed an entry that this member's log had no room for: its state must not hold it, or the
/// next start would find the log too short. And what comes when there is room again must not leave a hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_holds_only_what_the_log_has_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(Full {
        inner: PlainLog::open(&dir.path().join("log")).unwrap(),
        is_full: AtomicBool::new(false),
    });
    let (mut log, reached) = LogStore::start(engine.clone(), None).unwrap();
    let mut machine = machine(&dir, reached);
    for index in 0..=4 {
        engine.is_full.store(index == 3, Ordering::Relaxed);
        log.append([blank(index)], IOFlushed::noop()).await.unwrap();
        let one = futures::stream::iter([Ok((blank(index), None))]);
        let applied = machine.apply(one).await;
        assert_eq!(applied.is_ok(), index < 3, "{index}: {applied:?}");
        let on_disk = engine.read(0, u64::MAX).unwrap().len() as u64;
        assert_eq!(
            (on_disk, machine.applied().unwrap().index),
            ((index + 1).min(3), index.min(2))
        );
    }
}
