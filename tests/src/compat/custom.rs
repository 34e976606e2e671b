//! Custom resources and policies in CEL, as a client defines and meets them.

use anyhow::ensure;
use serde_json::{Value, json};

use super::Ground;
use super::api::text;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

fn definition(plural: &str, kind: &str, schema: Value) -> Value {
    json!({
        "metadata": { "name": format!("{plural}.compat.example.com") },
        "spec": {
            "group": "compat.example.com", "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind, "singular": kind.to_lowercase(), "listKind": format!("{kind}List") },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "additionalPrinterColumns": [{ "name": "Color", "type": "string", "jsonPath": ".spec.color" }],
            }],
        },
    })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "color": { "type": "string", "default": "red" },
                    "size": { "type": "integer", "maximum": 10 },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                },
                "x-kubernetes-validations": [{ "rule": "!has(self.size) || self.size > 0", "message": "size is positive" }],
            },
            "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
    })
}

async fn served(ground: &Ground, plural: &str, kind: &str) -> anyhow::Result<String> {
    let api = &ground.api;
    let path = format!("{DEFINITIONS}/{plural}.compat.example.com");
    let _ = api.delete(&path, &Value::Null).await?;
    api.until(&path, |answer| answer.status == 404).await?;
    api.post(DEFINITIONS, &definition(plural, kind, schema()))
        .await?
        .expect(201)?;
    let is_established = |conditions: &Value| {
        let holds = |name: &str| {
            conditions
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["type"] == name && one["status"] == "True")
        };
        holds("Established") && holds("NamesAccepted")
    };
    api.until(&path, |answer| {
        is_established(&answer.body["status"]["conditions"])
    })
    .await?;
    let all = ground.of("compat.example.com/v1", plural);
    api.until(&all, |answer| answer.status == 200).await?;
    Ok(all)
}

fn thing(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "compat.example.com/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

pub(super) async fn definitions(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let all = served(ground, "gadgets", "Gadget").await?;
    let found = api.get("/apis/compat.example.com/v1").await?.expect(200)?.body;
    ensure!(
        found["resources"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["name"] == "gadgets/status")),
        "{found}"
    );
    api.until("/openapi/v3/apis/compat.example.com/v1", |answer| {
        answer.text().contains("com.example.compat.v1.Gadget")
    })
    .await?;
    api.until("/openapi/v2", |answer| {
        answer.body["definitions"]["com.example.compat.v1.Gadget"].is_object()
    })
    .await?;
    api.post(&all, &thing("Gadget", "one", json!({})))
        .await?
        .expect(201)?;
    let path = format!("{DEFINITIONS}/gadgets.compat.example.com");
    let gone = json!([{ "op": "replace", "path": "/spec/versions/0/served", "value": false }]);
    api.patch("json", &path, &gone).await?.expect(200)?;
    api.until(&all, |answer| answer.status == 404).await?;
    api.delete(&path, &Value::Null).await?.expect(200)?;
    api.until(&path, |answer| answer.status == 404).await?;
    api.until("/apis/compat.example.com/v1/gadgets", |answer| {
        answer.status == 404
    })
    .await?;
    Ok(())
}

pub(super) async fn schemas(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let all = served(ground, "widgets", "Widget").await?;
    let loose = json!({ "size": 3, "unknown": 1, "free": { "any": "thing" } });
    let made = api
        .post(&all, &thing("Widget", "pruned", loose))
        .await?
        .expect(201)?;
    ensure!(
        made.body["spec"] == json!({ "color": "red", "size": 3, "free": { "any": "thing" } }),
        "{}",
        made.body["spec"]
    );
    ensure!(
        made.header("warning")
            .contains(r#"unknown field \"spec.unknown\""#),
        "{}",
        made.header("warning")
    );
    let strict = format!("{all}?fieldValidation=Strict");
    api.post(&strict, &thing("Widget", "strict", json!({ "unknown": 1 })))
        .await?
        .refused(400, "BadRequest")?;
    let large = api
        .post(&all, &thing("Widget", "large", json!({ "size": 11 })))
        .await?
        .refused(422, "Invalid")?;
    ensure!(
        large.body["details"]["causes"][0]["field"] == "spec.size",
        "{}",
        large.text()
    );
    let none = api
        .post(&all, &thing("Widget", "none", json!({ "size": 0 })))
        .await?
        .refused(422, "Invalid")?;
    ensure!(
        text(&none.body["message"]).contains("size is positive"),
        "{}",
        none.text()
    );
    api.patch("strategic", &format!("{all}/pruned"), &json!({}))
        .await?
        .refused(415, "UnsupportedMediaType")?;
    Ok(())
}

pub(super) async fn extras(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let all = served(ground, "things", "Thing").await?;
    for (name, color) in [("one", "blue"), ("two", "green")] {
        api.post(&all, &thing("Thing", name, json!({ "color": color })))
            .await?
            .expect(201)?;
    }
    let blue = api
        .get(&format!("{all}?fieldSelector=spec.color%3Dblue"))
        .await?
        .expect(200)?
        .body;
    ensure!(
        blue["items"].as_array().is_some_and(|items| items.len() == 1),
        "{blue}"
    );
    let table = api
        .accept("application/json;as=Table;v=v1;g=meta.k8s.io")
        .get(&all)
        .await?
        .expect(200)?
        .body;
    ensure!(
        table["columnDefinitions"][1]["name"] == "Color" && table["rows"][0]["cells"][1] == "blue",
        "{table}"
    );
    let path = format!("{all}/one");
    let status = json!({ "status": { "seen": true }, "spec": { "color": "black" } });
    let after = api
        .patch("merge", &format!("{path}/status"), &status)
        .await?
        .expect(200)?
        .body;
    ensure!(
        after["status"]["seen"] == true && after["spec"]["color"] == "blue",
        "{after}"
    );
    Ok(())
}

fn policy(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn of_maps(namespace: &str) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
        "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"] }],
    })
}

