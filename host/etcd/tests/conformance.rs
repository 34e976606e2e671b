//! A store at the other end of the wire, against the suite that every store must pass: on a real etcd, and on
//! our own member.

#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::Arc;

use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_store::{Store, conformance};

/// A watch from the compact revision on does not see a delete of that revision: etcd's bug until 3.4.36.
const FAILS_ON_3_4_23: [&str; 1] = ["from_the_compact_revision_sees_its_delete"];

async fn connect(url: &str) -> Arc<dyn Store> {
    let store = RemoteStore::connect(RemoteOptions::new([url])).await;
    Arc::new(store.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_conforms() {
    if !rig::has_tool("etcd") {
        return;
    }
    let etcd = rig::Etcd::start(&[]);
    conformance::run_except(&FAILS_ON_3_4_23, || connect(&etcd.client_url)).await;
}
