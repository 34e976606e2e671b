//! Pods' ephemeral containers and resources: what a write to the subresource of each may change, and which
//! changes are refused.
//!
//! Invariant: nothing but its own part of the spec comes from such a write; all else stays as it was. Called by
//! the API server in place of [`crate::strategy::prepare_update`], and beside [`crate::validate::update`].

use serde_json::{Value, json};

use crate::strategy::qos_class;
use crate::validate::{Cause, FieldError};

/// Metadata that the server alone writes through these subresources.
const KEPT_METADATA: [&str; 6] = [
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
];
/// What an ephemeral container may not have.
const FIELDS_FORBIDDEN: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "restartPolicy",
];
const NOT_EPHEMERAL: &str = "Forbidden: cannot be set for an Ephemeral Container";

fn list<'a>(spec: &'a Value, name: &str) -> &'a [Value] {
    spec[name].as_array().map_or(&[], Vec::as_slice)
}

/// Takes what is asked for from a write, of what the subresource is for, and counts a change.
pub fn prepare(subresource: &str, new: &mut Value, old: &Value) {
    let sent = new["spec"].take();
    let mut spec = old["spec"].clone();
    if subresource == "ephemeralcontainers" {
        match sent.get("ephemeralContainers") {
            Some(all) => spec["ephemeralContainers"] = all.clone(),
            None => drop(
                spec.as_object_mut()
                    .map(|spec| spec.remove("ephemeralContainers")),
            ),
        }
    } else if !resize(&mut spec, &sent) {
        // Containers of another number, order or name: refused, as they are.
        spec = sent;
    }
    if spec != old["spec"] {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    } else {
        new["metadata"]["generation"] = old["metadata"]["generation"].clone();
    }
    new["spec"] = spec;
    new["status"] = old["status"].clone();
    for field in &KEPT_METADATA[1..] {
        match old["metadata"].get(*field) {
            Some(value) => new["metadata"][*field] = value.clone(),
            None => drop(
                new["metadata"]
                    .as_object_mut()
                    .map(|metadata| metadata.remove(*field)),
            ),
        }
    }
}

/// Takes the resources of each container; false where the containers are not the same.
fn resize(spec: &mut Value, sent: &Value) -> bool {
    for name in ["containers", "initContainers"] {
        let (own, theirs) = (list(spec, name), list(sent, name));
        let names = |list: &[Value]| list.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
        if names(own) != names(theirs) {
            return false;
        }
    }
    for name in ["containers", "initContainers"] {
        let own = spec
            .get_mut(name)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (container, sent) in own.zip(list(sent, name)) {
            for field in ["resources", "resizePolicy"] {
                match sent.get(field) {
                    Some(value) => container[field] = value.clone(),
                    None => drop(container.as_object_mut().map(|container| container.remove(field))),
                }
            }
        }
    }
    true
}

/// What is wrong with a change of the ephemeral containers.
pub fn validate_ephemeral(new: &Value, old: &Value) -> Vec<FieldError> {
    let (path, mut errors) = ("spec.ephemeralContainers", Vec::new());
    let (spec, before) = (&new["spec"], &old["spec"]);
    let all = list(spec, "ephemeralContainers");
    let others = list(spec, "containers")
        .iter()
        .chain(list(spec, "initContainers"));
    let others: Vec<&str> = others.filter_map(|one| one["name"].as_str()).collect();
    let mut seen = others.clone();
    for (place, one) in all.iter().enumerate() {
        let at = |field: &str| format!("{path}[{place}].{field}");
        let name = one["name"].as_str().unwrap_or_default();
        if seen.contains(&name) {
            errors.push(FieldError::new(
                at("name"),
                Cause::Duplicate,
                format!("Duplicate value: \"{name}\""),
            ));
        }
        seen.push(name);
        if let Some(target) = one["targetContainerName"]
            .as_str()
            .filter(|target| !target.is_empty())
            && !others.contains(&target)
        {
            let message = format!("Not found: \"{target}\"");
            errors.push(FieldError::new(
                at("targetContainerName"),
                Cause::NotFound,
                message,
            ));
        }
        let is_set = |field: &str| match &one[field] {
            Value::Null => false,
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        for field in FIELDS_FORBIDDEN.into_iter().filter(|field| is_set(field)) {
            errors.push(FieldError::new(at(field), Cause::Forbidden, NOT_EPHEMERAL));
        }
        for (mount, given) in list(one, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if given[field].as_str().is_some_and(|text| !text.is_empty()) {
                    let field = at(&format!("volumeMounts[{mount}].{field}"));
                    errors.push(FieldError::new(field, Cause::Forbidden, NOT_EPHEMERAL));
                }
            }
        }
    }
    for old in list(before, "ephemeralContainers") {
        let name = old["name"].as_str().unwrap_or_default();
        let what = match all.iter().find(|one| one["name"] == old["name"]) {
            None => "removed",
            Some(same) if same == old => continue,
            Some(_) => "changed",
        };
        let message = format!("Forbidden: existing ephemeral containers \"{name}\" may not be {what}\n");
        errors.push(FieldError::new(path, Cause::Forbidden, message));
    }
    errors
}

