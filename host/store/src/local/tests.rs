//! Acknowledged means synced: what the disk really held when the power went is enough, on either log.

use std::path::Path;
use std::time::Instant;

use crate::engine::{LogEngineKind, power_loss};
use crate::{Error, LocalStore, Options, Put, RangeRequest, Store};

const WRITERS: u64 = 4;

/// How much is written, and how large.
#[derive(Debug, Clone, Copy)]
struct Load {
    writes: u64,
    bytes_min: usize,
    bytes_max: usize,
}

const LOADS: [Load; 3] = [
    Load {
        writes: 150,
        bytes_min: 256,
        bytes_max: 257,
    },
    Load {
        writes: 60,
        bytes_min: 8,
        bytes_max: 40_000,
    },
    Load {
        writes: 6,
        bytes_min: 1_000_000,
        bytes_max: 1_500_000,
    },
];

fn options(dir: &Path, log_engine: LogEngineKind) -> Options {
    Options {
        log_engine,
        ..Options::new(dir)
    }
}

/// What a writer's write of this number is.
fn value(writer: u64, count: u64, seed: u64, load: Load) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed ^ (writer << 32) ^ count);
    let length = random.usize(load.bytes_min..load.bytes_max);
    let mut value = count.to_be_bytes().to_vec();
    value.resize(length.max(8), random.u8(..));
    value
}

async fn write(store: &LocalStore, writer: u64, seed: u64, load: Load) {
    for count in 1..=load.writes {
        let put = Put::new(format!("{writer}"), value(writer, count, seed, load));
        store.put(put).await.unwrap();
    }
}

fn lose_power(from: &Path, to: &Path) {
    for part in ["log", "state"] {
        power_loss::survive(&from.join(part), &to.join(part));
    }
    for file in ["FORMAT", "MEMBER"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

async fn check(kind: LogEngineKind, load: Load, seed: u64) {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in ["log", "state"] {
        power_loss::watch(&before.path().join(part));
    }
    let store = LocalStore::open(options(before.path(), kind)).await.unwrap();
    futures::future::join_all((0..WRITERS).map(|writer| write(&store, writer, seed, load))).await;
    let revision = store.status().await.unwrap().revision;
    // All that was acknowledged just now must be there.
    lose_power(before.path(), after.path());
    drop(store);

    let start = Instant::now();
    let store = LocalStore::open(options(after.path(), kind)).await.unwrap();
    println!("{kind}, {load:?}: recovered in {:?}", start.elapsed());
    assert_eq!(store.status().await.unwrap().revision, revision);
    for writer in 0..WRITERS {
        let request = RangeRequest::key(format!("{writer}"));
        let kvs = store.range(request).await.unwrap().kvs;
        assert!(
            kvs[0].value == value(writer, load.writes, seed, load),
            "{kind}, {load:?}: writer {writer}"
        );
    }
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_loses_nothing_acknowledged() {
    let seed = std::env::var("CAPSTAN_POWER_LOSS_SEED");
    let seed = seed.map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CAPSTAN_POWER_LOSS_SEED={seed}");
    for kind in LogEngineKind::ALL {
        for load in LOADS {
            check(kind, load, seed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_opened_with_the_log_that_it_has() {
    for kind in LogEngineKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(options(dir.path(), kind)).await.unwrap();
        store.put(Put::new("a", "1")).await.unwrap();
        store.shutdown().await;
        for other in LogEngineKind::ALL.into_iter().filter(|other| *other != kind) {
            match LocalStore::open(options(dir.path(), other)).await {
                Err(Error::Invalid(text)) => {
                    assert!(text.contains(&format!("has a log of kind {kind}")), "{text}");
                }
                opened => panic!("{opened:?}"),
            }
        }
        let store = LocalStore::open(options(dir.path(), kind)).await.unwrap();
        assert_eq!(store.range(RangeRequest::key("a")).await.unwrap().count, 1);
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_count_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(Options::new(dir.path())).await.unwrap();
    for n in 0..3 {
        store.put(Put::new(format!("{n}"), "1")).await.unwrap();
    }
    store.delete(crate::KeyRange::Key("0".into()), false).await.unwrap();
    let (lease, _) = store.lease_grant(0, 60).await.unwrap();
    let text = store.metrics().text();
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total 1",
        "etcd_server_proposals_pending 0",
        "etcd_server_proposals_failed_total 0",
        "etcd_mvcc_put_total 3",
        "etcd_mvcc_delete_total 1",
        "etcd_debugging_mvcc_keys_total 2",
        "etcd_debugging_mvcc_current_revision 5",
        "etcd_debugging_lease_granted_total 1",
        "etcd_debugging_lease_total 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    let synced = text.lines().find_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    assert!(synced.unwrap().parse::<u64>().unwrap() >= 5, "{text}");
    store.lease_revoke(lease).await.unwrap();
    store.shutdown().await;
}
