//! Transactions.

use bytes::Bytes;

use super::Case;
use crate::{
    Compare, CompareResult, CompareTarget, Error, KeyRange, Op, OpResponse, Put, RangeRequest, Refusal, Txn,
};

fn compare(range: KeyRange, target: CompareTarget, result: CompareResult) -> Compare {
    Compare {
        range,
        target,
        result,
    }
}

async fn succeeds(case: &Case, compare: Vec<Compare>) -> bool {
    case.store
        .txn(Txn {
            compare,
            ..Txn::default()
        })
        .await
        .unwrap()
        .succeeded
}

fn put(case: &Case, name: &str, value: &str) -> Op {
    Op::Put(Put::new(case.key(name), value.to_owned()))
}

pub(super) async fn compare_targets(case: &Case) {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let (lease, _) = case.store.lease_grant(0, 60).await.unwrap();
    let created = case.put("a", "1").await;
    let put = Put {
        lease,
        ..Put::new(case.key("a"), "m")
    };
    let (changed, _) = case.store.put(put).await.unwrap();
    type Target = fn(i64) -> CompareTarget;
    let targets: [(i64, Target); 4] = [
        (2, CompareTarget::Version),
        (created, CompareTarget::CreateRevision),
        (changed, CompareTarget::ModRevision),
        (lease, CompareTarget::Lease),
    ];
    let expectations = [
        (0, Equal, true),
        (1, Equal, false),
        (0, NotEqual, false),
        (1, NotEqual, true),
        (-1, Greater, true),
        (0, Greater, false),
        (1, Less, true),
        (0, Less, false),
    ];
    for (actual, target) in targets {
        for (offset, result, holds) in expectations {
            let target = target(actual + offset);
            let check = compare(KeyRange::Key(case.key("a")), target.clone(), result);
            assert_eq!(succeeds(case, vec![check]).await, holds, "{target:?} {result:?}");
        }
    }
    for (value, result, holds) in [
        ("m", Equal, true),
        ("n", Equal, false),
        ("l", Greater, true),
        ("n", Less, true),
    ] {
        let check = compare(
            KeyRange::Key(case.key("a")),
            CompareTarget::Value(value.into()),
            result,
        );
        assert_eq!(
            succeeds(case, vec![check]).await,
            holds,
            "value {value} {result:?}"
        );
    }
    case.store.lease_revoke(lease).await.unwrap();
}

pub(super) async fn compare_of_missing_keys_and_ranges(case: &Case) {
    use CompareResult::{Equal, Greater, NotEqual};
    let missing = KeyRange::Key(case.key("missing"));
    assert!(succeeds(case, vec![Compare::mod_revision(case.key("missing"), 0)]).await);
    assert!(
        succeeds(
            case,
            vec![compare(missing.clone(), CompareTarget::Version(0), Equal)]
        )
        .await
    );
    for result in [Equal, NotEqual] {
        let check = compare(missing.clone(), CompareTarget::Value(Bytes::new()), result);
        assert!(!succeeds(case, vec![check]).await, "a missing key has no value");
    }
    let first = case.put("r/a", "1").await;
    case.put("r/b", "2").await;
    let all = KeyRange::Prefix(case.key("r/"));
    let newer = |revision| {
        vec![compare(
            all.clone(),
            CompareTarget::CreateRevision(revision),
            Greater,
        )]
    };
    assert!(
        succeeds(case, newer(first - 1)).await,
        "all keys of the range match"
    );
    assert!(
        !succeeds(case, newer(first)).await,
        "one key of the range does not"
    );
}

pub(super) async fn one_revision_for_all_writes(case: &Case) {
    let before = case.put("z", "0").await;
    let txn = Txn {
        success: vec![put(case, "a", "1"), put(case, "b", "2")],
        ..Txn::default()
    };
    let answer = case.store.txn(txn).await.unwrap();
    assert_eq!((answer.revision, answer.succeeded), (before + 1, true));
    let kvs = case.store.range(RangeRequest::new(case.all())).await.unwrap().kvs;
    assert_eq!(
        kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(),
        [before + 1, before + 1, before]
    );
    let nothing = Op::Delete {
        range: KeyRange::Key(case.key("none")),
        prev_kv: false,
    };
    let answer = case
        .store
        .txn(Txn {
            success: vec![nothing],
            ..Txn::default()
        })
        .await
        .unwrap();
    assert_eq!(
        answer.revision,
        before + 1,
        "a transaction that changes nothing makes no revision"
    );
}

