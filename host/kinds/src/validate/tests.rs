//! Rules, as documents and the errors that they get.

use serde_json::{Value, json};

use super::*;
use crate::resource::{self, find_kind};

fn resource_of(object: &Value) -> std::sync::Arc<resource::Resource> {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_string();
    find_kind(&text("apiVersion"), &text("kind")).expect("a known kind")
}

fn defaulted(mut object: Value) -> Value {
    crate::default::apply(&resource_of(&object), &mut object);
    object
}

#[track_caller]
fn check(object: Value, expected: &[&str]) {
    let object = defaulted(object);
    let errors: Vec<String> = create(&resource_of(&object), &object)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors, expected);
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"}, "spec": spec})
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i:1"});
    json_patch::merge(&mut container, &more);
    pod(json!({"containers": [container]}))
}

#[test]
fn metadata_of_all_kinds() {
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    check(
        map(json!({"name": "a", "namespace": "n", "labels": {"a/b": "c"}})),
        &[],
    );
    check(
        map(json!({"namespace": "n"})),
        &["metadata.name: Required value: name or generateName is required"],
    );
    check(
        map(json!({"name": "A_b", "namespace": "n"})),
        &[&format!(
            "metadata.name: Invalid value: \"A_b\": {}",
            crate::name::SUBDOMAIN_MESSAGE
        )],
    );
    check(
        map(json!({"name": "a", "namespace": "n", "labels": {"a": "-"}})),
        &[&format!(
            "metadata.labels: Invalid value: \"-\": {}",
            crate::name::LABEL_VALUE_MESSAGE
        )],
    );
}

#[test]
fn pods() {
    check(container(json!({})), &[]);
    check(pod(json!({})), &["spec.containers: Required value"]);
    check(
        container(json!({"image": null})),
        &["spec.containers[0].image: Required value"],
    );
    check(
        pod(
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}], "restartPolicy": "Sometimes"}),
        ),
        &[
            "spec.containers[1].name: Duplicate value: \"c\"",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        container(
            json!({"ports": [{"containerPort": 70000}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        ),
        &[
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ],
    );
    check(
        container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    check(
        container(json!({"env": [{"value": "x"}]})),
        &["spec.containers[0].env[0].name: Required value"],
    );
    check(
        container(
            json!({"livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": 1}}, "readinessProbe": {}}),
        ),
        &[
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ],
    );
}

#[test]
fn reviews_need_no_name() {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    check(review, &[]);
}

#[test]
fn workloads() {
    let deployment = |labels: Value, spec: Value| {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        json_patch::merge(&mut object["spec"], &spec);
        object
    };
    let labels = json!({"app": "x"});
    check(deployment(labels.clone(), json!({})), &[]);
    check(
        deployment(json!({"app": "y"}), json!({})),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"y\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        deployment(labels.clone(), json!({"selector": null})),
        &["spec.selector: Required value"],
    );
    check(
        deployment(labels.clone(), json!({"replicas": -1})),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        deployment(labels, json!({"template": {"spec": {"restartPolicy": "Never"}}})),
        &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
    );
    check(
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "n"},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
}

#[test]
fn core_kinds() {
    let metadata = json!({"name": "a", "namespace": "n"});
    check(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 0}, {"port": 80, "name": "x"}]}}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata}),
        &["spec.ports: Required value"],
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a/b": ""}}),
        &[&format!(
            "data[a/b]: Invalid value: \"a/b\": {}",
            crate::name::CONFIG_KEY_MESSAGE
        )],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls"}),
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    check(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
        &["rules[0].verbs: Required value: verbs must contain at least one value"],
    );
    check(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "s"}}}]}}]}}),
        &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    );
}

#[track_caller]
fn check_update(object: Value, change: Value, expected: &[&str]) {
    let old = defaulted(object);
    let mut new = old.clone();
    json_patch::merge(&mut new, &change);
    let new = defaulted(new);
    let errors = update(&resource_of(&old), &new, &old);
    let fields: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(fields.len(), expected.len(), "{fields:?}");
    for (error, start) in fields.iter().zip(expected) {
        assert!(error.starts_with(start), "{error} starts with {start}");
    }
}

#[test]
fn changes() {
    let simple = || container(json!({}));
    let with = |more: Value| {
        json!({"spec": {"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}]}}).pointer("/spec/containers/0").map(|one| {
        let mut one = one.clone();
        json_patch::merge(&mut one, &more);
        json!({"spec": {"containers": [one]}})
    }).unwrap()
    };
    check_update(simple(), with(json!({"image": "i:2"})), &[]);
    check_update(
        simple(),
        with(json!({"command": ["x"]})),
        &["spec: Forbidden: pod updates may not change fields other than"],
    );
    check_update(
        simple(),
        json!({"spec": {"tolerations": [{"operator": "Exists"}], "nodeName": "n"}}),
        &[],
    );
    check_update(
        simple(),
        json!({"metadata": {"name": "b"}}),
        &["metadata.name: Invalid value: \"b\": field is immutable"],
    );
    let bound = json!({"spec": {"nodeName": "n"}});
    let resource = find_kind("v1", "Pod").unwrap();
    let (old, mut new) = (defaulted(simple()), defaulted(simple()));
    json_patch::merge(&mut new, &bound);
    assert_eq!(
        (
            update(&resource, &new, &old).len(),
            update_main(&resource, &new, &old).len()
        ),
        (0, 1)
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}, "immutable": true});
    check_update(
        secret,
        json!({"data": {"a": "eA=="}}),
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "a", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    check_update(
        set,
        json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}),
        &["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"],
    );
}

#[test]
fn decoding() {
    let deployment = find_kind("apps/v1", "Deployment").unwrap();
    let typed = |object: Value| types(&deployment, &object).unwrap_err();
    let start = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    for (object, why) in [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({"metadata": {"labels": []}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(typed(object), format!("{start}{why}"));
    }
    let secret = find_kind("v1", "Secret").unwrap();
    assert!(types(&secret, &json!({"data": {"a": "eA=="}})).is_ok());
    let why = types(&secret, &json!({"data": {"a": "e!=="}})).unwrap_err();
    assert!(why.ends_with("illegal base64 data at input byte 1"), "{why}");
    let odd = json!({"spec": {"replica": 1, "template": {"spec": {"containers": [{"imgae": "x"}]}}}, "metadata": {"labels": {"any": "x"}}, "extra": {}});
    let mut unknown = unknown_fields(&deployment, &odd);
    unknown.sort();
    assert_eq!(
        unknown,
        ["extra", "spec.replica", "spec.template.spec.containers[0].imgae"]
    );
}
