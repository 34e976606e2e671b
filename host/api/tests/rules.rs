//! What the rules of the kinds look like to the real kubectl: refusals with their causes, changes that may not
//! be, defaults that come back, warnings that are printed. The rules one by one have their tables in `kinds`.
#![allow(clippy::unwrap_used)]

mod rig;

use capstan_api::UserInfo;
use rig::Rig;
use serde_json::{Value, json};

/// Lays `change` over `target`; null takes a field away.
fn merge(target: &mut Value, change: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *target, change) else {
        *target = change.clone();
        return;
    };
    for (name, change) in changes {
        match change {
            Value::Null => drop(fields.remove(name)),
            change => merge(fields.entry(name).or_insert_with(|| json!({})), change),
        }
    }
}

fn deployment(change: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}
    });
    merge(&mut object, &change);
    object
}

fn pod(change: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}
    });
    merge(&mut object, &change);
    object
}

async fn ask(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, http::HeaderMap, Value) {
    let reply = rig
        .send_with(UserInfo::admin("test"), method, path, &[], body)
        .await;
    (reply.code, reply.headers, reply.document)
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_its_causes() {
    let rig = Rig::start().await;
    let wrong = deployment(json!({"spec": {"replicas": -1, "selector": null}}));
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let (code, _, status) = ask(&rig, "POST", path, wrong.clone()).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        status["details"]["causes"],
        json!([
            {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0", "field": "spec.replicas"},
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.selector"},
            {"reason": "FieldValueInvalid", "message": "Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`", "field": "spec.template.metadata.labels"},
        ])
    );
    let printed = rig.fails(&["create", "-f", "-"], &wrong.to_string()).await;
    for line in [
        "The Deployment \"web\" is invalid: ",
        "* spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "* spec.selector: Required value",
        "* spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn what_may_not_change_stays() {
    let rig = Rig::start().await;
    rig.ok(&["create", "-f", "-"], &pod(json!({})).to_string()).await;
    rig.ok(&["set", "image", "pod/p", "c=i:2"], "").await;
    let command = r#"{"spec":{"containers":[{"name":"c","command":["x"]}]}}"#;
    let printed = rig.fails(&["patch", "pod", "p", "-p", command], "").await;
    assert!(
        printed.contains(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        ),
        "{printed}"
    );
    let shorter = r#"{"spec":{"activeDeadlineSeconds":5}}"#;
    rig.ok(&["patch", "pod", "p", "-p", shorter], "").await;
    let longer = r#"{"spec":{"activeDeadlineSeconds":6}}"#;
    let printed = rig.fails(&["patch", "pod", "p", "-p", longer], "").await;
    assert!(
        printed.contains(
            "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"
        ),
        "{printed}"
    );
    rig.ok(&["create", "-f", "-"], &deployment(json!({})).to_string())
        .await;
    let selector =
        r#"{"spec":{"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}"#;
    let printed = rig
        .fails(&["patch", "deployment", "web", "-p", selector], "")
        .await;
    assert!(
        printed.contains("spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable"),
        "{printed}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn what_is_unwise_is_warned_of() {
    let rig = Rig::start().await;
    let twice = json!([{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]);
    let unwise = pod(json!({"spec": {"containers": twice}}));
    let (code, headers, _) = ask(&rig, "POST", "/api/v1/namespaces/default/pods", unwise).await;
    let warnings: Vec<&str> = headers
        .get_all("warning")
        .iter()
        .filter_map(|one| one.to_str().ok())
        .collect();
    assert_eq!(code, 201);
    assert_eq!(
        warnings,
        [
            r#"299 - "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply""#
        ]
    );
    let dotted = deployment(json!({"metadata": {"name": "a.b"}})).to_string();
    let (_, _, printed) = rig.kubectl(&["create", "-f", "-"], &dotted).await;
    assert!(
        printed.contains("Warning: metadata.name: this is used in Pod names and hostnames"),
        "{printed}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_service_changes_its_type_and_what_goes_with_it() {
    let rig = Rig::start().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}});
    rig.ok(&["create", "-f", "-"], &service.to_string()).await;
    let all = "jsonpath={.spec.clusterIP} {.spec.ipFamilies} {.spec.ports[0].nodePort} {.spec.healthCheckNodePort} \
        {.spec.externalTrafficPolicy} {.spec.allocateLoadBalancerNodePorts}";
    let balanced = rig.ok(&["get", "service", "s", "-o", all], "").await;
    assert_eq!(balanced.split_whitespace().count(), 6, "{balanced}");
    let named = r#"{"spec":{"type":"ExternalName","externalName":"a.example"}}"#;
    rig.ok(&["patch", "service", "s", "-p", named], "").await;
    let left = rig.ok(&["get", "service", "s", "-o", all], "").await;
    assert_eq!(left.trim(), "");
    let back = r#"{"spec":{"type":"ClusterIP","externalName":""}}"#;
    rig.ok(&["patch", "service", "s", "-p", back], "").await;
    let inner = rig.ok(&["get", "service", "s", "-o", all], "").await;
    assert_eq!(inner.split_whitespace().count(), 2, "{inner}");
    let port = r#"{"spec":{"ports":[{"port":80,"nodePort":30123}]}}"#;
    let printed = rig.fails(&["patch", "service", "s", "-p", port], "").await;
    assert!(
        printed.contains("spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        "{printed}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_gated_pod_says_so_and_selects_by_its_own_labels() {
    let rig = Rig::start().await;
    let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "z", "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["v"]}]}});
    let gated = pod(
        json!({"metadata": {"labels": {"v": "1"}}, "spec": {"schedulingGates": [{"name": "a/b"}], "affinity": near}}),
    );
    rig.ok(&["create", "-f", "-"], &gated.to_string()).await;
    let shown = rig.ok(&["get", "pod", "p", "--no-headers"], "").await;
    assert!(shown.contains("SchedulingGated"), "{shown}");
    let selector = "jsonpath={.spec.affinity.podAffinity.*[0].labelSelector.matchExpressions}";
    assert_eq!(
        rig.ok(&["get", "pod", "p", "-o", selector], "").await,
        r#"[{"key":"v","operator":"In","values":["1"]}]"#
    );
    rig.stop().await;
}
