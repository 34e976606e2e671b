//! Kubernetes protobuf as a client with Go types speaks it: bodies, objects, pages, watches, errors, scales.
//! The client's side is a few messages declared here and written and read by prost, independently of ours.
#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::BTreeMap;
use std::io::Read;

use capstan_api::{Body, UserInfo};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use prost::Message;
use rig::Rig;
use serde_json::{Value, json};
use tower::ServiceExt;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What Go's clients accept.
const GO: &str = "application/vnd.kubernetes.protobuf,application/json";
const DEFAULT: &str = "/api/v1/namespaces/default";

#[derive(Clone, PartialEq, prost::Message)]
struct TypeMeta {
    #[prost(string, optional, tag = "1")]
    api_version: Option<String>,
    #[prost(string, optional, tag = "2")]
    kind: Option<String>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    types: Option<TypeMeta>,
    #[prost(bytes = "vec", optional, tag = "2")]
    raw: Option<Vec<u8>>,
    #[prost(string, optional, tag = "3")]
    content_encoding: Option<String>,
    #[prost(string, optional, tag = "4")]
    content_type: Option<String>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Time {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct ObjectMeta {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "3")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    uid: Option<String>,
    #[prost(string, optional, tag = "6")]
    resource_version: Option<String>,
    #[prost(message, optional, tag = "8")]
    created: Option<Time>,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct ListMeta {
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
    #[prost(string, optional, tag = "3")]
    next: Option<String>,
    #[prost(int64, optional, tag = "4")]
    remaining: Option<i64>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct LeaseSpec {
    #[prost(string, optional, tag = "1")]
    holder: Option<String>,
    #[prost(int32, optional, tag = "2")]
    seconds: Option<i32>,
    #[prost(message, optional, tag = "4")]
    renewed: Option<Time>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Lease {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<LeaseSpec>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, string", tag = "2")]
    data: BTreeMap<String, String>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    binary: BTreeMap<String, Vec<u8>>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct ConfigMapList {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(message, repeated, tag = "2")]
    items: Vec<ConfigMap>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, optional, tag = "2")]
    status: Option<String>,
    #[prost(string, optional, tag = "4")]
    reason: Option<String>,
    #[prost(int32, optional, tag = "6")]
    code: Option<i32>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Replicas {
    #[prost(int32, optional, tag = "1")]
    replicas: Option<i32>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Scale {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<Replicas>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Preconditions {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteOptions {
    #[prost(message, optional, tag = "2")]
    preconditions: Option<Preconditions>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct RawExtension {
    #[prost(bytes = "vec", optional, tag = "1")]
    raw: Option<Vec<u8>>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct WatchEvent {
    #[prost(string, optional, tag = "1")]
    kind: Option<String>,
    #[prost(message, optional, tag = "2")]
    object: Option<RawExtension>,
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn named(name: &str) -> Option<ObjectMeta> {
    Some(ObjectMeta {
        name: some(name),
        ..ObjectMeta::default()
    })
}

fn body(api_version: &str, kind: &str, message: &impl Message) -> Vec<u8> {
    let unknown = Unknown {
        types: Some(TypeMeta {
            api_version: some(api_version),
            kind: some(kind),
        }),
        raw: Some(message.encode_to_vec()),
        content_encoding: some(""),
        content_type: some(""),
    };
    [b"k8s\0".to_vec(), unknown.encode_to_vec()].concat()
}

fn read<M: Message + Default>(kind: &str, bytes: &[u8]) -> M {
    let unknown = Unknown::decode(bytes.strip_prefix(b"k8s\0").unwrap()).unwrap();
    assert_eq!(unknown.types.unwrap().kind(), kind);
    M::decode(unknown.raw.unwrap().as_slice()).unwrap()
}

async fn send(
    rig: &Rig,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).unwrap();
    rig.api
        .service(UserInfo::admin("test"))
        .oneshot(request)
        .await
        .unwrap()
}

async fn ask(rig: &Rig, method: &str, path: &str, accept: &str, body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
    let headers = [("accept", accept), ("content-type", PROTOBUF)];
    whole(send(rig, method, path, &headers, body).await).await
}

async fn whole(response: Response<Body>) -> (u16, HeaderMap, Vec<u8>) {
    let (parts, body) = response.into_parts();
    let bytes = body.collect(64 << 20).await.unwrap().unwrap();
    (parts.status.as_u16(), parts.headers, bytes.to_vec())
}

async fn create_map(rig: &Rig, name: &str, data: &str) -> ConfigMap {
    let map = ConfigMap {
        metadata: named(name),
        data: [("k".to_owned(), data.to_owned())].into(),
        binary: [("b".to_owned(), vec![0, 255])].into(),
    };
    let path = format!("{DEFAULT}/configmaps");
    let (code, headers, bytes) = ask(rig, "POST", &path, GO, body("v1", "ConfigMap", &map)).await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (201, PROTOBUF));
    read("ConfigMap", &bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_lists_and_errors_are_protobuf_for_who_prefers_it() {
    let rig = Rig::start().await;
    let created = create_map(&rig, "a", "1").await;
    let metadata = created.metadata.clone().unwrap();
    assert_eq!((metadata.name(), metadata.namespace()), ("a", "default"));
    assert!(metadata.created.as_ref().unwrap().seconds() > 1_700_000_000 && !metadata.uid().is_empty());
    assert_eq!(
        (created.data["k"].as_str(), created.binary["b"].as_slice()),
        ("1", &[0, 255][..])
    );

    let lease = Lease {
        metadata: named("l"),
        spec: Some(LeaseSpec {
            holder: some("me"),
            seconds: Some(15),
            renewed: Some(Time {
                seconds: Some(1_700_000_000),
                nanos: Some(5_000),
            }),
        }),
    };
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (code, _, bytes) = ask(
        &rig,
        "POST",
        leases,
        GO,
        body("coordination.k8s.io/v1", "Lease", &lease),
    )
    .await;
    assert_eq!((code, read::<Lease>("Lease", &bytes).spec), (201, lease.spec));

    create_map(&rig, "b", "2").await;
    let path = format!("{DEFAULT}/configmaps?limit=1");
    let (_, _, bytes) = ask(&rig, "GET", &path, GO, Vec::new()).await;
    let page: ConfigMapList = read("ConfigMapList", &bytes);
    let list = page.metadata.unwrap();
    assert_eq!((page.items.len(), list.remaining.is_some()), (1, true));
    let path = format!("{path}&continue={}", list.next());
    let (_, _, bytes) = ask(&rig, "GET", &path, GO, Vec::new()).await;
    let page: ConfigMapList = read("ConfigMapList", &bytes);
    assert_eq!(page.items.len(), 1);

    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, _, bytes) = ask(
        &rig,
        "GET",
        &format!("{DEFAULT}/configmaps"),
        &metadata,
        Vec::new(),
    )
    .await;
    let partial: ConfigMapList = read("PartialObjectMetadataList", &bytes);
    assert!(partial.items.len() >= 2 && partial.items.iter().all(|item| item.data.is_empty()));

    let (code, headers, bytes) = ask(&rig, "GET", &format!("{DEFAULT}/pods/none"), GO, Vec::new()).await;
    let status: Status = read("Status", &bytes);
    assert_eq!((code, status.code(), status.reason()), (404, 404, "NotFound"));
    assert_eq!(headers["content-type"], PROTOBUF);

    let other = DeleteOptions {
        preconditions: Some(Preconditions { uid: some("other") }),
    };
    let path = format!("{DEFAULT}/configmaps/a");
    let (code, _, _) = ask(&rig, "DELETE", &path, GO, body("v1", "DeleteOptions", &other)).await;
    assert_eq!(code, 409);
    let none = DeleteOptions::default();
    let (code, _, bytes) = ask(&rig, "DELETE", &path, GO, body("v1", "DeleteOptions", &none)).await;
    assert_eq!(
        (code, read::<Status>("Status", &bytes).status()),
        (200, "Success")
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_protobuf_form_is_json_or_not_acceptable() {
    let rig = Rig::start().await;
    let plugins = "/apis/plugins.capstan.dev/v1/plugins";
    let (code, headers, bytes) = ask(&rig, "GET", plugins, GO, Vec::new()).await;
    assert_eq!(
        (code, headers["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    assert!(bytes.starts_with(b"{"));
    let (code, _, bytes) = ask(&rig, "GET", plugins, PROTOBUF, Vec::new()).await;
    assert_eq!(
        (code, read::<Status>("Status", &bytes).reason()),
        (406, "NotAcceptable")
    );
    let table =
        format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1");
    let (_, _, bytes) = ask(&rig, "GET", "/api/v1/namespaces", &table, Vec::new()).await;
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["kind"], "Table");
    let plain = "application/json;q=0.9,application/vnd.kubernetes.protobuf;q=0.1";
    let (_, headers, _) = ask(&rig, "GET", "/api/v1/namespaces", plain, Vec::new()).await;
    assert_eq!(headers["content-type"], "application/json");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_frames_around_whole_bodies() {
    let rig = Rig::start().await;
    create_map(&rig, "before", "1").await;
    let path = format!("{DEFAULT}/configmaps?watch=1&fieldSelector=metadata.name!%3Dkube-root-ca.crt");
    let accept = format!("{PROTOBUF};stream=watch,{PROTOBUF}");
    let mut watches = Vec::new();
    // With a selector the frame is the watcher's own, without it is shared.
    for path in [path, format!("{DEFAULT}/configmaps?watch=1")] {
        let response = send(&rig, "GET", &path, &[("accept", &accept)], Body::empty()).await;
        assert_eq!(
            response.headers()["content-type"],
            format!("{PROTOBUF};stream=watch")
        );
        watches.push(response.into_body());
    }
    create_map(&rig, "after", "2").await;
    for mut watch in watches {
        let mut bytes = Vec::new();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(_, name)| name != "after") {
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), watch.frame());
            let frame = frame.await.expect("an event comes").unwrap().unwrap();
            bytes.extend_from_slice(frame.data_ref().unwrap());
            while let Some(head) = bytes.first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if bytes.len() < 4 + length {
                    break;
                }
                let event = WatchEvent::decode(&bytes[4..4 + length]).unwrap();
                let map: ConfigMap = read("ConfigMap", event.object.as_ref().unwrap().raw());
                seen.push((event.kind().to_owned(), map.metadata.unwrap().name().to_owned()));
                bytes.drain(..4 + length);
            }
        }
        assert!(seen.iter().all(|(kind, _)| kind == "ADDED"), "{seen:?}");
        assert!(seen.iter().any(|(_, name)| name == "before"));
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_take_and_give_protobuf() {
    let rig = Rig::start().await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let created = send(
        &rig,
        "POST",
        deployments,
        &[("accept", GO)],
        deployment.to_string(),
    )
    .await;
    let (code, _, bytes) = whole(created).await;
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&bytes));
    let path = format!("{deployments}/d/scale");
    let (_, _, bytes) = ask(&rig, "GET", &path, GO, Vec::new()).await;
    let mut scale: Scale = read("Scale", &bytes);
    assert_eq!(scale.spec.as_ref().unwrap().replicas(), 1);
    scale.spec = Some(Replicas { replicas: Some(3) });
    let (code, _, bytes) = ask(&rig, "PUT", &path, GO, body("autoscaling/v1", "Scale", &scale)).await;
    assert_eq!((code, read::<Scale>("Scale", &bytes).spec), (200, scale.spec));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_compressed_and_people_get_line_breaks() {
    let rig = Rig::start().await;
    let data = "0123456789abcdef".repeat(12_000);
    create_map(&rig, "large", &data).await;
    for (accept, path) in [(GO, "configmaps/large"), ("application/json", "configmaps")] {
        let path = format!("{DEFAULT}/{path}");
        let (_, plain, expected) = ask(&rig, "GET", &path, accept, Vec::new()).await;
        assert!(!plain.contains_key("content-encoding"));
        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let (_, headers, packed) = whole(send(&rig, "GET", &path, &headers, Body::empty()).await).await;
        assert_eq!(
            (&headers["content-encoding"], &headers["vary"]),
            (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
        );
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut bytes)
            .unwrap();
        // The server itself may write in between: a list then names another revision.
        let items = |bytes: &[u8]| {
            let list: Option<Value> = serde_json::from_slice(bytes).ok();
            list.map_or_else(|| Value::from(bytes), |list| list["items"].clone())
        };
        assert!(items(&bytes) == items(&expected) && packed.len() < expected.len() / 4);
    }
    let headers = [("user-agent", "curl/8.0"), ("accept-encoding", "gzip")];
    let (_, headers, text) =
        whole(send(&rig, "GET", "/api/v1/namespaces/default", &headers, Body::empty()).await).await;
    assert!(text.starts_with(b"{\n  \"kind\": \"Namespace\"") && !headers.contains_key("content-encoding"));
    rig.stop().await;
}
