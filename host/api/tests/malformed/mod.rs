//! Requests that are wrong in as many ways as can be thought of, from a seed: valid ones whose path, query, headers
//! or body is changed in text or in structure. Shared by the test, which sends some thousands, and by the example
//! `malformed`, which sends a million. The promise that is looked at: every answer is one that a client can use, never
//! a 500, never a panic, and memory stays as it is.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use capstan_api::{Body, UserInfo};
use futures::FutureExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::rig::Rig;

/// How long an answer may take to begin.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Requests between two clearings of what was made.
const CLEARED_EVERY: usize = 2_000;
/// Bytes read of an answer.
const ANSWER_BYTES: usize = 4 << 20;

const QUERIES: &[&str] = &[
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "watch",
    "timeoutSeconds",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "propagationPolicy",
    "gracePeriodSeconds",
    "pretty",
    "includeObject",
    "orphanDependents",
];
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "1",
    "true",
    "false",
    "All",
    "99999999999999999999",
    "a=b",
    "a in (b,c)",
    "a notin ()",
    "!a",
    "a=b,,",
    "metadata.name=x",
    "metadata.name!=x",
    "spec.nodeName=x",
    "status.phase==Running",
    "Exact",
    "NotOlderThan",
    "Strict",
    "Foreground",
    "Orphan",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
    "\u{0}",
    "ä",
    "%",
    "Object",
    "nan",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
    "text/plain",
    "",
    "application/json; charset=latin1",
];
const ACCEPTS: &[&str] = &[
    "application/json",
    "*/*",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "image/png",
    "",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=Table;v=v9;g=x",
    "application/json;q=nan,*/*;q=-1",
];

/// A request before it is sent.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub kind: String,
    pub accept: String,
    pub body: Vec<u8>,
}

/// Valid requests of every sort.
fn valid() -> Vec<Asked> {
    let of = |method: &str, path: &str, kind: &str, body: Value| Asked {
        method: method.into(),
        path: path.into(),
        kind: kind.into(),
        accept: "application/json".into(),
        body: if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        },
    };
    let json = "application/json";
    let maps = "/api/v1/namespaces/default/configmaps";
    let pods = "/api/v1/namespaces/default/pods";
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let map = json!({ "metadata": { "name": "m", "labels": { "a": "b" } }, "data": { "k": "v" } });
    let container = json!({ "name": "c", "image": "i", "ports": [{ "containerPort": 80 }], "env": [{ "name": "A", "value": "1" }],
        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } });
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [container], "tolerations": [{ "key": "k", "operator": "Exists" }] } });
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "replicas": 1, "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [container] } } } });
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
        "size": { "type": "integer", "minimum": 1 }, "list": { "type": "array", "items": { "type": "string" }, "maxItems": 9 } },
        "x-kubernetes-validations": [{ "rule": "self.list.all(x, x.startsWith('a')) && self.size < 10", "message": "no" }] } } });
    let definition = json!({ "metadata": { "name": "foos.example.com" }, "spec": { "group": "example.com", "scope": "Namespaced",
        "names": { "plural": "foos", "kind": "Foo" }, "versions": [{ "name": "v1", "served": true, "storage": true,
        "schema": { "openAPIV3Schema": schema }, "additionalPrinterColumns": [{ "name": "S", "type": "string", "jsonPath": ".spec.size" }] }] } });
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    let foo = json!({ "apiVersion": "example.com/v1", "kind": "Foo", "metadata": { "name": "f" }, "spec": { "size": 3, "list": ["a"] } });
    vec![
        of("POST", maps, json, map.clone()),
        of("PUT", &format!("{maps}/m"), json, map.clone()),
        of("POST", pods, json, pod),
        of("POST", deployments, json, deployment.clone()),
        of("PUT", &format!("{deployments}/d"), json, deployment),
        of(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json,
            definition,
        ),
        of("POST", "/apis/example.com/v1/namespaces/default/foos", json, foo),
        of(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            json,
            review,
        ),
        of(
            "PATCH",
            &format!("{maps}/m"),
            TYPES[2],
            json!([{ "op": "add", "path": "/data/x", "value": "y" }, { "op": "test", "path": "/data/k", "value": "v" }]),
        ),
        of(
            "PATCH",
            &format!("{maps}/m"),
            TYPES[3],
            json!({ "data": { "k": null, "n": "1" } }),
        ),
        of(
            "PATCH",
            &format!("{deployments}/d"),
            TYPES[4],
            json!({ "spec": { "template": { "spec": { "containers": [
            { "name": "c", "$patch": "replace" }], "$setElementOrder/containers": [{ "name": "c" }] } } } }),
        ),
        of(
            "PATCH",
            &format!("{maps}/n?fieldManager=x&force=true"),
            TYPES[5],
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "n" }, "data": { "a": "b" } }),
        ),
        of(
            "PATCH",
            &format!("{deployments}/d/scale"),
            TYPES[3],
            json!({ "spec": { "replicas": 3 } }),
        ),
        of(
            "PATCH",
            &format!("{pods}/p/status"),
            TYPES[4],
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }),
        ),
        of(
            "POST",
            &format!("{pods}/p/eviction"),
            json,
            json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } }),
        ),
        of(
            "POST",
            &format!("{pods}/p/binding"),
            json,
            json!({ "target": { "kind": "Node", "name": "n" } }),
        ),
        of(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            json,
            json!({ "spec": { "expirationSeconds": 600 } }),
        ),
        of(
            "DELETE",
            &format!("{maps}/m"),
            json,
            json!({ "propagationPolicy": "Foreground", "preconditions": { "uid": "u" } }),
        ),
        of(
            "GET",
            &format!("{maps}?labelSelector=a%3Db&limit=2"),
            "",
            Value::Null,
        ),
        of(
            "GET",
            &format!("{maps}?watch=1&resourceVersion=0&timeoutSeconds=1"),
            "",
            Value::Null,
        ),
        of(
            "GET",
            &format!("{pods}?fieldSelector=spec.nodeName%3Dx"),
            "",
            Value::Null,
        ),
        of("GET", &format!("{pods}/p/log?tailLines=2"), "", Value::Null),
        of("GET", "/apis", "", Value::Null),
        of("GET", "/openapi/v3", "", Value::Null),
        of("GET", "/api/v1/namespaces/default/events", "", Value::Null),
    ]
}

