//! What is answered: headers, options, large ranges, leases, status.

use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::{RangeRequest, Store};
use pb::request_op::Request as RequestOp;
use pb::response_op::Response as ResponseOp;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;

use crate::server::{PATIENCE, Server, get, list, put};

#[tokio::test]
async fn headers_say_who_and_when() {
    let server = Server::start().await;
    let identity = server.store.identity();
    let told = server
        .kv()
        .put(put("k", "v"))
        .await
        .expect("a put")
        .into_inner()
        .header;
    let told = told.expect("a header");
    assert_eq!(told.cluster_id, identity.cluster_id);
    assert_eq!(told.member_id, identity.member_id);
    assert_eq!(told.raft_term, server.store.raft().term);
    assert_eq!(told.revision, 2);
    let status = server
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .expect("a status")
        .into_inner();
    assert_eq!(status.leader, identity.member_id);
    assert!(status.version.starts_with("3.6."));
    assert!(status.errors.is_empty() && status.db_size > 0 && status.raft_applied_index > 0);
    let members = server
        .cluster()
        .member_list(pb::MemberListRequest { linearizable: true })
        .await;
    let members = members.expect("members").into_inner();
    assert_eq!(members.header.expect("a header").revision, 0);
    assert_eq!(members.members[0].id, identity.member_id);
}

#[tokio::test]
async fn a_transaction_is_answered_operation_by_operation() {
    let server = Server::start().await;
    server.put("k", "old").await;
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let compare = pb::Compare {
        key: "k".into(),
        target: pb::compare::CompareTarget::Value.into(),
        target_union: Some(pb::compare::TargetUnion::Value("old".into())),
        ..Default::default()
    };
    let nested = pb::TxnRequest {
        failure: vec![op(RequestOp::RequestRange(get("k")))],
        compare: vec![pb::Compare {
            target_union: Some(pb::compare::TargetUnion::Value("other".into())),
            ..compare.clone()
        }],
        ..Default::default()
    };
    let overwrite = pb::PutRequest {
        prev_kv: true,
        ..put("k", "new")
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(RequestOp::RequestRange(get("k"))),
            op(RequestOp::RequestPut(overwrite)),
            op(RequestOp::RequestTxn(nested)),
        ],
        failure: Vec::new(),
    };
    let answer = server.kv().txn(txn).await.expect("a transaction").into_inner();
    assert!(answer.succeeded);
    assert_eq!(answer.header.expect("a header").revision, 3);
    let mut responses = answer
        .responses
        .into_iter()
        .map(|op| op.response.expect("a response"));
    let Some(ResponseOp::ResponseRange(range)) = responses.next() else {
        panic!("not a range");
    };
    let header = range.header.expect("a header");
    assert_eq!((header.revision, header.cluster_id), (2, 0));
    assert_eq!(&range.kvs[0].value[..], b"old");
    let Some(ResponseOp::ResponsePut(put)) = responses.next() else {
        panic!("not a put");
    };
    assert_eq!(put.header.expect("a header").revision, 3);
    assert_eq!(&put.prev_kv.expect("what was there").value[..], b"old");
    let Some(ResponseOp::ResponseTxn(nested)) = responses.next() else {
        panic!("not a transaction");
    };
    assert_eq!(nested.header, Some(pb::ResponseHeader::default()));
    let Some(ResponseOp::ResponseRange(range)) = nested.responses[0].response.clone() else {
        panic!("not a range");
    };
    assert!(!nested.succeeded);
    assert_eq!(&range.kvs[0].value[..], b"new");
}

