//! Lists, watches and what they are asked for, to the letter: which state, which words, which form.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rig;

use std::time::{Duration, Instant};

use capstan_api::{Body, Store, UserInfo};
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use rig::Rig;
use serde_json::{Value, json};
use tower::Service;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long something may take that is to happen.
const BOUND: Duration = Duration::from_secs(20);

async fn ask(
    rig: &Rig,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, HeaderMap, Value) {
    let reply = rig
        .send_with(UserInfo::admin("admin"), method, path, headers, body)
        .await;
    (reply.code, reply.headers, reply.document)
}

async fn get(rig: &Rig, path: &str) -> (u16, Value) {
    let (code, _, document) = ask(rig, "GET", path, &[], Value::Null).await;
    (code, document)
}

async fn create(rig: &Rig, name: &str) -> i64 {
    let map = json!({"metadata": {"name": name}, "data": {"k": "v"}});
    let (code, _, made) = ask(rig, "POST", MAPS, &[], map).await;
    assert_eq!(code, 201, "{made}");
    made["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// A watch that is read event by event.
struct Watch(futures::stream::BoxStream<'static, Value>);

impl Watch {
    async fn start(rig: &Rig, query: &str) -> Self {
        let request = Request::get(format!("{MAPS}?watch=1&{query}"))
            .body(Body::empty())
            .unwrap();
        let response = rig
            .api
            .service(UserInfo::admin("admin"))
            .call(request)
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{query}");
        let slices = response.into_body().into_data_stream();
        let events = slices.flat_map(|slice| {
            let slice = slice.unwrap();
            let lines: Vec<Value> = slice
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect();
            futures::stream::iter(lines)
        });
        Self(events.boxed())
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(BOUND, self.0.next())
            .await
            .expect("in time")
            .expect("an event")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_of_the_state_that_was_asked_for() {
    let rig = Rig::start().await;
    for name in ["a", "b"] {
        create(&rig, name).await;
    }
    let revision = create(&rig, "c").await;
    create(&rig, "d").await;
    // Exact, by its name and by the older way to say it.
    for query in ["resourceVersionMatch=Exact", "limit=9"] {
        let (_, list) = get(&rig, &format!("{MAPS}?resourceVersion={revision}&{query}")).await;
        assert_eq!(names(&list), ["a", "b", "c"], "{query}");
        assert_eq!(list["metadata"]["resourceVersion"], revision.to_string());
    }
    let (_, page) = get(&rig, &format!("{MAPS}?resourceVersion={revision}&limit=2")).await;
    assert_eq!(names(&page), ["a", "b"]);
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, page) = get(&rig, &format!("{MAPS}?continue={token}&limit=2")).await;
    assert_eq!(names(&page), ["c"]);
    assert_eq!(page["metadata"]["resourceVersion"], revision.to_string());
    let (code, status) = get(
        &rig,
        &format!("{MAPS}?resourceVersion=99999999&resourceVersionMatch=Exact"),
    )
    .await;
    assert_eq!(
        (code, status["details"]["causes"][0]["reason"].as_str()),
        (504, Some("ResourceVersionTooLarge"))
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Timeout: Too large resource version: 99999999, current: "),
        "{message}"
    );
    // What is forgotten is gone, in each way's words.
    rig.store.compact(revision + 1, true).await.unwrap();
    let (code, status) = get(
        &rig,
        &format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"),
    )
    .await;
    assert_eq!((code, status["reason"].as_str()), (410, Some("Expired")));
    assert_eq!(
        status["message"],
        "The resourceVersion for the provided list is too old."
    );
    let (code, status) = get(&rig, &format!("{MAPS}?continue={token}")).await;
    assert_eq!(code, 410);
    let message = status["message"].as_str().unwrap();
    assert!(
        message
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let anew = status["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        names(&get(&rig, &format!("{MAPS}?continue={anew}")).await.1),
        ["c", "d"]
    );
    for (path, code, message) in [
        (
            "?continue=a*b",
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 1",
        ),
        (
            "?resourceVersion=x",
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("?limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "/a?resourceVersion=x",
            400,
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ] {
        let (got, status) = get(&rig, &format!("{MAPS}{path}")).await;
        assert_eq!((got, status["message"].as_str()), (code, Some(message)), "{path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_where_it_is_told_to() {
    let rig = Rig::start().await;
    let first = create(&rig, "a").await;
    // Of what is yet to come: silent up to there.
    let ahead = first + 2;
    let mut future = Watch::start(&rig, &format!("resourceVersion={ahead}")).await;
    // Without a revision: what is there, its end for who takes bookmarks, and what follows.
    let mut legacy = Watch::start(&rig, "allowWatchBookmarks=true").await;
    let mut asked = Watch::start(
        &rig,
        "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=1",
    )
    .await;
    for watch in [&mut legacy, &mut asked] {
        let event = watch.next().await;
        assert_eq!(
            (
                event["type"].as_str(),
                event["object"]["metadata"]["name"].as_str()
            ),
            (Some("ADDED"), Some("a"))
        );
        let event = watch.next().await;
        assert_eq!(event["type"], "BOOKMARK");
        let metadata = event["object"]["metadata"].as_object().unwrap();
        assert_eq!(
            metadata.keys().collect::<Vec<_>>(),
            ["annotations", "resourceVersion"]
        );
        assert_eq!(
            metadata["annotations"],
            json!({"k8s.io/initial-events-end": "true"})
        );
        assert_eq!(
            (
                event["object"]["kind"].as_str(),
                event["object"]["apiVersion"].as_str()
            ),
            (Some("ConfigMap"), Some("v1"))
        );
    }
    let mut last = 0;
    for n in 0.. {
        last = create(&rig, &format!("n{n}")).await;
        if last > ahead {
            break;
        }
    }
    let event = future.next().await;
    let revision: i64 = event["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(revision > ahead && revision <= last, "{revision}");
    assert_eq!(legacy.next().await["object"]["metadata"]["name"], "n0");
    let (code, status) = get(
        &rig,
        &format!(
            "{MAPS}?watch=1&resourceVersion=99999999&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        ),
    )
    .await;
    assert_eq!((code, status["reason"].as_str()), (504, Some("Timeout")));
    let mut old = Watch::start(&rig, "resourceVersion=1").await;
    let error = old.next().await;
    assert_eq!(
        (
            error["type"].as_str(),
            error["object"]["code"].as_i64(),
            error["object"]["reason"].as_str()
        ),
        (Some("ERROR"), Some(410), Some("Expired"))
    );
    let message = error["object"]["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_is_cut_off_and_the_others_are_not() {
    let rig = Rig::start().await;
    let from = create(&rig, "a").await;
    let mut slow = Watch::start(&rig, &format!("resourceVersion={from}")).await;
    // More than the server keeps for those who lag: 8 MiB.
    let merge = [("content-type", "application/merge-patch+json")];
    for n in 0..16 {
        let patch = json!({"data": {"k": "x".repeat(700 << 10), "n": n.to_string()}});
        assert_eq!(
            ask(&rig, "PATCH", &format!("{MAPS}/a"), &merge, patch).await.0,
            200
        );
    }
    let started = Instant::now();
    loop {
        let event = slow.next().await;
        if event["type"] == "ERROR" {
            assert_eq!(event["object"]["reason"], "Expired");
            break;
        }
        assert!(started.elapsed() < BOUND);
    }
    assert!(slow.0.next().await.is_none());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_says_what_the_original_says() {
    let rig = Rig::start().await;
    let (_, list) = get(&rig, "/api/v1").await;
    let row = |name: &str| {
        let rows = list["resources"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    assert_eq!(row("pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
    assert_eq!(row("pods")["shortNames"], json!(["po"]));
    assert_eq!(row("pods/eviction")["kind"], "Eviction");
    assert_eq!(row("pods/eviction")["group"], "policy");
    assert!(row("bindings").get("storageVersionHash").is_none());
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (code, headers, groups) = ask(&rig, "GET", "/apis", &[("accept", accept)], Value::Null).await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, accept));
    let apps = groups["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["metadata"]["name"] == "apps")
        .unwrap();
    let version = &apps["versions"][0];
    assert_eq!(version["freshness"], "Current");
    let deployments = version["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["resource"] == "deployments")
        .unwrap();
    assert_eq!(
        deployments["responseKind"],
        json!({"group": "", "version": "", "kind": "Deployment"})
    );
    let scale = deployments["subresources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["subresource"] == "scale")
        .unwrap();
    assert_eq!(
        scale["responseKind"],
        json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
    );
    let tag = headers["etag"].to_str().unwrap();
    let again = [("accept", accept), ("if-none-match", tag)];
    let (code, headers, body) = ask(&rig, "GET", "/apis", &again, Value::Null).await;
    assert_eq!(
        (code, headers["etag"].to_str().unwrap(), body),
        (304, tag, json!(""))
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_checked_and_forms_negotiated() {
    let rig = Rig::start().await;
    create(&rig, "a").await;
    let map = || json!({"metadata": {"name": "z"}});
    for (method, path, body, code, message) in [
        (
            "POST",
            format!("{MAPS}?dryRun=Some"),
            map(),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        (
            "POST",
            format!("{MAPS}?fieldValidation=Odd"),
            map(),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Odd\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            "DELETE",
            format!("{MAPS}/a?dryRun=Some"),
            Value::Null,
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        (
            "DELETE",
            format!("{MAPS}?sendInitialEvents=true"),
            Value::Null,
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "GET",
            format!("{MAPS}?fieldSelector=data.k=v"),
            Value::Null,
            400,
            "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
    ] {
        let (got, _, status) = ask(&rig, method, &path, &[], body).await;
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message)),
            "{method} {path}"
        );
    }
    for (accept, code, media) in [
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            200,
            "application/json",
        ),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            200,
            "application/json",
        ),
        ("application/yaml", 200, "application/yaml"),
        (
            "application/vnd.kubernetes.protobuf",
            200,
            "application/vnd.kubernetes.protobuf",
        ),
        ("image/png", 406, "application/json"),
    ] {
        let (got, headers, _) = ask(&rig, "GET", MAPS, &[("accept", accept)], Value::Null).await;
        assert_eq!(
            (got, headers["content-type"].to_str().unwrap()),
            (code, media),
            "{accept}"
        );
    }
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (accept, expected) in [(table, 406), (&format!("{table},application/json"), 201)] {
        let (code, ..) = ask(&rig, "POST", reviews, &[("accept", accept)], review.clone()).await;
        assert_eq!(code, expected, "{accept}");
    }
    let odd = [("content-type", "text/csv")];
    let (code, _, status) = ask(&rig, "POST", MAPS, &odd, map()).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (415, Some("UnsupportedMediaType"))
    );
    for (include, has) in [
        ("None", None),
        ("Metadata", Some("PartialObjectMetadata")),
        ("Object", Some("ConfigMap")),
    ] {
        let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let (_, _, list) = ask(
            &rig,
            "GET",
            &format!("{MAPS}?includeObject={include}"),
            &table,
            Value::Null,
        )
        .await;
        assert_eq!(list["rows"][0]["object"]["kind"].as_str(), has, "{include}");
        assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_said_as_the_original_says_it() {
    let rig = Rig::start().await;
    let page = json!("404 page not found\n");
    let nothing = "the server could not find the requested resource";
    let method = "the server does not allow this method on the requested resource";
    let one = format!("{MAPS}/x");
    for (verb, path, code, text) in [
        // What nobody answers for is no Status.
        ("GET", "/nowhere", 404, None),
        ("POST", "/nowhere", 404, None),
        ("GET", "/apis/no.such.group/v1/things", 404, None),
        ("GET", "/apis/no.such.group", 404, None),
        ("GET", "/apis/no.such.group/v1", 404, None),
        ("GET", "/apis/apps/v9", 404, Some(nothing)),
        (
            "GET",
            "/apis/apps/v1/namespaces/default/things",
            404,
            Some(nothing),
        ),
        ("PUT", MAPS, 405, Some(method)),
        ("POST", one.as_str(), 405, Some(method)),
        ("GET", "/api/v1/namespaces/default/bindings", 405, Some(method)),
    ] {
        let body = if verb == "GET" {
            Value::Null
        } else {
            json!({"metadata": {"name": "x"}})
        };
        let reply = rig.ask(verb, path, body).await;
        assert_eq!(reply.code, code, "{verb} {path}: {}", reply.document);
        match text {
            None => {
                assert_eq!(reply.document, page, "{verb} {path}");
                assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
            }
            Some(text) => {
                assert_eq!(reply.message(), text, "{verb} {path}");
                assert_eq!(reply.document["details"], json!({}), "{verb} {path}");
            }
        }
    }
    for (body, why) in [
        (
            "{bad",
            "invalid character 'b' looking for beginning of object key string ({bad)",
        ),
        ("x", "invalid character 'x' looking for beginning of value (78)"),
        ("", "unexpected end of JSON input (<empty>)"),
        (
            "{\"metadata\": {\"name\": \"a\"}, \"data\": {\"k\": tru}}",
            "invalid character '}' in literal true (expecting 'e') ({\"metadata\": {\"name\": \"a\"}, \"d ...)",
        ),
    ] {
        let headers = [("content-type", "application/json")];
        let reply = rig
            .send_text(UserInfo::admin("test"), "POST", MAPS, &headers, body.to_owned())
            .await;
        let start = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ";
        assert_eq!(
            (reply.code, reply.message()),
            (400, format!("{start}{why}").as_str())
        );
    }
    let jobs = "/apis/batch/v1/namespaces/default/jobs?fieldSelector=spec.x%3D1";
    let reply = rig.ask("GET", jobs, Value::Null).await;
    assert_eq!(reply.message(), "field label \"spec.x\" not supported for Job");
    rig.stop().await;
}
