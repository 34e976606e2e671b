//! Custom kinds whose versions only a webhook can tell apart: reads, lists, watches and writes of all of them.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Rig;
use rig::webhook::Hook;
use serde_json::{Value, json};

const GROUP: &str = "/apis/stable.test.io";

/// v1 has `hostPort`, v2 has `host` and `port`.
fn convert(_: &str, review: &Value) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let bad = objects
        .iter()
        .any(|object| object["metadata"]["name"] == "stubborn");
    let one = |object: &Value| {
        let mut new = object.clone();
        new["apiVersion"] = json!(wanted);
        let fields = new.as_object_mut().unwrap();
        if wanted.ends_with("v2") {
            let both = fields.remove("hostPort").unwrap_or_default();
            let both = both.as_str().unwrap_or(":").to_owned();
            let (host, port) = both.split_once(':').unwrap();
            fields.insert("host".into(), json!(host));
            fields.insert("port".into(), json!(port));
        } else {
            let mut part = |name: &str| {
                fields
                    .remove(name)
                    .unwrap_or_default()
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let both = format!("{}:{}", part("host"), part("port"));
            fields.insert("hostPort".into(), json!(both));
        }
        new
    };
    let converted: Vec<Value> = objects.iter().map(one).collect();
    let result = match bad {
        true => json!({"status": "Failure", "message": "stubborn stays"}),
        false => json!({"status": "Success"}),
    };
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": request["uid"], "convertedObjects": converted, "result": result}})
}

fn definition(hook: &Hook, storage: &str) -> Value {
    let version = |name: &str, fields: &[&str]| {
        let properties: serde_json::Map<String, Value> = fields
            .iter()
            .map(|field| ((*field).to_owned(), json!({"type": "string"})))
            .collect();
        json!({"name": name, "served": true, "storage": name == storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
    };
    json!({"metadata": {"name": "sites.stable.test.io"}, "spec": {"group": "stable.test.io", "scope": "Namespaced",
        "names": {"plural": "sites", "kind": "Site"}, "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
        "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": hook.client("/convert"), "conversionReviewVersions": ["v1"]}}}})
}

