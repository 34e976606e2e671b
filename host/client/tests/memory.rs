//! What informers hold of pods in memory, against the pods' JSON and against the same pods as they are decoded.
//!
//! Each way in a process of its own, which takes pods from an API server of one page at a time and says how its
//! private memory has grown.

#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capstan_client::Informer;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::Config;

const PODS: usize = 10_000;
/// As an API server of ours made it, in one line.
const POD: &str = include_str!("pod.json");
/// Says which way a child takes.
const CHILD: &str = "CAPSTAN_INFORMER_MEMORY_OF";
/// Memory of the informer that controllers and scheduler share, to JSON, at most.
const SHARED_RATIO_MAX: f64 = 4.0;

fn main() {
    if let Ok(way) = std::env::var(CHILD) {
        return child(&way);
    }
    let [decoded, informer, shared] = ["decoded", "informer", "shared"].map(|way| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.env(CHILD, way).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let grown: f64 = text
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let ratio = grown / (PODS * POD.len()) as f64;
        println!(
            "{way:<9} {:>6.0} bytes a pod, {ratio:.2} times its JSON",
            grown / PODS as f64
        );
        ratio
    });
    assert!(shared <= SHARED_RATIO_MAX && shared < informer && informer < decoded);
}

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The pod by number, as a text.
fn pod(n: usize) -> String {
    let uid = format!("c81cf2d5-f79b-42c3-ab6c-{n:012}");
    POD.replace("pod-000000", &format!("pod-{n:06}"))
        .replace("c81cf2d5-f79b-42c3-ab6c-554cf3fb4b11", &uid)
}

/// A list by pages, and a watch in which nothing happens.
fn answer<B>(request: &Request<B>) -> Response<Answer> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| -> Option<usize> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(own, _)| *own == name)?.1.parse().ok()
    };
    if query.contains("watch=") {
        let silence = futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
        let body = StreamBody::new(silence.boxed());
        return Response::new(body.boxed_unsync());
    }
    let first = parameter("continue").unwrap_or(0);
    let end = PODS.min(first + parameter("limit").unwrap_or(PODS));
    let items: Vec<String> = (first..end).map(pod).collect();
    let more = if end < PODS {
        end.to_string()
    } else {
        String::new()
    };
    let list = format!(
        r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"{more}"}},"items":[{}]}}"#,
        items.join(",")
    );
    Response::new(Full::new(Bytes::from(list)).boxed_unsync())
}

fn child(way: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let service = tower::service_fn(|request: Request<kube::client::Body>| async move {
            Ok::<_, Infallible>(answer(&request))
        });
        let client = capstan_client::over(service);
        // What a first use costs is no pod's.
        drop(serde_json::from_str::<Pod>(POD).unwrap());
        let before = anonymous_bytes();
        let (api, config) = (Api::<Pod>::all(client), Config::default().page_size(100));
        let grown = if way == "decoded" {
            let pods: Vec<Arc<Pod>> = (0..PODS)
                .map(|n| Arc::new(serde_json::from_str(&pod(n)).unwrap()))
                .collect();
            assert_eq!(pods.len(), PODS);
            anonymous_bytes() - before
        } else {
            let of_node = |pod: &Pod| pod.spec.as_ref()?.node_name.clone();
            let pods = match way {
                "shared" => Informer::start_placed(api, config, of_node),
                _ => Informer::start_indexed(api, config, of_node),
            };
            pods.synced(Duration::from_secs(300)).await.unwrap();
            assert_eq!(pods.list().len(), PODS);
            anonymous_bytes() - before
        };
        println!("{grown}");
    });
}

fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}
