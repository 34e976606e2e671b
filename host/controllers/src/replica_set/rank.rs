//! Which pods go first when a ReplicaSet shrinks.
//!
//! The original's `ActivePodsWithRanks`: unassigned before assigned, pending before running, not ready before
//! ready, lower deletion cost first, the most crowded node first, ready for a shorter time first, more
//! restarts first, younger first. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pod;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `pods` in the order in which they are to be deleted. `related` are the active pods of all ReplicaSets of
/// the same owner, which tell how crowded a node is.
pub(crate) fn for_deletion(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for node in related
        .iter()
        .filter(|pod| pod::is_active(pod))
        .filter_map(|pod| pod::node(pod))
    {
        *crowd.entry(node).or_insert(0) += 1;
    }
    pods.sort_by(|a, b| compare(a, b, &crowd));
    pods
}

fn compare(a: &Pod, b: &Pod, crowd: &HashMap<&str, usize>) -> Ordering {
    let rank = |pod: &Pod| match pod::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let crowded = |pod: &Pod| {
        Reverse(
            pod::node(pod)
                .and_then(|node| crowd.get(node))
                .copied()
                .unwrap_or(0),
        )
    };
    let created = |pod: &Pod| Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    (pod::node(a).is_some())
        .cmp(&pod::node(b).is_some())
        .then_with(|| rank(a).cmp(&rank(b)))
        .then_with(|| pod::is_ready(a).cmp(&pod::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowded(a).cmp(&crowded(b)))
        .then_with(|| Reverse(pod::ready_since(a)).cmp(&Reverse(pod::ready_since(b))))
        .then_with(|| Reverse(pod::restarts(a)).cmp(&Reverse(pod::restarts(b))))
        .then_with(|| created(a).cmp(&created(b)))
}

fn cost(pod: &Pod) -> i32 {
    let annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(DELETION_COST));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pod(name: &str, node: &str, phase: &str, ready: bool, more: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": if ready {"True"} else {"False"}, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        Arc::new(from_value(pod).unwrap())
    }

    #[test]
    fn order() {
        let pods = vec![
            pod("old", "a", "Running", true, json!({})),
            pod(
                "young",
                "a",
                "Running",
                true,
                json!({"creationTimestamp": "2026-01-02T00:00:00Z"}),
            ),
            pod("crowded", "b", "Running", true, json!({})),
            pod(
                "dear",
                "b",
                "Running",
                true,
                json!({"annotations": {DELETION_COST: "9"}}),
            ),
            pod(
                "cheap",
                "b",
                "Running",
                true,
                json!({"annotations": {DELETION_COST: "-1"}}),
            ),
            pod("unready", "a", "Running", false, json!({})),
            pod("pending", "a", "Pending", false, json!({})),
            pod("unassigned", "", "Pending", false, json!({})),
        ];
        let names = |pods: &[Arc<Pod>]| -> Vec<String> {
            pods.iter()
                .map(|pod| pod.metadata.name.clone().unwrap())
                .collect()
        };
        let mut related = pods.clone();
        related.extend((0..4).map(|n| pod(&format!("other-{n}"), "b", "Running", true, json!({}))));
        let order = for_deletion(pods, &related);
        assert_eq!(
            names(&order),
            [
                "unassigned",
                "pending",
                "unready",
                "cheap",
                "crowded",
                "young",
                "old",
                "dear"
            ]
        );
    }
}
