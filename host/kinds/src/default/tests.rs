//! Defaults, as documents before and after.

use serde_json::{Value, json};

use crate::resource::find_kind;

fn applied(mut object: Value) -> Value {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_string();
    let resource = find_kind(&text("apiVersion"), &text("kind")).expect("a known kind");
    super::apply(&resource, &mut object);
    let once = object.clone();
    super::apply(&resource, &mut object);
    assert_eq!(once, object, "defaulting twice changes nothing more");
    object
}

/// Checks the values at some pointers after defaulting; null means absent.
fn check(object: Value, expected: &[(&str, Value)]) {
    let object = applied(object);
    for (pointer, value) in expected {
        assert_eq!(
            object.pointer(pointer).unwrap_or(&Value::Null),
            value,
            "{pointer} of {object:#}"
        );
    }
}

#[test]
fn pod() {
    check(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": null}, "unknown": 1,
            "spec": {
                "serviceAccount": "robot",
                "containers": [
                    {"name": "a", "image": "host:5000/nginx", "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "100m"}},
                        "readinessProbe": {"httpGet": {"port": 80}}},
                    {"name": "b", "image": "nginx:1.2"}, {"name": "c", "image": "nginx@sha256:00"}, {"name": "d", "image": "x/nginx:latest"}],
                "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "s"}}]}}),
        &[
            ("/metadata/creationTimestamp", Value::Null),
            ("/unknown", Value::Null),
            ("/spec/restartPolicy", json!("Always")),
            ("/spec/dnsPolicy", json!("ClusterFirst")),
            ("/spec/terminationGracePeriodSeconds", json!(30)),
            ("/spec/schedulerName", json!("default-scheduler")),
            ("/spec/securityContext", json!({})),
            ("/spec/enableServiceLinks", json!(true)),
            ("/spec/serviceAccountName", json!("robot")),
            ("/spec/containers/0/imagePullPolicy", json!("Always")),
            ("/spec/containers/1/imagePullPolicy", json!("IfNotPresent")),
            ("/spec/containers/2/imagePullPolicy", json!("IfNotPresent")),
            ("/spec/containers/3/imagePullPolicy", json!("Always")),
            ("/spec/containers/0/ports/0/protocol", json!("TCP")),
            (
                "/spec/containers/0/resources/limits",
                json!({"cpu": "500m", "memory": "1Gi"}),
            ),
            (
                "/spec/containers/0/resources/requests",
                json!({"cpu": "100m", "memory": "1Gi"}),
            ),
            (
                "/spec/containers/0/readinessProbe",
                json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
            ),
            (
                "/spec/containers/1/terminationMessagePath",
                json!("/dev/termination-log"),
            ),
            ("/spec/volumes/0/emptyDir", json!({})),
            ("/spec/volumes/1/secret/defaultMode", json!(420)),
        ],
    );
}

#[test]
fn workloads() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    check(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}}),
        &[
            ("/spec/replicas", json!(1)),
            (
                "/spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            ),
            ("/spec/revisionHistoryLimit", json!(10)),
            ("/spec/progressDeadlineSeconds", json!(600)),
            ("/spec/template/spec/restartPolicy", json!("Always")),
            ("/spec/template/spec/enableServiceLinks", Value::Null),
        ],
    );
    check(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
        &[
            ("/spec/replicas", json!(0)),
            ("/spec/strategy", json!({"type": "Recreate"})),
        ],
    );
    check(
        json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}),
        &[
            ("/spec/completions", json!(1)),
            ("/spec/parallelism", json!(1)),
            ("/spec/backoffLimit", json!(6)),
            ("/metadata/labels", json!({"a": "b"})),
        ],
    );
    check(
        json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": 3, "template": template}}),
        &[
            ("/spec/completions", Value::Null),
            ("/spec/parallelism", json!(3)),
        ],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ReplicationController", "spec": {"template": template}}),
        &[
            ("/spec/selector", json!({"a": "b"})),
            ("/spec/replicas", json!(1)),
        ],
    );
    check(
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template}}}}),
        &[
            ("/spec/concurrencyPolicy", json!("Allow")),
            (
                "/spec/jobTemplate/spec/template/spec/dnsPolicy",
                json!("ClusterFirst"),
            ),
        ],
    );
}

#[test]
fn core_kinds() {
    check(
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
        &[
            ("/spec/type", json!("ClusterIP")),
            (
                "/spec/ports",
                json!([{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "web"}]),
            ),
            ("/spec/internalTrafficPolicy", json!("Cluster")),
            ("/spec/ipFamilyPolicy", json!("SingleStack")),
        ],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "secret"}}),
        &[
            ("/type", json!("Opaque")),
            ("/data", json!({"a": "c2VjcmV0", "b": "eA=="})),
            ("/stringData", Value::Null),
        ],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
        &[
            ("/spec/finalizers", json!(["kubernetes"])),
            ("/metadata/labels", json!({"kubernetes.io/metadata.name": "a"})),
        ],
    );
    check(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        &[
            ("/roleRef/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/0/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/1/apiGroup", Value::Null),
        ],
    );
}
