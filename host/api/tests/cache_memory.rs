//! What the watch cache holds in memory, against the JSON that it stands for.
//!
//! The same API server is started in processes of their own, on an empty store and on one with many pods: the
//! difference of their private memory is the caches', and what the store and the allocator keep besides.

#![allow(missing_docs, clippy::unwrap_used)]

mod rig;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use capstan_api::UserInfo;
use capstan_store::{KeyRange, LocalStore, Op, Options, Put, RangeRequest, Store, Txn};
use rig::Rig;
use serde_json::{Value, json};
use tower::ServiceExt;

const PODS: usize = 20_000;
/// Memory to JSON at most.
const RATIO_MAX: f64 = 1.5;
/// Says in which folder a child's store is.
const CHILD: &str = "CAPSTAN_CACHE_MEMORY_OF";

#[tokio::main]
async fn main() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return start_on(Path::new(&folder)).await;
    }
    let (few, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pod = stored_pod().await;
    fill(few.path(), &pod, 1).await;
    fill(many.path(), &pod, PODS).await;
    let [(empty, _), (full, json)] = [few.path(), many.path()].map(child);
    let ratio = (full - empty) as f64 / json as f64;
    println!(
        "{PODS} pods of {} bytes: {} kB in memory for {} kB of JSON, {ratio:.2} times (at most {RATIO_MAX})",
        json / PODS,
        (full - empty) / 1024,
        json / 1024,
    );
    assert!(ratio <= RATIO_MAX, "{ratio}");
    assert!(ratio > 0.9, "{ratio}: the pods are not in memory, so that nothing is measured");
}

async fn open(folder: &Path) -> Arc<LocalStore> {
    let options = Options {
        space_reserve_bytes: 0,
        ..Options::new(folder.join("store"))
    };
    Arc::new(LocalStore::open(options).await.unwrap())
}

/// A pod as the API server itself stores it.
async fn stored_pod() -> Value {
    let rig = Rig::start().await;
    let pod = json!({
        "metadata": { "name": "pod-000000", "labels": { "app": "app-00", "tier": "web" } },
        "spec": { "containers": [{
            "name": "main", "image": "registry.example.com/team/service:1.2.3",
            "ports": [{ "containerPort": 8080 }],
            "env": [{ "name": "MODE", "value": "production" }, { "name": "LEVEL", "value": "info" }],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
        }]},
    });
    let request = http::Request::post("/api/v1/namespaces/default/pods")
        .header("content-type", "application/json")
        .body(capstan_api::Body::from(pod.to_string()));
    let service = rig.api.service(UserInfo::admin("test"));
    let answer = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 201);
    let key = "/registry/pods/default/pod-000000";
    let read = rig.store.range(RangeRequest::new(KeyRange::Key(key.into()))).await;
    let pod = serde_json::from_slice(&read.unwrap().kvs[0].value).unwrap();
    rig.stop().await;
    pod
}

async fn fill(folder: &Path, pod: &Value, count: usize) {
    let store = open(folder).await;
    let text = canonical(pod);
    for first in (0..count).step_by(100) {
        let put = |n: usize| {
            let name = format!("pod-{n:06}");
            let uid = format!("{n:08}-0000-4000-8000-000000000000");
            let own = text.replace("pod-000000", &name);
            let own = own.replace(pod["metadata"]["uid"].as_str().unwrap(), &uid);
            Op::Put(Put::new(format!("/registry/pods/default/{name}"), own.into_bytes()))
        };
        let txn = Txn {
            compare: Vec::new(),
            success: (first..count.min(first + 100)).map(put).collect(),
            failure: Vec::new(),
        };
        assert!(store.txn(txn).await.unwrap().succeeded);
    }
    store.shutdown().await;
}

/// The order in which the API server stores.
fn canonical(pod: &Value) -> String {
    let mut rest = pod.clone();
    let rest = rest.as_object_mut().unwrap();
    let mut take = |name: &str| rest.remove(name).unwrap();
    let (kind, version, metadata) = (take("kind"), take("apiVersion"), take("metadata"));
    let rest = serde_json::to_string(rest).unwrap();
    format!(
        r#"{{"kind":{kind},"apiVersion":{version},"metadata":{metadata},{}"#,
        &rest[1..]
    )
}

/// Private memory in bytes of an API server on a folder's store, and the bytes of its pods.
fn child(folder: &Path) -> (usize, usize) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(CHILD, folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures: Vec<usize> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match figures[..] {
        [memory, json] => (memory, json),
        _ => panic!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

async fn start_on(folder: &Path) {
    let rig = Rig::resume(open(folder).await).await;
    let memory = anonymous_bytes();
    let request = http::Request::get("/api/v1/pods").body(capstan_api::Body::empty());
    let service = rig.api.service(UserInfo::admin("test"));
    let answer = service.oneshot(request.unwrap()).await.unwrap();
    let json = answer.into_body().collect(usize::MAX).await.unwrap().unwrap().len();
    println!("{memory} {json}");
    rig.stop().await;
}

fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}
