//! Rules of `metadata`, the same for all kinds: names, labels, annotations, finalizers, owners.
//! Invariants: which rule a name follows depends on the kind alone. Called first by `create` and `update`.

use serde_json::Value;

use super::at::{At, IMMUTABLE, NameRule};
use super::selector;
use crate::name;
use crate::resource::Resource;

/// Bytes that all annotations of an object may have together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
const FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
/// Longest name of a field manager.
const MANAGER_LENGTH_MAX: usize = 128;

pub(super) fn check(resource: &Resource, object: &At) {
    let at = object.at("metadata");
    check_name(resource, &at);
    let namespace = at.text("namespace");
    if resource.namespaced {
        at.must_name("namespace", name::dns1123_label);
    } else if !namespace.is_empty() {
        at.forbidden("namespace", "not allowed on this type");
    }
    at.not_negative(&["generation"]);
    common(resource, &at);
}

fn common(resource: &Resource, at: &At) {
    selector::labels(at, "labels");
    annotations(at, "annotations");
    check_owners(at);
    check_finalizers(resource, at);
    check_managers(at);
}

fn check_name(resource: &Resource, at: &At) {
    let rule = name_rule(resource);
    let prefix = at.text("generateName");
    if !prefix.is_empty() {
        // A trailing dash is fine: characters follow.
        let masked = match prefix.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => {
                let cut = rest.char_indices().next_back().map_or(0, |(index, _)| index);
                format!("{}a", &rest[..cut])
            }
            _ => prefix.to_string(),
        };
        for why in rule(&masked) {
            at.invalid_as("generateName", prefix, &why);
        }
    }
    if at.text("name").is_empty() {
        at.required("name", "name or generateName is required");
    } else {
        at.name("name", rule);
    }
}

/// Which strings may name an object of a kind.
fn name_rule(resource: &Resource) -> NameRule {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace" | "Service") | ("apps", "StatefulSet") => name::dns1123_label,
        ("rbac.authorization.k8s.io", _) => name::path_segment,
        ("apiregistration.k8s.io" | "networking.k8s.io", "APIService" | "IPAddress")
        | ("authentication.k8s.io" | "authorization.k8s.io", _) => |_| Vec::new(),
        _ => name::dns1123_subdomain,
    }
}

/// A map of annotations.
pub(super) fn annotations(at: &At, field: &str) {
    let mut bytes = 0;
    for (key, value) in at.map(field).into_iter().flatten() {
        for why in name::qualified(&key.to_lowercase()) {
            at.invalid_as(field, key.as_str(), &why);
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        at.too_long(field, ANNOTATIONS_BYTES_MAX);
    }
}

fn check_finalizers(resource: &Resource, at: &At) {
    let given: Vec<&str> = at.texts("finalizers").collect();
    for finalizer in &given {
        for why in name::qualified(finalizer) {
            at.invalid_as("finalizers", *finalizer, &why);
        }
    }
    if given.contains(&"orphan") && given.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        at.invalid("finalizers", why);
    }
    if resource.custom.is_some() {
        return;
    }
    for (index, finalizer) in given.iter().enumerate() {
        if !finalizer.contains('/') && !FINALIZERS.contains(finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            at.invalid_as(&format!("finalizers[{index}]"), *finalizer, why);
        }
    }
}

fn check_owners(at: &At) {
    const FIELD: &str = "ownerReferences";
    let mut controller: Option<String> = None;
    for owner in at.list(FIELD) {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion").rsplit('/').next().unwrap_or_default();
        for (field, value, why) in [
            ("apiVersion", version, "version must not be empty"),
            ("kind", text("kind"), "must not be empty"),
            ("name", text("name"), "must not be empty"),
            ("uid", text("uid"), "must not be empty"),
        ] {
            if value.is_empty() {
                at.invalid_as(&format!("{FIELD}.{field}"), text(field), why);
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            at.invalid_as(
                FIELD,
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if owner.get("controller").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let current = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            Some(first) => at.invalid(
                FIELD,
                &format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"),
            ),
            None => controller = Some(current),
        }
    }
}

fn check_managers(at: &At) {
    for entry in at.each("managedFields") {
        let operation = entry.text("operation");
        if !matches!(operation, "Apply" | "Update") {
            entry.invalid_as("operation", operation, "must be `Apply` or `Update`");
        }
        let kind = entry.text("fieldsType");
        if !matches!(kind, "" | "FieldsV1") {
            entry.invalid_as("fieldsType", kind, "must be `FieldsV1`");
        }
        if entry.text("manager").len() > MANAGER_LENGTH_MAX {
            entry.too_long("manager", MANAGER_LENGTH_MAX);
        }
    }
}

/// What may be given for the metadata of a template: labels and annotations alone, the rest where `alone`.
pub(super) fn template(at: &At, alone: bool) {
    annotations(at, "annotations");
    selector::labels(at, "labels");
    for (field, value) in at.map("").into_iter().flatten() {
        let empty = value.is_null() || value.as_str() == Some("");
        if alone && !empty && !matches!(field.as_str(), "annotations" | "labels") {
            at.forbidden(field, "cannot be set");
        }
    }
}

pub(super) fn check_update(resource: &Resource, new: &At, old: &At) {
    let (at, before) = (new.at("metadata"), old.at("metadata"));
    if before.has("deletionTimestamp") {
        let known: Vec<&str> = before.texts("finalizers").collect();
        let mut added: Vec<&str> = at
            .texts("finalizers")
            .filter(|one| !known.contains(one))
            .collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|one| format!("{one:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            at.forbidden("finalizers", &why);
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if before.has(field) && at.get(field) != before.get(field) {
            at.invalid(field, IMMUTABLE);
        }
    }
    common(resource, &at);
}
