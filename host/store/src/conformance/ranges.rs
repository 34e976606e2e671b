//! Reads, revisions and compaction.

use bytes::Bytes;

use super::Case;
use crate::{Error, KeyRange, KeyValue, Put, RangeRequest, Refusal};

pub(super) async fn revisions_and_versions_count_up(case: &Case) {
    let first = case.put("a", "1").await;
    assert!(first >= 2, "the first write makes revision 2");
    case.put("a", "2").await;
    let answer = case.store.range(RangeRequest::key(case.key("a"))).await.unwrap();
    let expected = KeyValue {
        key: case.key("a"),
        value: "2".into(),
        create_revision: first,
        mod_revision: first + 1,
        version: 2,
        lease: 0,
    };
    assert_eq!(
        (answer.revision, answer.count, answer.more),
        (first + 1, 1, false)
    );
    assert_eq!(answer.kvs, vec![expected]);
    case.delete("a").await;
    let again = case.put("a", "3").await;
    let answer = case.store.range(RangeRequest::key(case.key("a"))).await.unwrap();
    assert_eq!((answer.kvs[0].create_revision, answer.kvs[0].version), (again, 1));
    let status = case.store.status().await.unwrap();
    assert!(status.revision >= again && status.raft_term > 0);
}

pub(super) async fn old_revisions_are_answered(case: &Case) {
    let first = case.put("a", "1").await;
    case.put("b", "2").await;
    case.put("a", "3").await;
    case.delete("a").await;
    let expected = [(0, Some("1")), (1, Some("1")), (2, Some("3")), (3, None)];
    for (after, value) in expected {
        assert_eq!(
            case.value("a", first + after).await,
            value.map(Bytes::from),
            "at +{after}"
        );
    }
    let old = RangeRequest {
        revision: first + 2,
        ..RangeRequest::new(case.all())
    };
    let answer = case.store.range(old).await.unwrap();
    assert_eq!(
        (answer.kvs.len(), answer.count, answer.revision),
        (2, 2, first + 3)
    );
    let future = RangeRequest {
        revision: first + 1_000_000,
        ..RangeRequest::key(case.key("a"))
    };
    assert!(matches!(
        case.store.range(future).await,
        Err(Error::FutureRevision { .. })
    ));
}

pub(super) async fn limits_and_counts(case: &Case) {
    for name in ["a", "b", "c", "d"] {
        case.put(name, name).await;
    }
    case.delete("b").await;
    let all = RangeRequest::new(case.all());
    for (limit, returned, more) in [
        (0, 3, false),
        (1, 1, true),
        (2, 2, true),
        (3, 3, false),
        (9, 3, false),
    ] {
        let answer = case
            .store
            .range(RangeRequest { limit, ..all.clone() })
            .await
            .unwrap();
        assert_eq!(
            (answer.kvs.len(), answer.more, answer.count),
            (returned, more, 3),
            "limit {limit}"
        );
    }
    let answer = case
        .store
        .range(RangeRequest {
            count_only: true,
            ..all.clone()
        })
        .await
        .unwrap();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 3, false));
    let answer = case
        .store
        .range(RangeRequest {
            keys_only: true,
            ..all.clone()
        })
        .await
        .unwrap();
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1));
    let answer = case
        .store
        .range(RangeRequest {
            serializable: true,
            ..all
        })
        .await
        .unwrap();
    assert_eq!(answer.count, 3);
}

pub(super) async fn spans(case: &Case) {
    for name in ["a", "b", "ba", "c"] {
        case.put(name, name).await;
    }
    let key = |name: &str| case.key(name);
    let cases = [
        (KeyRange::Key(key("b")), 1),
        (KeyRange::Prefix(key("b")), 2),
        (KeyRange::Span(key("a"), key("c")), 3),
        (KeyRange::Span(key("c"), key("a")), 0),
        (KeyRange::Span(key("b"), key("b")), 0),
        (KeyRange::Span(key("b"), key("ba")), 1),
        (KeyRange::Prefix(key("d")), 0),
    ];
    for (range, count) in cases {
        let answer = case.store.range(RangeRequest::new(range.clone())).await.unwrap();
        assert_eq!(
            (answer.kvs.len(), answer.count),
            (count, count as i64),
            "{range:?}"
        );
    }
    let from = case
        .store
        .range(RangeRequest::new(KeyRange::From(key("b"))))
        .await
        .unwrap();
    assert!(from.count >= 3 && from.kvs.is_sorted_by_key(|kv| kv.key.clone()));
    let empty = case.store.range(RangeRequest::key("")).await;
    assert!(matches!(empty, Err(Error::Refused(Refusal::EmptyKey))));
}

