//! Checkpoints go on for as long as there is something new, however the writes come.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use capstan_store::{LocalStore, Options, Put, Store};

const BURSTS: usize = 60;
const BURST: usize = 64;
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(20);

fn checkpoints(store: &LocalStore) -> u64 {
    let text = store.metrics().text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_debugging_snap_save_total_duration_seconds_count "));
    line.unwrap().trim().parse().unwrap()
}

/// A burst is applied at once and is due for several checkpoints, of which the later find nothing new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_nothing_new_is_not_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.cluster.snapshot_count = 1;
    let store = LocalStore::open(options).await.unwrap();
    for burst in 0..BURSTS {
        let before = checkpoints(&store);
        let puts = (0..BURST).map(|n| store.put(Put::new(format!("{n}"), vec![b'x'; 100])));
        futures::future::try_join_all(puts).await.unwrap();
        let started = Instant::now();
        while checkpoints(&store) == before {
            assert!(
                started.elapsed() < CHECKPOINT_WITHIN,
                "no checkpoint after burst {burst}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    store.shutdown().await;
}
