//! Purges of the log and compactions under load, with kills: what is read at any revision is what was
//! acknowledged there, or the answer is that it was compacted.
//!
//! This same binary runs as a child that writes, compacts and reads at once, and is killed at a random
//! moment. `CAPSTAN_COMPACTION_ROUNDS` asks for more rounds, `CAPSTAN_COMPACTION_SEED` for a known order.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capstan_store::{Error, LocalStore, Op, Options, Put, RangeRequest, Store, Txn};

const CHILD_DIR: &str = "CAPSTAN_COMPACTION_TEST_DIR";
const CHILD_SEED: &str = "CAPSTAN_COMPACTION_TEST_SEED";
const ROUNDS: u64 = 4;
const WRITERS: usize = 8;
const READERS: usize = 3;
/// Two checkpoints, and so a purge, come after 64 MiB.
const VALUE_BYTES_MAX: usize = 48 * 1024;
/// What the folder may come to while all keys together hold less than a megabyte.
const DISK_BYTES_MAX: u64 = 250_000_000;

/// The acknowledged writes of each writer, `(revision, count)`, oldest first.
type Acknowledged = Vec<Mutex<Vec<(i64, u64)>>>;

fn nothing() -> Acknowledged {
    (0..WRITERS).map(|_| Mutex::default()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn open(dir: &Path) -> LocalStore {
    LocalStore::open(Options::new(dir)).await.unwrap()
}

/// A value that tells whose it is, and is known from its first word on.
fn value(writer: usize, count: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(count ^ (writer as u64) << 56);
    let mut value = format!("{count} {writer} ").into_bytes();
    let filler = random.u8(b'a'..=b'z');
    value.resize(value.len() + random.usize(..VALUE_BYTES_MAX), filler);
    value
}

fn count_of(value: &[u8]) -> u64 {
    let word = value.split(|byte| *byte == b' ').next().unwrap();
    std::str::from_utf8(word).unwrap().parse().unwrap()
}

/// Reads a writer's keys at a revision; none if that was compacted.
async fn read(store: &LocalStore, writer: usize, revision: i64) -> Option<u64> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::prefix(format!("{writer}/"))
    };
    let kvs = match store.range(request).await {
        Ok(answer) => answer.kvs,
        Err(Error::Compacted { compact_revision }) if compact_revision > revision => return None,
        Err(other) => panic!("writer {writer} at {revision}: {other:?}"),
    };
    let count = kvs.first().map_or(0, |kv| count_of(&kv.value));
    for kv in &kvs {
        assert!(
            kv.value == value(writer, count) && kv.mod_revision <= revision,
            "writer {writer} at {revision}: another's value, or a torn transaction"
        );
    }
    assert!(
        kvs.len() == 2 || count == 0,
        "writer {writer} at {revision}: {} keys",
        kvs.len()
    );
    Some(count)
}

/// Reads at a random revision of which it is known what it holds.
async fn check_one(store: &LocalStore, acknowledged: &Acknowledged, random: &mut fastrand::Rng) -> bool {
    let writer = random.usize(..WRITERS);
    let (revision, expected) = {
        let known = acknowledged[writer].lock().unwrap();
        let Some(at) = known.len().checked_sub(1 + random.usize(..200).min(known.len())) else {
            return false;
        };
        // Any revision up to the writer's next write sees this one, unless a write that was cut off by a kill
        // lies between.
        let next = known.get(at + 1).filter(|(_, count)| *count == known[at].1 + 1);
        let next = next.map_or(known[at].0 + 1, |(next, _)| *next);
        (random.i64(known[at].0..next), known[at].1)
    };
    let found = read(store, writer, revision).await;
    assert!(
        found.is_none_or(|found| found == expected),
        "writer {writer} at {revision}: {found:?}, not {expected}"
    );
    found.is_some()
}

