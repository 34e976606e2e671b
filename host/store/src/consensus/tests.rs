//! openraft's own storage suite, on our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::log_store::LogStore;
use super::progress::Progress;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::engine::{LogEngine, LogEngineKind, PlainLog, SledLog, SledState, WriteBehind};
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
        let state = SledState::open(&dir.path().join("state")).unwrap();
        let state = WriteBehind::start(Arc::new(state)).unwrap();
        let replica = Replica::open(Arc::new(state), crate::metrics::StoreMetrics::new()).unwrap();
        let machine = StateMachine::open(
            replica,
            Arc::new(Progress::new(None, crate::cluster::SNAPSHOT_COUNT)),
        )
        .unwrap();
        Ok((dir, LogStore::start(log, None).unwrap(), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite() {
    for kind in LogEngineKind::ALL {
        Suite::test_all(Builder(kind)).await.unwrap();
    }
}
