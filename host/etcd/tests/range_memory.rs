//! A large range streams: 200 MB are read, and the server does not grow with them.
//!
//! A test of its own, because it measures its process.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use capstan_etcd::face::{self, FaceOptions};
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::{LocalStore, Op, Options, Put, Store, Txn};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tower::Service;

const KEYS: usize = 100_000;
const KEYS_PER_WRITE: usize = 100;
const VALUE_BYTES: usize = 2_000;
/// What may be added to what the store itself takes, at any moment of the read.
const GROWTH_KB_MAX: u64 = 64 * 1024;

/// A line of this process's status, in kilobytes.
fn memory_kb(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Asks for all keys and lets go of the answer piece by piece, as a socket would; how many bytes came.
async fn read_all(face: &mut face::Face) -> usize {
    let range = pb::RangeRequest {
        key: "k/".into(),
        range_end: "k0".into(),
        ..Default::default()
    };
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(range.encoded_len()).unwrap());
    range.encode(&mut body).unwrap();
    let request = http::Request::post("/etcdserverpb.KV/Range")
        .header("content-type", "application/grpc")
        .body(Full::new(body.freeze()))
        .unwrap();
    let mut answer = face.call(request).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = answer.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, |data| data.len());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_are_read_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(Options::new(folder.path().join("store")))
        .await
        .unwrap();
    let store = Arc::new(store);
    for first in (0..KEYS).step_by(KEYS_PER_WRITE) {
        let puts = (first..first + KEYS_PER_WRITE)
            .map(|n| Op::Put(Put::new(format!("k/{n:06}"), vec![n as u8; VALUE_BYTES])));
        let txn = Txn {
            success: puts.collect(),
            ..Txn::default()
        };
        store.txn(txn).await.unwrap();
    }
    let mut face = face::service(store.clone(), FaceOptions::default());
    // Sets the peak to what is resident now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory_kb("VmRSS:");
    let bytes = read_all(&mut face).await;
    let growth = memory_kb("VmHWM:").saturating_sub(before);
    println!(
        "{} MB read; {} MB resident before, grew by {} MB at most",
        bytes / 1_000_000,
        before / 1024,
        growth / 1024
    );
    assert!(bytes > KEYS * VALUE_BYTES);
    assert!(growth < GROWTH_KB_MAX, "grew by {growth} kB");
    store.shutdown().await;
}
