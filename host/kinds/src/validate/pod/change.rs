//! How a pod may change: through its main path, its added containers, its resources.
//! Invariants: what no path may change stays as it was; what only a subresource may change is refused elsewhere.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::strategy;
use crate::validate::at::{At, in_range};

const FIELDS: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const ONLY_RESOURCES: &str = "only cpu and memory resources are mutable";
const DEADLINE: &str = "activeDeadlineSeconds";

/// A change through the main path.
pub(in crate::validate) fn main(new: &At, old: &At) {
    annotations(&new.at("metadata"), &old.at("metadata"));
    let (spec, before) = (new.at("spec"), old.at("spec"));
    for list in ["containers", "initContainers"] {
        if spec.count(list) != before.count(list) {
            return spec.forbidden(list, "pod updates may not add or remove containers");
        }
    }
    deadline(&spec, &before);
    added_tolerations(&spec, &before);
    removed_gates(&spec, &before);
    if spec.value() == before.value() {
        return;
    }
    let mut expected = spec.value().clone();
    for list in ["containers", "initContainers"] {
        for (index, container) in before.list(list).iter().enumerate() {
            take(&mut expected[list][index], container, "image");
        }
    }
    for field in [DEADLINE, "tolerations", "schedulingGates"] {
        take(&mut expected, before.value(), field);
    }
    let grace = "terminationGracePeriodSeconds";
    if before.number(grace) < 0 && spec.int(grace) == Some(1) {
        take(&mut expected, before.value(), grace);
    }
    if before.count("schedulingGates") > 0 {
        gated(&spec, &before, &mut expected);
    }
    if expected != *before.value() {
        spec.forbidden("", FIELDS);
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

/// Annotations that say how a pod came to be.
pub(super) fn annotations(new: &At, old: &At) {
    let (after, before) = (new.at("annotations"), old.at("annotations"));
    let kinds = |key: &str| {
        if key.starts_with(super::APP_ARMOR) {
            Some("AppArmor annotations")
        } else {
            (key == super::MIRROR).then_some("mirror pod annotation")
        }
    };
    for (key, value) in before.keyed("") {
        let same = after.map("").and_then(|map| map.get(key)) == Some(value.value());
        if let Some(kind) = kinds(key).filter(|_| !same) {
            after.forbidden(&format!("[{key}]"), &format!("may not remove or update {kind}"));
        }
    }
    for (key, value) in after.keyed("") {
        let known = before.map("").is_some_and(|map| map.contains_key(key));
        if let Some(kind) = kinds(key).filter(|_| !known) {
            value.forbidden("", &format!("may not add {kind}"));
        }
    }
}

fn deadline(spec: &At, before: &At) {
    match (spec.int(DEADLINE), before.int(DEADLINE)) {
        (Some(after), before) => {
            if !(0..=i64::from(i32::MAX)).contains(&after) {
                spec.invalid(DEADLINE, &in_range(0, i64::from(i32::MAX)));
            }
            if before.is_some_and(|before| before < after) {
                spec.invalid(DEADLINE, "must be less than or equal to previous value");
            }
        }
        (None, Some(_)) => spec.invalid(DEADLINE, "must not update from a positive integer to nil value"),
        (None, None) => {}
    }
}

fn added_tolerations(spec: &At, before: &At) {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(members) = toleration.as_object_mut() {
            members.remove("tolerationSeconds");
        }
        toleration
    };
    let after: Vec<Value> = spec.list("tolerations").iter().map(bare).collect();
    for old in before.list("tolerations") {
        if !after.contains(&bare(old)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            spec.forbidden("tolerations", why);
        }
    }
}

fn removed_gates(spec: &At, before: &At) {
    let known: HashSet<&str> = before
        .each("schedulingGates")
        .map(|gate| gate.text("name"))
        .collect();
    for gate in spec.each("schedulingGates") {
        let name = gate.text("name");
        if !known.contains(name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            gate.forbidden("name", &why);
        }
    }
}

/// A pod that waits for its gates may become choosier about its node.
fn gated(spec: &At, before: &At, expected: &mut Value) {
    const TERMS: &str =
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let kept = before
        .map("nodeSelector")
        .into_iter()
        .flatten()
        .all(|(key, value)| spec.map("nodeSelector").and_then(|map| map.get(key)) == Some(value));
    if !kept {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        spec.invalid("nodeSelector", why);
    }
    take(expected, before.value(), "nodeSelector");
    let (terms, old) = (spec.list(TERMS), before.list(TERMS));
    if !old.is_empty() && old.len() != terms.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        spec.invalid(TERMS, why);
    } else {
        for (index, (term, old)) in terms.iter().zip(old).enumerate() {
            if !only_adds(term, old) {
                let field = format!("{TERMS}[{index}]");
                let why = "only additions are allowed (no mutations or deletions)";
                spec.invalid_as(&field, term.clone(), why);
            }
        }
    }
    let node = before.get("affinity.nodeAffinity").cloned();
    match (&mut expected["affinity"], node) {
        (Value::Object(affinity), Some(node)) => {
            affinity.insert("nodeAffinity".to_string(), node);
        }
        (Value::Object(affinity), None) => {
            affinity.remove("nodeAffinity");
            if affinity.is_empty() && !before.has("affinity") {
                remove(expected, "affinity");
            }
        }
        (affinity, Some(node)) => *affinity = json!({"nodeAffinity": node}),
        (_, None) => remove(expected, "affinity"),
    }
}

fn remove(target: &mut Value, field: &str) {
    if let Some(members) = target.as_object_mut() {
        members.remove(field);
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let part = |term: &Value, field: &str| term[field].as_array().cloned().unwrap_or_default();
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|field| part(old, field).is_empty()) {
        return fields.iter().all(|field| part(new, field).is_empty());
    }
    fields
        .iter()
        .all(|field| part(new, field).starts_with(&part(old, field)))
}

