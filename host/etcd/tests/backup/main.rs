//! Backups both ways: ours read by Debian's etcdctl and etcd, theirs by ours, and what must be refused.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod etcd;
mod refusals;
mod same;
mod starts;

#[path = "../rig/mod.rs"]
mod rig;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use capstan_etcd::backup::{self, RestoreOptions};
use capstan_store::{
    AuthCommand, KeyRange, LocalStore, Op, Options, Password, Permission, PermissionKind, Put, Store, Txn,
};
use futures::StreamExt;

use etcd::{Etcd, etcdctl};
use same::assert_same;

const LARGE_BYTES: usize = 1024 * 1024;

pub(crate) async fn open(dir: &Path) -> LocalStore {
    LocalStore::open(Options::new(dir)).await.unwrap()
}

/// Saves a store as `etcdctl snapshot save` does with what `Maintenance.Snapshot` sends.
pub(crate) async fn save(store: &LocalStore, path: &Path) {
    let mut stream = backup::stream(store).await.unwrap();
    let mut file = fs::File::create(path).unwrap();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        size += chunk.len() as u64;
        file.write_all(&chunk).unwrap();
    }
    assert_eq!(size, stream.size_bytes());
    assert_eq!(size % 512, 32);
}

/// Writes something of everything; history is compacted at the returned revision.
async fn fill(store: &dyn Store) -> i64 {
    let put = |key: String, value: Vec<u8>| Put::new(key, value);
    for n in 0..300 {
        store
            .put(put(format!("/registry/{:03}", n % 100), vec![n as u8; 40 + n]))
            .await
            .unwrap();
    }
    store
        .delete(KeyRange::Prefix("/registry/05".into()), false)
        .await
        .unwrap();
    let (compacted, _) = store.put(put("once".into(), b"1".to_vec())).await.unwrap();
    let (lease, _) = store.lease_grant(7_000, 6_000).await.unwrap();
    store.lease_grant(8_000, 60).await.unwrap();
    for key in ["leased/a", "leased/b"] {
        let leased = Put {
            lease,
            ..Put::new(key, "v")
        };
        store.put(leased).await.unwrap();
    }
    let many = Txn {
        success: vec![
            Op::Put(Put::new("many/1", "1")),
            Op::Put(Put::new("many/2", "2")),
            Op::Delete {
                range: KeyRange::Key("once".into()),
                prev_kv: false,
            },
        ],
        ..Txn::default()
    };
    store.txn(many).await.unwrap();
    store
        .put(put("large".into(), vec![b'x'; LARGE_BYTES]))
        .await
        .unwrap();
    store.put(put("once".into(), b"again".to_vec())).await.unwrap();
    store.put(put("empty".into(), Vec::new())).await.unwrap();
    store.delete(KeyRange::Key("empty".into()), false).await.unwrap();
    store.compact(compacted, true).await.unwrap();
    compacted
}

/// `root`, and `reader` that may only read below `/registry/`.
async fn add_users(store: &LocalStore) {
    let permission = Permission {
        kind: PermissionKind::Read,
        key: "/registry/".into(),
        range_end: "/registry0".into(),
    };
    let named = |name: &str, password: &str| AuthCommand::UserAdd {
        name: name.into(),
        password: Password::Plain(password.into()),
    };
    let grant = |user: &str, role: &str| AuthCommand::UserGrantRole {
        user: user.into(),
        role: role.into(),
    };
    let commands = [
        AuthCommand::RoleAdd { name: "root".into() },
        AuthCommand::RoleAdd { name: "reads".into() },
        AuthCommand::RoleGrantPermission {
            role: "reads".into(),
            permission,
        },
        named("root", "secret"),
        named("reader", "open"),
        AuthCommand::UserAdd {
            name: "certified".into(),
            password: Password::None,
        },
        grant("root", "root"),
        grant("reader", "reads"),
        AuthCommand::Enable,
    ];
    for command in commands {
        store.auth(command).await.unwrap();
    }
}

