//! What a pod is when it is made: pending, of a class, not to be scheduled while gates stand, and apart from or
//! near to pods that share its own labels.

use serde_json::{Map, Value, json};

/// The status of a new pod.
pub(super) fn first_status(spec: Option<&Value>) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": super::qos_class(spec)});
    let gates = spec.and_then(|spec| spec["schedulingGates"].as_array());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

/// Writes the pod's own values of the keys that its terms name into the selectors of those terms.
pub(super) fn select_by_own_labels(pod: &mut Map<String, Value>) {
    let labels = pod.get("metadata").map(|metadata| metadata["labels"].clone());
    let labels = labels.unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    let spreads = spec.get_mut("topologySpreadConstraints");
    items(spreads).for_each(|spread| narrow(spread, &labels));
    let Some(affinity) = spec.get_mut("affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.get_mut(kind) else {
            continue;
        };
        let required = terms.get_mut("requiredDuringSchedulingIgnoredDuringExecution");
        items(required).for_each(|term| narrow(term, &labels));
        let preferred = terms.get_mut("preferredDuringSchedulingIgnoredDuringExecution");
        items(preferred)
            .filter_map(|weighted| weighted.get_mut("podAffinityTerm"))
            .for_each(|term| narrow(term, &labels));
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

fn narrow(term: &mut Value, labels: &Value) {
    let mut own = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term[field].as_array().into_iter().flatten();
        for key in keys.filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                own.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    let selector = term.get_mut("labelSelector").and_then(Value::as_object_mut);
    if let Some(selector) = selector.filter(|_| !own.is_empty()) {
        let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
        match expressions.as_array_mut() {
            Some(list) => list.extend(own),
            None => *expressions = Value::Array(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_block_a_pod_from_its_first_moment() {
        let status = first_status(Some(&json!({"schedulingGates": [{"name": "a/b"}]})));
        assert_eq!(status["conditions"][0]["reason"], "SchedulingGated");
        assert_eq!(first_status(Some(&json!({})))["conditions"], Value::Null);
    }

    #[test]
    fn keys_become_the_pods_own_values() {
        let term = json!({"labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["v", "none"],
            "mismatchLabelKeys": ["w"], "topologyKey": "z"});
        let mut pod = json!({"metadata": {"labels": {"v": "1", "w": "2"}}, "spec": {
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "podAffinityTerm": term}]}},
            "topologySpreadConstraints": [{"matchLabelKeys": ["v"]}, {"matchLabelKeys": ["v"], "labelSelector": {}}]}});
        select_by_own_labels(pod.as_object_mut().unwrap());
        let path = "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
        assert_eq!(
            pod.pointer(path).unwrap()["labelSelector"],
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [
                {"key": "v", "operator": "In", "values": ["1"]}, {"key": "w", "operator": "NotIn", "values": ["2"]}]})
        );
        assert_eq!(
            pod["spec"]["topologySpreadConstraints"],
            json!([{"matchLabelKeys": ["v"]}, {"matchLabelKeys": ["v"], "labelSelector":
                {"matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]}}])
        );
    }
}
