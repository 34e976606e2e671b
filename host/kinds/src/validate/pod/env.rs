//! Rules of environment variables and of the references in them, which volumes share.
//! Invariants: what a reference points to is not looked up. Called by the rules of containers and volumes.

use super::source;
use crate::name;
use crate::validate::at::At;

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a reference can be made of at all.
const LABELS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
const TWICE: &str = "may not have more than one field specified at a time";

pub(super) fn check(container: &At) {
    for variable in container.each("env") {
        variable.must_name("name", name::env_var);
        value_from(&variable);
    }
    let list = container.at("envFrom");
    for source in list.each("") {
        source.may_name("prefix", name::env_var);
        let given: Vec<At> = ["configMapRef", "secretRef"]
            .iter()
            .filter_map(|kind| source.some(kind))
            .collect();
        for reference in &given {
            reference_name(reference);
        }
        match given.len() {
            0 => list.invalid_as("", "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => list.invalid_as("", "", TWICE),
        }
    }
}

/// The name in a reference, a trailing dash allowed.
fn reference_name(at: &At) {
    let name = at.text("name");
    if name.is_empty() {
        return at.required("name", "");
    }
    for why in name::dns1123_subdomain(
        name.strip_suffix('-')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(name),
    ) {
        at.invalid("name", &why);
    }
}

fn value_from(variable: &At) {
    let Some(from) = variable.some("valueFrom") else {
        return;
    };
    let mut count = 0;
    if let Some(field) = from.some("fieldRef") {
        count += 1;
        field_reference(&field, &FIELDS);
    }
    if let Some(resource) = from.some("resourceFieldRef") {
        count += 1;
        resource_reference(&resource, false);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.some(kind) {
            count += 1;
            key.name("name", name::dns1123_subdomain);
            key.must_name("key", name::config_key);
        }
    }
    if let Some(file) = from.some("fileKeyRef") {
        count += 1;
        file.must_name("key", name::env_var);
        file.must_name("volumeName", name::dns1123_label);
        if file.text("path").is_empty() {
            file.required("path", "");
        } else {
            source::no_backsteps(&file, "path");
        }
    }
    let given = !variable.text("value").is_empty();
    match count {
        0 => from.invalid_as("", "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
        _ if given => from.invalid_as("", "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => from.invalid_as("", "", TWICE),
    }
}

/// The path and what is in brackets behind it.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (path, key) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

/// A reference to a field of the pod; `known` are those allowed here.
pub(super) fn field_reference(at: &At, known: &[&str]) {
    if at.text("apiVersion").is_empty() {
        return at.required("apiVersion", "");
    }
    let path = at.text("fieldPath");
    if path.is_empty() {
        return at.required("fieldPath", "");
    }
    let refuse = |why: String| at.invalid("fieldPath", &format!("error converting fieldPath: {why}"));
    if at.text("apiVersion") != "v1" {
        return refuse(format!("unsupported pod version: {}", at.text("apiVersion")));
    }
    match subscript(path) {
        Some(("metadata.annotations", key)) => at_key(at, &key.to_lowercase()),
        Some(("metadata.labels", key)) => at_key(at, key),
        Some(_) => refuse(format!("field label does not support subscript: {path}")),
        None if !LABELS.contains(&path) => refuse(format!("field label not supported: {path}")),
        None => {
            let path = if path == "spec.host" {
                "spec.nodeName"
            } else {
                path
            };
            if !known.contains(&path) {
                at.unsupported_as("fieldPath", path, known);
            }
        }
    }
}

fn at_key(at: &At, key: &str) {
    for why in name::qualified(key) {
        at.invalid_as("", key, &why);
    }
}

/// A reference to a container's resource; in a volume it names the container.
pub(super) fn resource_reference(at: &At, volume: bool) {
    let resource = at.text("resource");
    let pages = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if volume && at.text("containerName").is_empty() {
        at.required("containerName", "");
    } else if resource.is_empty() {
        at.required("resource", "");
    } else if !RESOURCES.contains(&resource) && !pages {
        at.unsupported("resource", &RESOURCES);
    }
    let divisor = at.text("divisor");
    if at.quantity("divisor").is_none_or(|divisor| divisor.is_zero()) {
        return;
    }
    let (known, kind): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&SIZES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (&SIZES, "local ephemeral storage"),
        _ if pages => (&SIZES, "hugepages"),
        _ => return,
    };
    if !known.contains(&divisor) {
        let list = if kind == "cpu" {
            "1m and 1".to_string()
        } else {
            SIZES.join(", ")
        };
        let why = format!("only divisor's values {list} are supported with the {kind} resource");
        at.invalid_as("divisor", resource, &why);
    }
}