#[tokio::test]
async fn ranges_take_all_their_options() {
    use pb::range_request::{SortOrder, SortTarget};
    let server = Server::start().await;
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "4")] {
        server.put(key, value).await;
    }
    let all = || list("\0", "\0");
    let cases: Vec<(pb::RangeRequest, &str, bool, i64)> = vec![
        (all(), "abc", false, 3),
        (pb::RangeRequest { limit: 2, ..all() }, "ab", true, 3),
        (pb::RangeRequest { limit: -1, ..all() }, "abc", false, 3),
        (pb::RangeRequest { revision: 2, ..all() }, "a", false, 1),
        (
            pb::RangeRequest {
                count_only: true,
                ..all()
            },
            "",
            false,
            3,
        ),
        (
            pb::RangeRequest {
                sort_order: SortOrder::Descend.into(),
                limit: 1,
                ..all()
            },
            "c",
            true,
            3,
        ),
        (
            pb::RangeRequest {
                sort_target: SortTarget::Value.into(),
                ..all()
            },
            "bca",
            false,
            3,
        ),
        (
            pb::RangeRequest {
                sort_target: SortTarget::Mod.into(),
                ..all()
            },
            "bca",
            false,
            3,
        ),
        (
            pb::RangeRequest {
                min_mod_revision: 4,
                ..all()
            },
            "ac",
            false,
            3,
        ),
        (
            pb::RangeRequest {
                max_create_revision: 3,
                ..all()
            },
            "ab",
            false,
            3,
        ),
        (list("b", "a"), "", false, 0),
        (list("b", "b"), "", false, 0),
    ];
    for (request, keys, more, count) in cases {
        let answer = server
            .kv()
            .range(request.clone())
            .await
            .expect("a range")
            .into_inner();
        let told: String = answer
            .kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect();
        assert_eq!(
            (&told[..], answer.more, answer.count),
            (keys, more, count),
            "{request:?}"
        );
    }
    let keys = pb::RangeRequest {
        keys_only: true,
        ..all()
    };
    let answer = server.kv().range(keys).await.expect("keys").into_inner();
    assert!(
        answer
            .kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.mod_revision > 0)
    );
}

#[tokio::test]
async fn a_large_range_arrives_whole() {
    const KEYS: usize = 3_000;
    const VALUE_BYTES: usize = 10_000;
    let server = Server::start().await;
    let mut puts = Vec::new();
    for at in 0..KEYS {
        let value = vec![u8::try_from(at % 251).expect("small"); VALUE_BYTES + at % 7];
        puts.push(capstan_store::Op::Put(capstan_store::Put::new(
            format!("key/{at:05}"),
            value,
        )));
    }
    while !puts.is_empty() {
        let success = puts.split_off(puts.len().saturating_sub(100));
        let txn = capstan_store::Txn {
            success,
            ..Default::default()
        };
        server.store.txn(txn).await.expect("a transaction");
    }
    let answer = server
        .kv()
        .range(list("key/", "key0"))
        .await
        .expect("a range")
        .into_inner();
    let stored = server
        .store
        .range(RangeRequest::prefix("key/"))
        .await
        .expect("a range");
    assert_eq!(answer.count, i64::try_from(KEYS).expect("small"));
    assert_eq!(answer.kvs.len(), KEYS);
    for (told, kv) in answer.kvs.iter().zip(&stored.kvs) {
        assert_eq!(
            (&told.key, &told.value, told.mod_revision),
            (&kv.key, &kv.value, kv.mod_revision)
        );
    }
}

#[tokio::test]
async fn leases_are_renewed_on_a_stream() {
    let server = Server::start().await;
    let mut lease = server.lease();
    let granted = lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
        .await
        .expect("a lease");
    let pb::LeaseGrantResponse { id, ttl, .. } = granted.into_inner();
    assert_eq!(ttl, 60);
    let leased = pb::PutRequest {
        lease: id,
        ..put("k", "v")
    };
    server.kv().put(leased).await.expect("a put");
    let renewals = [id, 12345, id].map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = lease
        .lease_keep_alive(tokio_stream::iter(renewals))
        .await
        .expect("a stream");
    let answers: Vec<_> = answers
        .into_inner()
        .map(|answer| answer.expect("a renewal"))
        .collect()
        .await;
    let told: Vec<_> = answers.iter().map(|answer| (answer.id, answer.ttl)).collect();
    assert_eq!(told, [(id, 60), (12345, 0), (id, 60)]);
    let look = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
    let seen = lease
        .lease_time_to_live(look(id))
        .await
        .expect("a lease")
        .into_inner();
    assert_eq!((seen.granted_ttl, &seen.keys[..]), (60, &["k".into()][..]));
    assert!((50..=60).contains(&seen.ttl));
    let unknown = lease
        .lease_time_to_live(look(9))
        .await
        .expect("no lease")
        .into_inner();
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (9, -1, 0));
    let leases = lease
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .expect("leases")
        .into_inner();
    assert_eq!(leases.leases, [pb::LeaseStatus { id }]);
    lease
        .lease_revoke(pb::LeaseRevokeRequest { id })
        .await
        .expect("an end");
    let left = server.kv().range(get("k")).await.expect("a range").into_inner();
    assert_eq!(left.count, 0);
}

