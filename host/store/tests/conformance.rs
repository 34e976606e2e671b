//! The store in this process, against the suite that every store must pass.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;

use capstan_store::{LocalStore, LogEngineKind, Options, Store, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_store_conforms() {
    conforms(LogEngineKind::Sled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_store_on_a_plain_log_conforms() {
    conforms(LogEngineKind::Plain).await;
}

async fn conforms(log_engine: LogEngineKind) {
    let directories = Mutex::new(Vec::new());
    conformance::run(|| async {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            log_engine,
            ..Options::new(directory.path())
        };
        let store = LocalStore::open(options).await.unwrap();
        directories.lock().unwrap().push(directory);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}
