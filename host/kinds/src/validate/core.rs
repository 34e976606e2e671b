//! Rules of configuration, nodes, storage, access and extension kinds.
//! Invariants: one function a kind; kinds that are not named have only what their schema requires.

use serde_json::Value;

use super::error::FieldError;
use super::rules::{Errors, list, quantity, text};
use super::{pod, workload};
use crate::name;
use crate::resource::Resource;

/// Bytes of all data of a config map or secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Highest value of a priority class that is not the system's.
const PRIORITY_MAX: i64 = 1_000_000_000;
const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    match resource.kind.as_str() {
        "ConfigMap" => data(object, &["data", "binaryData"], errors),
        "Secret" => secret(object, errors),
        "Node" => node(spec, errors),
        "PersistentVolumeClaim" => claim(spec, errors),
        "PersistentVolume" => volume(spec, errors),
        "PodTemplate" => pod::template("template", object.get("template").unwrap_or(&Value::Null), errors),
        "ReplicationController" => workload::replication_controller(spec, errors),
        "ResourceQuota" => {
            for (name, amount) in spec.get("hard").and_then(Value::as_object).into_iter().flatten() {
                if quantity(amount).is_some_and(|amount| amount.is_negative()) {
                    errors.add(FieldError::invalid(
                        format!("spec.hard[{name}]"),
                        amount,
                        super::rules::NOT_NEGATIVE,
                    ));
                }
            }
        }
        "Event" => event(object, errors),
        _ => {}
    }
}

pub(super) fn check_cluster(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    match resource.kind.as_str() {
        "Role" | "ClusterRole" => rules(resource.namespaced, object, errors),
        "RoleBinding" | "ClusterRoleBinding" => binding(object, errors),
        "Ingress" => ingress(spec, errors),
        "PriorityClass" => {
            let value = object.get("value").and_then(Value::as_i64).unwrap_or_default();
            let system = text(&object["metadata"], "name").starts_with("system-");
            if value > PRIORITY_MAX && !system {
                let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
                errors.add(FieldError::forbidden("value", &why));
            }
            let policies = ["PreemptLowerPriority", "Never"];
            errors.one_of("preemptionPolicy", text(object, "preemptionPolicy"), &policies);
        }
        "StorageClass" => {
            errors.one_of(
                "reclaimPolicy",
                text(object, "reclaimPolicy"),
                &["Delete", "Retain"],
            );
            errors.one_of(
                "volumeBindingMode",
                text(object, "volumeBindingMode"),
                &["Immediate", "WaitForFirstConsumer"],
            );
        }
        "Lease" => {
            if let Some(seconds) = spec
                .get("leaseDurationSeconds")
                .filter(|one| one.as_i64().unwrap_or(1) <= 0)
            {
                errors.add(FieldError::invalid(
                    "spec.leaseDurationSeconds",
                    seconds,
                    "must be greater than 0",
                ));
            }
        }
        "CustomResourceDefinition" => errors.list.extend(crate::custom::check_definition(object)),
        "NetworkPolicy" => {
            for (index, kind) in list(spec, "policyTypes")
                .iter()
                .filter_map(Value::as_str)
                .enumerate()
            {
                errors.one_of(
                    &format!("spec.policyTypes[{index}]"),
                    kind,
                    &["Egress", "Ingress"],
                );
            }
        }
        "EndpointSlice" => {
            errors.one_of(
                "addressType",
                text(object, "addressType"),
                &["FQDN", "IPv4", "IPv6"],
            );
            for (index, endpoint) in list(object, "endpoints").iter().enumerate() {
                if list(endpoint, "addresses").is_empty() {
                    let why = "must contain at least 1 address";
                    errors.add(FieldError::required(format!("endpoints[{index}].addresses"), why));
                }
            }
        }
        _ => {}
    }
}

fn data(object: &Value, fields: &[&str], errors: &mut Errors) {
    let mut bytes = 0;
    let mut seen = Vec::new();
    for field in fields {
        for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{field}[{key}]");
            errors.named(&path, key, name::config_key);
            if seen.contains(&key) {
                errors.add(FieldError::invalid_text(
                    path,
                    key,
                    &format!("duplicate of key present in {}", fields[0]),
                ));
            }
            bytes += key.len() + value.as_str().map_or(0, str::len);
        }
        seen.extend(
            object
                .get(field)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(key, _)| key),
        );
    }
    if bytes > DATA_BYTES_MAX {
        errors.add(FieldError::too_long("data", DATA_BYTES_MAX));
    }
}

fn secret(object: &Value, errors: &mut Errors) {
    data(object, &["data"], errors);
    let has = |key: &str| object["data"].get(key).is_some();
    let needed: &[&str] = match text(object, "type") {
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => &["username", "password"],
        "kubernetes.io/service-account-token" => {
            let account = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"], account).is_empty() {
                errors.add(FieldError::required(
                    format!("metadata.annotations[{account}]"),
                    "",
                ));
            }
            &[]
        }
        _ => &[],
    };
    for key in needed.iter().filter(|key| !has(key)) {
        errors.add(FieldError::required(format!("data[{key}]"), ""));
    }
}