async fn create(ground: &Ground, plural: &str, object: &Value) -> anyhow::Result<()> {
    let path = format!("{POLICIES}/{plural}");
    let one = format!("{path}/{}", text(&object["metadata"]["name"]));
    let _ = ground.api.delete(&one, &Value::Null).await?;
    ground.api.post(&path, object).await?.expect(201)?;
    Ok(())
}

pub(super) async fn validating_policies(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": of_maps(&ground.namespace),
        "variables": [{ "name": "limit", "expression": "params.data['most']" }],
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "validations": [{
            "expression": "!has(object.data) || !('n' in object.data) || int(object.data['n']) <= int(variables.limit)",
            "messageExpression": "'n is more than ' + string(variables.limit)",
        }],
    });
    let maps = ground.collection("configmaps");
    api.post(
        &maps,
        &json!({ "metadata": { "name": "parameters" }, "data": { "most": "5" } }),
    )
    .await?
    .expect(201)?;
    create(ground, "validatingadmissionpolicies", &policy("compat-n", spec)).await?;
    let binding = json!({
        "policyName": "compat-n", "validationActions": ["Deny"],
        "paramRef": { "name": "parameters", "namespace": ground.namespace, "parameterNotFoundAction": "Deny" },
    });
    create(
        ground,
        "validatingadmissionpolicybindings",
        &policy("compat-n", binding),
    )
    .await?;
    let started = std::time::Instant::now();
    let refused = loop {
        let map = json!({ "metadata": { "generateName": "n-" }, "data": { "n": "9" } });
        let answer = api.post(&maps, &map).await?;
        if answer.status != 201 {
            break answer.refused(422, "Invalid")?;
        }
        ensure!(started.elapsed().as_secs() < 20, "the policy is not enforced");
    };
    let message = text(&refused.body["message"]);
    ensure!(
        message.contains(
            "ValidatingAdmissionPolicy 'compat-n' with binding 'compat-n' denied request: n is more than 5"
        ),
        "{message}"
    );
    api.post(
        &maps,
        &json!({ "metadata": { "name": "few" }, "data": { "n": "3" } }),
    )
    .await?
    .expect(201)?;
    let warn = json!({ "spec": { "validationActions": ["Warn"] } });
    api.patch(
        "merge",
        &format!("{POLICIES}/validatingadmissionpolicybindings/compat-n"),
        &warn,
    )
    .await?
    .expect(200)?;
    let started = std::time::Instant::now();
    loop {
        let map = json!({ "metadata": { "generateName": "w-" }, "data": { "n": "9" } });
        let answer = api.post(&maps, &map).await?;
        if answer.status == 201 {
            ensure!(
                answer.header("warning").contains("n is more than 5"),
                "no warning: {:?}",
                answer.headers
            );
            break;
        }
        ensure!(
            started.elapsed().as_secs() < 20,
            "the binding's change is not seen"
        );
    }
    for plural in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        api.delete(&format!("{POLICIES}/{plural}/compat-n"), &Value::Null)
            .await?
            .expect(200)?;
    }
    Ok(())
}