/// The same with etcdctl.
fn add_users_by_etcdctl(etcd: &Etcd) {
    let commands = [
        "role add root",
        "role add reads",
        "role grant-permission reads read --prefix=true /registry/",
        "user add root:secret",
        "user add reader:open",
        "user add certified --no-password",
        "user grant-role root root",
        "user grant-role reader reads",
        "auth enable",
    ];
    for command in commands {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
}

/// Our status of a file, after it was found equal to etcdctl's.
fn same_status(file: &Path) -> backup::Status {
    let ours = backup::status(file).unwrap();
    let theirs = etcdctl(&["snapshot", "status", file.to_str().unwrap(), "--write-out=json"]).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    let expected = serde_json::json!({
        "hash": ours.hash, "revision": ours.revision, "totalKey": ours.total_keys, "totalSize": ours.total_size,
    });
    assert_eq!(theirs, expected);
    ours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_is_restored_by_etcd() {
    let folder = tempfile::tempdir().unwrap();
    let (file, theirs) = (folder.path().join("ours.snapshot"), folder.path().join("theirs"));
    let ours = open(&folder.path().join("ours")).await;
    let compacted = fill(&ours).await;
    add_users(&ours).await;
    save(&ours, &file).await;
    let status = same_status(&file);
    assert_eq!(status.revision, ours.status().await.unwrap().revision);

    let peer_url = etcd::new_peer_url();
    etcd::restore(&file, &theirs, &peer_url);
    let etcd = Etcd::start(&theirs, Some(peer_url));
    assert_same(&ours, &etcd.connect(Some(("root", "secret"))).await, compacted).await;

    let reader = "--user=reader:open";
    assert!(
        etcd.ctl(&[reader, "get", "/registry/001"])
            .starts_with("/registry/001\n")
    );
    let endpoints = format!("--endpoints={}", etcd.client_url);
    let denied = etcdctl(&[&endpoints, reader, "put", "/registry/001", "x"]).unwrap_err();
    assert!(denied.contains("permission denied"), "{denied}");
    let users = etcd.ctl(&["--user=root:secret", "user", "list"]);
    assert_eq!(users, "certified\nreader\nroot\n");
    // It goes on from there.
    etcd.ctl(&["--user=root:secret", "put", "new", "1"]);
    ours.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_is_restored_by_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let etcd = Etcd::start(&path("theirs"), None);
    let theirs = etcd.connect(None).await;
    let compacted = fill(&theirs).await;
    drop(theirs);
    add_users_by_etcdctl(&etcd);
    let file = path("theirs.snapshot");
    etcd.ctl(&["--user=root:secret", "snapshot", "save", file.to_str().unwrap()]);
    same_status(&file);

    let report = backup::restore(&file, RestoreOptions::new(path("ours")))
        .await
        .unwrap();
    assert_eq!((report.users, report.roles, report.leases), (3, 2, 2));
    assert_eq!(report.source_members, ["default"]);
    println!("{report}");
    let ours = open(&path("ours")).await;
    assert_same(&ours, &etcd.connect(Some(("root", "secret"))).await, compacted).await;
    let auth = ours.auth_state();
    assert!(auth.enabled && auth.users["certified"].password_hash.is_none());
    assert_eq!(auth.users["reader"].roles, ["reads"]);
    assert_eq!(
        auth.roles["reads"].permissions[0].range_end,
        Bytes::from("/registry0")
    );
    ours.authenticate("reader", "open").await.unwrap();
    ours.authenticate("reader", "wrong").await.unwrap_err();
    let before = ours.status().await.unwrap().revision;
    assert_eq!(ours.put(Put::new("new", "1")).await.unwrap().0, before + 1);
    ours.shutdown().await;

    // The database itself, out of the data folder of an etcd that was stopped.
    etcd.stop();
    let database = path("theirs").join("member/snap/db");
    let refused = backup::restore(&database, RestoreOptions::new(path("again"))).await;
    assert!(refused.unwrap_err().to_string().contains("--skip-hash-check"));
    let options = RestoreOptions {
        skip_hash_check: true,
        ..RestoreOptions::new(path("again"))
    };
    let again = backup::restore(&database, options).await.unwrap();
    assert_eq!((again.revision, again.users), (report.revision, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_is_restored_by_ours_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let first = open(&path("first")).await;
    let compacted = fill(&first).await;
    save(&first, &path("file")).await;
    backup::restore(&path("file"), RestoreOptions::new(path("second")))
        .await
        .unwrap();
    let second = open(&path("second")).await;
    assert_same(&first, &second, compacted).await;
    let revision = first.status().await.unwrap().revision;
    first.shutdown().await;

    // Once more after a restart, and the copy of a copy has the same content.
    second.shutdown().await;
    let second = open(&path("second")).await;
    assert_eq!(second.status().await.unwrap().revision, revision);
    save(&second, &path("copy")).await;
    second.shutdown().await;
    let bumped = RestoreOptions {
        bump_revision: 1_000,
        mark_compacted: true,
        ..RestoreOptions::new(path("third"))
    };
    let report = backup::restore(&path("copy"), bumped).await.unwrap();
    assert_eq!(report.revision, revision + 1_000);
    for _ in 0..2 {
        let third = open(&path("third")).await;
        let status = third.status().await.unwrap();
        assert!(status.revision >= revision + 1_000, "{status:?}");
        assert_eq!(status.compact_revision, revision + 1_000);
        let next = third.put(Put::new("next", "1")).await.unwrap().0;
        assert_eq!(next, status.revision + 1);
        third.shutdown().await;
    }
}

/// All files below a folder.
pub(crate) fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}