pub(super) async fn reads_see_earlier_writes(case: &Case) {
    let before = case.put("a", "old").await;
    case.put("c", "old").await;
    let all = || Op::Range(RangeRequest::new(case.all()));
    let old = RangeRequest {
        revision: before,
        ..RangeRequest::new(case.all())
    };
    let txn = Txn {
        success: vec![
            all(),
            put(case, "b", "new"),
            Op::Delete {
                range: KeyRange::Key(case.key("a")),
                prev_kv: true,
            },
            all(),
            Op::Range(old),
        ],
        ..Txn::default()
    };
    let answer = case.store.txn(txn).await.unwrap();
    let seen = |at: usize| match &answer.responses[at] {
        OpResponse::Range(range) => range
            .kvs
            .iter()
            .map(|kv| kv.key.slice(case.prefix.len()..))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (seen(0), seen(3), seen(4)),
        (
            vec!["a".into(), "c".into()],
            vec!["b".into(), "c".into()],
            vec!["a".into()]
        )
    );
    match &answer.responses[2] {
        OpResponse::Delete { deleted: 1, prev_kvs } => assert_eq!(prev_kvs[0].value, "old"),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn nested(case: &Case) {
    case.put("a", "1").await;
    let exists = |name: &str| {
        compare(
            KeyRange::Key(case.key(name)),
            CompareTarget::Version(0),
            CompareResult::Greater,
        )
    };
    let inner = Txn {
        // Looked at before anything is written, though "b" is written first.
        compare: vec![exists("b")],
        success: vec![put(case, "inner", "yes")],
        failure: vec![put(case, "inner", "no")],
    };
    let txn = Txn {
        compare: vec![exists("a")],
        success: vec![put(case, "b", "2"), Op::Txn(Box::new(inner))],
        failure: vec![],
    };
    let answer = case.store.txn(txn).await.unwrap();
    match &answer.responses[1] {
        OpResponse::Txn(inner) => assert!(!inner.succeeded),
        other => panic!("{other:?}"),
    }
    assert_eq!(case.value("inner", 0).await.as_deref(), Some(&b"no"[..]));
}

pub(super) async fn refused_ones_change_nothing(case: &Case) {
    let before = case.put("a", "1").await;
    let nested = |success, failure| {
        Op::Txn(Box::new(Txn {
            success,
            failure,
            ..Txn::default()
        }))
    };
    let delete = |name: &str| Op::Delete {
        range: KeyRange::Prefix(case.key(name)),
        prev_kv: false,
    };
    let on_missing = |change: fn(&mut Put)| {
        let mut put = Put::new(case.key("missing"), "");
        change(&mut put);
        Op::Put(put)
    };
    let invalid = [
        vec![put(case, "k", "1"), put(case, "k", "2")],
        vec![put(case, "k", "1"), delete("k")],
        vec![put(case, "k", "1"), nested(vec![put(case, "k", "2")], vec![])],
        vec![
            nested(vec![put(case, "k", "1")], vec![]),
            nested(vec![], vec![put(case, "k", "2")]),
        ],
        vec![Op::Put(Put::new("", "1"))],
        vec![Op::Put(Put {
            ignore_value: true,
            ..Put::new(case.key("a"), "given")
        })],
        (0..129).map(|n| put(case, &n.to_string(), "1")).collect(),
    ];
    for success in invalid {
        let answer = case
            .store
            .txn(Txn {
                success: success.clone(),
                ..Txn::default()
            })
            .await;
        assert!(
            matches!(answer, Err(Error::Refused(_))),
            "{success:?} gave {answer:?}"
        );
    }
    let first = || put(case, "first", "1");
    let answer = |op| {
        case.store.txn(Txn {
            success: vec![first(), op],
            ..Txn::default()
        })
    };
    assert!(matches!(
        answer(on_missing(|put| put.ignore_value = true)).await,
        Err(Error::KeyNotFound)
    ));
    assert!(matches!(
        answer(on_missing(|put| put.ignore_lease = true)).await,
        Err(Error::KeyNotFound)
    ));
    assert!(matches!(
        answer(on_missing(|put| put.lease = 1_234_567)).await,
        Err(Error::LeaseNotFound)
    ));
    let future = Op::Range(RangeRequest {
        revision: before + 1_000_000,
        ..RangeRequest::new(case.all())
    });
    assert!(matches!(answer(future).await, Err(Error::FutureRevision { .. })));
    assert_eq!(
        case.content().await.len(),
        1,
        "nothing was written by the refused ones"
    );

    let either = nested(vec![put(case, "k", "1")], vec![put(case, "k", "2")]);
    case.store
        .txn(Txn {
            success: vec![either],
            ..Txn::default()
        })
        .await
        .unwrap();
    assert_eq!(case.value("k", 0).await.as_deref(), Some(&b"1"[..]));
}

pub(super) async fn put_options(case: &Case) {
    let (lease, _) = case.store.lease_grant(0, 60).await.unwrap();
    case.store
        .put(Put {
            lease,
            ..Put::new(case.key("a"), "1")
        })
        .await
        .unwrap();
    let new_value = Put {
        ignore_lease: true,
        prev_kv: true,
        ..Put::new(case.key("a"), "2")
    };
    let (_, previous) = case.store.put(new_value).await.unwrap();
    assert_eq!(previous.map(|kv| (kv.value, kv.lease)), Some(("1".into(), lease)));
    let no_lease = Put {
        ignore_value: true,
        ..Put::new(case.key("a"), "")
    };
    case.store.put(no_lease).await.unwrap();
    let kv = case
        .store
        .range(RangeRequest::key(case.key("a")))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"2"[..], 0, 3));
    case.store.lease_revoke(lease).await.unwrap();
    assert_eq!(
        case.content().await.len(),
        1,
        "a key that left its lease outlives it"
    );
}