fn sites(version: &str) -> String {
    format!("{GROUP}/{version}/namespaces/default/sites")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_reads_writes_lists_and_watches() {
    let rig = Rig::start().await;
    let hook = Hook::start(convert).await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    rig.done("POST", definitions, definition(&hook, "v1")).await;
    rig.until("GET", &sites("v2"), Value::Null, |reply| reply.code == 200)
        .await;
    // Written in one, read in the other, and the other way round.
    let a = rig
        .done(
            "POST",
            &sites("v1"),
            json!({"metadata": {"name": "a"}, "hostPort": "h:80"}),
        )
        .await;
    let read = rig.done("GET", &format!("{}/a", sites("v2")), Value::Null).await;
    assert_eq!(
        (
            &read["apiVersion"],
            &read["host"],
            &read["port"],
            &read["hostPort"],
            &read["metadata"]["uid"]
        ),
        (
            &json!("stable.test.io/v2"),
            &json!("h"),
            &json!("80"),
            &Value::Null,
            &a["metadata"]["uid"]
        )
    );
    let b = rig
        .done(
            "POST",
            &sites("v2"),
            json!({"metadata": {"name": "b"}, "host": "x", "port": "1", "odd": 1}),
        )
        .await;
    assert_eq!((&b["host"], &b["odd"]), (&json!("x"), &Value::Null));
    assert_eq!(
        rig.done("GET", &format!("{}/b", sites("v1")), Value::Null).await["hostPort"],
        "x:1"
    );
    // From now on stored in v2: old objects stay as they were written.
    rig.done(
        "PATCH",
        &format!("{definitions}/sites.stable.test.io"),
        json!({"spec": {"versions": definition(&hook, "v2")["spec"]["versions"]}}),
    )
    .await;
    let patch = json!({"port": "2"});
    let patched = rig
        .until("PATCH", &format!("{}/b", sites("v2")), patch, |reply| {
            reply.code == 200
        })
        .await;
    assert_eq!(
        (&patched.document["host"], &patched.document["port"]),
        (&json!("x"), &json!("2"))
    );
    rig.done(
        "POST",
        &sites("v2"),
        json!({"metadata": {"name": "c"}, "host": "y", "port": "3"}),
    )
    .await;
    let before = hook.asked.lock().unwrap().len();
    for (version, expected) in [
        ("v1", json!(["h:80", "x:2", "y:3"])),
        ("v2", json!(["80", "2", "3"])),
    ] {
        let list = rig.done("GET", &sites(version), Value::Null).await;
        let field = if version == "v1" { "hostPort" } else { "port" };
        let items: Vec<&Value> = list["items"].as_array().unwrap().iter().collect();
        let found: Vec<&Value> = items.iter().map(|item| &item[field]).collect();
        assert_eq!(json!(found), expected, "{list}");
        assert!(
            items
                .iter()
                .all(|item| item["apiVersion"] == format!("stable.test.io/{version}"))
        );
    }
    assert!(
        hook.asked.lock().unwrap().len() <= before + 2,
        "one call for a list"
    );
    let watched = rig
        .ask(
            "GET",
            &format!("{}?watch=1&timeoutSeconds=1", sites("v1")),
            Value::Null,
        )
        .await;
    let text = match &watched.document {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event["type"], event["object"]["hostPort"]))
        .collect();
    assert_eq!(
        shown,
        [r#""ADDED" "h:80""#, r#""ADDED" "x:2""#, r#""ADDED" "y:3""#]
    );
    // A change reaches watchers of both versions in theirs.
    let revision = rig.done("GET", &sites("v1"), Value::Null).await["metadata"]["resourceVersion"].clone();
    rig.done("PATCH", &format!("{}/c", sites("v1")), json!({"hostPort": "z:9"}))
        .await;
    for (version, field, expected) in [("v1", "hostPort", "z:9"), ("v2", "port", "9")] {
        let path = format!(
            "{}?watch=1&timeoutSeconds=1&resourceVersion={}",
            sites(version),
            revision.as_str().unwrap()
        );
        let event = rig.ask("GET", &path, Value::Null).await.document;
        assert_eq!(
            (&event["type"], &event["object"][field]),
            (&json!("MODIFIED"), &json!(expected)),
            "{event}"
        );
    }
    // Applied in one version by one manager, in the other by another.
    for (version, config) in [
        ("v1", json!({"hostPort": "q:1"})),
        ("v2", json!({"host": "r"})),
        ("v1", json!({"hostPort": "s:2"})),
    ] {
        let mut config = config;
        config["apiVersion"] = json!(format!("stable.test.io/{version}"));
        config["kind"] = json!("Site");
        config["metadata"] = json!({"name": "applied"});
        let path = format!("{}/applied?fieldManager={version}&force=true", sites(version));
        let reply = rig.apply(&path, config).await;
        assert!(reply.code < 300, "{version}: {}", reply.document);
    }
    assert_eq!(
        rig.done("GET", &format!("{}/applied", sites("v2")), Value::Null)
            .await["host"],
        "s"
    );
    rig.done("DELETE", &format!("{}/applied", sites("v2")), Value::Null)
        .await;
    // What the webhook refuses is told; the rest goes on.
    let refused = rig
        .ask(
            "POST",
            &sites("v1"),
            json!({"metadata": {"name": "stubborn"}, "hostPort": "h:1"}),
        )
        .await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            500,
            "conversion webhook for stable.test.io/v1, Kind=Site failed: stubborn stays"
        )
    );
    let shown = rig
        .ok(
            &[
                "get",
                "sites.v1.stable.test.io",
                "a",
                "-o",
                "jsonpath={.hostPort}",
            ],
            "",
        )
        .await;
    assert_eq!(shown, "h:80");
    rig.done("DELETE", &format!("{}/a", sites("v1")), Value::Null)
        .await;
    rig.stop().await;
}
