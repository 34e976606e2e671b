//! Acknowledged means synced: what the disk really held when the power went is enough.

use std::path::Path;

use crate::engine::power_loss;
use crate::{LocalStore, Options, Put, RangeRequest, Store};

const WRITERS: u64 = 4;
const WRITES: u64 = 60;

async fn write(store: &LocalStore, writer: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ writer);
    for count in 1..=WRITES {
        let mut value = count.to_be_bytes().to_vec();
        value.resize(8 + random.usize(..40_000), 1);
        store.put(Put::new(format!("{writer}"), value)).await.unwrap();
        // All of them at once: a power loss now must not lose what was just acknowledged.
    }
}

fn lose_power(from: &Path, to: &Path) {
    for part in ["log", "state"] {
        power_loss::survive(&from.join(part), &to.join(part));
    }
    std::fs::copy(from.join("FORMAT"), to.join("FORMAT")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_loses_nothing_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in ["log", "state"] {
        power_loss::watch(&before.path().join(part));
    }
    let store = LocalStore::open(Options::new(before.path())).await.unwrap();
    futures::future::join_all((0..WRITERS).map(|writer| write(&store, writer, seed))).await;
    let revision = store.status().await.unwrap().revision;
    lose_power(before.path(), after.path());
    drop(store);

    let store = LocalStore::open(Options::new(after.path())).await.unwrap();
    assert_eq!(store.status().await.unwrap().revision, revision);
    for writer in 0..WRITERS {
        let kvs = store
            .range(RangeRequest::key(format!("{writer}")))
            .await
            .unwrap()
            .kvs;
        assert_eq!(kvs[0].value[..8], WRITES.to_be_bytes(), "writer {writer}");
    }
    store.shutdown().await;
}
