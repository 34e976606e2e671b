//! Acknowledged means synced: what the disk really held when the power went is enough, on either log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{LogEngineKind, power_loss};
use crate::{Error, LocalStore, Options, Put, RangeRequest, Store};

const WRITERS: usize = 4;
/// Power losses of each log with each load when nothing else is asked for.
const CYCLES: u64 = 3;
/// A cycle's writing ends at a random moment within this time,
const WRITING_MS_MAX: u64 = 250;
/// and not before there is something to lose.
const WRITES_MIN: u64 = 8;
/// What a value begins with: its number and its length.
const HEADER_BYTES: usize = 16;

/// The sizes of values.
const LOADS: [(usize, usize); 3] = [(256, 257), (16, 40_000), (1_000_000, 1_500_000)];

fn options(dir: &Path, log_engine: LogEngineKind) -> Options {
    Options {
        log_engine,
        ..Options::new(dir)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn value(count: u64, length: usize) -> Vec<u8> {
    let mut value = count.to_be_bytes().to_vec();
    value.extend_from_slice(&(length as u64).to_be_bytes());
    value.resize(length.max(HEADER_BYTES), count as u8);
    value
}

/// The number of a value, which is whole.
fn count_of(bytes: &[u8]) -> u64 {
    let count = u64::from_be_bytes(bytes[..8].try_into().unwrap());
    assert!(
        bytes == value(count, bytes.len()),
        "a value of {} bytes that nobody wrote",
        bytes.len()
    );
    count
}

/// Writes one value after the other, and tells the number of the last that was acknowledged.
async fn write(
    store: &LocalStore,
    writer: usize,
    sizes: (usize, usize),
    seed: u64,
    acknowledged: &AtomicU64,
) {
    let mut random = fastrand::Rng::with_seed(seed ^ writer as u64);
    loop {
        let count = acknowledged.load(Ordering::Acquire) + 1;
        let put = Put::new(format!("{writer}"), value(count, random.usize(sizes.0..sizes.1)));
        if store.put(put).await.is_err() {
            return;
        }
        acknowledged.store(count, Ordering::Release);
    }
}

/// The folder as it is after a power loss, in which none, some or all of what was not synced got to the disk.
fn lose_power(from: &Path, to: &Path, random: &mut fastrand::Rng) {
    let parts = ["log", "state"].map(|part| from.join(part));
    power_loss::cut(&[&parts[0], &parts[1]]);
    let percent = *random.choice(&[0, 5, 50, 95]).unwrap();
    for part in parts {
        power_loss::survive(&part, &to.join(part.file_name().unwrap()), percent, random);
    }
    for file in ["FORMAT", "MEMBER"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Writes until the power goes; returns what was acknowledged before it did.
async fn write_until_power_loss(
    store: LocalStore,
    (from, to): (&Path, &Path),
    sizes: (usize, usize),
    before: &[u64; WRITERS],
    random: &mut fastrand::Rng,
) -> [u64; WRITERS] {
    let store = Arc::new(store);
    let acknowledged = Arc::new(before.map(AtomicU64::new));
    let writers = (0..WRITERS).map(|writer| {
        let (store, acknowledged, seed) = (store.clone(), acknowledged.clone(), random.u64(..));
        tokio::spawn(async move { write(&store, writer, sizes, seed, &acknowledged[writer]).await })
    });
    let writers: Vec<_> = writers.collect();
    let now = || std::array::from_fn(|writer: usize| acknowledged[writer].load(Ordering::Acquire));
    let enough = before.iter().sum::<u64>() + WRITES_MIN;
    while now().iter().sum::<u64>() < enough {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_micros(random.u64(..WRITING_MS_MAX * 1_000))).await;
    let last = now();
    lose_power(from, to, random);
    for writer in writers {
        writer.abort();
    }
    store.shutdown().await;
    last
}

/// Checks what the folder kept; returns it, and how long opening took.
async fn recover(store: &LocalStore, acknowledged: &[u64; WRITERS], what: &str) -> [u64; WRITERS] {
    let mut found = [0; WRITERS];
    for (writer, found) in found.iter_mut().enumerate() {
        let kvs = store
            .range(RangeRequest::key(format!("{writer}")))
            .await
            .unwrap()
            .kvs;
        *found = kvs.first().map_or(0, |kv| count_of(&kv.value));
        let expected = acknowledged[writer];
        assert!(
            *found >= expected,
            "{what}: writer {writer} had {expected} acknowledged, kept {found}"
        );
    }
    found
}

/// One folder through some power losses.
async fn lose_power_again_and_again(kind: LogEngineKind, sizes: (usize, usize), cycles: u64, seed: u64) {
    let what = format!("{kind}, values of {} to {} bytes, seed {seed}", sizes.0, sizes.1);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; WRITERS];
    let mut times = Vec::new();
    for cycle in 0..=cycles {
        for part in ["log", "state"] {
            power_loss::watch(&dir.path().join(part));
        }
        let start = Instant::now();
        let opened = LocalStore::open(options(dir.path(), kind)).await;
        let store = opened.unwrap_or_else(|error| panic!("{what}, cycle {cycle}: {error:?}"));
        if cycle > 0 {
            times.push(start.elapsed());
        }
        acknowledged = recover(&store, &acknowledged, &format!("{what}, cycle {cycle}")).await;
        let next = tempfile::tempdir().unwrap();
        let dirs = (dir.path(), next.path());
        acknowledged = write_until_power_loss(store, dirs, sizes, &acknowledged, &mut random).await;
        dir = next;
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{what}: {cycles} power losses, recovery p50 {:?}, p99 {:?}, most {:?}",
        at(50),
        at(99),
        at(100)
    );
}

/// `CAPSTAN_POWER_LOSS_CYCLES` asks for more, `CAPSTAN_POWER_LOSS_SEED` for a known order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_loses_nothing_acknowledged() {
    let seed = number("CAPSTAN_POWER_LOSS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cycles = number("CAPSTAN_POWER_LOSS_CYCLES").unwrap_or(CYCLES);
    println!("CAPSTAN_POWER_LOSS_SEED={seed}");
    for kind in LogEngineKind::ALL {
        for sizes in LOADS {
            lose_power_again_and_again(kind, sizes, cycles, seed).await;
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
    store
        .delete(crate::KeyRange::Key("0".into()), false)
        .await
        .unwrap();
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
        assert!(
            text.lines().any(|other| other == line),
            "{line} is not in\n{text}"
        );
    }
    let synced = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    assert!(synced.unwrap().parse::<u64>().unwrap() >= 5, "{text}");
    store.lease_revoke(lease).await.unwrap();
    store.shutdown().await;
}
