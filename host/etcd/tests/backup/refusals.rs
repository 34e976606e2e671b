//! What is not restored: each with a message that says why, and nothing is changed.

use std::fs;
use std::path::Path;

use capstan_etcd::backup::{self, BackupError, RestoreOptions};
use capstan_store::{Put, Store};
use sha2::{Digest, Sha256};

use super::etcd::Etcd;
use super::{listing, open, save};

/// A snapshot of ours with a few keys.
async fn snapshot(folder: &Path) -> Vec<u8> {
    let store = open(&folder.join("store")).await;
    for n in 0..200 {
        store
            .put(Put::new(format!("key/{n}"), vec![b'x'; 200]))
            .await
            .unwrap();
    }
    save(&store, &folder.join("file")).await;
    store.shutdown().await;
    fs::read(folder.join("file")).unwrap()
}

async fn restore(folder: &Path, file: &[u8], options: RestoreOptions) -> String {
    fs::write(folder.join("damaged"), file).unwrap();
    let before = listing(folder);
    let error = backup::restore(&folder.join("damaged"), options)
        .await
        .unwrap_err();
    assert_eq!(listing(folder), before, "{error}");
    error.to_string()
}

/// The same file with a hash that is right.
fn hashed(mut file: Vec<u8>) -> Vec<u8> {
    file.truncate(file.len() - 32);
    let hash = Sha256::digest(&file);
    file.extend_from_slice(&hash);
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_refused_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = snapshot(folder).await;
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(Damage, &str); 8] = [
        (|_| Vec::new(), "not a bbolt database"),
        (|_| vec![b'#'; 100_000], "not a bbolt database"),
        (|file| file[..file.len() / 2].to_vec(), "cut off"),
        (|file| file[..file.len() - 1].to_vec(), "missing hash"),
        (|file| file[..file.len() - 32].to_vec(), "missing hash"),
        (
            |mut file| {
                let last = file.len() - 40;
                file[last] ^= 1;
                file
            },
            "expected sha256",
        ),
        (
            |mut file| {
                file[3 * 4096 + 8] = 7;
                hashed(file)
            },
            "page 3 is damaged",
        ),
        (
            |mut file| {
                let record = file
                    .windows(7)
                    .position(|bytes| bytes == b"\x0a\x05key/0")
                    .unwrap();
                file[record] = 0xff;
                hashed(file)
            },
            "its value cannot be decoded",
        ),
    ];
    for (damage, mentions) in cases {
        let options = RestoreOptions::new(folder.join("made"));
        let error = restore(folder, &damage(good.clone()), options).await;
        assert!(error.contains(mentions), "{error:?} lacks {mentions:?}");
    }
    let skipping = RestoreOptions {
        skip_hash_check: true,
        ..RestoreOptions::new(folder.join("made"))
    };
    backup::restore(&folder.join("file"), skipping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_and_options_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = snapshot(folder).await;
    let options = || RestoreOptions::new(folder.join("made"));
    let url = || vec!["http://localhost:2380".to_owned()];
    let cases = [
        (RestoreOptions::new(folder.join("store")), "store exists"),
        (RestoreOptions::new(folder.join("file")), "file exists"),
        (
            RestoreOptions {
                name: "other".into(),
                ..options()
            },
            "couldn't find local name \"other\"",
        ),
        (
            RestoreOptions {
                peer_urls: vec!["http://localhost:1".into()],
                ..options()
            },
            "--initial-advertise-peer-urls",
        ),
        (
            RestoreOptions {
                initial_cluster: vec![("default".into(), url()), ("other".into(), url())],
                ..options()
            },
            "duplicate url",
        ),
        (
            RestoreOptions {
                bump_revision: 1,
                ..options()
            },
            "--mark-compacted",
        ),
        (
            RestoreOptions {
                bump_revision: u64::MAX,
                mark_compacted: true,
                ..options()
            },
            "no revision is so high",
        ),
    ];
    for (options, mentions) in cases {
        let error = restore(folder, &good, options).await;
        assert!(error.contains(mentions), "{error:?} lacks {mentions:?}");
    }
    let missing = backup::restore(&folder.join("nothing"), options()).await;
    assert!(matches!(missing, Err(BackupError::Read { .. })), "{missing:?}");
}

/// How many damaged copies of a database of etcd's are read; more by `BACKUP_FUZZ_RUNS`.
const FUZZ_RUNS: usize = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_of_etcd_is_an_error_or_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&folder.path().join("theirs"), None);
    let store = etcd.connect(None).await;
    for n in 0..400 {
        store
            .put(Put::new(format!("key/{}", n % 50), vec![b'x'; n]))
            .await
            .unwrap();
    }
    let path = folder.path().join("seed");
    etcd.ctl(&["snapshot", "save", path.to_str().unwrap()]);
    drop(store);
    drop(etcd);
    let runs = std::env::var("BACKUP_FUZZ_RUNS").map_or(FUZZ_RUNS, |runs| runs.parse().unwrap());
    let seed =
        std::env::var("BACKUP_FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BACKUP_FUZZ_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let good = fs::read(&path).unwrap();
    backup::status(&path).unwrap();
    let mut refused = 0;
    for _ in 0..runs {
        let mut file = good.clone();
        for _ in 0..random.usize(1..6) {
            let page = random.usize(0..file.len() / 4096) * 4096;
            let reach = if random.bool() { 80 } else { 4096 };
            let at = page + random.usize(0..reach);
            file[at] = if random.bool() {
                random.u8(..)
            } else {
                file[at] ^ (1 << random.u8(0..8))
            };
        }
        if random.u8(0..10) == 0 {
            file.truncate(random.usize(0..file.len()));
        }
        fs::write(&path, &file).unwrap();
        refused += usize::from(backup::check(&path, true).is_err());
    }
    println!("{refused} of {runs} refused");
    assert!(refused > 0);
}
