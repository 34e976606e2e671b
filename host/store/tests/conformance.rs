//! The store in this process, against the suite that every store must pass.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;

use capstan_store::{LocalStore, Options, Store, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_store_conforms() {
    let directories = Mutex::new(Vec::new());
    conformance::run(|| async {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(Options::new(directory.path())).await.unwrap();
        directories.lock().unwrap().push(directory);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}