/// A change of the containers that were added to a running pod: more of them, nothing else.
pub(in crate::validate) fn ephemeral(new: &At, old: &At) {
    annotations(&new.at("metadata"), &old.at("metadata"));
    if mirrors(old) {
        return new.forbidden("", "static pods do not support ephemeral containers");
    }
    let spec = new.at("spec");
    for container in old.each("spec.ephemeralContainers") {
        let name = container.text("name");
        let after = spec
            .each("ephemeralContainers")
            .find(|one| one.text("name") == name);
        let what = match after {
            None => "removed\n",
            Some(after) if after.value() != container.value() => "changed\n",
            Some(_) => continue,
        };
        let why = format!("existing ephemeral containers {name:?} may not be {what}");
        spec.forbidden("ephemeralContainers", &why);
    }
}

fn mirrors(pod: &At) -> bool {
    pod.map("metadata.annotations")
        .is_some_and(|map| map.contains_key(super::MIRROR))
}

/// A change of resources in place: cpu and memory, never so that the pod's class changes.
pub(in crate::validate) fn resize(new: &At, old: &At) {
    if mirrors(old) {
        return new.forbidden("", "static pods cannot be resized");
    }
    if old.text("spec.os.name") == "windows" {
        return new.forbidden("", "windows pods cannot be resized");
    }
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let class = old.text("status.qosClass");
    let was = if class.is_empty() {
        strategy::qos_class(Some(before.value()))
    } else {
        class
    };
    if was != strategy::qos_class(Some(spec.value())) {
        let why = "Pod QOS Class may not change as a result of resizing";
        spec.invalid_as("", new.text("status.qosClass"), why);
    }
    let running = old
        .each("status.containerStatuses")
        .find(|status| status.has("state.running"));
    if running.is_some_and(|status| !status.has("resources")) {
        spec.forbidden("", "Pod running on node without support for resize");
    }
    let mut expected = spec.value().clone();
    if before.has("resources") || spec.has("resources") {
        pod_level(&spec, &before, &mut expected);
    }
    let start = spec.found().count();
    for list in ["containers", "initContainers"] {
        same_order(&spec, &before, list);
    }
    if spec.found().count() > start {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (after, earlier) in spec.each(list).zip(before.each(list)) {
            removed(&after.at("resources"), &earlier.at("resources"), "resource");
        }
    }
    for (index, earlier) in before.each("containers").enumerate() {
        let container = &mut expected["containers"][index];
        restore(container, earlier.get("resources"));
        if container != earlier.value() {
            spec.forbidden("", ONLY_RESOURCES);
        }
    }
    for (index, earlier) in before.each("initContainers").enumerate() {
        initial(&spec, &earlier, index, &mut expected["initContainers"][index]);
    }
    if spec.found().count() == start && expected != *before.value() {
        spec.forbidden("", ONLY_RESOURCES);
    }
}

fn initial(spec: &At, earlier: &At, index: usize, container: &mut Value) {
    let modified = container != earlier.value();
    restore(container, earlier.get("resources"));
    let field = format!("initContainers[{index}]");
    if container != earlier.value() {
        let why = "only cpu and memory resources for init or sidecar containers are mutable";
        spec.forbidden(&field, why);
    }
    if modified && earlier.text("restartPolicy") != "Always" {
        for _ in earlier
            .each("resizePolicy")
            .filter(|policy| policy.text("restartPolicy") == "RestartContainer")
        {
            let why =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            spec.forbidden(&field, why);
        }
    }
}

fn same_order(spec: &At, before: &At, list: &str) {
    if spec.count(list) != before.count(list) {
        let why = format!("{list} may not be added or removed on resize");
        return spec.forbidden(list, &why);
    }
    for (after, earlier) in spec.each(list).zip(before.each(list)) {
        if after.text("name") != earlier.text("name") {
            let why = format!("{list} may not be renamed or reordered on resize");
            after.forbidden("name", &why);
        }
    }
}

fn removed(after: &At, before: &At, what: &str) {
    for kind in ["requests", "limits"] {
        let gone = before.map(kind).into_iter().flatten().any(|(name, _)| {
            let left = after.map(kind).and_then(|map| map.get(name));
            left.is_none_or(Value::is_null)
        });
        if gone {
            after.forbidden(kind, &format!("{what} {kind} cannot be removed"));
        }
    }
}

fn pod_level(spec: &At, before: &At, expected: &mut Value) {
    if !spec.has("resources") {
        return spec.forbidden("resources", "pod-level resources cannot be removed");
    }
    removed(
        &spec.at("resources"),
        &before.at("resources"),
        "pod-level resource",
    );
    restore(expected, before.get("resources"));
    if expected.get("resources") != before.get("resources") {
        let why = "only cpu and memory resources are mutable at pod-level";
        spec.forbidden("", why);
    }
}

/// Puts back what a resize may change of a container's or pod's resources: cpu and memory.
fn restore(holder: &mut Value, old: Option<&Value>) {
    let Some(resources) = holder.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    for kind in ["requests", "limits"] {
        let earlier = old.and_then(|old| old.get(kind));
        let mut amounts = resources
            .get(kind)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for name in ["cpu", "memory"] {
            match earlier.and_then(|amounts| amounts.get(name)) {
                Some(amount) => amounts.insert(name.to_string(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        if amounts.is_empty() && earlier.is_none() {
            resources.remove(kind);
        } else {
            resources.insert(kind.to_string(), Value::Object(amounts));
        }
    }
    if resources.is_empty() && old.is_none() {
        remove(holder, "resources");
    }
}
