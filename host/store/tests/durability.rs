//! What a store keeps over restarts and kills.
//!
//! The kill test runs this same binary as a child that writes and prints what was acknowledged, and kills
//! it at a random moment. `CAPSTAN_KILL_ROUNDS` asks for more rounds, `CAPSTAN_KILL_SEED` for a known order.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use capstan_store::{
    Error, KeyRange, LocalStore, LogEngineKind, Op, Options, Put, RangeRequest, Store, Txn, WatchMessage,
    WatchRequest,
};

const CHILD_DIR: &str = "CAPSTAN_KILL_TEST_DIR";
const CHILD_SEED: &str = "CAPSTAN_KILL_TEST_SEED";
const CHILD_LOG: &str = "CAPSTAN_KILL_TEST_LOG";
/// Kills of each kind of log.
const ROUNDS: u32 = 10;
const WRITERS: usize = 4;

async fn open(dir: &Path) -> LocalStore {
    open_with(dir, LogEngineKind::default()).await
}

async fn open_with(dir: &Path, log_engine: LogEngineKind) -> LocalStore {
    let options = Options {
        log_engine,
        ..Options::new(dir)
    };
    LocalStore::open(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (first, _) = store.put(Put::new("a", "1")).await.unwrap();
    assert_eq!(first, 2, "the first write makes revision 2");
    store.put(Put::new("a", "2")).await.unwrap();
    let large = vec![7; 300_000];
    store.put(Put::new("large", large.clone())).await.unwrap();
    store.put(Put::new("gone", "1")).await.unwrap();
    let (deleted, _, _) = store.delete(KeyRange::Key("gone".into()), false).await.unwrap();
    let (lease, _) = store.lease_grant(0, 100).await.unwrap();
    store
        .put(Put {
            lease,
            ..Put::new("leased", "1")
        })
        .await
        .unwrap();
    store.compact(3, false).await.unwrap();
    let before = store.range(RangeRequest::prefix("")).await.unwrap();
    store.shutdown().await;
    assert!(matches!(
        store.put(Put::new("a", "3")).await,
        Err(Error::Unavailable(_))
    ));

    let store = open(dir.path()).await;
    assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap(), before);
    assert_eq!(
        store.range(RangeRequest::key("large")).await.unwrap().kvs[0].value,
        large
    );
    let old = RangeRequest {
        revision: 2,
        ..RangeRequest::key("a")
    };
    assert!(matches!(
        store.range(old).await,
        Err(Error::Compacted { compact_revision: 3 })
    ));
    let from = WatchRequest {
        range: KeyRange::Prefix("".into()),
        start_revision: deleted,
        prev_kv: true,
        progress_notify: false,
    };
    let mut watch = store.watch(from).await.unwrap();
    match watch.messages.recv().await {
        Some(WatchMessage::Events { revision, events }) => {
            assert_eq!((revision, events.len()), (deleted, 1));
            assert_eq!(&events[0].prev_kv().unwrap().value[..], b"1");
        }
        other => panic!("{other:?}"),
    }
    let (revision, _) = store.put(Put::new("a", "3")).await.unwrap();
    assert_eq!(revision, before.revision + 1);
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.range(RangeRequest::key("leased")).await.unwrap().count, 0);
    store.shutdown().await;
}

/// The child: writes until it is killed, and prints each acknowledged write.
#[test]
#[ignore = "run by kills_lose_nothing as a child"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let seed: u64 = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let kind = std::env::var(CHILD_LOG).unwrap().parse().unwrap();
        let store = open_with(&PathBuf::from(dir), kind).await;
        futures::future::join_all((0..WRITERS).map(|writer| write_for_ever(&store, writer, seed))).await;
    });
}

/// Each writer has keys of its own and writes a counter that only grows, in both keys of one transaction.
async fn write_for_ever(store: &LocalStore, writer: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ writer as u64);
    let key = |part: &str| format!("{writer}/{part}");
    let newest = store.range(RangeRequest::key(key("a"))).await.unwrap();
    let mut count: u64 = newest.kvs.first().map_or(0, |kv| counter(&kv.value));
    loop {
        count += 1;
        let mut value = format!("{count} ").into_bytes();
        value.resize(value.len() + random.usize(..2_000), b'.');
        if random.u32(..50) == 0 {
            value.resize(100_000, b'.');
        }
        let put = |part: &str| Op::Put(Put::new(key(part), value.clone()));
        let txn = Txn {
            success: vec![put("a"), put("b")],
            ..Txn::default()
        };
        let revision = store.txn(txn).await.unwrap().revision;
        if random.u32(..100) == 0 {
            let _ = store.compact(revision - 50, false).await;
        }
        let line = format!("ack {writer} {count} {revision}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

fn counter(value: &[u8]) -> u64 {
    let text = value.split(|byte| *byte == b' ').next().unwrap();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

#[test]
fn kills_lose_nothing() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let seed = number("CAPSTAN_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("CAPSTAN_KILL_ROUNDS").unwrap_or(u64::from(ROUNDS));
    println!("CAPSTAN_KILL_SEED={seed}");
    for kind in [LogEngineKind::Sled, LogEngineKind::Plain] {
        kill_again_and_again(kind, seed, rounds);
    }
}

fn kill_again_and_again(kind: LogEngineKind, seed: u64, rounds: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [(0, 0); WRITERS];
    for round in 0..rounds {
        let alive = Duration::from_micros(random.u64(20_000..200_000));
        run_child(dir.path(), kind, random.u64(..), alive, &mut acknowledged);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = open_with(dir.path(), kind).await;
            check(&store, &acknowledged, round).await;
            // Now and then the next child starts from a store that was not shut down in order.
            if random.bool() {
                store.shutdown().await;
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(10));
    }
    assert!(
        acknowledged.iter().any(|(count, _)| *count > 0),
        "the children never wrote"
    );
}

fn run_child(
    dir: &Path,
    kind: LogEngineKind,
    seed: u64,
    alive: Duration,
    acknowledged: &mut [(u64, i64); WRITERS],
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_SEED, seed.to_string())
        .env(CHILD_LOG, kind.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .filter_map(|line| parse(&line))
            .collect::<Vec<_>>()
    });
    let start = Instant::now();
    while start.elapsed() < alive {
        std::thread::sleep(alive.saturating_sub(start.elapsed()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for (writer, count, revision) in reader.join().unwrap() {
        acknowledged[writer] = (count, revision);
    }
}

fn parse(line: &str) -> Option<(usize, u64, i64)> {
    // The harness prints the test's name before the first line.
    let mut words = line[line.find("ack ")?..].split(' ').skip(1);
    let mut word = || words.next();
    Some((
        word()?.parse().ok()?,
        word()?.parse().ok()?,
        word()?.parse().ok()?,
    ))
}

async fn check(store: &LocalStore, acknowledged: &[(u64, i64); WRITERS], round: u64) {
    let now = store.status().await.unwrap().revision;
    for (writer, (count, revision)) in acknowledged.iter().enumerate() {
        let all = store
            .range(RangeRequest::prefix(format!("{writer}/")))
            .await
            .unwrap();
        let counts: Vec<u64> = all.kvs.iter().map(|kv| counter(&kv.value)).collect();
        let oldest = counts.iter().min().copied().unwrap_or(0);
        assert!(
            oldest >= *count,
            "round {round}: writer {writer} had {count} acknowledged, kept {counts:?}"
        );
        assert!(
            counts.iter().all(|other| *other == oldest),
            "round {round}: a torn transaction: {counts:?}"
        );
        assert!(
            now >= *revision,
            "round {round}: the revision went back from {revision} to {now}"
        );
    }
}
