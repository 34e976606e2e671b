//! Leases.

use super::{Case, PATIENCE, next};
use crate::{Error, Event, LeaseId, Put, Refusal, WatchMessage, WatchRequest};

async fn put(case: &Case, name: &str, lease: LeaseId) {
    case.store
        .put(Put {
            lease,
            ..Put::new(case.key(name), "1")
        })
        .await
        .unwrap();
}

pub(super) async fn grant_and_revoke(case: &Case) {
    let (chosen, ttl) = case.store.lease_grant(0, 60).await.unwrap();
    assert!(chosen > 0 && ttl == 60);
    let named = chosen / 2 + 1;
    assert_eq!(case.store.lease_grant(named, 100).await.unwrap(), (named, 100));
    assert!(matches!(
        case.store.lease_grant(named, 100).await,
        Err(Error::LeaseExists)
    ));
    let leases = case.store.leases().await.unwrap();
    assert!(leases.contains(&chosen) && leases.contains(&named));
    put(case, "a", named).await;
    put(case, "b", named).await;
    let status = case.store.lease_time_to_live(named, true).await.unwrap();
    assert_eq!(
        (status.granted_ttl_seconds, status.keys),
        (100, vec![case.key("a"), case.key("b")])
    );
    assert!((90..=100).contains(&status.remaining_ttl_seconds));
    let before = case.put("kept", "1").await;
    case.store.lease_revoke(named).await.unwrap();
    assert_eq!(case.content().await.len(), 1);
    assert_eq!(
        case.put("kept", "2").await,
        before + 2,
        "both keys went in one revision"
    );
    assert!(matches!(
        case.store.lease_revoke(named).await,
        Err(Error::LeaseNotFound)
    ));
    assert!(matches!(
        case.store.lease_keep_alive(named).await,
        Err(Error::LeaseNotFound)
    ));
    assert_eq!(
        case.store
            .lease_time_to_live(named, false)
            .await
            .unwrap()
            .remaining_ttl_seconds,
        -1
    );
    case.store.lease_revoke(chosen).await.unwrap();
}

pub(super) async fn expiry_deletes_the_keys(case: &Case) {
    let (lease, _) = case.store.lease_grant(0, 1).await.unwrap();
    let range = case.all();
    let asked = WatchRequest {
        range,
        start_revision: 0,
        prev_kv: false,
        progress_notify: false,
    };
    let mut watch = case.store.watch(asked).await.unwrap();
    put(case, "a", lease).await;
    let deleted = |message: &WatchMessage| match message {
        WatchMessage::Events { events, .. } => matches!(events[..], [Event::Delete { .. }]),
        _ => false,
    };
    while !deleted(&next(&mut watch).await) {}
    assert!(case.content().await.is_empty());
    assert!(!case.store.leases().await.unwrap().contains(&lease));
}

pub(super) async fn keep_alive(case: &Case) {
    let (lease, ttl) = case.store.lease_grant(0, 2).await.unwrap();
    put(case, "a", lease).await;
    let start = tokio::time::Instant::now();
    while start.elapsed().as_secs() < ttl as u64 + 1 {
        assert_eq!(case.store.lease_keep_alive(lease).await.unwrap(), ttl);
        tokio::time::sleep(PATIENCE / 100).await;
    }
    assert_eq!(
        case.content().await.len(),
        1,
        "a lease that is renewed outlives its time"
    );
    case.store.lease_revoke(lease).await.unwrap();
}

pub(super) async fn keys_move_between_leases(case: &Case) {
    let (first, _) = case.store.lease_grant(0, 60).await.unwrap();
    let (second, _) = case.store.lease_grant(0, 60).await.unwrap();
    put(case, "moved", first).await;
    put(case, "freed", first).await;
    put(case, "stays", first).await;
    put(case, "moved", second).await;
    put(case, "freed", 0).await;
    case.store.lease_revoke(first).await.unwrap();
    let names: Vec<_> = case.content().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["freed", "moved"]);
    case.store.lease_revoke(second).await.unwrap();
    assert_eq!(case.content().await.len(), 1);
}

pub(super) async fn listing_and_bounds(case: &Case) {
    let mut granted = Vec::new();
    for _ in 0..5 {
        granted.push(case.store.lease_grant(0, 100).await.unwrap().0);
    }
    let listed = case.store.leases().await.unwrap();
    assert!(granted.iter().all(|id| listed.contains(id)));
    for id in &granted {
        case.store.lease_revoke(*id).await.unwrap();
    }
    let listed = case.store.leases().await.unwrap();
    assert!(!granted.iter().any(|id| listed.contains(id)));
    let too_long = case.store.lease_grant(0, 9_000_000_001).await;
    assert!(
        matches!(too_long, Err(Error::Refused(Refusal::LeaseTtlTooLarge))),
        "{too_long:?}"
    );
    // One that an election could not fit in is made longer.
    let (lease, ttl) = case.store.lease_grant(0, 1).await.unwrap();
    assert!(ttl >= 1);
    let status = case.store.lease_time_to_live(lease, true).await.unwrap();
    assert_eq!((status.granted_ttl_seconds, status.keys.len()), (ttl, 0));
    let attached = case
        .store
        .put(Put {
            lease: lease + 1,
            ..Put::new(case.key("a"), "1")
        })
        .await;
    assert!(matches!(attached, Err(Error::LeaseNotFound)));
    case.store.lease_revoke(lease).await.unwrap();
}