pub(super) async fn mutating_policies(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let apply = "Object{metadata: Object.metadata{annotations: {'applied': 'by-a-policy'}}}";
    let patch = "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'patched': 'yes'}}]";
    let spec = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": of_maps(&ground.namespace),
        "mutations": [
            { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": apply } },
            { "patchType": "JSONPatch", "jsonPatch": { "expression": patch } },
        ],
    });
    create(ground, "mutatingadmissionpolicies", &policy("compat-m", spec)).await?;
    create(
        ground,
        "mutatingadmissionpolicybindings",
        &policy("compat-m", json!({ "policyName": "compat-m" })),
    )
    .await?;
    let started = std::time::Instant::now();
    loop {
        let made = api
            .post(
                &ground.collection("configmaps"),
                &json!({ "metadata": { "generateName": "m-" } }),
            )
            .await?
            .expect(201)?
            .body;
        if made["metadata"]["annotations"]["applied"] == "by-a-policy"
            && made["metadata"]["labels"]["patched"] == "yes"
        {
            break;
        }
        ensure!(
            started.elapsed().as_secs() < 20,
            "it is not changed: {}",
            made["metadata"]
        );
    }
    for plural in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        api.delete(&format!("{POLICIES}/{plural}/compat-m"), &Value::Null)
            .await?
            .expect(200)?;
    }
    Ok(())
}

/// What is published of a definition: its schema, or that anything goes.
pub(super) async fn published_schemas(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let embedded = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true } } });
    let described = json!({ "type": "object", "description": "of some color", "properties": {
        "spec": { "type": "object", "required": ["color"], "properties": { "color": { "type": "string", "description": "its color" } } } } });
    for (plural, kind, schema) in [
        ("anys", "Any", any),
        ("embeddeds", "Embedded", embedded),
        ("describeds", "Described", described),
    ] {
        let mut made = definition(plural, kind, schema);
        made["spec"]["versions"][0]["selectableFields"] = json!([]);
        made["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
        let path = format!("{DEFINITIONS}/{plural}.compat.example.com");
        let _ = api.delete(&path, &Value::Null).await?;
        api.until(&path, |answer| answer.status == 404).await?;
        api.post(DEFINITIONS, &made).await?.expect(201)?;
    }
    let names = ["Any", "Embedded", "Described"].map(|kind| format!("com.example.compat.v1.{kind}"));
    let has_all = |definitions: &Value| names.iter().all(|name| definitions[name].is_object());
    let spec = api
        .until("/openapi/v2", |answer| has_all(&answer.body["definitions"]))
        .await?
        .body;
    let of = |name: &str| spec["definitions"][format!("com.example.compat.v1.{name}")].clone();
    ensure!(
        of("Described")["properties"]["spec"]["required"] == json!(["color"]),
        "{}",
        of("Described")
    );
    ensure!(
        of("Described")["description"] == "of some color",
        "{}",
        of("Described")
    );
    ensure!(
        of("Any")["x-kubernetes-group-version-kind"][0]["kind"] == "Any",
        "{}",
        of("Any")
    );
    // Another version, renamed, and one no longer served.
    let path = format!("{DEFINITIONS}/describeds.compat.example.com");
    let renamed = json!([{ "op": "replace", "path": "/spec/versions/0/name", "value": "v2" }]);
    let stored = api.patch("json", &path, &renamed).await?;
    // The original refuses to forget a stored version; a second version is added and the first not served.
    ensure!(
        stored.status.is_success() || stored.status == 422,
        "{}",
        stored.text()
    );
    api.until("/openapi/v2", |answer| {
        let definitions = &answer.body["definitions"];
        definitions["com.example.compat.v2.Described"].is_object() == stored.status.is_success()
    })
    .await?;
    for plural in ["anys", "embeddeds", "describeds"] {
        api.delete(
            &format!("{DEFINITIONS}/{plural}.compat.example.com"),
            &Value::Null,
        )
        .await?
        .expect(200)?;
    }
    api.until("/openapi/v2", |answer| {
        !answer.text().contains("com.example.compat.v1.Any\"")
    })
    .await?;
    Ok(())
}

pub(super) async fn strict_fields(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let all = served(ground, "stricts", "Strict").await?;
    let strict = format!("{all}?fieldValidation=Strict");
    let twice = thing("Strict", "twice", json!({ "free": { "a": 1 } })).to_string();
    let twice = twice.replacen("{\"a\":1}", "{\"a\":1,\"a\":1}", 1);
    let refused = api
        .send(http::Method::POST, &strict, "application/json", twice.into())
        .await?
        .refused(400, "BadRequest")?;
    ensure!(
        text(&refused.body["message"]).contains("duplicate field \"spec.free.a\""),
        "{}",
        refused.text()
    );
    let mut meta = thing("Strict", "meta", json!({}));
    meta["metadata"]["unknownMeta"] = json!("x");
    let refused = api.post(&strict, &meta).await?.refused(400, "BadRequest")?;
    ensure!(
        text(&refused.body["message"]).contains("unknown field \"metadata.unknownMeta\""),
        "{}",
        refused.text()
    );
    Ok(())
}
