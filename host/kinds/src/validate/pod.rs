//! Rules of pod specs, in pods and in templates.
//! Invariants: the same rules wherever a pod spec stands; restart policies that a workload narrows are the
//! workload's rules.

use std::collections::HashSet;

use serde_json::Value;

use super::container::{self, Place};
use super::error::FieldError;
use super::metadata;
use super::rules::{Errors, flag, list, text};
use crate::name;

pub(super) fn pod(object: &Value, errors: &mut Errors) {
    spec("spec", object.get("spec").unwrap_or(&Value::Null), errors);
}

/// A pod template: the labels it makes and the spec.
pub(super) fn template(path: &str, template: &Value, errors: &mut Errors) {
    let metadata = &template["metadata"];
    metadata::labels(
        &format!("{path}.metadata.labels"),
        metadata.get("labels"),
        &mut errors.list,
    );
    metadata::annotations(
        &format!("{path}.metadata.annotations"),
        metadata.get("annotations"),
        &mut errors.list,
    );
    spec(
        &format!("{path}.spec"),
        template.get("spec").unwrap_or(&Value::Null),
        errors,
    );
    if !list(&template["spec"], "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.add(FieldError::forbidden(
            format!("{path}.spec.ephemeralContainers"),
            why,
        ));
    }
}

fn spec(path: &str, spec: &Value, errors: &mut Errors) {
    let volumes = volumes(path, spec, errors);
    containers(path, spec, &volumes, errors);
    errors.one_of(
        &format!("{path}.restartPolicy"),
        text(spec, "restartPolicy"),
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&format!("{path}.dnsPolicy"), text(spec, "dnsPolicy"), &policies);
    let grace = "terminationGracePeriodSeconds";
    errors.not_negative(&format!("{path}.{grace}"), spec.get(grace));
    let deadline = "activeDeadlineSeconds";
    errors.range(
        &format!("{path}.{deadline}"),
        spec.get(deadline),
        1,
        i64::from(i32::MAX),
    );
    metadata::labels(
        &format!("{path}.nodeSelector"),
        spec.get("nodeSelector"),
        &mut errors.list,
    );
    for (field, rule) in [
        ("nodeName", name::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", name::dns1123_subdomain),
        ("schedulerName", name::qualified),
        ("priorityClassName", name::dns1123_subdomain),
        ("hostname", name::dns1123_label),
        ("subdomain", name::dns1123_label),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            errors.named(&format!("{path}.{field}"), value, rule);
        }
    }
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        self::toleration(&format!("{path}.tolerations[{index}]"), toleration, errors);
    }
    if let Some(resources) = spec.get("resources") {
        container::resources(&format!("{path}.resources"), resources, errors);
    }
    spread(path, spec, errors);
}

fn containers(path: &str, spec: &Value, volumes: &HashSet<&str>, errors: &mut Errors) {
    if list(spec, "containers").is_empty() {
        errors.add(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = HashSet::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in list(spec, kind).iter().enumerate() {
            let path = format!("{path}.{kind}[{index}]");
            let name = text(container, "name");
            errors.must_be_named(&format!("{path}.name"), name, name::dns1123_label);
            if !name.is_empty() && !names.insert(name) {
                errors.add(FieldError::duplicate(format!("{path}.name"), &container["name"]));
            }
            let place = Place {
                volumes,
                host_network: flag(spec, "hostNetwork"),
                passing: kind == "initContainers" && text(container, "restartPolicy") != "Always",
            };
            container::check(&path, container, &place, errors);
        }
    }
}

fn volumes<'a>(path: &str, spec: &'a Value, errors: &mut Errors) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = text(volume, "name");
        errors.must_be_named(&format!("{path}.name"), name, name::dns1123_label);
        if !name.is_empty() && !names.insert(name) {
            errors.add(FieldError::duplicate(format!("{path}.name"), &volume["name"]));
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| field)
            .filter(|field| *field != "name")
            .collect();
        if sources.is_empty() {
            errors.add(FieldError::required(&path, "must specify a volume type"));
        }
        for source in sources.iter().skip(1) {
            errors.add(FieldError::forbidden(
                format!("{path}.{source}"),
                "may not specify more than 1 volume type",
            ));
        }
        for (source, field) in [
            ("secret", "secretName"),
            ("configMap", "name"),
            ("hostPath", "path"),
            ("persistentVolumeClaim", "claimName"),
        ] {
            if let Some(given) = volume.get(source)
                && text(given, field).is_empty()
            {
                errors.add(FieldError::required(format!("{path}.{source}.{field}"), ""));
            }
        }
    }
    names
}

fn toleration(path: &str, toleration: &Value, errors: &mut Errors) {
    let (key, operator, value) = (
        text(toleration, "key"),
        text(toleration, "operator"),
        text(toleration, "value"),
    );
    if !key.is_empty() {
        errors.named(&format!("{path}.key"), key, name::qualified);
    } else if operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.add(FieldError::invalid_text(
            format!("{path}.operator"),
            operator,
            why,
        ));
    }
    match operator {
        "" | "Equal" => errors.named(&format!("{path}.value"), value, name::label_value),
        "Exists" if !value.is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.add(FieldError::invalid_text(format!("{path}.operator"), value, why));
        }
        "Exists" | "Lt" | "Gt" => {}
        other => errors.add(FieldError::not_supported(
            format!("{path}.operator"),
            other,
            &["Equal", "Exists"],
        )),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let effect = text(toleration, "effect");
    errors.one_of(&format!("{path}.effect"), effect, &effects);
    if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.add(FieldError::invalid_text(format!("{path}.effect"), effect, why));
    }
}

fn spread(path: &str, spec: &Value, errors: &mut Errors) {
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        if let Some(skew) = constraint
            .get("maxSkew")
            .filter(|skew| skew.as_i64().unwrap_or_default() <= 0)
        {
            errors.add(FieldError::invalid(
                format!("{path}.maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        if text(constraint, "topologyKey").is_empty() {
            errors.add(FieldError::required(
                format!("{path}.topologyKey"),
                "can not be empty",
            ));
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        errors.one_of(
            &format!("{path}.whenUnsatisfiable"),
            text(constraint, "whenUnsatisfiable"),
            &known,
        );
    }
}
