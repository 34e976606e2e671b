//! What may not change once an object is there.
//! Invariants: only what the original freezes is frozen; the messages say which fields may change. Pods have
//! two levels: what no path may change, and what only a subresource may.

use serde_json::Value;

use super::error::FieldError;
use super::rules::{IMMUTABLE, flag, list, text};
use crate::resource::Resource;

const POD_FIELDS: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod(new, old),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            crate::custom::check_definition_change(new, old)
        }
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => frozen(new, old, &["/spec/selector"]),
        ("apps", "StatefulSet") => stateful_set(new, old),
        ("batch", "Job") => job(new, old),
        ("", "Secret") => {
            let mut errors = frozen(new, old, &["/type"]);
            errors.extend(sealed(new, old, &["data"]));
            errors
        }
        ("", "ConfigMap") => sealed(new, old, &["data", "binaryData"]),
        ("", "Service") => service(new, old),
        ("", "PersistentVolumeClaim") => claim(new, old),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let (after, before) = (&new["roleRef"], &old["roleRef"]);
            if after == before {
                Vec::new()
            } else {
                vec![FieldError::invalid("roleRef", after, "cannot change roleRef")]
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            ["parameters", "provisioner", "volumeBindingMode", "reclaimPolicy"]
                .into_iter()
                .filter(|field| new.get(field) != old.get(field))
                .map(|field| FieldError::forbidden(field, &format!("updates to {field} are forbidden.")))
                .collect()
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            let changed = ["value", "preemptionPolicy"]
                .into_iter()
                .filter(|field| new.get(field) != old.get(field));
            changed
                .map(|field| FieldError::invalid(field, &new[field], IMMUTABLE))
                .collect()
        }
        ("discovery.k8s.io", "EndpointSlice") => frozen(new, old, &["/addressType"]),
        ("node.k8s.io", "RuntimeClass") => frozen(new, old, &["/handler"]),
        ("apps", "ControllerRevision") => frozen(new, old, &["/data"]),
        ("apiextensions.k8s.io", _) => {
            frozen(new, old, &["/spec/group", "/spec/scope", "/spec/names/plural"])
        }
        _ => Vec::new(),
    }
}

fn frozen(new: &Value, old: &Value, pointers: &[&str]) -> Vec<FieldError> {
    let changed = pointers
        .iter()
        .filter(|pointer| new.pointer(pointer) != old.pointer(pointer));
    changed
        .map(|pointer| {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            FieldError::invalid(field, new.pointer(pointer).unwrap_or(&Value::Null), IMMUTABLE)
        })
        .collect()
}

/// Data of an object that said it would not change.
fn sealed(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !flag(old, "immutable") {
        return errors;
    }
    let why = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields.iter().filter(|field| new.get(field) != old.get(field)) {
        errors.push(FieldError::forbidden(*field, why));
    }
    errors
}

/// The old spec with all that any path may change taken from the new one.
fn pod(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut expected = old["spec"].clone();
    let spec = &new["spec"];
    for kind in ["containers", "initContainers"] {
        let (after, before) = (list(spec, kind), list(&old["spec"], kind));
        if after.len() != before.len() {
            let why = format!("pod updates may not add or remove {kind}")
                .replace("initContainers", "init containers");
            return vec![FieldError::forbidden(format!("spec.{kind}"), &why)];
        }
        for (index, container) in after.iter().enumerate() {
            for field in ["image", "resources"] {
                take(&mut expected[kind][index], container, field);
            }
        }
    }
    for field in [
        "activeDeadlineSeconds",
        "terminationGracePeriodSeconds",
        "ephemeralContainers",
        "schedulingGates",
        "resources",
    ] {
        take(&mut expected, spec, field);
    }
    // Bound once, by the binding subresource.
    if text(&old["spec"], "nodeName").is_empty() {
        take(&mut expected, spec, "nodeName");
    }
    if list(&old["spec"], "tolerations")
        .iter()
        .all(|one| list(spec, "tolerations").contains(one))
    {
        take(&mut expected, spec, "tolerations");
    }
    let mut errors = Vec::new();
    if expected != *spec {
        errors.push(FieldError::forbidden("spec", POD_FIELDS));
    }
    let gates = list(&old["spec"], "schedulingGates");
    if list(spec, "schedulingGates")
        .iter()
        .any(|gate| !gates.contains(gate))
    {
        let why = "only deletion is allowed, but found new scheduling gates";
        errors.push(FieldError::forbidden("spec.schedulingGates", why));
    }
    errors
}

/// What of a pod only a subresource may change.
pub(super) fn pod_main(new: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let resources = |spec: &Value| -> Vec<Value> {
        list(spec, "containers")
            .iter()
            .map(|container| container["resources"].clone())
            .collect()
    };
    let grace = "terminationGracePeriodSeconds";
    let same = spec.get("nodeName") == before.get("nodeName")
        && spec.get("ephemeralContainers") == before.get("ephemeralContainers")
        && spec.get(grace) == before.get(grace)
        && resources(spec) == resources(before);
    if same {
        Vec::new()
    } else {
        vec![FieldError::forbidden("spec", POD_FIELDS)]
    }
}

fn take(target: &mut Value, source: &Value, field: &str) {
    let Some(target) = target.as_object_mut() else {
        return;
    };
    match source.get(field) {
        Some(value) => target.insert(field.to_string(), value.clone()),
        None => target.remove(field),
    };
}

fn stateful_set(new: &Value, old: &Value) -> Vec<FieldError> {
    const MAY: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let mut expected = old["spec"].clone();
    MAY.iter()
        .for_each(|field| take(&mut expected, &new["spec"], field));
    if expected == new["spec"] {
        return Vec::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![FieldError::forbidden("spec", why)]
}

fn job(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = frozen(
        new,
        old,
        &["/spec/selector", "/spec/completionMode", "/spec/podFailurePolicy"],
    );
    if !flag(&old["spec"], "suspend") {
        errors.extend(frozen(new, old, &["/spec/template"]));
    }
    if new.pointer("/spec/completions") != old.pointer("/spec/completions")
        && text(&old["spec"], "completionMode") != "Indexed"
    {
        errors.extend(frozen(new, old, &["/spec/completions"]));
    }
    errors
}

fn service(new: &Value, old: &Value) -> Vec<FieldError> {
    let (after, before) = (text(&new["spec"], "clusterIP"), text(&old["spec"], "clusterIP"));
    let kind = |service: &Value| text(&service["spec"], "type") == "ExternalName";
    if before.is_empty() || kind(new) || kind(old) || after == before {
        return Vec::new();
    }
    vec![FieldError::invalid(
        "spec.clusterIPs[0]",
        &serde_json::json!([after]),
        "may not change once set",
    )]
}

fn claim(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut expected = old["spec"].clone();
    for field in ["resources", "volumeAttributesClassName"] {
        take(&mut expected, &new["spec"], field);
    }
    if text(&old["spec"], "volumeName").is_empty() {
        take(&mut expected, &new["spec"], "volumeName");
    }
    if old.pointer("/spec/storageClassName").is_none() {
        take(&mut expected, &new["spec"], "storageClassName");
    }
    if expected == new["spec"] {
        return Vec::new();
    }
    let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    vec![FieldError::forbidden("spec", why)]
}