/// The child: writes, compacts and reads until it is killed.
#[test]
#[ignore = "run by reads_racing_compactions_and_kills_are_right as a child"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let seed = number(CHILD_SEED).unwrap();
    runtime().block_on(async {
        let store = open(Path::new(&dir)).await;
        let acknowledged = nothing();
        let has_read = AtomicBool::new(false);
        let writers = (0..WRITERS).map(|writer| write_for_ever(&store, writer, &acknowledged[writer]));
        let readers = (0..READERS).map(|reader| {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(reader as u64));
            let (store, acknowledged, has_read) = (&store, &acknowledged, &has_read);
            async move {
                loop {
                    if check_one(store, acknowledged, &mut random).await
                        && !has_read.swap(true, Ordering::Relaxed)
                    {
                        say("read");
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        let compacting = compact_for_ever(&store, fastrand::Rng::with_seed(!seed));
        tokio::join!(
            futures::future::join_all(writers),
            futures::future::join_all(readers),
            compacting
        );
    });
}

async fn write_for_ever(store: &LocalStore, writer: usize, acknowledged: &Mutex<Vec<(i64, u64)>>) {
    let now = store.status().await.unwrap().revision;
    let mut count = read(store, writer, now).await.unwrap();
    loop {
        count += 1;
        let put = |part: &str| Op::Put(Put::new(format!("{writer}/{part}"), value(writer, count)));
        let txn = Txn {
            success: vec![put("a"), put("b")],
            ..Txn::default()
        };
        let revision = store.txn(txn).await.unwrap().revision;
        acknowledged.lock().unwrap().push((revision, count));
        say(&format!("ack {writer} {revision} {count}"));
    }
}

async fn compact_for_ever(store: &LocalStore, mut random: fastrand::Rng) {
    loop {
        let revision = store.status().await.unwrap().revision - random.i64(0..100);
        match store.compact(revision, random.bool()).await {
            Ok(()) | Err(Error::Compacted { .. }) => {}
            Err(other) => panic!("compacting at {revision}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(random.u64(1..60))).await;
    }
}

fn say(line: &str) {
    std::io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

#[test]
fn reads_racing_compactions_and_kills_are_right() {
    let seed = number("CAPSTAN_COMPACTION_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("CAPSTAN_COMPACTION_ROUNDS").unwrap_or(ROUNDS);
    println!("CAPSTAN_COMPACTION_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = nothing();
    let mut has_read = false;
    for round in 0..rounds {
        has_read |= run_child(dir.path(), &mut random, &acknowledged);
        let runtime = runtime();
        runtime.block_on(async {
            let store = open(dir.path()).await;
            for (writer, known) in acknowledged.iter().enumerate() {
                let last = known.lock().unwrap().last().map_or(0, |(_, count)| *count);
                let now = store.status().await.unwrap().revision;
                let found = read(&store, writer, now).await.unwrap();
                assert!(
                    found >= last,
                    "round {round}: writer {writer} had {last}, kept {found}"
                );
            }
            for _ in 0..200 {
                check_one(&store, &acknowledged, &mut random).await;
            }
            let status = store.status().await.unwrap();
            let (now, size) = (status.revision, status.db_size_bytes);
            println!("round {round}: {now} revisions, {size} bytes on disk");
            assert!(size < DISK_BYTES_MAX, "round {round}: {size} bytes on disk");
            if random.bool() {
                store.shutdown().await;
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(10));
    }
    assert!(has_read, "no child read anything that was not compacted");
}

/// Runs a child for a while; returns whether it read.
fn run_child(dir: &Path, random: &mut fastrand::Rng, acknowledged: &Acknowledged) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_SEED, random.u64(..).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(random.u64(300..2_000)));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    assert!(!ended, "the child found something wrong; see above");
    for line in &lines {
        let Some(words) = line.find("ack ").map(|at| &line[at + 4..]) else {
            continue;
        };
        let mut words = words.split(' ').map(str::parse::<u64>);
        if let (Some(Ok(writer)), Some(Ok(revision)), Some(Ok(count))) =
            (words.next(), words.next(), words.next())
        {
            acknowledged[writer as usize]
                .lock()
                .unwrap()
                .push((revision as i64, count));
        }
    }
    lines.iter().any(|line| line == "read")
}
