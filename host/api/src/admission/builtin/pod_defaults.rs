//! DefaultTolerationSeconds, and TaintNodesByCondition.

use serde_json::{Value, json};

use super::{Asked, each, text};

/// How long a pod stays on a node that is not ready or not reached.
const TOLERATION_SECONDS: i64 = 300;
const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) fn tolerations(asked: &Asked<'_>, pod: &mut Value) {
    if !asked.creates("", "pods") && !asked.updates("", "pods") {
        return;
    }
    let spec = &mut pod["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(list) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in [NOT_READY, "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|toleration| {
            let own = text(&toleration["key"]);
            (own == key || own.is_empty()) && matches!(text(&toleration["effect"]), "" | "NoExecute")
        });
        if !covered {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}

/// A new node takes nobody before it has said that it is ready.
pub(super) fn taint(node: &mut Value) {
    let taints = &mut node["spec"]["taints"];
    let known = each(taints).any(|one| one["key"] == NOT_READY && one["effect"] == "NoSchedule");
    if known {
        return;
    }
    let taint = json!({ "key": NOT_READY, "effect": "NoSchedule" });
    match taints.as_array_mut() {
        Some(list) => list.push(taint),
        None => *taints = json!([taint]),
    }
}
