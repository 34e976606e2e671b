//! RuntimeClass: a pod has the overhead, the node selector and the tolerations of its runtime class.

use capstan_kinds::quantity::Quantity;
use capstan_kinds::resource::find;
use serde_json::{Value, json};

use super::{Asked, each, text};
use crate::refusal::Refusal;

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) fn admit(asked: &Asked<'_>, pod: &mut Value) -> Result<(), Refusal> {
    if !asked.creates("", "pods") {
        return Ok(());
    }
    let Some(class) = class(asked, pod)? else {
        return Ok(());
    };
    let overhead = &class["overhead"];
    if overhead.is_object() {
        let (fixed, own) = (&overhead["podFixed"], &pod["spec"]["overhead"]);
        if own.as_object().is_some_and(|own| !own.is_empty()) && !same(fixed, own) {
            return Err(asked.forbid(pod, OTHER_OVERHEAD));
        }
        pod["spec"]["overhead"] = fixed.clone();
    }
    schedule(asked, pod, &class["scheduling"])
}

pub(super) fn validate(asked: &Asked<'_>, pod: &Value) -> Result<(), Refusal> {
    if !asked.creates("", "pods") {
        return Ok(());
    }
    let class = class(asked, pod)?.unwrap_or_default();
    let own = &pod["spec"]["overhead"];
    if class["overhead"].is_object() {
        if !same(&class["overhead"]["podFixed"], own) {
            return Err(asked.forbid(pod, OTHER_OVERHEAD));
        }
    } else if own.is_object() {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return Err(asked.forbid(pod, why));
    }
    Ok(())
}

fn class(asked: &Asked<'_>, pod: &Value) -> Result<Option<Value>, Refusal> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
        return Ok(None);
    };
    let found = find("node.k8s.io", "v1", "runtimeclasses")
        .and_then(|classes| asked.server.registry.cached(&classes, "", name));
    match found {
        Some(entry) => Ok(Some(entry.decode())),
        None => Err(asked.forbid(pod, &format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// Whether two lists of amounts are the same, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    let read = |list: &Value| {
        let pairs = list.as_object().into_iter().flatten();
        let read = pairs.map(|(name, amount)| (name.clone(), text(amount).parse::<Quantity>().ok()));
        read.collect::<std::collections::BTreeMap<_, _>>()
    };
    read(a) == read(b)
}

fn schedule(asked: &Asked<'_>, pod: &mut Value, scheduling: &Value) -> Result<(), Refusal> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &pod["spec"]["nodeSelector"][key];
        if own.is_string() && own != value {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            );
            return Err(asked.forbid(pod, &why));
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    for toleration in each(&scheduling["tolerations"]) {
        match pod["spec"]["tolerations"].as_array_mut() {
            Some(list) if list.contains(toleration) => {}
            Some(list) => list.push(toleration.clone()),
            None => pod["spec"]["tolerations"] = json!([toleration]),
        }
    }
    Ok(())
}
