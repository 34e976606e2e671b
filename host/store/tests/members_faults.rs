//! Faults between members: ways that work in one direction, that come and go, a leader that stands still; what
//! may not be done twice, and what a lease is promised.

#![allow(clippy::unwrap_used)]

mod members_net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capstan_store::{Error, LeaseId, LocalStore, PeerCallKind, Put, RangeRequest, Store};
use members_net::{Cluster, THREE, Writers, check_kept, eventually, value};

/// A leader that is heard and hears nobody holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_is_replaced() {
    let cluster = Cluster::found(&THREE).await;
    let leader = cluster.leader().await;
    let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
    for other in &others {
        cluster.net.cut_one_way(other, &leader);
    }
    let next = cluster.leader_among(&others).await;
    cluster.store(&next).put(Put::new("k", "1")).await.unwrap();
    assert_eq!(cluster.store(&leader).raft().leader, 0);
    cluster.net.heal();
    assert_eq!(
        value(&cluster.store(&leader), "k", false).await.as_deref(),
        Some("1")
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_hears_is_replaced() {
    let cluster = Cluster::found(&THREE).await;
    let leader = cluster.leader().await;
    let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
    for other in &others {
        cluster.net.cut_one_way(&leader, other);
    }
    let next = cluster.leader_among(&others).await;
    cluster.store(&next).put(Put::new("k", "1")).await.unwrap();
    // It hears of its successor, and follows.
    eventually("the old leader to follow", || async {
        (cluster.store(&leader).raft().leader == cluster.id(&next)).then_some(())
    })
    .await;
    // What it answers is lost, so that it is not told what is committed until then.
    cluster.net.heal();
    assert_eq!(
        value(&cluster.store(&leader), "k", false).await.as_deref(),
        Some("1")
    );
    cluster.shutdown().await;
}

/// One that does not hear the leader, but is heard by all, asks for votes in vain; and so does one that comes and
/// goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_hears_little_disturbs_nobody() {
    let cluster = Cluster::found(&THREE).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let at_leader = cluster.store(&leader);
    at_leader.put(Put::new("k", "0")).await.unwrap();
    let term = at_leader.raft().term;
    cluster.net.cut_one_way(&leader, &follower);
    let votes = cluster.net.count(PeerCallKind::Vote);
    eventually("it to ask for votes", || async {
        (cluster.net.count(PeerCallKind::Vote) > votes + 4).then_some(())
    })
    .await;
    at_leader.put(Put::new("k", "1")).await.unwrap();
    cluster.net.heal();
    assert_eq!(
        value(&cluster.store(&follower), "k", false).await.as_deref(),
        Some("1")
    );
    assert_eq!(
        (cluster.leader().await, at_leader.raft().term),
        (leader.clone(), term)
    );
    let writers = Writers::start(&cluster, &[&leader], "w", 2);
    for _ in 0..8 {
        cluster.net.isolate(&follower, &THREE);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..900))).await;
        cluster.net.heal();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..200))).await;
    }
    check_kept(&cluster, &THREE, &writers.stop().await).await;
    assert_eq!((cluster.leader().await, at_leader.raft().term), (leader, term));
    drop(at_leader);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_come_and_go_lose_nothing() {
    let cluster = Cluster::found(&THREE).await;
    let writers = Writers::start(&cluster, &THREE, "w", 2);
    for _ in 0..6 {
        let leader = cluster.leader().await;
        for _ in 0..3 {
            cluster.net.isolate(&leader, &THREE);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..800))).await;
            cluster.net.heal();
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..200))).await;
        }
    }
    cluster.leader().await;
    let acknowledged = writers.stop().await;
    assert!(
        acknowledged.iter().all(|(_, count)| *count > 0),
        "{acknowledged:?}"
    );
    check_kept(&cluster, &THREE, &acknowledged).await;
    cluster.shutdown().await;
}

/// Whoever asked the leader before it stood still is answered by its successor; and the leader, when it goes on,
/// gives nobody what is old, though what it had sent arrives only now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_reads_nothing_old() {
    let cluster = Cluster::found(&THREE).await;
    let mut answered = 0;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
        let (before, after) = (format!("{round} before"), format!("{round} after"));
        cluster
            .store(&leader)
            .put(Put::new("k", before.clone()))
            .await
            .unwrap();
        cluster.net.hold(&leader);
        let read = |name: &str| {
            let store = cluster.store(name);
            tokio::spawn(async move {
                let kv = store.range(RangeRequest::key("k")).await.ok()?.kvs.pop()?;
                Some(String::from_utf8(kv.value.to_vec()).unwrap())
            })
        };
        let (at_leader, at_follower) = (read(&leader), read(others[0]));
        // A write that only the leader has heard of may be done or not, and is not known to be.
        let lost = cluster.store(&leader);
        let lost = tokio::spawn(async move { lost.put(Put::new("l", "1")).await.is_ok() });
        let next = cluster.leader_among(&others).await;
        cluster
            .store(&next)
            .put(Put::new("k", after.clone()))
            .await
            .unwrap();
        let late = read(&leader);
        // The leader is still held.
        let either = |found: &String| *found == before || *found == after;
        let found = at_follower.await.unwrap();
        answered += u32::from(found.is_some());
        assert!(found.as_ref().is_none_or(either), "{found:?}");
        assert_eq!(
            value(&cluster.store(others[1]), "k", false).await.as_ref(),
            Some(&after)
        );
        cluster.net.heal();
        let found = late.await.unwrap();
        assert!(found.as_ref().is_none_or(|found| *found == after), "{found:?}");
        let found = at_leader.await.unwrap();
        assert!(found.as_ref().is_none_or(either), "{found:?}");
        assert_eq!(
            value(&cluster.store(&leader), "k", false).await.as_ref(),
            Some(&after)
        );
        let was_written = lost.await.unwrap();
        assert!(!was_written || value(&cluster.store(&next), "l", false).await.is_some());
    }
    assert!(answered > 0, "nobody who had asked the leader was answered");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_with_an_unknown_outcome_is_sent_once() {
    let cluster = Cluster::found(&THREE).await;
    let follower = cluster.store(&cluster.follower().await);
    follower.put(Put::new("k", "0")).await.unwrap();
    cluster.net.swallow_answers(PeerCallKind::Propose);
    let sent = cluster.net.count(PeerCallKind::Propose);
    let answer = follower.put(Put::new("k", "1")).await;
    assert!(matches!(answer, Err(Error::Unknown(_))), "{answer:?}");
    assert_eq!(cluster.net.count(PeerCallKind::Propose), sent + 1);
    // A read may be asked for again.
    cluster.net.swallow_answers(PeerCallKind::ReadIndex);
    let reader = follower.clone();
    let reading = tokio::spawn(async move { reader.range(RangeRequest::key("k")).await });
    let asked = cluster.net.count(PeerCallKind::ReadIndex);
    eventually("the read to be asked for again", || async {
        (cluster.net.count(PeerCallKind::ReadIndex) > asked + 2).then_some(())
    })
    .await;
    cluster.net.heal();
    let read = reading.await.unwrap().unwrap();
    assert_eq!((read.kvs[0].version, read.kvs[0].value.as_ref()), (2, &b"1"[..]));
    drop(follower);
    cluster.shutdown().await;
}