/// What is wrong with a change of the resources.
pub fn validate_resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let forbidden =
        |field: &str, why: &str| FieldError::new(field, Cause::Forbidden, format!("Forbidden: {why}"));
    let (spec, before) = (&new["spec"], &old["spec"]);
    if before["os"]["name"] == "windows" {
        return vec![forbidden("", "windows pods cannot be resized")];
    }
    if qos_class(Some(spec)) != qos_class(Some(before)) {
        let class = new["status"]["qosClass"].as_str().unwrap_or_default();
        let why = format!("Invalid value: \"{class}\": Pod QOS Class may not change as a result of resizing");
        errors.push(FieldError::new("spec", Cause::FieldValueInvalid, why));
    }
    for name in ["containers", "initContainers"] {
        let (now, then) = (list(spec, name), list(before, name));
        if now.len() != then.len() {
            errors.push(forbidden(
                &format!("spec.{name}"),
                &format!("{name} may not be added or removed on resize"),
            ));
            return errors;
        }
        for (place, (now, then)) in now.iter().zip(then).enumerate() {
            if now["name"] != then["name"] {
                let field = format!("spec.{name}[{place}].name");
                errors.push(forbidden(
                    &field,
                    &format!("{name} may not be renamed or reordered on resize"),
                ));
                return errors;
            }
        }
    }
    for name in ["initContainers", "containers"] {
        for (place, (now, then)) in list(spec, name).iter().zip(list(before, name)).enumerate() {
            let is_sidecar = then["restartPolicy"] == "Always";
            if name == "initContainers" && !is_sidecar {
                if now != then {
                    errors.push(forbidden(
                        "spec",
                        "resources for non-sidecar init containers are immutable",
                    ));
                }
                continue;
            }
            let path = format!("spec.{name}[{place}].resources");
            for kind in ["requests", "limits"] {
                let removed = then["resources"][kind].as_object().is_some_and(|then| {
                    then.keys()
                        .any(|amount| now["resources"][kind].get(amount).is_none_or(Value::is_null))
                });
                if removed {
                    let why = format!("resource {kind} cannot be removed");
                    errors.push(forbidden(&format!("{path}.{kind}"), &why));
                }
            }
            if others(now) != others(then) {
                errors.push(forbidden("spec", "only cpu and memory resources are mutable"));
            }
        }
    }
    errors
}

/// A container without what a resize may change.
fn others(container: &Value) -> Value {
    let mut rest = container.clone();
    for kind in ["requests", "limits"] {
        if let Some(amounts) = rest["resources"][kind].as_object_mut() {
            amounts.remove("cpu");
            amounts.remove("memory");
        }
        if rest["resources"][kind]
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
            || rest["resources"][kind].is_null()
        {
            drop(
                rest["resources"]
                    .as_object_mut()
                    .map(|resources| resources.remove(kind)),
            );
        }
    }
    if rest["resources"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        drop(rest.as_object_mut().map(|rest| rest.remove("resources")));
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({ "metadata": { "name": "p", "generation": 1, "labels": { "a": "b" } }, "status": { "qosClass": "Burstable" },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i",
                "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "1Gi" } } }] } })
    }

    fn words(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_its_part_is_taken() {
        let (old, mut new) = (pod(), pod());
        new["spec"]["nodeName"] = json!("other");
        new["metadata"]["labels"] = json!({});
        new["spec"]["ephemeralContainers"] = json!([{ "name": "e", "image": "i" }]);
        prepare("ephemeralcontainers", &mut new, &old);
        assert_eq!(
            (
                new["spec"]["nodeName"].as_str(),
                new["metadata"]["generation"].as_i64()
            ),
            (Some("n"), Some(2))
        );
        assert_eq!(new["metadata"]["labels"], json!({ "a": "b" }));
        assert!(validate_ephemeral(&new, &old).is_empty());
        let mut again = new.clone();
        again["spec"]["ephemeralContainers"] =
            json!([{ "name": "c", "targetContainerName": "x", "ports": [{}] }]);
        prepare("ephemeralcontainers", &mut again, &new);
        assert_eq!(
            words(&validate_ephemeral(&again, &new)),
            [
                "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n",
            ]
        );
    }

    #[test]
    fn resources_change_and_nothing_else() {
        let (old, mut new) = (pod(), pod());
        new["spec"]["containers"][0]["image"] = json!("other");
        new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
        prepare("resize", &mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["image"], "i");
        assert_eq!(new["metadata"]["generation"], 2);
        assert!(validate_resize(&new, &old).is_empty());
        new["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "2", "x/y": "1" } });
        assert_eq!(
            words(&validate_resize(&new, &old)),
            [
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ]
        );
        new["spec"]["containers"][0]["resources"] = json!({});
        let said = words(&validate_resize(&new, &old));
        assert!(
            said[0].contains("Invalid value: \"Burstable\": Pod QOS Class may not change"),
            "{said:?}"
        );
    }
}
