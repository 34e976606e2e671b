//! Measures the hot paths in process: create and GET of a pod, LIST of 5,000 nodes in JSON and protobuf.
//! `cargo run --release -p capstan-api --example measure`
#![allow(clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::time::Instant;

use capstan_api::{Body, UserInfo};
use serde_json::{Value, json};
use tower::ServiceExt;

const NODES: usize = 5000;
const PODS: usize = 500;
const AT_ONCE: usize = 32;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::main]
async fn main() {
    let rig = rig::Rig::start().await;
    let ask_for = async |accept: &'static str, method: &'static str, path: String, body: Value| {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .body(body)
            .unwrap();
        let response = rig
            .api
            .service(UserInfo::admin("measure"))
            .oneshot(request)
            .await
            .unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        response
            .into_body()
            .collect(1 << 30)
            .await
            .unwrap()
            .unwrap()
            .len()
    };
    let ask = async |method, path, body| ask_for(JSON, method, path, body).await;
    let started = Instant::now();
    let mut left = 0..NODES;
    loop {
        let batch: Vec<_> = left.by_ref().take(AT_ONCE).collect();
        if batch.is_empty() {
            break;
        }
        futures::future::join_all(
            batch
                .into_iter()
                .map(|n| ask("POST", "/api/v1/nodes".into(), node(n))),
        )
        .await;
    }
    println!(
        "{NODES} nodes created, {AT_ONCE} at once: {:?} each",
        started.elapsed() / NODES as u32
    );
    let pods = "/api/v1/namespaces/default/pods";
    let started = Instant::now();
    for n in 0..PODS {
        ask("POST", pods.into(), pod(n)).await;
    }
    println!(
        "pod created, one after the other: {:?} each",
        started.elapsed() / PODS as u32
    );
    let started = Instant::now();
    for n in 0..PODS {
        ask("GET", format!("{pods}/p{n}"), Value::Null).await;
    }
    println!("GET one pod: {:?}", started.elapsed() / PODS as u32);
    for query in ["", "?resourceVersion=0", "?labelSelector=zone%3Dz1", "?limit=500"] {
        let started = Instant::now();
        let bytes = ask("GET", format!("/api/v1/nodes{query}"), Value::Null).await;
        println!(
            "LIST {NODES} nodes {query}: {:?}, {bytes} bytes",
            started.elapsed()
        );
    }
    for accept in [JSON, PROTOBUF, JSON, PROTOBUF] {
        let started = Instant::now();
        let bytes = ask_for(accept, "GET", "/api/v1/nodes".into(), Value::Null).await;
        println!(
            "LIST {NODES} nodes as {accept}: {:?}, {bytes} bytes",
            started.elapsed()
        );
    }
    rig.stop().await;
}

fn node(n: usize) -> Value {
    let labels: Value = (0..20)
        .map(|l| (format!("label{l}"), json!(format!("value{n}"))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut node = json!({"metadata": {"name": format!("n{n}"), "labels": labels}, "spec": {}});
    node["metadata"]["labels"]["zone"] = json!(format!("z{}", n % 10));
    node
}

fn pod(n: usize) -> Value {
    json!({"metadata": {"name": format!("p{n}")}, "spec": {"containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}, "ports": [{"containerPort": 80}]}]}})
}