pub(super) async fn many_keys(case: &Case) {
    const KEYS: usize = 1_000;
    let names: Vec<String> = (0..KEYS).map(|n| format!("{:04}", n * 7 % KEYS)).collect();
    for chunk in names.chunks(100) {
        let puts = chunk
            .iter()
            .map(|name| crate::Op::Put(Put::new(case.key(name), name.clone())));
        let txn = crate::Txn {
            success: puts.collect(),
            ..crate::Txn::default()
        };
        case.store.txn(txn).await.unwrap();
    }
    let span = |from: &str, to: &str| KeyRange::Span(case.key(from), case.key(to));
    for (from, to, count) in [
        ("0000", "9", 1_000),
        ("0001", "0999", 998),
        ("0300", "0301", 1),
        ("0450", "0750", 300),
    ] {
        let request = RangeRequest {
            limit: 5,
            ..RangeRequest::new(span(from, to))
        };
        let answer = case.store.range(request).await.unwrap();
        assert_eq!(
            (answer.count, answer.kvs.len()),
            (count, 5.min(count as usize)),
            "{from}..{to}"
        );
        assert_eq!(answer.kvs[0].key, case.key(from));
    }
    case.store.delete(span("0100", "0900"), false).await.unwrap();
    let answer = case.store.range(RangeRequest::new(case.all())).await.unwrap();
    assert_eq!((answer.count, answer.kvs.len()), (200, 200));
    assert!(answer.kvs.is_sorted_by_key(|kv| kv.key.clone()));
}

pub(super) async fn compaction(case: &Case) {
    let first = case.put("a", "1").await;
    for value in ["2", "3", "4"] {
        case.put("a", value).await;
    }
    case.store.compact(first + 2, true).await.unwrap();
    let at = |revision| RangeRequest {
        revision,
        ..RangeRequest::key(case.key("a"))
    };
    match case.store.range(at(first + 1)).await {
        Err(Error::Compacted { compact_revision }) => assert_eq!(compact_revision, first + 2),
        other => panic!("a compacted read must fail, not {other:?}"),
    }
    assert_eq!(case.value("a", first + 2).await.as_deref(), Some(&b"3"[..]));
    assert_eq!(case.value("a", 0).await.as_deref(), Some(&b"4"[..]));
    assert_eq!(case.store.status().await.unwrap().compact_revision, first + 2);
    let again = case.store.compact(first + 2, false).await;
    assert!(matches!(again, Err(Error::Compacted { .. })));
    let future = case.store.compact(first + 1_000_000, false).await;
    assert!(matches!(future, Err(Error::FutureRevision { .. })));
    let read_in_txn = crate::Txn {
        success: vec![
            crate::Op::Range(at(first)),
            crate::Op::Put(Put::new(case.key("b"), "x")),
        ],
        ..crate::Txn::default()
    };
    assert!(matches!(
        case.store.txn(read_in_txn).await,
        Err(Error::Compacted { .. })
    ));
    assert_eq!(
        case.value("b", 0).await,
        None,
        "a transaction that failed has written"
    );
}

pub(super) async fn compaction_keeps_what_is_current(case: &Case) {
    for name in ["kept", "changed", "deleted", "reborn"] {
        case.put(name, "old").await;
    }
    case.put("changed", "new").await;
    case.delete("deleted").await;
    case.delete("reborn").await;
    let last = case.put("reborn", "new").await;
    for revision in [last - 4, last - 2, last] {
        case.store.compact(revision, true).await.unwrap();
        let content = case.content().await;
        let content: Vec<_> = content
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        assert_eq!(content, [("changed", "new"), ("kept", "old"), ("reborn", "new")]);
    }
}

pub(super) async fn values_of_all_sizes(case: &Case) {
    for size in [0, 1, 4_000, 16_375, 16_376, 16_377, 40_000, 200_000, 1_400_000] {
        let value = Bytes::from((0..size).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        case.store
            .put(Put::new(case.key("a"), value.clone()))
            .await
            .unwrap();
        assert_eq!(case.value("a", 0).await, Some(value), "{size} bytes");
    }
    let large = Put::new(case.key("a"), vec![0; 2 * 1024 * 1024]);
    assert!(matches!(
        case.store.put(large).await,
        Err(Error::Refused(Refusal::RequestTooLarge))
    ));
}
