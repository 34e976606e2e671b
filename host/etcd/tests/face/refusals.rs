//! What is refused, with etcd's code and words.

use std::fmt::Debug;

use capstan_etcd::proto::authpb;
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::Refusal;
use pb::request_op::Request as RequestOp;
use tonic::{Code, Response, Status};

use crate::server::{Server, get, list, put};

fn is<T: Debug>(what: &str, answer: Result<Response<T>, Status>, refusal: Refusal) {
    let status = answer.expect_err(what);
    assert_eq!(status.message(), refusal.message(), "{what}");
    assert_eq!(status.code() as i32, refusal.code().number(), "{what}");
}

fn op(request: RequestOp) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success,
        ..Default::default()
    }
}

#[tokio::test]
async fn reads_and_writes() {
    let server = Server::start().await;
    let mut kv = server.kv();
    server.put("k", "v").await;
    is("empty key", kv.range(get("")).await, Refusal::EmptyKey);
    is(
        "empty key of all",
        kv.range(list("", "\0")).await,
        Refusal::EmptyKey,
    );
    let unsorted = pb::RangeRequest {
        sort_target: 9,
        ..get("k")
    };
    is("sort", kv.range(unsorted).await, Refusal::InvalidSortOption);
    let future = pb::RangeRequest {
        revision: 99,
        ..get("k")
    };
    is("future", kv.range(future).await, Refusal::FutureRevision);
    is("put without key", kv.put(put("", "v")).await, Refusal::EmptyKey);
    let valued = pb::PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    is("value given", kv.put(valued).await, Refusal::ValueProvided);
    let leased = pb::PutRequest {
        ignore_lease: true,
        lease: 5,
        ..put("k", "v")
    };
    is("lease given", kv.put(leased).await, Refusal::LeaseProvided);
    let missing = pb::PutRequest {
        ignore_value: true,
        ..put("none", "")
    };
    is("no key to keep", kv.put(missing).await, Refusal::KeyNotFound);
    let lease = pb::PutRequest {
        lease: 77,
        ..put("k", "v")
    };
    is("no lease", kv.put(lease).await, Refusal::LeaseNotFound);
    let large = put("k", vec![0; 1536 * 1024 + 1]);
    is("too large", kv.put(large).await, Refusal::RequestTooLarge);
    let status = kv
        .put(put("k", vec![0; 3 << 20]))
        .await
        .expect_err("too large for gRPC");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status
            .message()
            .starts_with("grpc: received message larger than max (3145"),
        "{status}"
    );
    is(
        "delete",
        kv.delete_range(pb::DeleteRangeRequest::default()).await,
        Refusal::EmptyKey,
    );
}

#[tokio::test]
async fn transactions_and_compactions() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let puts = |count: usize| vec![op(RequestOp::RequestPut(put("k", "v"))); count];
    is("twice", kv.txn(txn(puts(2))).await, Refusal::DuplicateKey);
    is("129", kv.txn(txn(puts(129))).await, Refusal::TooManyOps);
    is(
        "no operation",
        kv.txn(txn(vec![pb::RequestOp::default()])).await,
        Refusal::KeyNotFound,
    );
    let nested = txn(vec![op(RequestOp::RequestTxn(txn(vec![op(
        RequestOp::RequestPut(put("", "")),
    )])))]);
    is("nested without key", kv.txn(nested).await, Refusal::EmptyKey);
    let compare = pb::TxnRequest {
        compare: vec![pb::Compare::default()],
        ..Default::default()
    };
    is("compare without key", kv.txn(compare).await, Refusal::EmptyKey);
    for value in ["1", "2", "3"] {
        server.put("k", value).await;
    }
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: true,
    };
    kv.compact(compact(3)).await.expect("a compaction");
    is(
        "compacted before",
        kv.compact(compact(3)).await,
        Refusal::Compacted,
    );
    is(
        "compacted ahead",
        kv.compact(compact(99)).await,
        Refusal::FutureRevision,
    );
    let old = pb::RangeRequest {
        revision: 2,
        ..get("k")
    };
    is("compacted", kv.range(old.clone()).await, Refusal::Compacted);
    let old = txn(vec![op(RequestOp::RequestRange(old))]);
    is(
        "compacted in a transaction",
        kv.txn(old).await,
        Refusal::Compacted,
    );
}

