//! Rules of `metadata`, the same for all kinds: names, labels, annotations, finalizers, owners.
//! Invariants: which rule a name follows depends on the kind alone. Called first by `create` and `update`.

use serde_json::Value;

use super::FieldError;
use crate::name;
use crate::resource::Resource;

/// Bytes that all annotations of an object may have together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

pub(super) fn check(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    check_name(resource, text("name"), text("generateName"), &mut errors);
    let namespace = text("namespace");
    if resource.namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required("metadata.namespace", ""));
        } else {
            let problems = name::dns1123_label(namespace);
            errors.extend(
                problems
                    .iter()
                    .map(|why| FieldError::invalid_text("metadata.namespace", namespace, why)),
            );
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(
            "metadata.namespace",
            "not allowed on this type",
        ));
    }
    labels("metadata.labels", metadata.get("labels"), &mut errors);
    annotations("metadata.annotations", metadata.get("annotations"), &mut errors);
    check_finalizers(metadata, &mut errors);
    check_owners(metadata, &mut errors);
    errors
}

fn check_name(resource: &Resource, name: &str, prefix: &str, errors: &mut Vec<FieldError>) {
    let rule = name_rule(resource);
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        errors.extend(
            rule(name)
                .iter()
                .map(|why| FieldError::invalid_text("metadata.name", name, why)),
        );
    }
    if !prefix.is_empty() {
        // A trailing dash or dot is fine: characters follow.
        let masked = match prefix.strip_suffix('-') {
            Some(rest) => format!("{rest}a"),
            None => prefix.to_string(),
        };
        errors.extend(
            rule(&masked)
                .iter()
                .map(|why| FieldError::invalid_text("metadata.generateName", prefix, why)),
        );
    }
}

/// Which strings may name an object of a kind.
fn name_rule(resource: &Resource) -> fn(&str) -> Vec<String> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") | ("apps", "StatefulSet") => name::dns1123_label,
        ("", "Service") => name::dns1035_label,
        ("rbac.authorization.k8s.io", _) => name::path_segment,
        ("certificates.k8s.io" | "apiregistration.k8s.io", _) | ("networking.k8s.io", "IPAddress") => {
            name::path_segment
        }
        _ => name::dns1123_subdomain,
    }
}

/// Checks a map of labels at a path.
pub(super) fn labels(path: &str, labels: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        errors.extend(
            name::qualified(key)
                .iter()
                .map(|why| FieldError::invalid_text(path, key, why)),
        );
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            name::label_value(value)
                .iter()
                .map(|why| FieldError::invalid_text(path, value, why)),
        );
    }
}

/// Checks a map of annotations at a path.
pub(super) fn annotations(path: &str, annotations: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        let problems = name::qualified(&key.to_lowercase());
        errors.extend(
            problems
                .iter()
                .map(|why| FieldError::invalid_text(path, key, why)),
        );
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn check_finalizers(metadata: &Value, errors: &mut Vec<FieldError>) {
    let finalizers = metadata.get("finalizers").and_then(Value::as_array);
    for finalizer in finalizers.into_iter().flatten().filter_map(Value::as_str) {
        let problems = name::qualified(finalizer);
        errors.extend(
            problems
                .iter()
                .map(|why| FieldError::invalid_text("metadata.finalizers", finalizer, why)),
        );
    }
}

fn check_owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    let mut controllers = 0;
    for (index, owner) in owners.into_iter().flatten().enumerate() {
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                errors.push(FieldError::required(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    detail,
                ));
            }
        }
        if owner
            .get("controller")
            .and_then(Value::as_bool)
            .unwrap_or_default()
        {
            controllers += 1;
        }
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            owners.map_or(&Value::Null, |owners| &owners[0]),
            "Only one reference can have Controller set to true",
        ));
    }
}

pub(super) fn check_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let pointer = format!("/metadata/{field}");
        let (after, before) = (new.pointer(&pointer), old.pointer(&pointer));
        if after != before && before.is_some() {
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                after.unwrap_or(&Value::Null),
                "field is immutable",
            ));
        }
    }
    if old.pointer("/metadata/deletionTimestamp").is_some() {
        let list = |object: &Value| -> Vec<String> {
            let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            finalizers
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        };
        let before = list(old);
        let added: Vec<String> = list(new)
            .into_iter()
            .filter(|one| !before.contains(one))
            .collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"),
            ));
        }
    }
    errors
}
