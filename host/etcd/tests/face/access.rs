//! Who may do what, once auth is on.

use capstan_etcd::face::FaceOptions;
use capstan_etcd::proto::authpb::{self, permission::Type};
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::Refusal;
use tonic::{Request, Status};

use crate::server::{Server, by, get, list, put};

/// Users `root` and `reader` (who may read `a` to `b`), with their names as passwords; auth is on.
async fn guard(server: &Server) {
    let mut auth = server.auth();
    for name in ["root", "reader"] {
        let user = pb::AuthUserAddRequest {
            name: name.into(),
            password: name.into(),
            ..Default::default()
        };
        auth.user_add(user).await.expect("a user");
        auth.role_add(pb::AuthRoleAddRequest { name: name.into() })
            .await
            .expect("a role");
        let grant = pb::AuthUserGrantRoleRequest {
            user: name.into(),
            role: name.into(),
        };
        auth.user_grant_role(grant).await.expect("a grant");
    }
    let permission = pb::AuthRoleGrantPermissionRequest {
        name: "reader".into(),
        perm: Some(authpb::Permission {
            perm_type: Type::Read.into(),
            key: "a".into(),
            range_end: "b".into(),
        }),
    };
    auth.role_grant_permission(permission)
        .await
        .expect("a permission");
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("auth");
}

async fn login(server: &Server, name: &str, password: &str) -> Result<String, Status> {
    let request = pb::AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    Ok(server.auth().authenticate(request).await?.into_inner().token)
}

fn said<T>(answer: Result<T, Status>) -> Result<(), Refusal> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) => Err(Refusal::of_message(status.message()).expect("etcd's words")),
    }
}

#[tokio::test]
async fn a_token_opens_what_its_user_may() {
    let server = Server::start().await;
    guard(&server).await;
    assert_eq!(
        said(login(&server, "root", "wrong").await),
        Err(Refusal::AuthFailed)
    );
    let root = login(&server, "root", "root").await.expect("root's token");
    let reader = login(&server, "reader", "reader")
        .await
        .expect("the reader's token");
    let (mut kv, mut lease, mut maintenance) = (server.kv(), server.lease(), server.maintenance());
    kv.put(by(&root, put("a1", "v"))).await.expect("root writes");
    let denied = Err(Refusal::PermissionDenied);
    let stranger = Err(Refusal::UserEmpty);
    assert_eq!(said(kv.range(get("a1")).await), stranger);
    assert_eq!(
        said(kv.range(by("nonsense", get("a1"))).await),
        Err(Refusal::InvalidAuthToken)
    );
    assert_eq!(said(kv.range(by(&reader, get("a1"))).await), Ok(()));
    assert_eq!(said(kv.range(by(&reader, list("a", "b"))).await), Ok(()));
    assert_eq!(said(kv.range(by(&reader, list("a", "c"))).await), denied);
    assert_eq!(said(kv.put(by(&reader, put("a1", "v"))).await), denied);
    assert_eq!(said(kv.put(put("a1", "v")).await), stranger);
    let compact = pb::CompactionRequest {
        revision: 1,
        physical: false,
    };
    assert_eq!(said(kv.compact(by(&reader, compact)).await), denied);
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    assert_eq!(said(lease.lease_grant(grant).await), stranger);
    assert_eq!(said(lease.lease_grant(by(&reader, grant)).await), Ok(()));
    let leased = pb::PutRequest {
        lease: 7,
        ..put("secret", "v")
    };
    kv.put(by(&root, leased)).await.expect("root writes");
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    assert_eq!(said(lease.lease_revoke(by(&reader, revoke)).await), denied);
    let look = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    assert_eq!(said(lease.lease_time_to_live(by(&reader, look)).await), denied);
    assert_eq!(
        said(lease.lease_leases(by(&reader, pb::LeaseLeasesRequest {})).await),
        denied
    );
    assert_eq!(said(maintenance.status(pb::StatusRequest {}).await), stranger);
    assert_eq!(
        said(maintenance.status(by(&reader, pb::StatusRequest {})).await),
        Ok(())
    );
    assert_eq!(
        said(maintenance.hash(by(&reader, pb::HashRequest {})).await),
        denied
    );
    assert_eq!(
        said(maintenance.snapshot(by(&reader, pb::SnapshotRequest {})).await),
        denied
    );
    let members = pb::MemberListRequest { linearizable: true };
    assert_eq!(said(server.cluster().member_list(members).await), stranger);
    let mut auth = server.auth();
    assert_eq!(
        said(auth.user_list(by(&reader, pb::AuthUserListRequest {})).await),
        denied
    );
    let own = pb::AuthUserGetRequest {
        name: "reader".into(),
    };
    assert_eq!(said(auth.user_get(by(&reader, own)).await), Ok(()));
    let other = pb::AuthUserGetRequest { name: "root".into() };
    assert_eq!(said(auth.user_get(by(&reader, other)).await), denied);
    auth.auth_disable(by(&root, pb::AuthDisableRequest {}))
        .await
        .expect("auth off");
    assert_eq!(said(kv.put(put("a1", "v")).await), Ok(()));
}

#[tokio::test]
async fn renewing_and_watching_need_permission_too() {
    let server = Server::start().await;
    server
        .lease()
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 })
        .await
        .expect("a lease");
    let leased = pb::PutRequest {
        lease: 7,
        ..put("secret", "v")
    };
    server.kv().put(leased).await.expect("a key");
    guard(&server).await;
    let reader = login(&server, "reader", "reader").await.expect("a token");
    let renewals = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 7 }]);
    let renewed = server.lease().lease_keep_alive(by(&reader, renewals)).await;
    let renewed = renewed.expect("a stream").into_inner().message().await;
    assert_eq!(said(renewed), Err(Refusal::PermissionDenied));
    for (token, key, reason) in [
        (&reader[..], "a", ""),
        (
            &reader[..],
            "z",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            "nonsense",
            "a",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
        (
            "",
            "a",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
    ] {
        let create = pb::WatchCreateRequest {
            key: key.into(),
            ..Default::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([create]), tokio_stream::pending());
        let request = if token.is_empty() {
            Request::new(requests)
        } else {
            by(token, requests)
        };
        let mut answers = server
            .watch()
            .watch(request)
            .await
            .expect("a stream")
            .into_inner();
        let answer = answers.message().await.expect("an answer").expect("one");
        assert!(answer.created);
        assert_eq!(
            (answer.canceled, &answer.cancel_reason[..]),
            (!reason.is_empty(), reason),
            "{token} {key}"
        );
        assert_eq!(answer.watch_id, if answer.canceled { -1 } else { 0 });
    }
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    for (client_cert_auth, refusal) in [(true, Ok(())), (false, Err(Refusal::UserEmpty))] {
        let options = FaceOptions {
            client_cert_auth,
            ..FaceOptions::default()
        };
        let server = Server::start_with(options, Some("reader")).await;
        guard(&server).await;
        assert_eq!(said(server.kv().range(get("a1")).await), refusal);
        assert!(said(server.kv().range(get("z")).await).is_err());
    }
}
