//! Bugs that etcd had, each as a test that would fail with it.

use capstan_store::{Error, Event, KeyRange, Op, Put, RangeRequest, Revision, Store, Txn, WatchMessage};

use super::{Fixture, next, until};

/// Progress that named a revision whose events came later (etcd-io/etcd#15220): a client that trusts it loses
/// those events. Asked for out of turn, of a watcher that lags and of one that does not, while others write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_never_ahead_of_events() {
    const WRITES: Revision = 3_000;
    let fixture = Fixture::new(|_| {}).await;
    let start = fixture.put("k", "0").await + 1;
    let mut watches = Vec::new();
    for from in [0, start, start - 1] {
        watches.push(fixture.watch("k", from).await);
    }
    let writing = async {
        for n in 0..WRITES {
            fixture.put("k", &n.to_string()).await;
        }
    };
    let reading = async |mut watch: capstan_store::Watch, lags: bool| {
        let (mut seen, mut told) = (start - 1, 0);
        let mut progress = 0;
        while seen < start + WRITES - 1 {
            watch.progress.send();
            if lags && seen % 50 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            match next(&mut watch).await {
                WatchMessage::Events { events, revision } => {
                    assert!(revision > told, "events of {revision} after progress {told}");
                    let first = events[0].kv().mod_revision;
                    assert!(first == seen + 1 || seen < start, "{first} after {seen}");
                    seen = events[events.len() - 1].kv().mod_revision;
                }
                WatchMessage::Progress { revision } => {
                    assert!(
                        revision <= seen || seen < start,
                        "progress {revision}, and seen is {seen}"
                    );
                    (told, progress) = (revision, progress + 1);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(progress > 0);
    };
    let mut watches = watches.into_iter();
    let (one, two, three) = (
        watches.next().unwrap(),
        watches.next().unwrap(),
        watches.next().unwrap(),
    );
    tokio::join!(
        writing,
        reading(one, false),
        reading(two, true),
        reading(three, true)
    );
    fixture.store.shutdown().await;
}

/// Progress asked for is answered though nothing is written, and though the queue is full of events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_answered_in_the_watchs_own_order() {
    let fixture = Fixture::new(|_| {}).await;
    let now = fixture.put("other", "1").await;
    let mut idle = fixture.watch("k", 0).await;
    idle.progress.send();
    assert_eq!(next(&mut idle).await, WatchMessage::Progress { revision: now });
    let mut full = fixture.watch("k", 0).await;
    let mut last = 0;
    for n in 0..2 * capstan_store::WATCH_QUEUE_MAX {
        last = fixture.put("k", &n.to_string()).await;
    }
    full.progress.send();
    let mut seen = 0;
    loop {
        match next(&mut full).await {
            WatchMessage::Events { revision, .. } => seen = revision,
            WatchMessage::Progress { revision } => {
                assert_eq!((revision, seen), (last, last));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    fixture.store.shutdown().await;
}

/// One slow watcher starved the others of its store (etcd-io/etcd#15402): events came minutes late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_takes_nothing_starves_nobody() {
    const WRITES: usize = 2_000;
    let fixture = Fixture::new(|_| {}).await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(fixture.watch("k", 0).await);
    }
    let mut quick = fixture.watch("k", 0).await;
    for n in 0..WRITES {
        let revision = fixture.put("k", &format!("{n:05000}")).await;
        match next(&mut quick).await {
            WatchMessage::Events { revision: seen, .. } => assert_eq!(seen, revision),
            other => panic!("{other:?}"),
        }
    }
    // And they lose nothing by it.
    let mut seen = 0;
    while seen < WRITES {
        match next(&mut stuck[7]).await {
            WatchMessage::Events { events, .. } => seen += events.len(),
            other => panic!("{other:?}"),
        }
    }
    fixture.store.shutdown().await;
}

/// A delete at the compact revision was lost to a watcher that began there (etcd-io/etcd#19179).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_at_the_compact_revision_is_seen() {
    let mut fixture = Fixture::new(|_| {}).await;
    for round in 0..3 {
        fixture.put("k", "1").await;
        fixture.put("other", "1").await;
        let deleted = fixture.delete("k").await;
        fixture.store.compact(deleted, true).await.unwrap();
        if round == 1 {
            fixture = fixture.reopened().await;
        }
        let mut watch = fixture.watch("k", deleted).await;
        match next(&mut watch).await {
            WatchMessage::Events { events, .. } => {
                assert!(matches!(&events[..], [Event::Delete { kv, .. }] if kv.mod_revision == deleted));
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    fixture.store.shutdown().await;
}

/// A watcher that lags while history under it is compacted skipped events without a word: it must get every
/// event, or `Compacted`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_overtaken_by_compaction_is_told() {
    let fixture = Fixture::new(|_| {}).await;
    let first = fixture.put("k", "0").await;
    for round in 0..10 {
        for n in 0..300 {
            fixture.put("k", &format!("{n:04000}")).await;
        }
        let now = fixture.store.status().await.unwrap().revision;
        let mut watch = fixture.watch("k", now - 290).await;
        fixture
            .store
            .compact(now - round * 20, round % 2 == 0)
            .await
            .unwrap();
        let mut seen = now - 291;
        while seen < now {
            match next(&mut watch).await {
                WatchMessage::Events { events, .. } => {
                    assert_eq!(events[0].kv().mod_revision, seen + 1);
                    seen = events[events.len() - 1].kv().mod_revision;
                }
                WatchMessage::Compacted { compact_revision } => {
                    assert!(
                        compact_revision > seen + 1,
                        "{compact_revision}, and {seen} was seen"
                    );
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let mut watch = fixture.watch("k", first).await;
    assert!(matches!(next(&mut watch).await, WatchMessage::Compacted { .. }));
    fixture.store.shutdown().await;
}

/// A watch on a revision to come was sent events before it, after a restart or a slow start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_on_a_future_revision_waits_for_it() {
    let fixture = Fixture::new(|_| {}).await;
    let now = fixture.put("k", "1").await;
    let mut watch = fixture.watch("k", now + 3).await;
    watch.progress.send();
    for n in 0..5 {
        fixture.put("k", &n.to_string()).await;
    }
    for expected in now + 3..=now + 5 {
        let message = loop {
            match next(&mut watch).await {
                WatchMessage::Progress { revision } => assert!(revision < expected),
                message => break message,
            }
        };
        assert!(matches!(message, WatchMessage::Events { revision, .. } if revision == expected));
    }
    fixture.store.shutdown().await;
}

/// A read of a compacted revision inside a transaction crashed every member (etcd-io/etcd#18667), after part of
/// the transaction had been done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_read_in_a_transaction_refuses_all_of_it() {
    let fixture = Fixture::new(|_| {}).await;
    for n in 0..5 {
        fixture.put("k", &n.to_string()).await;
    }
    fixture.store.compact(4, true).await.unwrap();
    let before = fixture.store.hash_kv(0).await.unwrap();
    let read = |revision| {
        Op::Range(RangeRequest {
            revision,
            ..RangeRequest::key("k")
        })
    };
    for (revision, is_compacted) in [(3, true), (1_000, false)] {
        let nested = Txn {
            success: vec![Op::Put(Put::new("a", "1")), read(revision)],
            ..Txn::default()
        };
        for ops in [
            vec![Op::Put(Put::new("a", "1")), read(revision)],
            vec![Op::Txn(Box::new(nested))],
            vec![read(revision)],
        ] {
            let answer = fixture
                .store
                .txn(Txn {
                    success: ops,
                    ..Txn::default()
                })
                .await;
            match answer {
                Err(Error::Compacted { .. }) => assert!(is_compacted),
                Err(Error::FutureRevision { .. }) => assert!(!is_compacted),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        fixture.store.hash_kv(0).await.unwrap(),
        before,
        "nothing was written"
    );
    fixture.store.shutdown().await;
}

/// Keys came loose from their lease by a restart, or by a lease that was detached and attached again: they
/// outlived it (etcd-io/etcd#9888 and others).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_with_their_lease() {
    let fixture = Fixture::new(|_| {}).await;
    let (lease, _) = fixture.store.lease_grant(0, 100).await.unwrap();
    let put = |key: &'static str, lease| Put {
        lease,
        ..Put::new(key, "1")
    };
    for (key, lease) in [
        ("a", lease),
        ("b", lease),
        ("b", 0),
        ("c", 0),
        ("c", lease),
        ("d", lease),
    ] {
        fixture.store.put(put(key, lease)).await.unwrap();
    }
    fixture.delete("d").await;
    fixture.store.put(put("d", 0)).await.unwrap();
    let now = fixture.store.status().await.unwrap().revision;
    fixture.store.compact(now, true).await.unwrap();
    let fixture = fixture.reopened().await;
    let keys = fixture.store.lease_time_to_live(lease, true).await.unwrap().keys;
    assert_eq!(keys, ["a", "c"]);
    fixture.store.lease_revoke(lease).await.unwrap();
    assert_eq!(fixture.count("").await, 2);
    fixture.store.shutdown().await;
}

/// A member that was behind a compaction hashed history that others no longer had, and raised a false alarm
/// (etcd-io/etcd#14325): the hash is of what can be read, whatever has been deleted by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_does_not_change_while_history_is_deleted() {
    let fixture = Fixture::new(|_| {}).await;
    fixture.fill("k/", 3_000, 10).await;
    fixture.fill("k/", 3_000, 11).await;
    fixture
        .store
        .delete(KeyRange::Prefix("k/00000".into()), false)
        .await
        .unwrap();
    let now = fixture.store.status().await.unwrap().revision;
    let before = fixture.store.sizes().db_size_in_use_bytes;
    fixture.store.compact(now, false).await.unwrap();
    let hash = fixture.store.hash_kv(0).await.unwrap();
    until("history is deleted", async || {
        assert_eq!(fixture.store.hash_kv(0).await.unwrap(), hash);
        fixture.store.sizes().db_size_in_use_bytes < before * 6 / 10
    })
    .await;
    fixture.store.defragment().await.unwrap();
    assert_eq!(fixture.store.hash_kv(now).await.unwrap(), hash);
    fixture.store.shutdown().await;
}
