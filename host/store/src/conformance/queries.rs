//! Reads with all their options: order, bounds on revisions, both with limits, in transactions and in pages.

use super::Case;
use crate::{Op, OpResponse, Put, RangeRequest, RangeResponse, Sort, SortTarget, Txn};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Five keys that come in another order by each target; returns the first revision.
async fn fill(case: &Case) -> i64 {
    let first = case.put("c", "5").await;
    for (name, value) in [("a", "4"), ("e", "x"), ("b", "2"), ("d", "1")] {
        case.put(name, value).await;
    }
    for (name, times) in [("e", 4), ("a", 1), ("c", 3), ("b", 2)] {
        for _ in 0..times {
            let value = case.value(name, 0).await.unwrap();
            let put = Put::new(case.key(name), value);
            case.store.put(put).await.unwrap();
        }
    }
    case.put("e", "3").await;
    first
}

fn sorted(case: &Case, target: SortTarget, descending: bool) -> RangeRequest {
    RangeRequest {
        sort: Some(Sort { target, descending }),
        ..RangeRequest::new(case.all())
    }
}

fn names(case: &Case, answer: &RangeResponse) -> String {
    let keys = answer.kvs.iter().map(|kv| &kv.key[case.prefix.len()..]);
    keys.map(|key| String::from_utf8_lossy(key).into_owned())
        .collect()
}

pub(super) async fn order(case: &Case) {
    fill(case).await;
    let ascending = [
        (SortTarget::Key, "abcde"),
        (SortTarget::Version, "dabce"),
        (SortTarget::CreateRevision, "caebd"),
        (SortTarget::ModRevision, "dacbe"),
        (SortTarget::Value, "dbeac"),
    ];
    for (target, expected) in ascending {
        let reversed: String = expected.chars().rev().collect();
        for (descending, expected) in [(false, expected), (true, &reversed)] {
            for limit in [0, 1, 3, 5, 6] {
                for keys_only in [false, true] {
                    let request = RangeRequest {
                        limit,
                        keys_only,
                        ..sorted(case, target, descending)
                    };
                    let answer = case.store.range(request.clone()).await.unwrap();
                    let wanted = if limit == 0 { 5 } else { limit.min(5) };
                    assert_eq!(names(case, &answer), expected[..wanted], "{request:?}");
                    assert_eq!((answer.count, answer.more), (5, wanted < 5), "{request:?}");
                    assert!(
                        answer.kvs.iter().all(|kv| kv.value.is_empty() == keys_only),
                        "{request:?}"
                    );
                }
            }
        }
    }
}

pub(super) async fn bounds_on_revisions(case: &Case) {
    let first = fill(case).await;
    let all = RangeRequest::new(case.all());
    let at = |after: i64| first + after;
    let cases = [
        (
            RangeRequest {
                min_create_revision: at(2),
                ..all.clone()
            },
            "bde",
        ),
        (
            RangeRequest {
                max_create_revision: at(2),
                ..all.clone()
            },
            "ace",
        ),
        (
            RangeRequest {
                min_create_revision: at(1),
                max_create_revision: at(3),
                ..all.clone()
            },
            "abe",
        ),
        (
            RangeRequest {
                max_mod_revision: at(4),
                ..all.clone()
            },
            "d",
        ),
        (
            RangeRequest {
                min_mod_revision: at(5),
                ..all.clone()
            },
            "abce",
        ),
        (
            RangeRequest {
                min_mod_revision: at(1_000),
                ..all.clone()
            },
            "",
        ),
        (
            RangeRequest {
                max_mod_revision: at(4),
                revision: at(4),
                ..all.clone()
            },
            "abcde",
        ),
        (
            RangeRequest {
                min_mod_revision: at(5),
                limit: 2,
                ..all.clone()
            },
            "ab",
        ),
        (
            RangeRequest {
                min_mod_revision: at(5),
                limit: 3,
                ..sorted(case, SortTarget::CreateRevision, true)
            },
            "bea",
        ),
    ];
    for (request, expected) in cases {
        let answer = case.store.range(request.clone()).await.unwrap();
        assert_eq!(names(case, &answer), expected, "{request:?}");
        assert_eq!(answer.count, 5, "the count is of the whole range: {request:?}");
        assert_eq!(answer.more, request.limit > 0, "{request:?}");
    }
}

/// In a transaction, before and after writes of its own.
pub(super) async fn options_in_transactions(case: &Case) {
    let first = fill(case).await;
    let read = |request: RangeRequest| Op::Range(request);
    let newest = RangeRequest {
        limit: 2,
        ..sorted(case, SortTarget::ModRevision, true)
    };
    let old = RangeRequest {
        max_mod_revision: first + 4,
        ..RangeRequest::new(case.all())
    };
    let count = RangeRequest {
        count_only: true,
        ..RangeRequest::new(case.all())
    };
    let txn = Txn {
        success: vec![
            read(newest.clone()),
            Op::Put(Put::new(case.key("d"), "0")),
            read(newest),
            read(old),
            read(sorted(case, SortTarget::Value, false)),
            read(count),
        ],
        ..Txn::default()
    };
    let answer = case.store.txn(txn).await.unwrap();
    let expected = [
        ("eb", 5, true),
        ("de", 5, true),
        ("", 5, false),
        ("dbeac", 5, false),
        ("", 5, false),
    ];
    let ranges = answer.responses.iter().filter_map(|response| match response {
        OpResponse::Range(range) => Some((names(case, range), range.count, range.more)),
        _ => None,
    });
    let expected = expected.map(|(names, count, more)| (names.to_owned(), count, more));
    assert_eq!(ranges.collect::<Vec<_>>(), expected);
}

pub(super) async fn pages(case: &Case) {
    fill(case).await;
    let all = RangeRequest::new(case.all());
    for request in [
        all.clone(),
        RangeRequest {
            limit: 3,
            ..all.clone()
        },
        RangeRequest {
            keys_only: true,
            ..all.clone()
        },
        RangeRequest {
            count_only: true,
            ..all.clone()
        },
        sorted(case, SortTarget::Version, true),
        RangeRequest::key(case.key("none")),
    ] {
        let whole = case.store.range(request.clone()).await.unwrap();
        let mut stream = case.store.range_stream(request.clone()).await.unwrap();
        let mut kvs = Vec::new();
        while let Some(page) = stream.pages.recv().await {
            kvs.extend(page.unwrap());
        }
        assert_eq!(kvs, whole.kvs, "{request:?}");
        assert_eq!(
            (stream.count, stream.more),
            (whole.count, whole.more),
            "{request:?}"
        );
    }
    assert_eq!(case.content().await.len(), NAMES.len());
}
