//! Custom kinds with the real kubectl: a definition is taken, served, changed and deleted as in the original,
//! and its objects live like those of built-in kinds.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use rig::Rig;
use serde_json::{Value, json};

/// A definition with everything that the tests below ask for.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"],
                "categories": ["all"]},
            "versions": [version("v1", true), {
                "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"cronSpec": {"type": "string"}}}}}}
            }]
        }
    })
}

fn version(name: &str, storage: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {
            "type": "object", "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object", "required": ["cronSpec"],
                    "x-kubernetes-validations": [
                        {"rule": "self.replicas <= self.max", "messageExpression": "'replicas %d over max %d'.format([self.replicas, self.max])", "fieldPath": ".replicas"}],
                    "properties": {
                        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                        "image": {"type": "string", "enum": ["busybox", "alpine"], "default": "busybox",
                            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "image is immutable"}]},
                        "replicas": {"type": "integer", "minimum": 0, "default": 1},
                        "max": {"type": "integer", "default": 10},
                        "port": {"x-kubernetes-int-or-string": true},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}
                    }
                },
                "status": {"type": "object", "properties": {
                    "replicas": {"type": "integer"}, "selector": {"type": "string"}}}
            }
        }},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
        "additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec", "description": "when"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
        "selectableFields": [{"jsonPath": ".spec.image"}]
    })
}

fn crontab(name: &str, spec: Value) -> String {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec}).to_string()
}

async fn established(rig: &Rig) {
    rig.ok(&["apply", "-f", "-"], &definition().to_string()).await;
    let name = "crd/crontabs.stable.example.com";
    rig.ok(
        &["wait", "--for=condition=Established", "--timeout=10s", name],
        "",
    )
    .await;
    reads(rig, "crontabs").await;
}