fn pick<'l, T>(random: &mut fastrand::Rng, list: &'l [T]) -> &'l T {
    &list[random.usize(..list.len())]
}

fn word(random: &mut fastrand::Rng) -> String {
    let escaped = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    match random.u8(..4) {
        0 => (*pick(random, WORDS)).to_owned(),
        1 => escaped(WORDS[random.usize(..WORDS.len())]),
        2 => (0..random.usize(..40))
            .map(|_| format!("%{:02X}", random.u8(..)))
            .collect(),
        _ => (0..random.usize(..300)).map(|_| random.alphanumeric()).collect(),
    }
}

/// Makes the next request.
pub fn next(random: &mut fastrand::Rng) -> Asked {
    let all = valid();
    let mut asked = pick(random, &all).clone();
    for _ in 0..random.usize(1..4) {
        match random.u8(..9) {
            0 => {
                asked.method = (*pick(
                    random,
                    &[
                        "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "FOO",
                    ],
                ))
                .into()
            }
            1 => asked.kind = (*pick(random, TYPES)).into(),
            2 => asked.accept = (*pick(random, ACCEPTS)).into(),
            3 => {
                let sign = if asked.path.contains('?') { '&' } else { '?' };
                asked.path = format!("{}{sign}{}={}", asked.path, pick(random, QUERIES), word(random));
            }
            4 => {
                let mut parts: Vec<String> = asked.path.split('/').map(str::to_owned).collect();
                let at = random.usize(..parts.len());
                match random.u8(..3) {
                    0 => parts[at] = word(random),
                    1 => parts.insert(at, word(random)),
                    _ => drop(parts.remove(at)),
                }
                asked.path = parts.join("/");
            }
            5 => {
                let at = random.usize(..=asked.body.len());
                asked.body.truncate(at);
            }
            6 => {
                for _ in 0..random.usize(1..9) {
                    if !asked.body.is_empty() {
                        let at = random.usize(..asked.body.len());
                        asked.body[at] = random.u8(..);
                    }
                }
            }
            _ => {
                if let Ok(mut tree) = serde_json::from_slice::<Value>(&asked.body) {
                    bend(random, &mut tree, 0);
                    asked.body = tree.to_string().into_bytes();
                }
            }
        }
    }
    asked
}