fn node(spec: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, taint) in list(spec, "taints").iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        errors.must_be_named(&format!("{path}.key"), key, name::qualified);
        errors.named(&format!("{path}.value"), text(taint, "value"), name::label_value);
        if effect.is_empty() {
            errors.add(FieldError::required(format!("{path}.effect"), ""));
        }
        errors.one_of(
            &format!("{path}.effect"),
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if seen.contains(&(key, effect)) {
            errors.add(FieldError::duplicate(&path, taint));
        }
        seen.push((key, effect));
    }
}

fn access_modes(spec: &Value, errors: &mut Errors) {
    if list(spec, "accessModes").is_empty() {
        errors.add(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    for mode in list(spec, "accessModes").iter().filter_map(Value::as_str) {
        errors.one_of("spec.accessModes", mode, &ACCESS_MODES);
    }
    errors.one_of(
        "spec.volumeMode",
        text(spec, "volumeMode"),
        &["Block", "Filesystem"],
    );
}

fn claim(spec: &Value, errors: &mut Errors) {
    access_modes(spec, errors);
    match spec.pointer("/resources/requests/storage") {
        None => errors.add(FieldError::required("spec.resources[storage]", "")),
        Some(amount) if quantity(amount).is_some_and(|amount| amount.is_zero() || amount.is_negative()) => {
            errors.add(FieldError::invalid(
                "spec.resources[storage]",
                amount,
                "must be greater than zero",
            ));
        }
        Some(_) => {}
    }
}

fn volume(spec: &Value, errors: &mut Errors) {
    const OWN: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    access_modes(spec, errors);
    if spec.pointer("/capacity/storage").is_none() {
        errors.add(FieldError::required("spec.capacity", ""));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    errors.one_of(
        "spec.persistentVolumeReclaimPolicy",
        text(spec, "persistentVolumeReclaimPolicy"),
        &policies,
    );
    let fields = spec.as_object().into_iter().flatten().map(|(field, _)| field);
    let sources: Vec<&String> = fields.filter(|field| !OWN.contains(&field.as_str())).collect();
    if sources.is_empty() {
        errors.add(FieldError::required("spec", "must specify a volume type"));
    }
    for source in sources.iter().skip(1) {
        errors.add(FieldError::forbidden(
            format!("spec.{source}"),
            "may not specify more than 1 volume type",
        ));
    }
}

fn event(object: &Value, errors: &mut Errors) {
    let about = text(&object["involvedObject"], "namespace");
    let namespace = text(&object["metadata"], "namespace");
    if !about.is_empty() && about != namespace {
        let why = "does not match event.namespace";
        errors.add(FieldError::invalid_text("involvedObject.namespace", about, why));
    }
}

fn rules(namespaced: bool, role: &Value, errors: &mut Errors) {
    for (index, rule) in list(role, "rules").iter().enumerate() {
        let path = format!("rules[{index}]");
        if list(rule, "verbs").is_empty() {
            errors.add(FieldError::required(
                format!("{path}.verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !list(rule, "nonResourceURLs").is_empty() {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.add(FieldError::invalid(
                    format!("{path}.nonResourceURLs"),
                    &rule["nonResourceURLs"],
                    why,
                ));
            }
            continue;
        }
        if list(rule, "apiGroups").is_empty() {
            let why = "resource rules must supply at least one api group";
            errors.add(FieldError::required(format!("{path}.apiGroups"), why));
        }
        if list(rule, "resources").is_empty() {
            let why = "resource rules must supply at least one resource";
            errors.add(FieldError::required(format!("{path}.resources"), why));
        }
    }
}

fn binding(object: &Value, errors: &mut Errors) {
    let role = &object["roleRef"];
    let kinds: &[&str] = if text(&object["metadata"], "namespace").is_empty() {
        &["ClusterRole"]
    } else {
        &["Role", "ClusterRole"]
    };
    errors.one_of("roleRef.kind", text(role, "kind"), kinds);
    if text(role, "name").is_empty() {
        errors.add(FieldError::required("roleRef.name", ""));
    }
    for (index, subject) in list(object, "subjects").iter().enumerate() {
        let path = format!("subjects[{index}]");
        errors.one_of(
            &format!("{path}.kind"),
            text(subject, "kind"),
            &["ServiceAccount", "User", "Group"],
        );
        if text(subject, "kind") == "ServiceAccount" && text(subject, "namespace").is_empty() {
            errors.add(FieldError::required(format!("{path}.namespace"), ""));
        }
    }
}

fn ingress(spec: &Value, errors: &mut Errors) {
    if list(spec, "rules").is_empty() && spec.get("defaultBackend").is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.add(FieldError::invalid("spec", spec, why));
    }
    for (rule_index, rule) in list(spec, "rules").iter().enumerate() {
        for (index, path) in list(&rule["http"], "paths").iter().enumerate() {
            let field = format!("spec.rules[{rule_index}].http.paths[{index}]");
            let (kind, value) = (text(path, "pathType"), text(path, "path"));
            if kind.is_empty() {
                errors.add(FieldError::required(
                    format!("{field}.pathType"),
                    "pathType must be specified",
                ));
            }
            errors.one_of(
                &format!("{field}.pathType"),
                kind,
                &["Exact", "ImplementationSpecific", "Prefix"],
            );
            if matches!(kind, "Exact" | "Prefix") && !value.starts_with('/') {
                errors.add(FieldError::invalid_text(
                    format!("{field}.path"),
                    value,
                    "must be an absolute path",
                ));
            }
        }
    }
}
