//! Compaction as clients feel it, and what a key costs in memory. Figures are printed, not judged, but for the
//! bounds that hold by construction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capstan_store::{AutoCompaction, Put, Store};

use super::{Fixture, until};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Put latencies of eight clients until told to stop.
async fn measure(fixture: &Arc<Fixture>, stop: &AtomicBool) -> Vec<Duration> {
    let clients = (0..8).map(|client| async move {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            fixture.put(&format!("client/{client}"), "value").await;
            times.push(start.elapsed());
        }
        times
    });
    let mut times: Vec<_> = futures::future::join_all(clients).await.concat();
    times.sort_unstable();
    times
}

fn show(what: &str, times: &[Duration]) {
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: {} puts, p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// `CAPSTAN_COMPACTED_REVISIONS=200000` measures what the design promises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_do_not_wait_for_a_compaction() {
    let keys = number("CAPSTAN_COMPACTED_REVISIONS", 20_000);
    let fixture = Arc::new(Fixture::new(|_| {}).await);
    fixture.fill("k/", keys, 100).await;
    fixture.fill("k/", keys, 100).await;
    fixture.store.defragment().await.unwrap();
    let before = fixture.store.sizes().db_size_in_use_bytes;
    let stop = AtomicBool::new(false);
    let pause = async |time| {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (alone, ()) = tokio::join!(measure(&fixture, &stop), pause(Duration::from_secs(2)));
    show("no compaction", &alone);
    stop.store(false, Ordering::Relaxed);
    let compacting = async {
        let start = Instant::now();
        let now = fixture.store.status().await.unwrap().revision;
        fixture.store.compact(now, false).await.unwrap();
        let asked = start.elapsed();
        fixture.store.defragment().await.unwrap();
        println!(
            "compacting {keys} revisions: answered in {:.2} ms, gone from disk in {:.2} s",
            asked.as_secs_f64() * 1e3,
            start.elapsed().as_secs_f64()
        );
        stop.store(true, Ordering::Relaxed);
    };
    let (times, ()) = tokio::join!(measure(&fixture, &stop), compacting);
    show("while it runs", &times);
    // What the clients wrote meanwhile goes too, so that what is left is one revision of each key.
    let now = fixture.store.status().await.unwrap().revision;
    fixture.store.compact(now, true).await.unwrap();
    let after = fixture.store.sizes().db_size_in_use_bytes;
    assert!(after < before * 55 / 100, "{before} bytes before, {after} after");
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_of_a_period_is_forgotten_by_itself() {
    let fixture = Fixture::new(|options| {
        options.auto_compaction = AutoCompaction::Periodic(Duration::from_millis(400));
    })
    .await;
    let first = fixture.put("k", "1").await;
    fixture.put("k", "2").await;
    until("the first revision is forgotten", async || {
        fixture.store.status().await.unwrap().compact_revision > first
    })
    .await;
    let kept = fixture
        .store
        .range(capstan_store::RangeRequest::key("k"))
        .await
        .unwrap();
    assert_eq!(kept.kvs[0].version, 2);
    fixture.store.shutdown().await;
}

/// `CAPSTAN_KEYS=150000 CAPSTAN_VALUE_BYTES=4096` measures what the design promises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_not_kept_in_memory() {
    let (keys, value_bytes) = (
        number("CAPSTAN_KEYS", 20_000),
        number("CAPSTAN_VALUE_BYTES", 4_096),
    );
    let fixture = Fixture::new(|_| {}).await;
    let value = vec![7; value_bytes];
    fixture.store.put(Put::new("warm", value)).await.unwrap();
    let before = resident_bytes();
    fixture
        .fill("/registry/pods/default/some-name-", keys, value_bytes)
        .await;
    fixture.store.defragment().await.unwrap();
    let written = resident_bytes();
    let each = |bytes: u64| bytes.saturating_sub(before) / keys as u64;
    let fixture = fixture.reopened().await;
    let loaded = resident_bytes();
    println!(
        "{keys} keys of 40 bytes, values of {value_bytes}: {} MB resident before, {} bytes a key more after \
         writing, {} after reading it all back",
        before / 1_000_000,
        each(written),
        each(loaded)
    );
    assert_eq!(fixture.count("/registry").await, keys as i64);
    fixture.store.shutdown().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
