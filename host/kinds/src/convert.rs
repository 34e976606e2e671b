//! Between versions of one kind: core events and `events.k8s.io` events; autoscalers v1 and v2.
//! Invariants: nothing that the target version can say is lost; `apiVersion` and `kind` are set always.
//! The registry calls it when it reads an object that was written in another version. Custom resources
//! change only their `apiVersion` (strategy None) and take the form of the version's schema; those of kinds with
//! a conversion webhook are left in the version that they have, which is the caller's work.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// The object in the version of the resource.
pub fn to_version(resource: &Resource, mut object: Value) -> Value {
    let by_webhook = resource
        .custom
        .as_ref()
        .is_some_and(|custom| custom.conversion.is_some());
    if by_webhook && object["apiVersion"] != resource.api_version() {
        return object;
    }
    let Some(document) = object.as_object_mut() else {
        return object;
    };
    match (
        resource.group.as_str(),
        resource.plural.as_str(),
        resource.version.as_str(),
    ) {
        ("", "events", _) => rename(document, &EVENT_FIELDS, true),
        ("events.k8s.io", "events", _) => rename(document, &EVENT_FIELDS, false),
        ("autoscaling", "horizontalpodautoscalers", "v1") => autoscaler_to_v1(document),
        ("autoscaling", "horizontalpodautoscalers", "v2") => autoscaler_to_v2(document),
        _ => {}
    }
    document.insert("apiVersion".to_string(), json!(resource.api_version()));
    document.insert("kind".to_string(), json!(resource.kind));
    if let Some(custom) = &resource.custom {
        custom.settle(&mut object);
    }
    object
}

/// The object in the version in which its kind is stored.
pub fn to_storage(resource: &Resource, object: Value) -> Value {
    match resource
        .custom
        .as_ref()
        .and_then(|custom| custom.storage.as_ref())
    {
        Some(storage) => to_version(storage, object),
        None => object,
    }
}

/// Core name and `events.k8s.io` name of each field that differs.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(document: &mut Map<String, Value>, names: &[(&str, &str)], to_first: bool) {
    for (first, second) in names {
        let (from, to) = if to_first {
            (second, first)
        } else {
            (first, second)
        };
        if let Some(value) = document.remove(*from) {
            document.entry(*to).or_insert(value);
        }
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu")
        && metric.pointer("/resource/target/type").and_then(Value::as_str) == Some("Utilization")
}

/// What v1 cannot say is kept in annotations, as the original does.
fn autoscaler_to_v1(document: &mut Map<String, Value>) {
    let mut kept = Map::new();
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(Value::Array(mut metrics)) = spec.remove("metrics") {
            if let Some(index) = metrics.iter().position(is_cpu_utilization) {
                let cpu = metrics.remove(index);
                if let Some(target) = cpu.pointer("/resource/target/averageUtilization") {
                    spec.insert("targetCPUUtilizationPercentage".to_string(), target.clone());
                }
            }
            if !metrics.is_empty() {
                kept.insert(METRICS.to_string(), json!(Value::Array(metrics).to_string()));
            }
        }
        if let Some(behavior) = spec.remove("behavior") {
            kept.insert(BEHAVIOR.to_string(), json!(behavior.to_string()));
        }
    }
    if let Some(status) = document.get_mut("status").and_then(Value::as_object_mut) {
        let current = status.remove("currentMetrics");
        let cpu = current
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|metric| metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu"));
        if let Some(value) = cpu.and_then(|metric| metric.pointer("/resource/current/averageUtilization")) {
            status.insert("currentCPUUtilizationPercentage".to_string(), value.clone());
        }
        status.remove("conditions");
    }
    if kept.is_empty() {
        return;
    }
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(kept);
        }
    }
}

fn autoscaler_to_v2(document: &mut Map<String, Value>) {
    let mut kept = Map::new();
    if let Some(annotations) = document
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
    {
        for name in [METRICS, BEHAVIOR] {
            let parsed = annotations
                .as_object_mut()
                .and_then(|map| map.remove(name))
                .and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
            if let Some(value) = parsed {
                kept.insert(name.to_string(), value);
            }
        }
    }
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics = match kept.remove(METRICS) {
            Some(Value::Array(metrics)) => metrics,
            _ => Vec::new(),
        };
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
            metrics.insert(
                0,
                json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}),
            );
        }
        if !metrics.is_empty() {
            spec.entry("metrics").or_insert(Value::Array(metrics));
        }
        if let Some(behavior) = kept.remove(BEHAVIOR) {
            spec.entry("behavior").or_insert(behavior);
        }
    }
    if let Some(status) = document.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.remove("currentCPUUtilizationPercentage")
    {
        status.entry("currentMetrics").or_insert(json!([
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent, "averageValue": "0"}}}
        ]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::find;

    fn check(group: &str, version: &str, plural: &str, object: Value, expected: Value) {
        assert_eq!(
            to_version(&find(group, version, plural).unwrap(), object),
            expected
        );
    }

    #[test]
    fn events_change_their_field_names() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2, "reportingComponent": "k"});
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "m", "deprecatedCount": 2, "reportingController": "k"});
        check("events.k8s.io", "v1", "events", core.clone(), new.clone());
        check("", "v1", "events", new, core);
    }

    #[test]
    fn autoscalers_keep_what_v1_cannot_say() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"annotations": {}},
            "spec": {"maxReplicas": 3, "metrics": [cpu, memory]}});
        let v1 = to_version(
            &find("autoscaling", "v1", "horizontalpodautoscalers").unwrap(),
            v2.clone(),
        );
        assert_eq!(
            v1["spec"],
            json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80})
        );
        check("autoscaling", "v2", "horizontalpodautoscalers", v1, v2);
    }
}
