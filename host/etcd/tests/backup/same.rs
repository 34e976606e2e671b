//! Whether two stores have the same content, history and leases, as clients see them.

use capstan_store::{Error, Event, KeyRange, RangeRequest, Store, WatchMessage, WatchRequest};

/// Revisions at which all keys are compared.
const REVISIONS_MAX: i64 = 40;

pub(crate) async fn assert_same(one: &dyn Store, other: &dyn Store, compacted: i64) {
    let revision = newest(one).await;
    assert_eq!(newest(other).await, revision);
    for at in (compacted..=revision)
        .rev()
        .take(REVISIONS_MAX as usize)
        .chain([compacted])
    {
        let (here, there) = (read(one, at).await.unwrap(), read(other, at).await.unwrap());
        assert!(here == there, "at {at}: {} and {} keys", here.len(), there.len());
        assert!(!here.is_empty());
    }
    for store in [one, other] {
        let error = read(store, compacted - 1).await.unwrap_err();
        assert!(matches!(error, Error::Compacted { .. }), "{error}");
    }
    let (here, there) = (
        events(one, compacted + 1, revision).await,
        events(other, compacted + 1, revision).await,
    );
    assert!(here == there, "{} and {} events", here.len(), there.len());
    assert!(!here.is_empty());
    assert_eq!(leases(one).await, leases(other).await);
}

fn all() -> KeyRange {
    KeyRange::Prefix("".into())
}

async fn newest(store: &dyn Store) -> i64 {
    store.range(RangeRequest::key("?")).await.unwrap().revision
}

async fn read(store: &dyn Store, revision: i64) -> Result<Vec<capstan_store::KeyValue>, Error> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::new(all())
    };
    store.range(request).await.map(|answer| answer.kvs)
}

async fn events(store: &dyn Store, first: i64, last: i64) -> Vec<Event> {
    let request = WatchRequest {
        range: all(),
        start_revision: first,
        prev_kv: false,
        progress_notify: false,
    };
    let mut watch = store.watch(request).await.unwrap();
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|event: &Event| event.kv().mod_revision < last)
    {
        match watch.messages.recv().await {
            Some(WatchMessage::Events { events, .. }) => seen.extend(events),
            Some(WatchMessage::Progress { .. }) => {}
            other => panic!("the watch ended: {other:?}"),
        }
    }
    seen
}

async fn leases(store: &dyn Store) -> Vec<(i64, i64, Vec<bytes::Bytes>)> {
    let mut ids = store.leases().await.unwrap();
    ids.sort_unstable();
    let mut all = Vec::new();
    for id in ids {
        let status = store.lease_time_to_live(id, true).await.unwrap();
        let mut keys = status.keys;
        keys.sort();
        all.push((id, status.granted_ttl_seconds, keys));
    }
    all
}
