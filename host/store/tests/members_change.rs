//! Clusters whose members change: added, promoted, removed, moved, far behind, and left alone.

#![allow(clippy::unwrap_used)]

mod members_net;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capstan_store::{Error, KeyRange, LocalStore, Member, PeerCallKind, Put, RangeRequest, Refusal, Store};
use members_net::{Cluster, THREE, Writers, check_kept, eventually, url};

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A change that is tried again while members have yet to make themselves known, as an operator would.
async fn allowed<T, F: Future<Output = Result<T, Error>>>(mut change: impl FnMut() -> F) -> T {
    eventually("the change to be allowed", || {
        let changing = change();
        async move {
            match changing.await {
                Ok(done) => Some(done),
                Err(Error::Refused(
                    Refusal::UnhealthyCluster | Refusal::NotEnoughStartedMembers | Refusal::LearnerNotReady,
                )) => None,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn count(store: &LocalStore) -> i64 {
    let request = RangeRequest {
        count_only: true,
        ..RangeRequest::new(KeyRange::Prefix("".into()))
    };
    store.range(request).await.unwrap().count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grows_to_three_and_shrinks_to_one() {
    let mut cluster = Cluster::found(&["a"]).await;
    let first = cluster.store("a");
    first.put(Put::new("before", "1")).await.unwrap();
    for (name, members) in [("b", 2), ("c", 3)] {
        let (added, all) = allowed(|| first.member_add(vec![url(name)], false)).await;
        assert!(all.len() == members && added.name.is_empty() && !added.is_learner);
        // What is there goes on while the new one is not started.
        first.put(Put::new(name, "1")).await.unwrap();
        cluster.start(name).await;
        assert_eq!(cluster.id(name), added.id);
        let second = cluster.store(name);
        second.put(Put::new(format!("by {name}"), "1")).await.unwrap();
        eventually("its name and vote", || async {
            let members = first.members(true).await.unwrap();
            let known = members
                .iter()
                .all(|member| !member.name.is_empty() && !member.client_urls.is_empty());
            (known && !second.raft().is_learner).then_some(())
        })
        .await;
    }
    assert_eq!(
        refused(first.member_add(vec![url("a")], false).await),
        Refusal::PeerUrlExists
    );
    assert_eq!(refused(first.member_remove(1).await), Refusal::MemberNotFound);
    for name in ["b", "a"] {
        // The second time through a member that is to stay, and perhaps of the leader.
        let id = cluster.id(name);
        let rest = allowed(|| async { cluster.store("c").member_remove(id).await }).await;
        assert!(rest.iter().all(|member| member.id != id));
        cluster.stop(name).await;
    }
    assert_eq!(cluster.leader().await, "c");
    let last = cluster.store("c");
    last.put(Put::new("after", "1")).await.unwrap();
    assert_eq!(count(&last).await, 6);
    assert_eq!(
        refused(last.member_remove(cluster.id("c")).await),
        Refusal::NotEnoughStartedMembers
    );
    drop((first, last));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_learns_and_is_promoted() {
    let mut cluster = Cluster::found(&THREE).await;
    let any = cluster.store(&cluster.follower().await);
    let (learner, _) = allowed(|| any.member_add(vec![url("d")], true)).await;
    assert_eq!(
        refused(any.member_add(vec![url("e")], true).await),
        Refusal::TooManyLearners
    );
    assert_eq!(
        refused(any.member_promote(learner.id).await),
        Refusal::LearnerNotReady
    );
    assert_eq!(
        refused(any.member_promote(cluster.id("a")).await),
        Refusal::NotLearner
    );
    any.put(Put::new("k", "1")).await.unwrap();
    cluster.start("d").await;
    let fourth = cluster.store("d");
    eventually("the key to arrive", || async {
        let request = RangeRequest {
            serializable: true,
            ..RangeRequest::key("k")
        };
        (fourth.range(request).await.unwrap().count == 1).then_some(())
    })
    .await;
    assert!(fourth.raft().is_learner);
    let members = allowed(|| fourth.member_promote(learner.id)).await;
    assert!(members.iter().all(|member| !member.is_learner));
    eventually("its vote", || async { (!fourth.raft().is_learner).then_some(()) }).await;
    let moved = vec![url("d"), "http://d.other:2380".into()];
    let members = any.member_update(learner.id, moved.clone()).await.unwrap();
    let urls = members
        .iter()
        .find(|member| member.id == learner.id)
        .map(|member| member.peer_urls.clone());
    assert_eq!(urls, Some(moved));
    drop((any, fourth));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_under_load() {
    let cluster = Cluster::found(&THREE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (store, stopped) = (cluster.store("a"), stop.clone());
    let writer = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        for count in 0u64.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let start = std::time::Instant::now();
            store.put(Put::new("k", count.to_string())).await.unwrap();
            longest = longest.max(start.elapsed());
        }
        longest
    });
    for _ in 0..4 {
        let (leader, target) = (cluster.leader().await, cluster.follower().await);
        assert_eq!(
            refused(cluster.store(&target).move_leader(cluster.id(&leader)).await),
            Refusal::NotLeader
        );
        assert_eq!(
            refused(cluster.store(&leader).move_leader(7).await),
            Refusal::BadLeaderTransferee
        );
        cluster
            .store(&leader)
            .move_leader(cluster.id(&target))
            .await
            .unwrap();
        assert_eq!(cluster.leader().await, target);
    }
    stop.store(true, Ordering::Relaxed);
    println!("the longest write took {:?}", writer.await.unwrap());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_removed_and_others_come_under_load() {
    let mut cluster = Cluster::found(&THREE).await;
    let leader = cluster.leader().await;
    let stays = cluster.follower().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (store, stopped) = (cluster.store(&stays), stop.clone());
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while !stopped.load(Ordering::Relaxed) {
            if store
                .put(Put::new(format!("w/{}", written + 1), "1"))
                .await
                .is_ok()
            {
                written += 1;
            }
        }
        written
    });
    let store = cluster.store(&stays);
    allowed(|| store.member_add(vec![url("d")], false)).await;
    cluster.start("d").await;
    let is_whole =
        |members: &[Member]| members.len() == 4 && members.iter().all(|member| !member.name.is_empty());
    eventually("the fourth", || async {
        is_whole(&store.members(true).await.ok()?).then_some(())
    })
    .await;
    let gone = cluster.id(&leader);
    // Asked for on the leader itself.
    let at_leader = cluster.store(&leader);
    allowed(|| at_leader.member_remove(gone)).await;
    drop(at_leader);
    cluster.stop(&leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    for name in cluster.stores.keys() {
        let all = cluster
            .store(name)
            .range(RangeRequest::prefix("w/"))
            .await
            .unwrap();
        assert!(all.count >= written, "{} of {written} on {name}", all.count);
        assert_eq!(cluster.store(name).members(true).await.unwrap().len(), 3);
    }
    drop(store);
    cluster.shutdown().await;
}

/// Keys that [`write_much`] writes, how often, and how large they are.
const MUCH_KEYS: i64 = 20;
const MUCH_ROUNDS: i64 = 150;
const MUCH_BYTES: usize = 128 * 1024;
/// Entries between two snapshots, so that the log is gone when all is written.
const SHORT: usize = 30;

/// Waits until a member has all that [`write_much`] wrote.
async fn arrived(store: &LocalStore) {
    let start = std::time::Instant::now();
    eventually("the state to arrive", || async {
        let request = RangeRequest {
            count_only: true,
            ..RangeRequest::prefix("big/")
        };
        (store.range(request).await.ok()?.count == MUCH_KEYS).then_some(())
    })
    .await;
    println!("there after {:?}", start.elapsed());
}

/// More than is kept of the log.
async fn write_much(store: &LocalStore) {
    for round in 0..MUCH_ROUNDS {
        let value = vec![u8::try_from(round).unwrap(); MUCH_BYTES];
        store
            .put(Put::new(format!("big/{}", round % MUCH_KEYS), value))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lags_and_who_is_new_gets_a_snapshot() {
    let mut cluster = Cluster::found_with_short_logs(&THREE, SHORT).await;
    let away = cluster.follower().await;
    let leader = cluster.store(&cluster.leader().await);
    let (lease, _) = leader.lease_grant(0, 1000).await.unwrap();
    leader
        .put(Put {
            lease,
            ..Put::new("leased", "1")
        })
        .await
        .unwrap();
    // A leader that has never heard of the one that is away does not wait for it.
    cluster.stop(&away).await;
    leader
        .move_leader(cluster.id(&cluster.follower().await))
        .await
        .unwrap();
    let leader = cluster.store(&cluster.leader().await);
    write_much(&leader).await;
    cluster.start(&away).await;
    let back = cluster.store(&away);
    arrived(&back).await;
    let sent = cluster.net.count(PeerCallKind::Snapshot);
    assert!(sent > 0, "it was served from the log");
    let hashes = || async {
        let revision = leader.status().await.unwrap().revision;
        let expected = leader.hash_kv(revision).await.unwrap();
        (expected == back.hash_kv(revision).await.unwrap()).then_some(())
    };
    eventually("the same content", hashes).await;
    // One that comes later.
    allowed(|| leader.member_add(vec![url("d")], false)).await;
    cluster.start("d").await;
    let new = cluster.store("d");
    arrived(&new).await;
    assert!(cluster.net.count(PeerCallKind::Snapshot) > sent);
    assert_eq!(
        new.lease_time_to_live(lease, true).await.unwrap().keys,
        ["leased"]
    );
    // And it survives a restart.
    drop((back, new));
    cluster.stop("d").await;
    cluster.start("d").await;
    assert_eq!(count(&cluster.store("d")).await, MUCH_KEYS + 1);
    drop(leader);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_cut_short_is_sent_again() {
    let mut cluster = Cluster::found_with_short_logs(&THREE, SHORT).await;
    let away = cluster.follower().await;
    cluster.stop(&away).await;
    let leader = cluster.leader().await;
    cluster
        .store(&leader)
        .move_leader(cluster.id(&cluster.follower().await))
        .await
        .unwrap();
    let leader = cluster.leader().await;
    write_much(&cluster.store(&leader)).await;
    cluster.start(&away).await;
    // The sender is cut off in the middle, and then the receiver falls over in the middle.
    for _ in 0..2 {
        let before = cluster.net.streamed_bytes.load(Ordering::Relaxed);
        eventually("a part of the snapshot", || async {
            let sent = cluster.net.streamed_bytes.load(Ordering::Relaxed);
            (sent > before + 4 * 1024 * 1024).then_some(())
        })
        .await;
        cluster.net.isolate(&away, &THREE);
        cluster.stop(&away).await;
        cluster.net.heal();
        cluster.start(&away).await;
    }
    arrived(&cluster.store(&away)).await;
    assert!(!cluster.dir(&away).join("snapshot.part").exists());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_installed_while_writes_go_on() {
    let mut cluster = Cluster::found_with_short_logs(&THREE, 200).await;
    let away = cluster.follower().await;
    cluster.stop(&away).await;
    let leader = cluster.leader().await;
    cluster
        .store(&leader)
        .move_leader(cluster.id(&cluster.follower().await))
        .await
        .unwrap();
    let leader = cluster.leader().await;
    write_much(&cluster.store(&leader)).await;
    for count in 0..500 {
        cluster
            .store(&leader)
            .put(Put::new("small", count.to_string()))
            .await
            .unwrap();
    }
    let rest: Vec<&str> = THREE.into_iter().filter(|name| *name != away).collect();
    let writers = Writers::start(&cluster, &rest, "w", 1);
    cluster.start(&away).await;
    let back = cluster.store(&away);
    let target = eventually("the leader's index", || async {
        let index = cluster.store(&leader).raft().applied_index;
        (cluster.net.count(PeerCallKind::Snapshot) > 0).then_some(index)
    })
    .await;
    eventually("it to catch up", || async {
        (back.raft().applied_index > target + 50).then_some(())
    })
    .await;
    // It takes part at once.
    back.put(Put::new("by the one that was away", "1")).await.unwrap();
    check_kept(&cluster, &THREE, &writers.stop().await).await;
    println!(
        "{} snapshots were sent",
        cluster.net.count(PeerCallKind::Snapshot)
    );
    let leader = cluster.store(&leader);
    let revision = leader.status().await.unwrap().revision;
    eventually("the same content", || async {
        (leader.hash_kv(revision).await.ok()? == back.hash_kv(revision).await.ok()?).then_some(())
    })
    .await;
    drop((leader, back));
    cluster.shutdown().await;
}

/// Three are replaced by three others, one after the other, under load; the newest are the first to go wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_are_replaced_one_by_one() {
    let mut cluster = Cluster::found_with_short_logs(&THREE, SHORT).await;
    let cluster_id = cluster.store("a").identity().cluster_id;
    let mut acknowledged = Vec::new();
    let mut present: Vec<&str> = THREE.to_vec();
    for (old, new) in [("a", "d"), ("b", "e"), ("c", "f")] {
        let stay: Vec<&str> = present.iter().copied().filter(|name| *name != old).collect();
        let writers = Writers::start(&cluster, &stay, new, 2);
        let store = cluster.store(stay[0]);
        allowed(|| store.member_add(vec![url(new)], false)).await;
        cluster.start(new).await;
        let joined = cluster.store(new);
        eventually("its vote", || async {
            let members = store.members(true).await.ok()?;
            let is_known = members.iter().all(|member| !member.name.is_empty());
            (is_known && joined.raft().leader != 0 && !joined.raft().is_learner).then_some(())
        })
        .await;
        let id = cluster.id(old);
        allowed(|| store.member_remove(id)).await;
        cluster.destroy(old).await;
        acknowledged.extend(writers.stop().await);
        present = [&stay[..], &[new]].concat();
        check_kept(&cluster, &present, &acknowledged).await;
    }
    assert_eq!(cluster.store("f").identity().cluster_id, cluster_id);
    // Their folders are all that they need.
    cluster.stop_all().await;
    cluster.start_all(&present).await;
    check_kept(&cluster, &present, &acknowledged).await;
    assert_eq!(cluster.store("d").members(true).await.unwrap().len(), 3);
    cluster.shutdown().await;
}

/// Leaders go in the middle of changes, and no change stays half made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_outlive_changes_of_leader() {
    let cluster = Cluster::found(&THREE).await;
    let mut ids: BTreeSet<u64> = THREE.iter().map(|name| cluster.id(name)).collect();
    for round in 0..6 {
        let leader = cluster.leader().await;
        let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
        let (store, target) = (cluster.store(&leader), cluster.id(others[0]));
        let adding = tokio::spawn(async move { store.member_add(vec![url("d")], true).await });
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..3_000))).await;
        if round % 2 == 0 {
            cluster.net.isolate(&leader, &THREE);
        } else {
            let _ = cluster.store(&leader).move_leader(target).await;
        }
        cluster.leader_among(&others).await;
        cluster.net.heal();
        let added = adding.await.unwrap();
        cluster.leader().await;
        let store = cluster.store(others[0]);
        let members = store.members(true).await.unwrap();
        let fourth = members.iter().find(|member| member.peer_urls == [url("d")]);
        match (&added, fourth) {
            (Ok((member, _)), Some(fourth)) => assert_eq!(member.id, fourth.id),
            (Ok(_), None) => panic!("an acknowledged member is lost"),
            (Err(Error::Unknown(_) | Error::Refused(_)), _) => {}
            (Err(error), _) => panic!("{error}"),
        }
        if let Some(fourth) = fourth {
            assert!(ids.insert(fourth.id), "an id came back");
            allowed(|| store.member_remove(fourth.id)).await;
        }
        assert_eq!(store.members(true).await.unwrap().len(), 3);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_never_return() {
    let cluster = Cluster::found(&["a"]).await;
    let store = cluster.store("a");
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let (added, _) = store.member_add(vec![url("b")], true).await.unwrap();
        assert!(ids.insert(added.id));
        store.member_remove(added.id).await.unwrap();
    }
    drop(store);
    cluster.shutdown().await;
}

/// Whether the change that removed it reached it or not, it goes on no more, and is never opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_stops_for_good() {
    for hears_of_it in [true, false] {
        let mut cluster = Cluster::found(&THREE).await;
        let gone = cluster.follower().await;
        let (id, store) = (cluster.id(&gone), cluster.store(&cluster.leader().await));
        if !hears_of_it {
            cluster.net.isolate(&gone, &THREE);
        }
        allowed(|| store.member_remove(id)).await;
        cluster.net.heal();
        let why = tokio::time::timeout(members_net::PATIENCE, cluster.store(&gone).failed())
            .await
            .unwrap();
        assert!(why.to_string().contains("permanently removed"), "{why}");
        cluster.stop(&gone).await;
        let again = cluster.try_start(&gone).await.unwrap_err();
        assert!(again.to_string().contains("permanently removed"), "{again}");
        store.put(Put::new("k", "1")).await.unwrap();
        drop(store);
        cluster.shutdown().await;
    }
}

/// One more voter, when one of three is down, would make two of four: no quorum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_added_while_one_is_down() {
    let mut cluster = Cluster::found(&THREE).await;
    let store = cluster.store(&cluster.follower().await);
    // All are well.
    let (added, _) = allowed(|| store.member_add(vec![url("d")], true)).await;
    store.member_remove(added.id).await.unwrap();
    let leader = cluster.leader().await;
    let gone = cluster.others(&leader).pop().unwrap();
    let store = cluster.store(&leader);
    cluster.stop(&gone).await;
    let beats = cluster.net.count(PeerCallKind::Append);
    eventually("the leader to notice", || async {
        (cluster.net.count(PeerCallKind::Append) > beats + 4).then_some(())
    })
    .await;
    for is_learner in [false, true] {
        assert_eq!(
            refused(store.member_add(vec![url("d")], is_learner).await),
            Refusal::UnhealthyCluster
        );
    }
    store.put(Put::new("k", "1")).await.unwrap();
    drop(store);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_alive_is_made_a_cluster_again() {
    let mut cluster = Cluster::found(&THREE).await;
    cluster.store("b").put(Put::new("k", "1")).await.unwrap();
    eventually("the key everywhere", || async {
        let request = RangeRequest {
            serializable: true,
            ..RangeRequest::key("k")
        };
        (cluster.store("a").range(request).await.unwrap().count == 1).then_some(())
    })
    .await;
    let id = cluster.id("a");
    cluster.stop("a").await;
    cluster.destroy("b").await;
    cluster.destroy("c").await;
    cluster.start_forced("a").await;
    let store = cluster.store("a");
    assert_eq!((count(&store).await, cluster.id("a")), (1, id));
    assert_eq!(store.members(true).await.unwrap().len(), 1);
    store.put(Put::new("l", "1")).await.unwrap();
    let (added, _) = allowed(|| store.member_add(vec![url("d")], false)).await;
    cluster.start("d").await;
    assert_eq!((count(&cluster.store("d")).await, cluster.id("d")), (2, added.id));
    drop(store);
    cluster.shutdown().await;
}
