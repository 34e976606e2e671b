//! What a client must observe beyond what kubectl shows: resource versions, pages, watches, selectors,
//! dry runs, preconditions, admission. Asked in process, answered by the real server on the real store.
#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use capstan_api::UserInfo;
use capstan_points::admission::{Denial, Patch, Policy, Review, Verdict};
use capstan_points::{FailurePolicy, Fault, FaultKind, Seat};
use rig::Rig;
use serde_json::{Value, json};

/// A request as an administrator: code, document.
async fn ask(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, Value) {
    let (code, _, document) = ask_with(rig, method, path, &[], body).await;
    (code, document)
}

async fn ask_with(
    rig: &Rig,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, http::HeaderMap, Value) {
    let reply = rig
        .send_with(UserInfo::admin("test"), method, path, headers, body)
        .await;
    (reply.code, reply.headers, reply.document)
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(rig: &Rig, name: &str, labels: Value) -> Value {
    let (code, document) = ask(
        rig,
        "POST",
        MAPS,
        json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}}),
    )
    .await;
    assert_eq!(code, 201, "{document}");
    document
}

fn names(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Everything that a watch with a time limit says, as `TYPE name` (or the code of an error).
async fn watched(rig: &Rig, path: &str) -> Vec<String> {
    let (code, _, text) = ask_with(rig, "GET", path, &[], Value::Null).await;
    assert_eq!(code, 200, "{text}");
    // One event is a document; several are lines.
    let text = if text.is_string() {
        text.as_str().unwrap().to_owned()
    } else {
        text.to_string()
    };
    text.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let object = &event["object"];
            let shown = match object["kind"].as_str() {
                Some("Status") => object["code"].to_string(),
                _ => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            };
            let end = if object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" {
                "end"
            } else {
                ""
            };
            format!("{} {shown}{end}", event["type"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_keep_their_promises() {
    let rig = Rig::start().await;
    for name in ["a", "b", "c", "d"] {
        create(&rig, name, json!({"app": name})).await;
    }
    // Read your writes, in order.
    let (_, list) = ask(&rig, "GET", MAPS, Value::Null).await;
    assert_eq!(
        (names(&list).as_str(), list["kind"].as_str()),
        ("a b c d", Some("ConfigMapList"))
    );
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // Pages are of one revision, whatever happens in between.
    let (_, page) = ask(&rig, "GET", &format!("{MAPS}?limit=2"), Value::Null).await;
    assert_eq!(
        (names(&page).as_str(), &page["metadata"]["remainingItemCount"]),
        ("a b", &json!(2))
    );
    // The server itself may have written since the first list.
    let paged: i64 = page["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    ask(&rig, "DELETE", &format!("{MAPS}/c"), Value::Null).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, page) = ask(
        &rig,
        "GET",
        &format!("{MAPS}?limit=2&continue={token}"),
        Value::Null,
    )
    .await;
    assert_eq!(names(&page), "c d");
    assert!(page["metadata"]["continue"].is_null());
    for (query, expected) in [
        ("", "a b d"),
        ("?resourceVersion=0", "a b d"),
        (
            &format!("?resourceVersion={revision}&resourceVersionMatch=Exact"),
            "a b c d",
        ),
        (
            &format!("?resourceVersion={revision}&resourceVersionMatch=NotOlderThan"),
            "a b d",
        ),
        ("?labelSelector=app%20in%20(a,d)", "a d"),
        ("?labelSelector=app!%3Da", "b d"),
        ("?fieldSelector=metadata.name%3Db", "b"),
    ] {
        let (code, list) = ask(&rig, "GET", &format!("{MAPS}{query}"), Value::Null).await;
        assert_eq!((code, names(&list).as_str()), (200, expected), "{query}");
    }
    for (query, code, text) in [
        ("?resourceVersion=999999", 504, "Too large resource version"),
        ("?resourceVersion=x", 400, "resourceVersion"),
        (
            "?resourceVersionMatch=Exact",
            422,
            "forbidden unless resourceVersion",
        ),
        (
            "?fieldSelector=data.x%3D1",
            400,
            "is not a known field selector: only",
        ),
        ("?labelSelector=%3D%3D%3D", 400, ""),
        ("?continue=nonsense", 400, "continue key is not valid"),
    ] {
        let (got, status) = ask(&rig, "GET", &format!("{MAPS}{query}"), Value::Null).await;
        assert_eq!(got, code, "{query}: {status}");
        assert!(
            status["message"].as_str().unwrap().contains(text),
            "{query}: {status}"
        );
    }
    use capstan_api::Store;
    rig.store.compact(paged + 1, true).await.unwrap();
    let (code, status) = ask(
        &rig,
        "GET",
        &format!("{MAPS}?limit=2&continue={token}"),
        Value::Null,
    )
    .await;
    assert_eq!((code, status["reason"].as_str()), (410, Some("Expired")));
    let anew = status["metadata"]["continue"].as_str().unwrap();
    let (_, page) = ask(
        &rig,
        "GET",
        &format!("{MAPS}?limit=2&continue={anew}"),
        Value::Null,
    )
    .await;
    assert_eq!(names(&page), "d");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_tell_everything_once() {
    let rig = Rig::start().await;
    let first = create(&rig, "a", json!({"on": "1"})).await;
    let from = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    create(&rig, "b", json!({})).await;
    let patch = |labels: Value| json!({"metadata": {"labels": labels}});
    let merge = [("content-type", "application/merge-patch+json")];
    for labels in [json!({"on": "1"}), json!({"on": null})] {
        let (code, _, _) = ask_with(&rig, "PATCH", &format!("{MAPS}/b"), &merge, patch(labels)).await;
        assert_eq!(code, 200);
    }
    ask(&rig, "DELETE", &format!("{MAPS}/a"), Value::Null).await;
    let all = watched(
        &rig,
        &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={from}"),
    )
    .await;
    assert_eq!(all, ["ADDED b", "MODIFIED b", "MODIFIED b", "DELETED a"]);
    let selected = watched(
        &rig,
        &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={from}&labelSelector=on%3D1"),
    )
    .await;
    assert_eq!(selected, ["ADDED b", "DELETED b", "DELETED a"]);
    assert_eq!(
        watched(&rig, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await,
        ["ADDED b"]
    );
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let listed = watched(&rig, &format!("{MAPS}?watch=1&timeoutSeconds=1&{initial}")).await;
    assert_eq!(listed, ["ADDED b", "BOOKMARK end"]);
    assert_eq!(
        watched(
            &rig,
            &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1")
        )
        .await,
        ["ERROR 410"]
    );
    let (code, status) = ask(
        &rig,
        "GET",
        &format!("{MAPS}?watch=1&sendInitialEvents=true"),
        Value::Null,
    )
    .await;
    assert_eq!(code, 422, "{status}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_guarded() {
    let rig = Rig::start().await;
    let made = create(&rig, "a", json!({})).await;
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    let path = format!("{MAPS}/a");
    let merge = [("content-type", "application/merge-patch+json")];
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let (code, written) = ask(&rig, "PUT", &path, changed.clone()).await;
    assert_eq!(code, 200, "{written}");
    // The same again is no write; an older one is a conflict.
    let (_, same) = ask(&rig, "PUT", &path, written.clone()).await;
    assert_eq!(
        same["metadata"]["resourceVersion"],
        written["metadata"]["resourceVersion"]
    );
    let (code, status) = ask(&rig, "PUT", &path, changed).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("Operation cannot be fulfilled on configmaps \"a\": the object has been modified")
    );
    let (code, _) = ask(&rig, "PUT", &format!("{MAPS}/nope"), json!({"data": {}})).await;
    assert_eq!(code, 404);
    // Dry runs change nothing.
    let (code, dry) = ask(
        &rig,
        "POST",
        &format!("{MAPS}?dryRun=All"),
        json!({"metadata": {"name": "dry"}}),
    )
    .await;
    assert_eq!((code, &dry["metadata"]["resourceVersion"]), (201, &Value::Null));
    assert_eq!(ask(&rig, "GET", &format!("{MAPS}/dry"), Value::Null).await.0, 404);
    ask(&rig, "DELETE", &format!("{path}?dryRun=All"), Value::Null).await;
    assert_eq!(ask(&rig, "GET", &path, Value::Null).await.0, 200);
    // Unknown and double fields.
    let odd = json!({"metadata": {"name": "odd"}, "dataa": {}});
    let (code, headers, _) = ask_with(&rig, "POST", MAPS, &[], odd.clone()).await;
    assert_eq!(
        (code, headers["warning"].to_str().unwrap()),
        (201, "299 - \"unknown field \\\"dataa\\\"\"")
    );
    let (code, status) = ask(&rig, "POST", &format!("{MAPS}?fieldValidation=Strict"), odd).await;
    assert_eq!(code, 400);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("strict decoding error: unknown field \"dataa\""),
        "{status}"
    );
    // Preconditions and finalizers.
    let (code, _) = ask(&rig, "DELETE", &path, json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!(code, 409);
    ask_with(
        &rig,
        "PATCH",
        &path,
        &merge,
        json!({"metadata": {"finalizers": ["x.io/y"]}}),
    )
    .await;
    let (_, going) = ask(&rig, "DELETE", &path, Value::Null).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    ask_with(
        &rig,
        "PATCH",
        &path,
        &merge,
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    assert_eq!(ask(&rig, "GET", &path, Value::Null).await.0, 404);
    // Generated names, wrong kinds, wrong places.
    let (_, generated) = ask(&rig, "POST", MAPS, json!({"metadata": {"generateName": "g-"}})).await;
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), 7);
    for (method, path, body, code) in [
        (
            "POST",
            MAPS,
            json!({"kind": "Pod", "metadata": {"name": "x"}}),
            400,
        ),
        (
            "POST",
            MAPS,
            json!({"apiVersion": "v2", "metadata": {"name": "x"}}),
            400,
        ),
        (
            "POST",
            MAPS,
            json!({"metadata": {"name": "x", "namespace": "y"}}),
            400,
        ),
        ("POST", MAPS, json!({"metadata": {"name": "A_b"}}), 422),
        (
            "POST",
            MAPS,
            json!({"metadata": {"name": "x"}, "data": {"k": 1}}),
            400,
        ),
        (
            "POST",
            "/api/v1/configmaps",
            json!({"metadata": {"name": "x"}}),
            404,
        ),
        ("GET", "/api/v1/nothings", Value::Null, 404),
        ("PUT", MAPS, json!({}), 405),
    ] {
        let (got, status) = ask(&rig, method, path, body).await;
        assert_eq!(got, code, "{method} {path}: {status}");
        assert_eq!(status["kind"], "Status");
    }
    let (code, _) = ask(
        &rig,
        "DELETE",
        &format!("{MAPS}?labelSelector=no%3Done"),
        Value::Null,
    )
    .await;
    assert_eq!(code, 200);
    ask(&rig, "DELETE", MAPS, Value::Null).await;
    assert_eq!(names(&ask(&rig, "GET", MAPS, Value::Null).await.1), "");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_store_agree() {
    let rig = Rig::start().await;
    create(&rig, "before", json!({})).await;
    let other = rig.beside().await;
    for n in 0..50 {
        let name = format!("n{n}");
        let made = create(&rig, &name, json!({})).await;
        let (code, seen) = ask(&other, "GET", &format!("{MAPS}/{name}"), Value::Null).await;
        assert_eq!((code, &seen), (200, &made));
        let (_, list) = ask(&other, "GET", MAPS, Value::Null).await;
        assert_eq!(list["items"].as_array().unwrap().len(), n + 2);
    }
    let (code, _) = ask(&other, "DELETE", &format!("{MAPS}/before"), Value::Null).await;
    assert_eq!(
        (
            code,
            ask(&rig, "GET", &format!("{MAPS}/before"), Value::Null).await.0
        ),
        (200, 404)
    );
    other.api.shutdown().await;
    rig.stop().await;
}

/// Labels what it sees, denies what is called `bad`, fails on `broken`.
struct Opinion(AtomicUsize);

#[async_trait]
impl Policy for Opinion {
    fn covers(&self, review: &Review) -> bool {
        review.resource == "configmaps"
    }

    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    async fn mutate(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let object = review.object.as_ref().unwrap();
        match object.pointer("/metadata/labels/seen") {
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![Patch::Add {
                path: "/metadata/labels".into(),
                value: json!({"seen": "yes"}),
            }]),
        }
    }

    async fn validate(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        match review.name.as_str() {
            "bad" => Ok(Verdict::Deny(Denial {
                code: 403,
                message: "bad is not a name".into(),
                field: Some("metadata.name".into()),
            })),
            "broken" => Err(Fault::new(FaultKind::Trap, "unreachable")),
            _ => Ok(Verdict::Allow(vec!["look out".into()])),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_asked_and_contained() {
    let rig = Rig::start().await;
    let seat = |failure_policy| Seat::<dyn Policy> {
        plugin: "opinion".into(),
        revision: 1,
        failure_policy,
        policy: Arc::new(Opinion(AtomicUsize::new(0))),
    };
    rig.seating.replace(vec![seat(FailurePolicy::Fail)]);
    let object = |name: &str| json!({"metadata": {"name": name}});
    let (code, headers, made) = ask_with(&rig, "POST", MAPS, &[], object("fine")).await;
    assert_eq!(
        (code, made["metadata"]["labels"]["seen"].as_str()),
        (201, Some("yes"))
    );
    assert_eq!(headers["warning"].to_str().unwrap(), "299 - \"look out\"");
    let refused = rig.fails(&["create", "configmap", "bad"], "").await;
    assert_eq!(
        refused,
        "error: failed to create configmap: configmaps \"bad\" is forbidden: bad is not a name\n"
    );
    let manifest = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"bad"}}"#;
    let refused = rig.fails(&["create", "-f", "-"], manifest).await;
    assert_eq!(
        refused,
        "Error from server (Forbidden): error when creating \"STDIN\": configmaps \"bad\" is forbidden: bad is not a name\n"
    );
    let (code, status) = ask(&rig, "POST", MAPS, object("broken")).await;
    assert_eq!(code, 500);
    let message = "Internal error occurred: admission plugin \"opinion\" failed: trap: unreachable";
    assert_eq!(status["message"], message);
    rig.seating.replace(vec![seat(FailurePolicy::Ignore)]);
    let (code, headers, _) = ask_with(&rig, "POST", MAPS, &[], object("broken")).await;
    assert_eq!(code, 201);
    assert!(
        headers["warning"]
            .to_str()
            .unwrap()
            .contains("failed: trap: unreachable (ignored)")
    );
    rig.stop().await;
}
