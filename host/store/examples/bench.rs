//! Prints how many writes a second a store in this process does, with one client and with many, and the
//! disk's own pace beside it.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_store::{LocalStore, Options, Put, RangeRequest, Store};

const VALUE_BYTES: usize = 256;
const RUN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".into())).unwrap();
    println!(
        "the disk alone: {:.0} synced appends of 512 bytes a second",
        disk(dir.path())
    );
    println!("before opening: {}", usage());
    let start = Instant::now();
    let store = Arc::new(
        LocalStore::open(Options::new(dir.path().join("store")))
            .await
            .unwrap(),
    );
    store.put(Put::new("first", "1")).await.unwrap();
    println!(
        "an empty folder to the first write: {:.1} ms; {}",
        start.elapsed().as_secs_f64() * 1e3,
        usage()
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cpu();
    tokio::time::sleep(RUN).await;
    println!(
        "idle: {:.2} ms of CPU a second; {}",
        (cpu() - before).as_secs_f64() * 1e3 / RUN.as_secs_f64(),
        usage()
    );
    for clients in [1, 64, 1_000] {
        write(&store, clients).await;
    }
    let keys = store
        .range(RangeRequest {
            count_only: true,
            ..RangeRequest::prefix("")
        })
        .await
        .unwrap()
        .count;
    let start = Instant::now();
    let list = store
        .range(RangeRequest {
            limit: 10_000,
            ..RangeRequest::prefix("key")
        })
        .await
        .unwrap();
    let took = start.elapsed().as_secs_f64() * 1e3;
    println!("a list of {} of {keys} keys: {took:.1} ms", list.kvs.len());
    drop(list);
    println!("after {keys} writes: {}", usage());
    let size = store.status().await.unwrap().db_size_bytes;
    println!("disk {} MB; {}", size / 1_000_000, usage());
    store.shutdown().await;
    let start = Instant::now();
    let store = LocalStore::open(Options::new(dir.path().join("store")))
        .await
        .unwrap();
    println!("opening it again: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    store.shutdown().await;
}

async fn write(store: &Arc<LocalStore>, clients: usize) {
    let start = Instant::now();
    let writers: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(write_one(store.clone(), client, start)))
        .collect();
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "put, {clients} clients: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99)
    );
}

async fn write_one(store: Arc<LocalStore>, client: usize, start: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while start.elapsed() < RUN {
        let key = format!("key/{client}/{}", times.len());
        let before = Instant::now();
        store.put(Put::new(key, vec![7; VALUE_BYTES])).await.unwrap();
        times.push(before.elapsed());
    }
    times
}

fn disk(dir: &std::path::Path) -> f64 {
    const APPENDS: u32 = 2_000;
    let mut file = File::create(dir.join("disk")).unwrap();
    let start = Instant::now();
    for _ in 0..APPENDS {
        file.write_all(&[7; 512]).unwrap();
        file.sync_data().unwrap();
    }
    f64::from(APPENDS) / start.elapsed().as_secs_f64()
}

fn usage() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or("")
            .to_owned()
    };
    format!("{} {}", line("VmRSS"), line("Threads"))
}

/// CPU time of this process, from ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