/// Puts something else in one place of a document.
fn bend(random: &mut fastrand::Rng, tree: &mut Value, depth: usize) {
    let inner: Option<&mut Value> = match tree {
        Value::Object(fields) if !fields.is_empty() && random.u8(..8) > 0 => {
            let at = random.usize(..fields.len());
            fields.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && random.u8(..8) > 0 => {
            let at = random.usize(..items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    if let Some(inner) = inner {
        return bend(random, inner, depth + 1);
    }
    *tree = match random.u8(..12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1.0e300),
        4 => json!(u64::MAX),
        5 => json!([]),
        6 => json!({}),
        7 => json!(word(random)),
        8 => json!({ "$patch": "delete", "x": [1, { "y": null }] }),
        9 => json!([[[["deep"]]]]),
        10 => (0..random.usize(1..400)).fold(json!(1), |inner, _| json!({ "a": inner })),
        _ => json!("x".repeat(random.usize(..5_000))),
    };
}

/// The answer's status, 0 where HTTP itself refuses the request; or what is wrong with it.
pub async fn send(rig: &Rig, asked: &Asked) -> Result<u16, String> {
    let request = http::Request::builder()
        .method(asked.method.as_str())
        .uri(asked.path.as_str())
        .header("content-type", asked.kind.as_str())
        .header("accept", asked.accept.as_str())
        .body(Body::from(asked.body.clone()));
    let Ok(request) = request else {
        return Ok(0);
    };
    let answering = async {
        let response = rig
            .api
            .service(UserInfo::admin("malformed"))
            .oneshot(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        // A stream has no end to wait for.
        let is_short = !parts.status.is_success();
        let bytes = if is_short {
            body.collect(ANSWER_BYTES).await.unwrap().unwrap()
        } else {
            Default::default()
        };
        (parts, bytes)
    };
    let answering = std::panic::AssertUnwindSafe(answering).catch_unwind();
    let (parts, bytes) = match tokio::time::timeout(ANSWER_WITHIN, answering).await {
        Err(_) => return Err(format!("no answer in {ANSWER_WITHIN:?}")),
        Ok(Err(_)) => return Err("a panic".into()),
        Ok(Ok(answer)) => answer,
    };
    let code = parts.status.as_u16();
    if code == 500 || code == 502 {
        return Err(format!("{code}: {}", String::from_utf8_lossy(&bytes)));
    }
    Ok(code)
}

/// Sends `count` requests; gives how many answers had which status, or the first that is wrong.
pub async fn run(
    rig: &Rig,
    seed: u64,
    count: usize,
    mut step: impl FnMut(usize),
) -> Result<BTreeMap<u16, usize>, String> {
    let mut statuses = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(seed);
    for n in 0..count {
        let asked = next(&mut random);
        let came = send(rig, &asked).await;
        if let Ok(status) = &came {
            *statuses.entry(*status).or_default() += 1;
        }
        if let Err(wrong) = came {
            let body = String::from_utf8_lossy(&asked.body);
            return Err(format!(
                "seed {seed}, request {n}: {wrong}\n{} {} {} {}\n{body}",
                asked.method, asked.path, asked.kind, asked.accept
            ));
        }
        if n % CLEARED_EVERY == 0 {
            clear(rig).await;
            step(n);
        }
    }
    Ok(statuses)
}

async fn clear(rig: &Rig) {
    for path in [
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/pods?gracePeriodSeconds=0",
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        let request = http::Request::builder()
            .method("DELETE")
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let _ = rig
            .api
            .service(UserInfo::admin("malformed"))
            .oneshot(request)
            .await
            .unwrap();
    }
}
