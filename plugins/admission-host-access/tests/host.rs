//! What pods may reach of their node.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_host_access::HostAccess;
use capstan_sdk::{
    Config, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

const CONFIG: &str = r#"{
    "hostPaths": {"allowed": [{"path": "/var/log/", "readOnly": true}, {"path": "/data"}]},
    "capabilities": {"allowed": ["NET_BIND_SERVICE"], "requireDrop": ["NET_RAW"]},
    "hostPorts": {"allowed": [{"from": 8000, "to": 8999}]},
    "hostNamespaces": {"allowed": ["network"]}
}"#;

fn verdict(config: &str, spec: &Value) -> Option<String> {
    let policy = HostAccess::new(Config::read(config).unwrap()).unwrap();
    let pod = json!({"spec": spec});
    match policy
        .validate(&test_request("Pod", "default"), Some(Object::new(&pod)), None)
        .unwrap()
    {
        Verdict::Deny(denial) => Some(denial.message),
        Verdict::Allow(_) => None,
    }
}

/// A pod whose one container drops what it must.
fn pod(more: &Value, container: &Value) -> Value {
    let mut main = json!({"name": "a", "securityContext": {"capabilities": {"drop": ["ALL"]}}});
    let extend = |to: &mut Value, with: &Value| {
        let to = to.as_object_mut().unwrap();
        to.extend(with.as_object().unwrap().clone());
    };
    extend(&mut main, container);
    let mut spec = json!({"containers": [main]});
    extend(&mut spec, more);
    spec
}

#[test]
fn each_part_allows_what_it_names() {
    let none = json!({});
    let volume = |path: &str| json!({"volumes": [{"name": "v", "hostPath": {"path": path}}]});
    let mount = |read_only: bool| json!({"volumeMounts": [{"name": "v", "readOnly": read_only}]});
    let drop =
        |add: Value, drop: Value| json!({"securityContext": {"capabilities": {"add": add, "drop": drop}}});
    let port = |port: u32| json!({"ports": [{"containerPort": 1, "hostPort": port}]});
    for (spec, message) in [
        (pod(&none, &none), None),
        (pod(&volume("/data/x"), &mount(false)), None),
        (pod(&volume("/var/log"), &mount(true)), None),
        (
            pod(&volume("/var/log/pods"), &mount(false)),
            Some(
                "spec.containers[0].volumeMounts[0].readOnly: must be true: \"/var/log/pods\" may be mounted \
                 read-only alone",
            ),
        ),
        (
            pod(&volume("/database"), &none),
            Some("spec.volumes[0].hostPath.path: \"/database\" is not allowed; allowed: /var/log/, /data"),
        ),
        (
            pod(&volume("/data/../etc"), &none),
            Some("spec.volumes[0].hostPath.path: \"/data/../etc\" is not allowed; allowed: /var/log/, /data"),
        ),
        (
            pod(&none, &drop(json!(["CAP_NET_BIND_SERVICE"]), json!(["NET_RAW"]))),
            None,
        ),
        (
            pod(&none, &drop(json!(["SYS_ADMIN"]), json!(["ALL"]))),
            Some(
                "spec.containers[0].securityContext.capabilities.add[0]: SYS_ADMIN is not allowed; allowed: \
                 NET_BIND_SERVICE",
            ),
        ),
        (
            pod(&none, &drop(json!(null), json!(["CHOWN"]))),
            Some("spec.containers[0].securityContext.capabilities.drop: must include NET_RAW, or ALL"),
        ),
        (pod(&none, &port(8000)), None),
        (pod(&none, &port(0)), None),
        (
            pod(&none, &port(9000)),
            Some("spec.containers[0].ports[0].hostPort: 9000 is not allowed; allowed: 8000 to 8999"),
        ),
        (pod(&json!({"hostNetwork": true}), &none), None),
        (
            pod(&json!({"hostPID": true}), &none),
            Some("spec.hostPID: the node's pid namespace must not be shared"),
        ),
    ] {
        assert_eq!(verdict(CONFIG, &spec).as_deref(), message, "{spec}");
    }
}

#[test]
fn absent_parts_are_not_looked_at_and_empty_ones_allow_nothing() {
    let spec =
        json!({"hostIPC": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []});
    assert_eq!(verdict("{}", &spec), None);
    assert_eq!(
        verdict(r#"{"hostPaths": {}}"#, &spec).unwrap(),
        "spec.volumes[0].hostPath.path: \"/\" is not allowed; none is"
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let config = Config::read(r#"{"hostPorts": {"allowed": [{"from": 9, "to": 8}]}}"#).unwrap();
    let fault = HostAccess::new(config).err().unwrap();
    assert_eq!(fault.message, "hostPorts.allowed[0].to: 8 is below from 9");
}
