//! The rules of each kind: what may be created and how it may change.
//! Invariants: fields and words are the original's, so that clients and people recognise them; an object
//! that passes needs no further check by controllers. The API server calls `types` when it decodes,
//! `unknown_fields` for field validation, `create` and `update` after admission. Rules that need other
//! objects (quotas, references) are admission's, not here.

mod change;
mod container;
mod core;
mod decode;
mod error;
mod metadata;
mod pod;
mod required;
mod rules;
mod service;
mod workload;

use serde_json::Value;

pub use decode::{types, unknown_fields};
pub use error::{Cause, FieldError};

use crate::admission;
use crate::custom;
use crate::resource::Resource;

/// Errors of one object that are reported at most.
pub const ERRORS_MAX: usize = 100;

/// What is wrong with a new object; empty when nothing is.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    // Reviews and bindings are questions, not objects: they need no name.
    let passing = !resource.verbs.is_empty() && !resource.is_stored();
    let mut errors = if passing {
        Vec::new()
    } else {
        metadata::check(resource, object)
    };
    match &resource.custom {
        Some(custom) => errors.extend(custom::create(custom, object)),
        None => errors.extend(spec(resource, object, None)),
    }
    errors.truncate(ERRORS_MAX);
    errors
}

/// What is wrong with a change of an object, through its main path or any of its subresources; empty when
/// nothing is.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = metadata::check_update(new, old);
    errors.extend(metadata::check(resource, new));
    if let Some(custom) = &resource.custom {
        errors.extend(custom::update(custom, new, old));
        errors.truncate(ERRORS_MAX);
        return errors;
    }
    errors.extend(change::check(resource, new, old));
    // What was stored once is not judged again while it does not change: rules may have become stricter.
    if wanted_differs(new, old) {
        errors.extend(spec(resource, new, Some(old)));
    }
    errors.truncate(ERRORS_MAX);
    errors
}

/// What is wrong with a change made through the main path, where pods may change even less: not the node,
/// not the ephemeral containers, not the resources, which have subresources of their own.
pub fn update_main(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = update(resource, new, old);
    if resource.is("", "Pod") && errors.is_empty() {
        errors.extend(change::pod_main(new, old));
    }
    errors
}

fn spec(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = rules::Errors::default();
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::pod(object, &mut errors),
        ("", "Service") => service::service(object, &mut errors),
        ("", _) => core::check(resource, object, &mut errors),
        ("admissionregistration.k8s.io", kind) => errors.list.extend(admission::check(kind, object, old)),
        ("apps" | "batch" | "autoscaling" | "policy", _) => workload::check(resource, object, &mut errors),
        _ => core::check_cluster(resource, object, &mut errors),
    }
    required::check(resource, object, &mut errors);
    errors.list
}

fn wanted_differs(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let same = |name: &String| matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    new.keys()
        .chain(old.keys())
        .any(|name| !same(name) && new.get(name) != old.get(name))
}

#[cfg(test)]
mod tests;
