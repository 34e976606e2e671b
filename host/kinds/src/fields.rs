//! The fields that lists and watches of a kind may be selected by, and how each is read.
//! Invariants: `value` answers for exactly the selectable paths; absent reads as empty, booleans as
//! `true` or `false`, as the original's label conversion gives them. The watch cache extracts these when
//! an object is stored. Selectable fields of custom resources come from their definition (`custom`).

use serde_json::Value;

use crate::resource::Resource;

const COMMON: &[&str] = &["metadata.name", "metadata.namespace"];
const POD: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const EVENT: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const EVENT_V1: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "reason",
    "regarding.apiVersion",
    "regarding.fieldPath",
    "regarding.kind",
    "regarding.name",
    "regarding.namespace",
    "regarding.resourceVersion",
    "regarding.uid",
    "reportingController",
    "type",
];
const NODE: &[&str] = &["metadata.name", "metadata.namespace", "spec.unschedulable"];
const SECRET: &[&str] = &["metadata.name", "metadata.namespace", "type"];
const NAMESPACE: &[&str] = &["metadata.name", "metadata.namespace", "status.phase"];
const STATUS_REPLICAS: &[&str] = &["metadata.name", "metadata.namespace", "status.replicas"];
const JOB: &[&str] = &["metadata.name", "metadata.namespace", "status.successful"];
const SIGNER: &[&str] = &["metadata.name", "metadata.namespace", "spec.signerName"];
const SERVICE: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.clusterIP",
    "spec.type",
];
const RESOURCE_SLICE: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.driver",
    "spec.nodeName",
];

/// The selectable fields that are kept of each object of a kind, and their order.
#[derive(Debug, Clone)]
pub enum Paths {
    /// Of a built-in kind.
    BuiltIn(&'static [&'static str]),
    /// Of all versions of a custom kind.
    Custom(std::sync::Arc<[Box<str>]>),
}

impl Default for Paths {
    fn default() -> Self {
        Paths::BuiltIn(&[])
    }
}

impl Paths {
    /// Where the values of a path stand.
    pub fn position(&self, path: &str) -> Option<usize> {
        match self {
            Paths::BuiltIn(paths) => paths.iter().position(|one| *one == path),
            Paths::Custom(paths) => paths.iter().position(|one| **one == *path),
        }
    }
}

/// What is kept of an object but its name and namespace: the paths and, in their order, the values.
pub fn index(resource: &Resource, object: &Value) -> (Paths, Box<[Box<str>]>) {
    if let Some(custom) = &resource.custom {
        let values = custom.indexed.values(object).map(Into::into).collect();
        return (Paths::Custom(custom.indexed.names.clone()), values);
    }
    let paths = &built_in(resource)[COMMON.len()..];
    let values = paths.iter().map(|path| value(resource, object, path).into());
    (Paths::BuiltIn(paths), values.collect())
}

/// Whether objects of a kind may be selected by a path.
pub fn is_selectable(resource: &Resource, path: &str) -> bool {
    match (path, &resource.custom) {
        ("metadata.name", _) => true,
        ("metadata.namespace", _) => resource.namespaced || resource.custom.is_none(),
        (path, Some(custom)) => custom.selectable.iter().any(|one| **one == *path),
        (path, None) => built_in(resource).contains(&path),
    }
}

/// The paths that objects of a built-in kind may be selected by; the common ones first.
fn built_in(resource: &Resource) -> &'static [&'static str] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => POD,
        ("", "events") => EVENT,
        ("events.k8s.io", "events") => EVENT_V1,
        ("", "nodes") => NODE,
        ("", "secrets") => SECRET,
        ("", "namespaces") => NAMESPACE,
        ("", "services") => SERVICE,
        ("", "replicationcontrollers") | ("apps", "replicasets") => STATUS_REPLICAS,
        ("batch", "jobs") => JOB,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNER,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICE,
        _ => COMMON,
    }
}

/// The value of a selectable path of an object, in whichever version of its kind it is written.
pub fn value(resource: &Resource, object: &Value, path: &str) -> String {
    if resource.storage == "events" {
        return event_value(object, path);
    }
    match path {
        "status.podIPs" => {
            let addresses = object.pointer("/status/podIPs").and_then(Value::as_array);
            let listed = addresses
                .into_iter()
                .flatten()
                .filter_map(|one| one.get("ip")?.as_str());
            return listed.collect::<Vec<_>>().join(",");
        }
        "status.successful" => return number(object.pointer("/status/succeeded")),
        "status.replicas" => return number(object.pointer("/status/replicas")),
        "spec.unschedulable" | "spec.hostNetwork" => return flag(at(object, path)),
        _ => {}
    }
    text(at(object, path))
}

/// Events are stored in either group's form: read both names of a field.
fn event_value(object: &Value, path: &str) -> String {
    let either = |first: &str, second: &str| {
        let found = text(at(object, first));
        if found.is_empty() {
            text(at(object, second))
        } else {
            found
        }
    };
    match path {
        "source" => either("source.component", "deprecatedSource.component"),
        "reportingComponent" | "reportingController" => either("reportingComponent", "reportingController"),
        _ => match path.split_once('.') {
            Some(("involvedObject" | "regarding", field)) => {
                either(&format!("involvedObject.{field}"), &format!("regarding.{field}"))
            }
            _ => text(at(object, path)),
        },
    }
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, field| value.get(field))
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn flag(value: Option<&Value>) -> String {
    value.and_then(Value::as_bool).unwrap_or_default().to_string()
}

fn number(value: Option<&Value>) -> String {
    value.and_then(Value::as_i64).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource;

    fn check(api_version: &str, kind: &str, object: Value, path: &str, expected: &str) {
        let resource = resource::find_kind(api_version, kind).unwrap();
        assert!(is_selectable(&resource, path), "{kind} {path}");
        assert_eq!(value(&resource, &object, path), expected, "{kind} {path}");
    }

    #[test]
    fn values() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "::1"}]}});
        check("v1", "Pod", pod.clone(), "metadata.name", "a");
        check("v1", "Pod", pod.clone(), "spec.nodeName", "n");
        check("v1", "Pod", pod.clone(), "status.phase", "");
        check("v1", "Pod", pod.clone(), "spec.hostNetwork", "false");
        check("v1", "Pod", pod, "status.podIPs", "1.2.3.4,::1");
        check(
            "v1",
            "Node",
            json!({"spec": {"unschedulable": true}}),
            "spec.unschedulable",
            "true",
        );
        check("v1", "Node", json!({}), "spec.unschedulable", "false");
        check(
            "batch/v1",
            "Job",
            json!({"status": {"succeeded": 2}}),
            "status.successful",
            "2",
        );
        let event = json!({"regarding": {"name": "p"}, "deprecatedSource": {"component": "kubelet"}});
        check("v1", "Event", event.clone(), "involvedObject.name", "p");
        check("v1", "Event", event.clone(), "source", "kubelet");
        check("events.k8s.io/v1", "Event", event, "regarding.name", "p");
    }
}
