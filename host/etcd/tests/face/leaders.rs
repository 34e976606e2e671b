//! Members that have no leader, or no vote.

use std::time::Duration;

use capstan_etcd::face::FaceOptions;
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::Refusal;
use tonic::{Request, Status};

use crate::members_net::{Cluster, PATIENCE, eventually, url};
use crate::server::{Server, get, put};

fn requiring<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let yes = "true".parse().expect("text");
    request.metadata_mut().insert("hasleader", yes);
    request
}

fn is_no_leader(status: &Status) -> bool {
    status.message() == Refusal::NoLeader.message() && status.code() == tonic::Code::Unavailable
}

/// It answers of itself what it has, a serializable read too, and tells its status.
async fn serves_alone(server: &Server) -> pb::StatusResponse {
    let serializable = pb::RangeRequest {
        serializable: true,
        ..get("k")
    };
    let read = server
        .kv()
        .range(serializable)
        .await
        .expect("a read")
        .into_inner();
    assert_eq!(read.count, 1);
    server
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .expect("a status")
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_ask_for_a_leader_end_without_one() {
    let mut cluster = Cluster::found(&["a", "b"]).await;
    let options = FaceOptions {
        election: Duration::from_millis(100),
        ..FaceOptions::default()
    };
    let server = Server::of(cluster.store("a"), options, None).await;
    server.put("k", "v").await;
    let watches = server.watch().watch(requiring(tokio_stream::pending())).await;
    let mut watches = watches.expect("a stream").into_inner();
    let renewals = server
        .lease()
        .lease_keep_alive(requiring(tokio_stream::pending()))
        .await;
    let mut renewals = renewals.expect("a stream").into_inner();
    cluster.stop("b").await;
    let ends = async { (watches.message().await.err(), renewals.message().await.err()) };
    let (watches, renewals) = tokio::time::timeout(PATIENCE, ends).await.expect("both end");
    assert!(is_no_leader(&watches.expect("an error")));
    assert!(is_no_leader(&renewals.expect("an error")));
    let refused = server
        .kv()
        .put(requiring(put("k", "v")))
        .await
        .expect_err("no leader");
    assert!(is_no_leader(&refused), "{refused}");
    let refused = server.watch().watch(requiring(tokio_stream::empty())).await;
    assert!(is_no_leader(&refused.expect_err("no leader")));
    let status = serves_alone(&server).await;
    assert_eq!(
        (status.leader, &status.errors[..]),
        (0, &[Refusal::NoLeader.message().to_owned()][..])
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_answers_what_etcds_does() {
    let mut cluster = Cluster::found(&["a"]).await;
    let leader = Server::of(cluster.store("a"), FaceOptions::default(), None).await;
    leader.put("k", "v").await;
    let add = pb::MemberAddRequest {
        peer_urls: vec![url("l")],
        is_learner: true,
    };
    let added = leader
        .cluster()
        .member_add(add)
        .await
        .expect("a learner")
        .into_inner();
    assert!(added.member.expect("it").is_learner && added.members.len() == 2);
    cluster.start("l").await;
    let learner = cluster.store("l");
    eventually("the learner has caught up", || async {
        (learner.revision() == 2).then_some(())
    })
    .await;
    eventually("it knows what it is", || async {
        learner.raft().is_learner.then_some(())
    })
    .await;
    let server = Server::of(learner, FaceOptions::default(), None).await;
    let status = serves_alone(&server).await;
    assert!(status.is_learner);
    server
        .maintenance()
        .snapshot(pb::SnapshotRequest {})
        .await
        .expect("a snapshot");
    let refused = [
        server.kv().range(get("k")).await.map(drop),
        server.kv().put(put("k", "v")).await.map(drop),
        server.watch().watch(tokio_stream::empty()).await.map(drop),
        server
            .lease()
            .lease_keep_alive(tokio_stream::empty())
            .await
            .map(drop),
        server
            .cluster()
            .member_list(pb::MemberListRequest::default())
            .await
            .map(drop),
        server
            .auth()
            .auth_status(pb::AuthStatusRequest {})
            .await
            .map(drop),
    ];
    for refused in refused {
        let refused = refused.expect_err("refused");
        assert_eq!(refused.message(), Refusal::NotSupportedForLearner.message());
    }
    cluster.shutdown().await;
}
