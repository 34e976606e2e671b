//! What a user may do to a data folder, and what the store then says.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capstan_store::{Error, KeyRange, LocalStore, LogEngineKind, Options, Put, RangeRequest, Store};

async fn open(dir: &Path) -> Result<LocalStore, Error> {
    open_with(dir, LogEngineKind::default()).await
}

async fn open_with(dir: &Path, log_engine: LogEngineKind) -> Result<LocalStore, Error> {
    let options = Options {
        log_engine,
        ..Options::new(dir)
    };
    LocalStore::open(options).await
}

/// A store with a few keys, shut down.
async fn filled(dir: &Path, kind: LogEngineKind) {
    let store = open_with(dir, kind).await.unwrap();
    for n in 0..200 {
        store
            .put(Put::new(format!("key/{n}"), vec![b'x'; 2_000]))
            .await
            .unwrap();
    }
    store.shutdown().await;
}

fn expect_corrupt(opened: Result<LocalStore, Error>, mentions: &str) {
    match opened {
        Err(Error::Corrupt(text)) => assert!(text.contains(mentions), "{text:?} lacks {mentions:?}"),
        other => panic!("a damaged folder gave {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).await.unwrap();
    match open(dir.path()).await {
        Err(Error::Unavailable(text)) => {
            assert!(
                text.contains("in use") && text.contains(&dir.path().display().to_string()),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    first.put(Put::new("a", "1")).await.unwrap();
    first.shutdown().await;
    open(dir.path()).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_answers_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    store.put(Put::new("a", "1")).await.unwrap();
    store.shutdown().await;
    // As if nearly all of the disk were needed: puts are refused, what frees space is not.
    let free = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    let options = Options {
        space_reserve_bytes: free * 2,
        ..Options::new(dir.path())
    };
    let store = LocalStore::open(options).await.unwrap();
    let refused = store.put(Put::new("b", "1")).await;
    assert!(
        matches!(&refused, Err(Error::NoSpace(text)) if text.contains("free")),
        "{refused:?}"
    );
    assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, 1);
    store.delete(KeyRange::Key("a".into()), false).await.unwrap();
    store.compact(3, true).await.unwrap();
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_without_its_parts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), LogEngineKind::default()).await;
    let format = dir.path().join("FORMAT");
    let good = fs::read(&format).unwrap();
    fs::remove_file(&format).unwrap();
    expect_corrupt(open(dir.path()).await, "FORMAT is missing");
    fs::write(&format, "capstan-store 99\n").unwrap();
    expect_corrupt(open(dir.path()).await, "capstan-store 99");
    fs::write(&format, good).unwrap();
    let log = dir.path().join("log");
    fs::rename(&log, dir.path().join("elsewhere")).unwrap();
    expect_corrupt(open(dir.path()).await, "is missing");
    fs::rename(dir.path().join("elsewhere"), &log).unwrap();
    fs::write(log.join("blobs").join("7"), "x").unwrap();
    expect_corrupt(open(dir.path()).await, "blobs");
    fs::remove_file(log.join("blobs").join("7")).unwrap();
    let store = open(dir.path()).await.unwrap();
    assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, 200);
    store.shutdown().await;
}

/// Damage anywhere must never be read as data: either it is noticed, or what is read is what was written.
/// `CAPSTAN_DAMAGED_PLACES` asks for more places in each file, `CAPSTAN_DAMAGED_SEED` for known ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_bytes_are_noticed_or_harmless() {
    const PLACES: u64 = 8;
    const PATIENCE: Duration = Duration::from_secs(120);
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let seed = number("CAPSTAN_DAMAGED_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("CAPSTAN_DAMAGED_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for kind in [LogEngineKind::Sled, LogEngineKind::Plain] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), kind).await;
        for part in ["log", "state"] {
            let mut noticed = 0;
            let places = number("CAPSTAN_DAMAGED_PLACES").unwrap_or(PLACES);
            for _ in 0..places {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(dir.path(), copy.path());
                let what = damage(&copy.path().join(part), &mut random);
                let opened = tokio::time::timeout(PATIENCE, is_noticed(copy.path(), kind, &what)).await;
                noticed += u64::from(opened.unwrap_or_else(|_| panic!("{what}: it hangs")));
            }
            println!(
                "{kind}: {noticed} of {places} damages of the {part} were noticed, the others did no harm"
            );
            assert!(noticed > 0, "{kind}: no damage of the {part} was noticed");
        }
        // sled must not be left broken for who has a good folder.
        let store = open_with(dir.path(), kind).await.unwrap();
        store.put(Put::new("after", "1")).await.unwrap();
        store.shutdown().await;
    }
}

/// Changes some bytes in the used part of a database's file.
fn damage(part: &Path, random: &mut fastrand::Rng) -> String {
    let files = fs::read_dir(part).unwrap().map(|entry| entry.unwrap().path());
    let is_data =
        |path: &PathBuf| path.ends_with("db") || path.extension().is_some_and(|end| end == "segment");
    let file = files.filter(is_data).max().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (at, length) = (random.usize(..used), *random.choice(&[1, 64, 4096]).unwrap());
    let end = (at + length).min(bytes.len());
    bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(&file, bytes).unwrap();
    format!("{}: {length} bytes at {at} of {used}", file.display())
}

async fn is_noticed(dir: &Path, kind: LogEngineKind, what: &str) -> bool {
    let store = match open_with(dir, kind).await {
        Ok(store) => store,
        Err(Error::Corrupt(_)) => return true,
        Err(other) => panic!("{what}: {other:?}"),
    };
    let answer = store.range(RangeRequest::prefix("key/")).await;
    let written = store.put(Put::new("another", "1")).await;
    store.shutdown().await;
    match answer {
        Ok(answer) => {
            assert!(
                answer.kvs.iter().all(|kv| kv.value == vec![b'x'; 2_000]),
                "{what}"
            );
            assert_eq!(answer.count, 200, "{what}: keys were lost unnoticed");
            assert!(written.is_ok(), "{what}: {written:?}");
            false
        }
        Err(Error::Corrupt(_)) => true,
        Err(other) => panic!("{what}: {other:?}"),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
