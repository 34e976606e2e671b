//! Rules of questions to the server: reviews of access, and bindings.
//! Invariants: a question names no object and is not kept.

use serde_json::Value;

use super::at::At;
use crate::resource::Resource;

pub(super) fn check(resource: &Resource, object: &At) {
    let spec = object.at("spec");
    match resource.kind.as_str() {
        "TokenReview" => spec.need(&["token"]),
        "SubjectAccessReview" => {
            attributes(&spec);
            subject(&spec);
            no_metadata(object, false);
        }
        "SelfSubjectAccessReview" => {
            attributes(&spec);
            no_metadata(object, false);
        }
        "LocalSubjectAccessReview" => {
            attributes(&spec);
            subject(&spec);
            no_metadata(object, true);
            let namespace = object.text("metadata.namespace");
            if spec.has("resourceAttributes") && spec.text("resourceAttributes.namespace") != namespace {
                let shown = spec.text("resourceAttributes.namespace");
                spec.invalid_as(
                    "resourceAttributes.namespace",
                    shown,
                    "must match metadata.namespace",
                );
            }
            if spec.has("nonResourceAttributes") {
                let why = "disallowed on this kind of request";
                spec.invalid("nonResourceAttributes", why);
            }
        }
        _ => {}
    }
}

fn attributes(spec: &At) {
    match (spec.has("resourceAttributes"), spec.has("nonResourceAttributes")) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            spec.invalid("nonResourceAttributes", why);
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            spec.invalid_as("resourceAttributes", Value::Null, why);
        }
        _ => {}
    }
    for kind in ["fieldSelector", "labelSelector"] {
        let Some(selector) = spec.some(&format!("resourceAttributes.{kind}")) else {
            continue;
        };
        let (raw, requirements) = (
            !selector.text("rawSelector").is_empty(),
            selector.count("requirements") > 0,
        );
        if raw && requirements {
            let why = "may not specified at the same time as requirements";
            selector.invalid("rawSelector", why);
        }
        if !raw && !requirements {
            let why = format!(
                "when {} is specified, requirements or rawSelector is required",
                selector.path("")
            );
            selector.required("requirements", &why);
        }
    }
}

fn subject(spec: &At) {
    if spec.text("user").is_empty() && spec.count("groups") == 0 {
        let why = "at least one of user or group must be specified";
        spec.invalid_as("user", "", why);
    }
}

fn no_metadata(object: &At, namespaced: bool) {
    let given = object
        .map("metadata")
        .into_iter()
        .flatten()
        .any(|(field, value)| match field.as_str() {
            "managedFields" | "creationTimestamp" => false,
            "namespace" if namespaced => false,
            _ => !value.is_null() && value.as_str() != Some(""),
        });
    if given {
        let why = if namespaced {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        object.invalid("metadata", why);
    }
}

/// Where a pod is to run.
pub(super) fn binding(object: &At) {
    let kind = object.text("target.kind");
    if !matches!(kind, "" | "Node") {
        object.unsupported("target.kind", &["Node", "<empty>"]);
    }
    object.need(&["target.name"]);
}
