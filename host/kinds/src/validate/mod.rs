//! The rules of each kind: what may be created and how it may change.
//! Invariants: fields and words are the original's, so that clients and people recognise them; an object
//! that passes needs no further check by controllers; what was stored once is not judged again while it does
//! not change. The API server calls `types` when it decodes, `unknown_fields` for field validation, `create` and
//! `update` after admission, `warnings` for what is allowed and yet unwise. Rules that need other objects
//! (quotas, references) are admission's, not here; so is compiling the expressions in objects.

mod access;
mod address;
mod aggregation;
mod apps;
mod at;
mod batch;
mod certificates;
mod classes;
mod core;
mod cron;
mod decode;
mod devices;
mod endpoints;
mod error;
mod events;
mod flow;
mod metadata;
mod names;
mod networking;
mod pod;
mod reviews;
mod scaling;
mod selector;
mod service;
mod storage;
mod warning;

use serde_json::Value;

pub use decode::{types, unknown_fields};
pub use error::{Cause, FieldError};
pub(crate) use pod::resources;
pub use warning::warnings;

use self::at::{At, Found};
use crate::custom;
use crate::resource::Resource;

/// Errors of one object that are reported at most.
pub const ERRORS_MAX: usize = 100;

/// What is wrong with a new object; empty when nothing is.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let found = Found::default();
    let at = At::root(object, &found);
    // Reviews and bindings are questions, not objects: they need no name.
    let passing = !resource.verbs.is_empty() && !resource.is_stored();
    if !passing {
        metadata::check(resource, &at);
    }
    match &resource.custom {
        Some(custom) => custom::create(custom, object)
            .into_iter()
            .for_each(|error| at.say(error)),
        None => kind(resource, &at, None),
    }
    found.into_list()
}

/// What is wrong with a change of an object that the server itself makes (a binding, a deletion, a change through
/// a subresource whose rules are the caller's); empty when nothing is.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    update_through(resource, "status", new, old)
}

/// What is wrong with a change made through the main path; empty when nothing is.
pub fn update_main(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    update_through(resource, "", new, old)
}

/// What is wrong with a change of an object through one of its subresources, or its main path where that is
/// empty; nothing when it may be made.
pub fn update_through(resource: &Resource, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let found = Found::default();
    let (after, before) = (At::root(new, &found), At::root(old, &found));
    metadata::check_update(resource, &after, &before);
    if let Some(custom) = &resource.custom {
        metadata::check(resource, &after);
        for error in custom::update(custom, new, old) {
            after.say(error);
        }
        return found.into_list();
    }
    match subresource {
        // What was stored once is not judged again: rules may have become stricter.
        "" | "scale" if wanted_differs(new, old) => kind(resource, &after, Some(&before)),
        "ephemeralcontainers" => {
            pod::both(&after);
            pod::change::ephemeral(&after, &before);
        }
        "resize" => {
            pod::both(&after);
            pod::change::resize(&after, &before);
        }
        "approval" => certificates::decision(&after, &before, true),
        "finalize" => core::finalizers(&after, |index| format!("spec.finalizers[{index}]")),
        "status" => status(resource, &after, &before),
        _ => {}
    }
    found.into_list()
}

/// The rules of a kind: of a new object, or of what an old one is to become.
fn kind(resource: &Resource, at: &At, old: Option<&At>) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => match old {
            None => pod::create(at),
            Some(old) => {
                pod::both(at);
                pod::change::main(at, old);
            }
        },
        ("", "PodTemplate") => pod::template(&at.at("template")),
        ("", "ReplicationController") => apps::replication_controller(at),
        ("", "Service") => service::check(at, old),
        ("", "Endpoints") => endpoints::endpoints(at, old),
        ("", "ConfigMap") => core::config_map(at, old),
        ("", "Secret") => core::secret(at, old),
        ("", "Namespace") => core::namespace(at),
        ("", "Node") => core::node(at, old),
        ("", "LimitRange") => core::limit_range(at),
        ("", "ResourceQuota") => core::quota(at, old),
        ("", "PersistentVolume") => {
            storage::volume_spec(&at.at("spec"), false);
            if let Some(old) = old {
                storage::volume_change(at, old);
            }
        }
        ("", "PersistentVolumeClaim") => {
            storage::claim_spec(&at.at("spec"));
            if let Some(old) = old {
                storage::claim_change(at, old);
            }
        }
        ("" | "events.k8s.io", "Event") => events::check(resource, at, old),
        ("", "Binding") => reviews::binding(at),
        ("apps", _) => apps::check(resource, at, old),
        ("batch", _) => batch::check(resource, at, old),
        ("autoscaling", "HorizontalPodAutoscaler") => scaling::autoscaler(at),
        ("policy", "PodDisruptionBudget") => scaling::budget(at),
        ("networking.k8s.io", _) => networking::check(resource, at, old),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice(at, old),
        ("rbac.authorization.k8s.io", _) => access::check(resource, at, old),
        ("storage.k8s.io" | "scheduling.k8s.io" | "node.k8s.io", _) => classes::check(resource, at, old),
        ("coordination.k8s.io", "Lease") => classes::lease(&at.at("spec")),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::request(at, old),
        ("flowcontrol.apiserver.k8s.io", _) => flow::check(resource, at),
        ("admissionregistration.k8s.io", name) => {
            let old = old.map(At::value);
            crate::admission::check(name, at.value(), old)
                .into_iter()
                .for_each(|error| at.say(error));
        }
        ("apiregistration.k8s.io", "APIService") => aggregation::api_service(at),
        ("resource.k8s.io", _) => devices::check(resource, at, old),
        ("authentication.k8s.io" | "authorization.k8s.io", _) => reviews::check(resource, at),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(at, old),
        _ => {}
    }
}

fn definition(at: &At, old: Option<&At>) {
    let mut errors = custom::check_definition(at.value(), old.map(At::value));
    if let Some(old) = old {
        errors.extend(custom::check_definition_change(at.value(), old.value()));
    }
    errors.into_iter().for_each(|error| at.say(error));
}

/// The rules of what controllers report.
fn status(resource: &Resource, new: &At, old: &At) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::status::update(new, old),
        ("", "Service") => service::status(new, old),
        ("", "Node") => core::node_resources(new),
        ("", "Namespace") => core::namespace_status(new),
        ("", "ResourceQuota") => {
            for field in ["status.hard", "status.used"] {
                core::quota_amounts(new, field);
            }
        }
        ("apps", _) | ("", "ReplicationController") => apps::status(resource, new, old),
        ("batch", "Job") => batch::status(new),
        ("autoscaling", _) => new
            .at("status")
            .not_negative(&["currentReplicas", "desiredReplicas"]),
        ("policy", _) => scaling::budget_status(new),
        ("networking.k8s.io", "Ingress") => networking::status(new, old),
        ("certificates.k8s.io", _) => certificates::decision(new, old, false),
        ("flowcontrol.apiserver.k8s.io", _) => flow::status(new),
        ("storage.k8s.io", "VolumeAttachment") => classes::attachment_status(new),
        ("resource.k8s.io", "ResourceClaim") => devices::claim_status(new, old),
        _ => {}
    }
}

fn wanted_differs(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let same = |name: &String| matches!(name.as_str(), "status" | "apiVersion" | "kind");
    let differs = |name: &String| match name.as_str() {
        // Annotations that mean something are judged with what they are about.
        "metadata" => new["metadata"].get("annotations") != old["metadata"].get("annotations"),
        _ => !same(name) && new.get(name) != old.get(name),
    };
    new.keys().chain(old.keys()).any(differs)
}

#[cfg(test)]
mod tests;