#[tokio::test]
async fn alarms_are_raised_and_disarmed() {
    use pb::alarm_request::AlarmAction;
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let member_id = server.store.identity().member_id;
    let ask = |action: AlarmAction, alarm: pb::AlarmType| pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let nospace = pb::AlarmMember {
        member_id,
        alarm: pb::AlarmType::Nospace.into(),
    };
    let steps = [
        (ask(AlarmAction::Get, pb::AlarmType::None), vec![]),
        (ask(AlarmAction::Activate, pb::AlarmType::None), vec![]),
        (ask(AlarmAction::Activate, pb::AlarmType::Nospace), vec![nospace]),
        (ask(AlarmAction::Get, pb::AlarmType::None), vec![nospace]),
        (ask(AlarmAction::Get, pb::AlarmType::Corrupt), vec![]),
    ];
    for (request, alarms) in steps {
        let answer = maintenance.alarm(request).await.expect("an answer").into_inner();
        assert_eq!(answer.alarms, alarms, "{request:?}");
    }
    let refused = server.kv().put(put("k", "v")).await.expect_err("no space");
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .expect("a status")
        .into_inner();
    assert_eq!(status.errors, [format!("memberID:{member_id} alarm:NOSPACE ")]);
    for alarms in [vec![nospace], vec![]] {
        let disarm = ask(AlarmAction::Deactivate, pb::AlarmType::Nospace);
        let answer = maintenance.alarm(disarm).await.expect("an answer").into_inner();
        assert_eq!(answer.alarms, alarms);
    }
    server.put("k", "v").await;
}

#[tokio::test]
async fn hashes_follow_the_keys_and_a_snapshot_ends_in_its_own() {
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let revision = server.put("k", "v").await;
    let hash = |revision| pb::HashKvRequest { revision };
    let before = maintenance.hash_kv(hash(0)).await.expect("a hash").into_inner();
    assert_eq!(before.hash_revision, revision);
    server.put("k", "w").await;
    let after = maintenance.hash_kv(hash(0)).await.expect("a hash").into_inner();
    let again = maintenance
        .hash_kv(hash(revision))
        .await
        .expect("a hash")
        .into_inner();
    assert_ne!(before.hash, after.hash);
    assert_eq!(before.hash, again.hash);
    maintenance.hash(pb::HashRequest {}).await.expect("a hash");
    maintenance
        .defragment(pb::DefragmentRequest {})
        .await
        .expect("defragmented");
    let parts = maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .expect("a stream")
        .into_inner();
    let parts: Vec<_> = tokio::time::timeout(PATIENCE, parts.map(|part| part.expect("a part")).collect())
        .await
        .expect("an end");
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.blob.clone()).collect();
    let (data, digest) = bytes.split_at(bytes.len() - 32);
    assert_eq!(Sha256::digest(data)[..], *digest);
    assert_eq!(bytes.len() % 512, 32);
    assert_eq!(parts.last().expect("a part").remaining_bytes, 0);
    assert_eq!(
        parts[0].remaining_bytes,
        (data.len() - parts[0].blob.len()) as u64
    );
}

/// As the face has it.
const SNAPSHOTS_MAX: usize = 4;

#[tokio::test]
async fn only_so_many_snapshots_are_sent_at_once() {
    let server = Server::start().await;
    // More than what is on its way to a client that does not read.
    for key in ["a", "b", "c", "d"] {
        server.put(key, vec![7; 1024 * 1024]).await;
    }
    let mut maintenance = server.maintenance();
    let mut begun = Vec::new();
    for _ in 0..SNAPSHOTS_MAX {
        let parts = maintenance
            .snapshot(pb::SnapshotRequest {})
            .await
            .expect("a stream");
        begun.push(parts.into_inner());
    }
    let refused = maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .expect_err("one too many");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(
        refused.message().contains("4 snapshots are being sent"),
        "{refused}"
    );
    // One that is given up makes room, and so does one that is read to its end.
    begun.truncate(1);
    let mut read = begun.remove(0);
    while let Some(part) = read.next().await {
        part.expect("a part");
    }
    drop(read);
    let again = async {
        while begun.len() < SNAPSHOTS_MAX {
            match maintenance.snapshot(pb::SnapshotRequest {}).await {
                Ok(parts) => begun.push(parts.into_inner()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("room again");
}