pub(super) async fn deletes(case: &Case) {
    for name in ["a", "b", "c"] {
        case.put(name, name).await;
    }
    let before = case.put("d", "d").await;
    let span = KeyRange::Span(case.key("a"), case.key("c"));
    let (revision, deleted, previous) = case.store.delete(span, true).await.unwrap();
    assert_eq!((revision, deleted, previous.len()), (before + 1, 2, 2));
    assert_eq!(&previous[1].value[..], b"b");
    let (revision, deleted, _) = case
        .store
        .delete(KeyRange::Key(case.key("a")), true)
        .await
        .unwrap();
    assert_eq!((revision, deleted), (before + 1, 0));
    let (_, deleted, _) = case.store.delete(case.all(), false).await.unwrap();
    assert_eq!((deleted, case.content().await.len()), (2, 0));
}

pub(super) async fn conditional_writers_exclude_one_another(case: &Case) {
    const WRITERS: usize = 8;
    const TURNS: usize = 10;
    case.put("counter", "0").await;
    let writers = (0..WRITERS).map(|_| async {
        let mut won = 0;
        while won < TURNS {
            let kv = case
                .store
                .range(RangeRequest::key(case.key("counter")))
                .await
                .unwrap()
                .kvs
                .remove(0);
            let count: usize = String::from_utf8_lossy(&kv.value).parse().unwrap();
            let txn = Txn {
                compare: vec![Compare::mod_revision(case.key("counter"), kv.mod_revision)],
                success: vec![put(case, "counter", &(count + 1).to_string())],
                failure: vec![],
            };
            won += usize::from(case.store.txn(txn).await.unwrap().succeeded);
        }
    });
    futures::future::join_all(writers).await;
    let total = (WRITERS * TURNS).to_string();
    assert_eq!(case.value("counter", 0).await, Some(total.into()));
}

/// etcd's bound of 128: a nested transaction has what those around it left.
pub(super) async fn nested_ones_share_the_bound_on_operations(case: &Case) {
    let puts = |count: usize| {
        (0..count)
            .map(|n| put(case, &n.to_string(), "1"))
            .collect::<Vec<_>>()
    };
    let within = |mut ops: Vec<Op>, inner: Vec<Op>| {
        ops.push(Op::Txn(Box::new(Txn {
            success: inner,
            ..Txn::default()
        })));
        ops
    };
    let reads = |count: usize| vec![Op::Range(RangeRequest::key(case.key("a"))); count];
    for (ops, fits) in [
        (puts(128), true),
        (puts(129), false),
        (within(reads(27), puts(100)), true),
        (within(reads(27), puts(101)), false),
        (within(Vec::new(), puts(127)), true),
        (within(Vec::new(), puts(128)), false),
    ] {
        let answer = case
            .store
            .txn(Txn {
                success: ops,
                ..Txn::default()
            })
            .await;
        match answer {
            Ok(answer) => assert!(fits && answer.succeeded),
            Err(Error::Refused(Refusal::TooManyOps)) => assert!(!fits),
            Err(other) => panic!("{other:?}"),
        }
    }
}