#[tokio::test]
async fn leases_members_and_maintenance() {
    let server = Server::start().await;
    let (mut lease, mut cluster) = (server.lease(), server.cluster());
    let grant = |id, ttl| pb::LeaseGrantRequest { id, ttl };
    lease.lease_grant(grant(5, 60)).await.expect("a lease");
    is(
        "exists",
        lease.lease_grant(grant(5, 60)).await,
        Refusal::LeaseExists,
    );
    is(
        "too long",
        lease.lease_grant(grant(6, i64::MAX)).await,
        Refusal::LeaseTtlTooLarge,
    );
    let revoke = pb::LeaseRevokeRequest { id: 99 };
    is(
        "no lease",
        lease.lease_revoke(revoke).await,
        Refusal::LeaseNotFound,
    );
    let add = |url: &str| pb::MemberAddRequest {
        peer_urls: vec![url.to_owned()],
        is_learner: true,
    };
    is(
        "bad URL",
        cluster.member_add(add("localhost")).await,
        Refusal::MemberBadUrls,
    );
    let none = pb::MemberAddRequest::default();
    is("no URL", cluster.member_add(none).await, Refusal::MemberBadUrls);
    let mut maintenance = server.maintenance();
    let downgrade = |action, version: &str| pb::DowngradeRequest {
        action,
        version: version.to_owned(),
    };
    for (action, version, refusal) in [
        (0, "3.5", Refusal::InvalidDowngradeTargetVersion),
        (1, "3.5.0", Refusal::InvalidDowngradeTargetVersion),
        (1, "three", Refusal::WrongDowngradeVersionFormat),
        (2, "", Refusal::NoInflightDowngrade),
    ] {
        is(
            version,
            maintenance.downgrade(downgrade(action, version)).await,
            refusal,
        );
    }
    let transfer = pb::MoveLeaderRequest { target_id: 1 };
    is(
        "no such member",
        maintenance.move_leader(transfer).await,
        Refusal::BadLeaderTransferee,
    );
    let hash = pb::HashKvRequest { revision: 99 };
    is(
        "hash ahead",
        maintenance.hash_kv(hash).await,
        Refusal::FutureRevision,
    );
}

#[tokio::test]
async fn users_and_roles() {
    let server = Server::start().await;
    let mut auth = server.auth();
    let user = |name: &str| pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: "p".to_owned(),
        ..Default::default()
    };
    let role = |name: &str| pb::AuthRoleAddRequest {
        name: name.to_owned(),
    };
    is(
        "no root",
        auth.auth_enable(pb::AuthEnableRequest {}).await,
        Refusal::RootUserNotExist,
    );
    is("nameless", auth.user_add(user("")).await, Refusal::UserEmpty);
    auth.user_add(user("root")).await.expect("root");
    is("twice", auth.user_add(user("root")).await, Refusal::UserExists);
    is(
        "no role",
        auth.auth_enable(pb::AuthEnableRequest {}).await,
        Refusal::RootRoleNotExist,
    );
    auth.role_add(role("r")).await.expect("a role");
    is("role twice", auth.role_add(role("r")).await, Refusal::RoleExists);
    is("nameless role", auth.role_add(role("")).await, Refusal::RoleEmpty);
    let grant = pb::AuthUserGrantRoleRequest {
        user: "root".into(),
        role: "none".into(),
    };
    is(
        "unknown role",
        auth.user_grant_role(grant).await,
        Refusal::RoleNotFound,
    );
    let revoke = pb::AuthUserRevokeRoleRequest {
        name: "root".into(),
        role: "r".into(),
    };
    is(
        "not granted",
        auth.user_revoke_role(revoke).await,
        Refusal::RoleNotGranted,
    );
    let permission = |perm| pb::AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm,
    };
    is(
        "no permission",
        auth.role_grant_permission(permission(None)).await,
        Refusal::PermissionNotGiven,
    );
    let backwards = authpb::Permission {
        key: "b".into(),
        range_end: "a".into(),
        ..Default::default()
    };
    let backwards = permission(Some(backwards));
    is(
        "backwards",
        auth.role_grant_permission(backwards).await,
        Refusal::InvalidAuthManagement,
    );
    let get = pb::AuthUserGetRequest { name: "x".into() };
    is("unknown user", auth.user_get(get).await, Refusal::UserNotFound);
    let get = pb::AuthRoleGetRequest { role: "x".into() };
    is("unknown role", auth.role_get(get).await, Refusal::RoleNotFound);
    let login = pb::AuthenticateRequest {
        name: "root".into(),
        password: "p".into(),
    };
    is(
        "auth is off",
        auth.authenticate(login).await,
        Refusal::AuthNotEnabled,
    );
}
