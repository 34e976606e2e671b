//! Backups take bounded memory: 100,000 keys go out and come back without the process growing with them.
//!
//! A test of its own, because it measures its process.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use capstan_etcd::backup::{self, RestoreOptions};
use capstan_store::{LocalStore, Op, Options, Put, RangeRequest, Store, Txn};
use futures::StreamExt;

const KEYS: usize = 100_000;
const KEYS_PER_WRITE: usize = 100;
const VALUE_BYTES: usize = 1_000;
/// What may be added to what the store itself takes; the file has more than 100 MB.
const GROWTH_KB_MAX: u64 = 48 * 1024;

/// A line of this process's status, in kilobytes.
fn memory_kb(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Runs it and returns by how much the process grew at most meanwhile.
async fn growth_kb<T>(what: &str, run: impl Future<Output = T>) -> (u64, T) {
    // Sets the peak to what is resident now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory_kb("VmRSS:");
    let result = run.await;
    let growth = memory_kb("VmHWM:").saturating_sub(before);
    println!(
        "{what}: {} MB resident before, grew by {} MB at most",
        before / 1024,
        growth / 1024
    );
    (growth, result)
}

async fn save(store: &LocalStore, path: &std::path::Path) -> u64 {
    let mut stream = backup::stream(store).await.unwrap();
    let mut file = fs::File::create(path).unwrap();
    while let Some(chunk) = stream.next().await {
        file.write_all(&chunk.unwrap()).unwrap();
    }
    stream.size_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_keys_go_out_and_come_back_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let store = LocalStore::open(Options::new(folder.path().join("store")))
        .await
        .unwrap();
    for first in (0..KEYS).step_by(KEYS_PER_WRITE) {
        let puts = (first..first + KEYS_PER_WRITE)
            .map(|n| Op::Put(Put::new(format!("/registry/{n:06}"), vec![n as u8; VALUE_BYTES])));
        let txn = Txn {
            success: puts.collect(),
            ..Txn::default()
        };
        store.txn(txn).await.unwrap();
    }
    let (saving, _) = growth_kb("saving", save(&store, &file)).await;
    // What the first one left is the engine's; another one must not add to it.
    let (again, size) = growth_kb("saving again", save(&store, &file)).await;
    assert!(size > (KEYS * VALUE_BYTES) as u64);
    store.shutdown().await;
    drop(store);

    let (reading, status) = growth_kb("status", async { backup::status(&file).unwrap() }).await;
    assert!(status.total_keys > KEYS as u64);
    let options = RestoreOptions::new(folder.path().join("again"));
    let (restoring, report) = growth_kb("restoring", backup::restore(&file, options)).await;
    assert_eq!(report.unwrap().records, KEYS as u64);
    let all = [
        ("saving", saving),
        ("saving again", again),
        ("status", reading),
        ("restoring", restoring),
    ];
    for (what, growth) in all {
        assert!(growth < GROWTH_KB_MAX, "{what} grew by {growth} kB");
    }
    let again = LocalStore::open(Options::new(folder.path().join("again")))
        .await
        .unwrap();
    let one = again.range(RangeRequest::key("/registry/099999")).await.unwrap();
    assert_eq!(one.kvs[0].value, vec![99_999_usize as u8; VALUE_BYTES]);
    again.shutdown().await;
}
