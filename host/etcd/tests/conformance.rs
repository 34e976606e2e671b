//! A store at the other end of the wire, against the suite that every store must pass: on a real etcd, on our
//! own member, and on a follower of three. The store in this process runs it in its own crate.

#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::Arc;

use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_store::{Store, conformance};

/// A watch from the compact revision on does not see a delete of that revision: etcd's bug until 3.4.36.
const FAILS_ON_3_4_23: [&str; 1] = ["from_the_compact_revision_sees_its_delete"];

async fn connect(options: RemoteOptions) -> Arc<dyn Store> {
    Arc::new(RemoteStore::connect(options).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_conforms() {
    if !rig::has_tool("etcd") {
        return;
    }
    let etcd = rig::Etcd::start(&[]);
    let options = || RemoteOptions::new([&etcd.client_url]);
    conformance::run_except(&FAILS_ON_3_4_23, || connect(options())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_member_conforms() {
    let member = rig::Member::start(&["--watch-progress-notify-interval=1s"]).await;
    conformance::run(|| connect(RemoteOptions::new([member.url()]))).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_three_conforms() {
    let hosts = [rig::loopback(), rig::loopback(), rig::loopback()];
    let members = rig::Member::start_three("http", &hosts, &["--watch-progress-notify-interval=1s"]).await;
    let is_follower = |member: &&rig::Member| {
        let store = member.process().store();
        store.raft().leader != store.identity().member_id
    };
    let follower = members.iter().find(is_follower).unwrap();
    conformance::run(|| connect(RemoteOptions::new([follower.url()]))).await;
    futures::future::join_all(members.into_iter().map(rig::Member::stop)).await;
}
