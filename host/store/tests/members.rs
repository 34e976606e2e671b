//! Clusters of three and five: founding, forwarding, failover, reads, leases, restart.

#![allow(clippy::unwrap_used)]

mod members_net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capstan_store::{Error, PeerCallKind, PeerError, Put, RangeRequest, Store, conformance};
use members_net::{Cluster, PATIENCE, THREE, Writers, check_kept, eventually, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founding_forwarding_and_reading_on_every_member() {
    for names in [&THREE[..], &["a", "b", "c", "d", "e"]] {
        let cluster = Cluster::found(names).await;
        for name in names {
            let store = cluster.store(name);
            store.put(Put::new(*name, "1")).await.unwrap();
            // What one has written it sees without asking anybody, and all the others when they ask.
            assert_eq!(value(&store, name, true).await.as_deref(), Some("1"));
            for other in names {
                assert_eq!(
                    value(&cluster.store(other), name, false).await.as_deref(),
                    Some("1")
                );
            }
        }
        for name in names {
            let store = cluster.store(name);
            let members = eventually("all names and URLs", || async {
                let members = store.members(true).await.unwrap();
                members
                    .iter()
                    .all(|member| !member.client_urls.is_empty())
                    .then_some(members)
            });
            assert_eq!(members.await.len(), names.len());
        }
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_suite_on_a_follower() {
    let cluster = Cluster::found(&THREE).await;
    let follower = cluster.store(&cluster.follower().await);
    let open = || {
        let store: Arc<dyn Store> = follower.clone();
        async move { store }
    };
    conformance::run(open).await;
    drop(follower);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_takes_no_acknowledged_write_along() {
    let cluster = Cluster::found(&THREE).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let followers: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
        let writers = Writers::start(&cluster, &THREE, &round.to_string(), 2);
        eventually("some writes", || async {
            let revision = cluster.store(followers[0]).status().await.unwrap().revision;
            (revision > 200 * (round + 1)).then_some(())
        })
        .await;
        let term = cluster.store(followers[0]).raft().term;
        cluster.net.isolate(&leader, &THREE);
        cluster.leader_among(&followers).await;
        let stopping = tokio::spawn(writers.stop());
        eventually("the old leader to know", || async {
            (cluster.store(&leader).raft().leader == 0).then_some(())
        })
        .await;
        cluster.net.heal();
        cluster.leader().await;
        assert!(cluster.store(followers[0]).raft().term > term);
        check_kept(&cluster, &THREE, &stopping.await.unwrap()).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_returns_quietly() {
    let cluster = Cluster::found(&THREE).await;
    let away = cluster.follower().await;
    let leader = cluster.leader().await;
    cluster.store(&leader).put(Put::new("k", "0")).await.unwrap();
    let before = cluster.store(&leader).raft();
    cluster.net.isolate(&away, &THREE);
    eventually("the one away to miss its leader", || async {
        (cluster.store(&away).raft().leader == 0).then_some(())
    })
    .await;
    // It stands for election again and again, and nobody votes for it.
    let votes = cluster.net.count(PeerCallKind::Vote);
    eventually("it to ask for votes", || async {
        (cluster.net.count(PeerCallKind::Vote) > votes + 4).then_some(())
    })
    .await;
    for count in 0..50 {
        cluster
            .store(&leader)
            .put(Put::new("k", count.to_string()))
            .await
            .unwrap();
    }
    // Reads of what is old it serves only to those who asked for it.
    assert!(matches!(
        tokio::time::timeout(
            Duration::from_secs(1),
            cluster.store(&away).range(RangeRequest::key("k"))
        )
        .await,
        Err(_) | Ok(Err(_))
    ));
    cluster.net.heal();
    assert_eq!(
        value(&cluster.store(&away), "k", false).await.as_deref(),
        Some("49")
    );
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.store(&away).raft().term, before.term);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_never_older_than_what_was_acknowledged_before() {
    let cluster = Cluster::found(&THREE).await;
    cluster.net.disturb(2, Duration::from_millis(10));
    let (writer, stop) = (
        cluster.store(&cluster.follower().await),
        Arc::new(AtomicBool::new(false)),
    );
    let newest = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let readers: Vec<_> = THREE
        .iter()
        .flat_map(|name| [*name; 4])
        .map(|name| {
            let (store, newest, stop) = (cluster.store(name), newest.clone(), stop.clone());
            tokio::spawn(async move {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) {
                    let before = newest.load(Ordering::SeqCst);
                    let Ok(answer) = store.range(RangeRequest::key("n")).await else {
                        continue;
                    };
                    let seen: u64 = answer
                        .kvs
                        .first()
                        .map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse().unwrap());
                    assert!(seen >= before, "read {seen} after {before} was acknowledged");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let start = Instant::now();
    let mut cuts = 0;
    for count in 1..=u64::MAX {
        if start.elapsed() > Duration::from_secs(4) {
            break;
        }
        if writer.put(Put::new("n", count.to_string())).await.is_ok() {
            newest.fetch_max(count, Ordering::SeqCst);
        }
        if start.elapsed() > Duration::from_secs(2) && cuts == 0 {
            cuts = 1;
            let leader = cluster.leader().await;
            cluster.net.isolate(&leader, &THREE);
        }
    }
    cluster.net.heal();
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    let rounds = cluster.net.count(PeerCallKind::ReadIndex);
    println!(
        "{} writes, {rounds} read rounds of followers",
        newest.load(Ordering::SeqCst)
    );
    drop(writer);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_live_through_a_change_of_leader() {
    let cluster = Cluster::found(&THREE).await;
    let follower = cluster.follower().await;
    let store = cluster.store(&follower);
    let (id, ttl) = store.lease_grant(0, 3).await.unwrap();
    store
        .put(Put {
            lease: id,
            ..Put::new("leased", "1")
        })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kept_alive = Instant::now();
    assert_eq!(store.lease_keep_alive(id).await.unwrap(), ttl);
    let leader = cluster.leader().await;
    cluster.net.isolate(&leader, &THREE);
    let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
    cluster.leader_among(&others).await;
    let status = store.lease_time_to_live(id, true).await.unwrap();
    assert!(
        status.remaining_ttl_seconds >= ttl && status.keys == ["leased"],
        "{status:?}"
    );
    cluster.net.heal();
    let gone = eventually("the lease to end", || async {
        value(&store, "leased", false).await.is_none().then(Instant::now)
    })
    .await;
    assert!(
        gone - kept_alive >= Duration::from_secs(3),
        "ended after {:?}",
        gone - kept_alive
    );
    assert!(store.leases().await.unwrap().is_empty());
    assert!(matches!(
        store.lease_keep_alive(id).await,
        Err(Error::LeaseNotFound)
    ));
    drop(store);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_another_cluster_is_turned_away() {
    let cluster = Cluster::found(&THREE).await;
    let handler = cluster.store("a").peers();
    for kind in PeerCallKind::ALL {
        let answer = handler.handle(7, kind, "x".into()).await;
        assert!(
            matches!(&answer, Err(PeerError::Unreachable(why)) if why.contains("cluster ID mismatch")),
            "{answer:?}"
        );
        // And what is not understood does no harm.
        let own = cluster.store("a").identity().cluster_id;
        assert!(
            handler
                .handle(own, kind, "\u{1}xxxxxxxxxxxxxxxxxxxxxx".into())
                .await
                .is_err()
        );
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stop_and_start_again() {
    let mut cluster = Cluster::found(&THREE).await;
    let ids = THREE.map(|name| cluster.id(name));
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        // In the middle of what they do, and all at once.
        let writers = Writers::start(&cluster, &THREE, &round.to_string(), 4);
        let before = cluster.store("a").status().await.unwrap().revision;
        eventually("some writes", || async {
            (cluster.store("a").status().await.unwrap().revision > before + 100).then_some(())
        })
        .await;
        let (acknowledging, ()) = tokio::join!(tokio::spawn(writers.stop()), cluster.stop_all());
        acknowledged.extend(acknowledging.unwrap());
        cluster.start_all(&THREE).await;
        assert_eq!(THREE.map(|name| cluster.id(name)), ids);
        check_kept(&cluster, &THREE, &acknowledged).await;
    }
    // Two of three are enough, one is not: it refuses within its bound.
    cluster.stop("a").await;
    cluster.store("b").put(Put::new("two", "1")).await.unwrap();
    cluster.stop("b").await;
    let refused = tokio::time::timeout(PATIENCE, cluster.store("c").put(Put::new("one", "1")))
        .await
        .unwrap();
    assert!(
        matches!(&refused, Err(Error::Refused(_) | Error::Unknown(_))),
        "{refused:?}"
    );
    assert_eq!(
        value(&cluster.store("c"), "two", true).await.as_deref(),
        Some("1")
    );
    cluster.shutdown().await;
}

/// Prints writes per second: of one and of 64 writers, at the leader and at a follower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    let cluster = Cluster::found(&THREE).await;
    for (who, name) in [
        ("leader", cluster.leader().await),
        ("follower", cluster.follower().await),
    ] {
        for writers in [1, 64, 512] {
            let start = Instant::now();
            let writing = (0..writers).map(|writer| {
                let store = cluster.store(&name);
                tokio::spawn(async move {
                    let mut count = 0u32;
                    while start.elapsed() < Duration::from_secs(3) {
                        store
                            .put(Put::new(format!("{writer}/{count}"), vec![b'x'; 256]))
                            .await
                            .unwrap();
                        count += 1;
                    }
                    count
                })
            });
            let counts = futures::future::join_all(writing).await;
            let total: u32 = counts.into_iter().map(Result::unwrap).sum();
            println!(
                "{who}, {writers} writers: {}/s",
                f64::from(total) / start.elapsed().as_secs_f64()
            );
        }
    }
    cluster.shutdown().await;
}