/// Waits until the resource is served.
async fn reads(rig: &Rig, resource: &str) {
    for _ in 0..100 {
        if rig.kubectl(&["get", resource], "").await.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{resource} is not served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_custom_kind_live_and_die() {
    let rig = Rig::start().await;
    established(&rig).await;
    let path = ["get", "crd", "crontabs.stable.example.com", "-o"];
    let status = rig.ok(&[path[0], path[1], path[2], path[3], "json"], "").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(status["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(status["status"]["conditions"][0]["reason"], "NoConflicts");
    assert_eq!(status["metadata"]["generation"], 1);
    let listed = rig
        .ok(&["api-resources", "--api-group=stable.example.com"], "")
        .await;
    assert!(
        listed.contains("crontabs") && listed.contains("ct") && listed.contains("CronTab"),
        "{listed}"
    );
    let explained = rig.ok(&["explain", "crontab.spec.cronSpec"], "").await;
    assert!(explained.contains("FIELD: cronSpec <string>"), "{explained}");

    let object = crontab(
        "a",
        json!({"cronSpec": "* * * * */5", "free": {"x": [1]}, "port": "http"}),
    );
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], &object).await,
        "crontab.stable.example.com/a created\n"
    );
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], &object).await,
        "crontab.stable.example.com/a unchanged\n"
    );
    let table = rig.ok(&["get", "ct"], "").await;
    assert!(
        table.starts_with("NAME   SPEC          REPLICAS   AGE\na      * * * * */5   1"),
        "{table}"
    );
    assert!(rig.ok(&["get", "ct", "-o", "wide"], "").await.contains("busybox"));
    assert!(
        rig.ok(&["get", "all"], "")
            .await
            .contains("crontab.stable.example.com/a")
    );
    let spec = rig
        .ok(
            &["get", "ct", "a", "-o", "jsonpath={.spec}{.metadata.generation}"],
            "",
        )
        .await;
    assert!(
        spec.contains(r#""free":{"x":[1]}"#) && spec.contains(r#""max":10"#) && spec.ends_with("}1"),
        "{spec}"
    );

    rig.ok(&["scale", "ct", "a", "--replicas=3"], "").await;
    let patch = ["patch", "ct", "a", "--type=merge", "-p"];
    let merged = [&patch[..], &[r#"{"spec":{"max":20}}"#]].concat();
    rig.ok(&merged, "").await;
    let numbers = [
        "get",
        "ct",
        "a",
        "-o",
        "jsonpath={.spec.replicas} {.spec.max} {.metadata.generation}",
    ];
    assert_eq!(rig.ok(&numbers, "").await, "3 20 3");
    let status = [
        &patch[..],
        &[
            r#"{"status":{"replicas":3,"selector":"a=b"}}"#,
            "--subresource=status",
        ],
    ]
    .concat();
    rig.ok(&status, "").await;
    let status = [
        "get",
        "ct",
        "a",
        "-o",
        "jsonpath={.status.replicas} {.metadata.generation}",
    ];
    assert_eq!(rig.ok(&status, "").await, "3 3");
    let scale = rig
        .ok(
            &[
                "get",
                "--raw",
                "/apis/stable.example.com/v1/namespaces/default/crontabs/a/scale",
            ],
            "",
        )
        .await;
    let scale: Value = serde_json::from_str(&scale).unwrap();
    assert_eq!(
        (&scale["status"]["selector"], &scale["spec"]["replicas"]),
        (&json!("a=b"), &json!(3))
    );

    rig.ok(
        &["create", "-f", "-"],
        &crontab("b", json!({"cronSpec": "* * * * *", "image": "alpine"})),
    )
    .await;
    let chosen = ["get", "ct", "--field-selector", "spec.image=alpine", "-o", "name"];
    assert_eq!(rig.ok(&chosen, "").await, "crontab.stable.example.com/b\n");
    let unknown = rig
        .fails(&["get", "ct", "--field-selector", "spec.max=1"], "")
        .await;
    assert!(
        unknown.contains("field label not supported: spec.max"),
        "{unknown}"
    );
    rig.ok(&["label", "ct", "b", "x=y"], "").await;
    assert_eq!(
        rig.ok(&["get", "ct", "-l", "x=y", "-o", "name"], "").await,
        "crontab.stable.example.com/b\n"
    );

    // Another version shows what it knows, and says that it is deprecated.
    let (ok, beta, warning) = rig
        .kubectl(
            &["get", "crontabs.v1beta1.stable.example.com", "a", "-o", "json"],
            "",
        )
        .await;
    let beta: Value = serde_json::from_str(&beta).unwrap();
    assert!(
        ok && warning
            .contains("stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab")
    );
    assert_eq!(beta["spec"], json!({"cronSpec": "* * * * */5"}));
    assert_eq!(beta["apiVersion"], "stable.example.com/v1beta1");

    rig.ok(&["delete", "ct", "--all"], "").await;
    assert_eq!(rig.ok(&["get", "ct", "-o", "name"], "").await, "");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_schema_is_refused() {
    let rig = Rig::start().await;
    established(&rig).await;
    for (spec, expected) in [
        (json!({}), r#"spec.cronSpec: Required value"#),
        (
            json!({"cronSpec": "x"}),
            r#"spec.cronSpec: Invalid value: "x": spec.cronSpec in body should match '"#,
        ),
        (
            json!({"cronSpec": 5}),
            r#"spec.cronSpec: Invalid value: "integer": spec.cronSpec in body must be of type string: "integer""#,
        ),
        (
            json!({"cronSpec": "* * * * *", "image": "x"}),
            r#"spec.image: Unsupported value: "x": supported values: "busybox", "alpine""#,
        ),
        (
            json!({"cronSpec": "* * * * *", "replicas": -1}),
            "spec.replicas in body should be greater than or equal to 0",
        ),
        (
            json!({"cronSpec": "* * * * *", "replicas": 11}),
            "spec.replicas: Invalid value: replicas 11 over max 10",
        ),
        (
            json!({"cronSpec": "* * * * *", "template": {"kind": "Pod"}}),
            "spec.template.apiVersion: Required value: must not be empty",
        ),
        (
            json!({"cronSpec": "* * * * *", "odd": 1}),
            r#"unknown field "spec.odd""#,
        ),
    ] {
        let error = rig
            .fails(&["create", "-f", "-"], &crontab("a", spec.clone()))
            .await;
        assert!(error.contains(expected), "{spec}: {error}");
    }
    // Not strict: a warning, and the field is gone.
    let odd = crontab("a", json!({"cronSpec": "* * * * *", "odd": 1}));
    let (ok, _, warning) = rig.kubectl(&["create", "--validate=warn", "-f", "-"], &odd).await;
    assert!(ok && warning.contains(r#"unknown field "spec.odd""#), "{warning}");
    let spec = rig
        .ok(&["get", "ct", "a", "-o", "jsonpath={.spec.odd}"], "")
        .await;
    assert_eq!(spec, "");
    let change = rig
        .fails(
            &[
                "patch",
                "ct",
                "a",
                "--type=merge",
                "-p",
                r#"{"spec":{"image":"alpine"}}"#,
            ],
            "",
        )
        .await;
    assert!(
        change.contains(r#"spec.image: Invalid value: "alpine": image is immutable"#),
        "{change}"
    );
    let strategic = rig
        .fails(&["patch", "ct", "a", "--type=strategic", "-p", "{}"], "")
        .await;
    let taken = "accepted media types include: application/json-patch+json, application/merge-patch+json";
    assert!(strategic.contains(taken), "{strategic}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_judged() {
    let rig = Rig::start().await;
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let single = |change: &dyn Fn(&mut Value)| {
        let mut definition = definition();
        definition["spec"]["versions"].as_array_mut().unwrap().truncate(1);
        change(&mut definition);
        definition.to_string()
    };
    let property = |text: Value| {
        single(&move |definition: &mut Value| {
            definition.pointer_mut(schema).unwrap()["properties"]["spec"]["properties"]["a"] = text.clone();
        })
    };
    let at = "spec.validation.openAPIV3Schema.properties[spec].properties[a]";
    for (definition, expected) in [
        (
            single(&|one| one["metadata"]["name"] = json!("x.y")),
            r#"metadata.name: Invalid value: "x.y": must be spec.names.plural+"."+spec.group"#.to_string(),
        ),
        (
            property(json!({})),
            format!("{at}.type: Required value: must not be empty for specified object fields"),
        ),
        (
            property(json!({"type": "array"})),
            format!("{at}.items: Required value: must be specified"),
        ),
        (
            property(json!({"type": "string", "pattern": "("})),
            format!("{at}.pattern: Invalid value: \"(\": must be a valid regular expression"),
        ),
        (
            property(json!({"type": "integer", "default": "x"})),
            format!("{at}.default: Invalid value: \"string\": {at}.default in body must be of type integer"),
        ),
        (
            property(json!({"type": "object", "uniqueItems": true})),
            format!("{at}.uniqueItems: Forbidden"),
        ),
        (
            property(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self > 1"}]})),
            "found no matching overload for '_>_' applied to '(string, int)'".to_string(),
        ),
        (
            single(&|one| one["spec"]["versions"][0]["storage"] = json!(false)),
            "must have exactly one version marked as storage version".to_string(),
        ),
        (
            single(&|one| one["spec"]["scope"] = json!("World")),
            r#"spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced""#
                .to_string(),
        ),
        (
            single(&|one| {
                one["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.free"}]);
            }),
            "must point to a field of type string, boolean or integer".to_string(),
        ),
    ] {
        let error = rig.fails(&["create", "-f", "-"], &definition).await;
        assert!(error.contains(&expected), "{expected}\n{error}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_changes_and_goes() {
    let rig = Rig::start().await;
    established(&rig).await;
    rig.ok(
        &["create", "-f", "-"],
        &crontab("a", json!({"cronSpec": "* * * * *"})),
    )
    .await;
    let held = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab",
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]}, "spec": {"cronSpec": "* * * * *"}});
    rig.ok(&["create", "-f", "-"], &held.to_string()).await;

    // A new default shows in what is stored already; a new version is served; names and scope stay.
    let mut changed = definition();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    changed.pointer_mut(properties).unwrap()["zone"] = json!({"type": "string", "default": "here"});
    changed["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(version("v2", false));
    rig.ok(&["apply", "-f", "-"], &changed.to_string()).await;
    reads(&rig, "crontabs.v2.stable.example.com").await;
    let zone = rig
        .ok(
            &[
                "get",
                "crontabs.v1.stable.example.com",
                "a",
                "-o",
                "jsonpath={.spec.zone}",
            ],
            "",
        )
        .await;
    assert_eq!(zone, "here");
    let mut moved = changed.clone();
    moved["spec"]["scope"] = json!("Cluster");
    let error = rig.fails(&["apply", "-f", "-"], &moved.to_string()).await;
    assert!(
        error.contains(r#"spec.scope: Invalid value: "Cluster": field is immutable"#),
        "{error}"
    );
    let mut dropped = changed.clone();
    dropped["spec"]["versions"] = json!([version("v2", true)]);
    let error = rig.fails(&["apply", "-f", "-"], &dropped.to_string()).await;
    assert!(
        error.contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{error}"
    );

    // Objects go first: one has a finalizer, and holds the definition until it is let go.
    let name = "crd/crontabs.stable.example.com";
    rig.ok(&["delete", name, "--wait=false"], "").await;
    let reason = [
        "get",
        name,
        "-o",
        "jsonpath={.status.conditions[?(@.type=='Terminating')].reason}",
    ];
    let mut seen = String::new();
    for _ in 0..100 {
        seen = rig.ok(&reason, "").await;
        if seen == "InstanceDeletionInProgress" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, "InstanceDeletionInProgress");
    assert_eq!(
        rig.ok(&["get", "ct", "-o", "name"], "").await,
        "crontab.stable.example.com/held\n"
    );
    let error = rig
        .fails(
            &["create", "-f", "-"],
            &crontab("b", json!({"cronSpec": "* * * * *"})),
        )
        .await;
    assert!(
        error.contains("create not allowed while custom resource definition is terminating"),
        "{error}"
    );
    rig.ok(
        &[
            "patch",
            "ct",
            "held",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ],
        "",
    )
    .await;
    rig.ok(&["wait", "--for=delete", name, "--timeout=20s"], "").await;
    let error = rig
        .fails(&["get", "--raw", "/apis/stable.example.com/v1/crontabs"], "")
        .await;
    assert!(error.contains("could not find the requested resource"), "{error}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_serve_the_same_kinds() {
    let rig = Rig::start().await;
    let other = rig.beside().await;
    established(&rig).await;
    rig.ok(
        &["create", "-f", "-"],
        &crontab("a", json!({"cronSpec": "* * * * *", "image": "alpine"})),
    )
    .await;
    reads(&other, "crontabs").await;
    let chosen = ["get", "ct", "--field-selector", "spec.image=alpine", "-o", "name"];
    assert_eq!(other.ok(&chosen, "").await, "crontab.stable.example.com/a\n");
    // Names that are taken are not given twice.
    let mut rival = definition();
    rival["metadata"]["name"] = json!("rivals.stable.example.com");
    rival["spec"]["names"] = json!({"plural": "rivals", "kind": "Rival", "shortNames": ["ct"]});
    other.ok(&["create", "-f", "-"], &rival.to_string()).await;
    let wait = [
        "wait",
        "--for=condition=NamesAccepted=false",
        "--timeout=10s",
        "crd/rivals.stable.example.com",
    ];
    other.ok(&wait, "").await;
    let conditions = [
        "get",
        "crd",
        "rivals.stable.example.com",
        "-o",
        "jsonpath={.status.conditions[*].reason}",
    ];
    assert_eq!(rig.ok(&conditions, "").await, "ShortNamesConflict NotAccepted");
    other.api.shutdown().await;
    rig.stop().await;
}
