//! openraft's own storage suite, on our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::progress::Progress;
use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::engine::{SledLog, SledState};
use crate::replica::Replica;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = SledLog::open(&dir.path().join("log")).unwrap();
        let state = SledState::open(&dir.path().join("state")).unwrap();
        let replica = Replica::open(Arc::new(state), crate::metrics::StoreMetrics::new()).unwrap();
        let machine = StateMachine::open(replica, Arc::new(Progress::new(None))).unwrap();
        Ok((dir, LogStore::start(Arc::new(log), None).unwrap(), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}