const TTL: Duration = Duration::from_secs(8);

/// Holds a lease until told to stop; returns when the last renewal that was acknowledged was asked for.
async fn hold(store: Arc<LocalStore>, id: LeaseId, stop: Arc<AtomicBool>) -> Instant {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match store.lease_keep_alive(id).await {
            Ok(_) => last = asked,
            Err(Error::LeaseNotFound) => {
                assert!(
                    last.elapsed() >= TTL,
                    "lease {id} ended {:?} after it was renewed",
                    last.elapsed()
                );
                break;
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_held_outlive_every_change_of_leader() {
    let ttl_seconds = i64::try_from(TTL.as_secs()).unwrap();
    let cluster = Cluster::found(&THREE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut holding = Vec::new();
    for at in 0..9 {
        let store = cluster.store(THREE[at % 3]);
        let (id, _) = store.lease_grant(0, ttl_seconds).await.unwrap();
        store
            .put(Put {
                lease: id,
                ..Put::new(format!("{id}"), "1")
            })
            .await
            .unwrap();
        holding.push((id, tokio::spawn(hold(store, id, stop.clone()))));
    }
    // One that nobody holds; each new leader gives it its time anew, and the last one ends it.
    let (forgotten, _) = cluster.store("a").lease_grant(0, ttl_seconds).await.unwrap();
    for round in 0..6 {
        let leader = cluster.leader().await;
        let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
        match round % 3 {
            0 => {
                let target = cluster.id(others[0]);
                let _ = cluster.store(&leader).move_leader(target).await;
            }
            1 => cluster.net.isolate(&leader, &THREE),
            _ => cluster.net.hold(&leader),
        }
        cluster.leader_among(&others).await;
        cluster.net.heal();
    }
    cluster.leader().await;
    stop.store(true, Ordering::Relaxed);
    let store = cluster.store("a");
    let mut held = Vec::new();
    for (id, holder) in holding {
        held.push((id, holder.await.unwrap()));
    }
    for (id, last) in held {
        eventually("the lease to end", || async {
            (value(&store, &id.to_string(), false).await.is_none()).then_some(())
        })
        .await;
        assert!(last.elapsed() >= TTL, "after {:?}", last.elapsed());
    }
    eventually("the forgotten lease to end", || async {
        (!store.leases().await.ok()?.contains(&forgotten)).then_some(())
    })
    .await;
    drop(store);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_lose_two_and_go_on() {
    const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut cluster = Cluster::found(&FIVE).await;
    let first = cluster.leader().await;
    let stay: Vec<String> = cluster.others(&first).split_off(1);
    let lost = cluster.others(&first)[0].clone();
    let stay: Vec<&str> = stay.iter().map(String::as_str).collect();
    let writers = Writers::start(&cluster, &stay, "w", 2);
    let revision = || async { cluster.store(stay[0]).status().await.unwrap().revision };
    eventually("some writes", || async { (revision().await > 100).then_some(()) }).await;
    // The leader is one of those who are lost, and nobody says goodbye.
    cluster.net.isolate(&first, &FIVE);
    cluster.net.isolate(&lost, &FIVE);
    cluster.leader_among(&stay).await;
    let after = revision().await;
    eventually("more writes", || async {
        (revision().await > after + 100).then_some(())
    })
    .await;
    let acknowledged = writers.stop().await;
    check_kept(&cluster, &stay, &acknowledged).await;
    // Two of five do nothing.
    cluster.net.isolate(stay[0], &FIVE);
    eventually("no leader", || async {
        stay.iter()
            .all(|name| cluster.store(name).raft().leader == 0)
            .then_some(())
    })
    .await;
    let refused = cluster.store(stay[1]).put(Put::new("k", "1")).await;
    assert!(
        matches!(&refused, Err(Error::Refused(_) | Error::Unknown(_))),
        "{refused:?}"
    );
    cluster.net.heal();
    cluster.leader().await;
    check_kept(&cluster, &FIVE, &acknowledged).await;
    // And so it is when they are stopped.
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.stop(&leader).await;
    cluster.stop(&follower).await;
    let rest = cluster.leader().await;
    cluster.store(&rest).put(Put::new("k", "2")).await.unwrap();
    cluster.shutdown().await;
}
