//! Priority: a pod's priority is its class's, and one class alone is the default.

use serde_json::{Value, json};

use super::{Asked, text};
use crate::refusal::Refusal;

pub(super) fn admit(asked: &Asked<'_>, pod: &mut Value) -> Result<(), Refusal> {
    if asked.updates("", "pods") {
        keep(pod, asked.subject.old.as_deref());
        return Ok(());
    }
    if !asked.creates("", "pods") {
        return Ok(());
    }
    let name = text(&pod["spec"]["priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let default = default_class(asked);
        if let Some(class) = &default {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        default
    } else {
        let classes = asked.server.registry.cache(&asked.server.priority_classes);
        let Some(entry) = classes.get(&name) else {
            return Err(asked.forbid(pod, &format!("no PriorityClass with name {name} was found")));
        };
        Some(entry.decode())
    };
    let value = class
        .as_ref()
        .and_then(|class| class["value"].as_i64())
        .unwrap_or(0);
    if let Some(own) = pod["spec"]["priority"].as_i64().filter(|own| *own != value) {
        let why = format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(asked.forbid(pod, &why));
    }
    pod["spec"]["priority"] = json!(value);
    let policy = class.as_ref().map_or("PreemptLowerPriority", |class| {
        class["preemptionPolicy"]
            .as_str()
            .unwrap_or("PreemptLowerPriority")
    });
    let own = text(&pod["spec"]["preemptionPolicy"]);
    if !own.is_empty() && own != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(asked.forbid(pod, &why));
    }
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// An update that says nothing of the priority means the old one.
fn keep(pod: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
            pod["spec"][field] = old["spec"][field].clone();
        }
    }
}

/// Of several default classes, the one of the lowest value.
fn default_class(asked: &Asked<'_>) -> Option<Value> {
    let (_, all) = asked
        .server
        .registry
        .cache(&asked.server.priority_classes)
        .list("");
    all.into_iter()
        .map(|(_, entry)| entry.decode())
        .filter(|class| class["globalDefault"] == true)
        .min_by_key(|class| class["value"].as_i64())
}

pub(super) fn validate(asked: &Asked<'_>, class: &Value) -> Result<(), Refusal> {
    let (group, plural) = ("scheduling.k8s.io", "priorityclasses");
    let creates = asked.creates(group, plural);
    if !(creates || asked.updates(group, plural)) || class["globalDefault"] != true {
        return Ok(());
    }
    let Some(other) = default_class(asked) else {
        return Ok(());
    };
    let name = &other["metadata"]["name"];
    if creates || *name != class["metadata"]["name"] {
        let why = format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            text(name)
        );
        return Err(asked.forbid(class, &why));
    }
    Ok(())
}
