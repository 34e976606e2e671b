//! What a DaemonSet needs: one pod on every node that it may run on. Pure.
//!
//! Invariants: never two pods of ours that should run on one node; a rolling update takes down at most
//! `maxUnavailable` nodes at a time. The template is told by a hash label.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::deployment::size::scaled;
use crate::node::taints::tolerates;
use crate::owner::reference;
use crate::pod;

pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// What is seen of one DaemonSet.
pub(crate) struct Snapshot<'a> {
    pub(crate) set: &'a DaemonSet,
    pub(crate) pods: &'a [Arc<Pod>],
    pub(crate) nodes: &'a [Arc<Node>],
    /// The name of its present template.
    pub(crate) hash: &'a str,
    pub(crate) now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Nodes that need a pod.
    pub(crate) start: Vec<String>,
    pub(crate) stop: Vec<Arc<Pod>>,
    pub(crate) status: DaemonSetStatus,
}

/// Taints that a daemon's pod tolerates whatever its template says.
const TOLERATED: [(&str, &str); 7] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ("node.kubernetes.io/network-unavailable", "NoSchedule"),
];

/// The node of a pod: where it is, or where it is bound to go.
pub(crate) fn target(pod: &Pod) -> Option<&str> {
    let wanted = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let fields = required
            .node_selector_terms
            .iter()
            .flat_map(|term| term.match_fields.iter().flatten());
        let name = fields
            .filter(|field| field.key == "metadata.name")
            .find_map(|field| field.values.as_ref()?.first())?;
        Some(name.as_str())
    };
    pod::node(pod).or_else(wanted)
}

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Plan {
    let spec = seen.set.spec.clone().unwrap_or_default();
    let eligible: Vec<String> = seen
        .nodes
        .iter()
        .filter(|node| may_run(seen.set, node))
        .map(|node| node.name_any())
        .collect();
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        by_node
            .entry(target(pod).unwrap_or_default())
            .or_default()
            .push(pod);
    }
    let is_new = |pod: &Pod| pod.labels().get(HASH_LABEL).map(String::as_str) == Some(seen.hash);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let up = |pod: &Pod| pod::is_active(pod) && pod::is_available(pod, min_ready, seen.now).unwrap_or(false);
    let mut plan = Plan::default();
    let (mut current, mut ready, mut available, mut updated) = (0, 0, 0, 0);
    let mut old_up = Vec::new();
    for name in &eligible {
        let mut pods = by_node.remove(name.as_str()).unwrap_or_default();
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        plan.stop.extend(
            pods.iter()
                .filter(|pod| pod::is_finished(pod) && !pod::is_deleting(pod))
                .map(|pod| Arc::clone(pod)),
        );
        let going = pods
            .iter()
            .any(|pod| pod::is_deleting(pod) || pod::is_finished(pod));
        let mut active = pods.into_iter().filter(|pod| pod::is_active(pod));
        let Some(pod) = active.next() else {
            if !going {
                plan.start.push(name.clone());
            }
            continue;
        };
        plan.stop.extend(active.map(Arc::clone));
        current += 1;
        ready += i32::from(pod::is_ready(pod));
        available += i32::from(up(pod));
        updated += i32::from(is_new(pod));
        if !is_new(pod) {
            old_up.push(Arc::clone(pod));
        }
    }
    let misplaced: Vec<_> = by_node
        .into_values()
        .flatten()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    let misscheduled = i32::try_from(misplaced.len()).unwrap_or(i32::MAX);
    plan.stop.extend(misplaced);
    let desired = i32::try_from(eligible.len()).unwrap_or(i32::MAX);
    let strategy = spec.update_strategy.unwrap_or_default();
    if strategy.type_.as_deref() != Some("OnDelete") {
        let one = IntOrString::Int(1);
        let rolling = strategy.rolling_update.unwrap_or_default();
        let max = scaled(rolling.max_unavailable.as_ref().unwrap_or(&one), desired, true).max(1);
        let mut may_take = max - (desired - available);
        for pod in old_up {
            // A pod that does not serve costs nothing.
            if up(&pod) {
                if may_take <= 0 {
                    continue;
                }
                may_take -= 1;
            }
            plan.stop.push(pod);
        }
    }
    let some = |count: i32| (count != 0).then_some(count);
    plan.status = DaemonSetStatus {
        observed_generation: seen.set.metadata.generation,
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        number_misscheduled: misscheduled,
        updated_number_scheduled: some(updated),
        ..seen.set.status.clone().unwrap_or_default()
    };
    plan
}

fn may_run(set: &DaemonSet, node: &Node) -> bool {
    let spec = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.clone())
        .unwrap_or_default();
    let labels = node.labels();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let named = spec
        .node_name
        .as_ref()
        .is_none_or(|name| *name == node.name_any());
    let mut tolerations = spec.tolerations.unwrap_or_default();
    tolerations.extend(own_tolerations());
    let taints: &[Taint] = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let repels = |taint: &&Taint| taint.effect != "PreferNoSchedule";
    selected
        && named
        && taints
            .iter()
            .filter(repels)
            .all(|taint| tolerations.iter().any(|t| tolerates(t, taint)))
}

fn own_tolerations() -> impl Iterator<Item = Toleration> {
    TOLERATED.into_iter().map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Default::default()
    })
}

/// The pod for one node: the scheduler may bind it nowhere else.
pub(crate) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let mut pod = pod::from_template(&template, &set.name_any(), reference(set));
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations.get_or_insert_default().extend(own_tolerations());
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let required = affinity
        .node_affinity
        .get_or_insert_with(NodeAffinity::default)
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(NodeSelector::default);
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![field.clone()]);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn one_on_each_node_and_rolled_one_by_one() {
        let set: DaemonSet = from_value(json!({"metadata": {"name": "d"}, "spec": {"selector": {},
            "template": {"spec": {"containers": [], "nodeSelector": {"os": "linux"}}}}}))
        .unwrap();
        let node = |name: &str, os: &str, taint: &str| -> Arc<Node> {
            let taints = if taint.is_empty() {
                json!([])
            } else {
                json!([{"key": taint, "effect": "NoSchedule"}])
            };
            Arc::new(
                from_value(
                    json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}}),
                )
                .unwrap(),
            )
        };
        let nodes = [
            node("a", "linux", ""),
            node("b", "linux", "node.kubernetes.io/unschedulable"),
            node("c", "linux", "theirs"),
            node("d", "other", ""),
        ];
        let now = Timestamp::UNIX_EPOCH;
        let next = |pods: &[Arc<Pod>]| {
            plan(&Snapshot {
                set: &set,
                pods,
                nodes: &nodes,
                hash: "new",
                now,
            })
        };
        let first = next(&[]);
        assert_eq!(
            (first.start.as_slice(), first.status.desired_number_scheduled),
            (&["a".to_owned(), "b".to_owned()][..], 2)
        );
        let pod = |node: &str, hash: &str| {
            let mut pod = pod_for(&set, node, hash);
            assert_eq!(target(&pod), Some(node));
            pod.status =
                from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
                    .unwrap();
            Arc::new(pod)
        };
        let old = [pod("a", "old"), pod("b", "old"), pod("d", "new")];
        let second = next(&old);
        let stopped: Vec<_> = second.stop.iter().map(|pod| target(pod).unwrap()).collect();
        assert_eq!(stopped, ["d", "a"], "misplaced, and one old pod at a time");
        assert_eq!(
            (second.status.number_misscheduled, second.status.number_available),
            (1, Some(2))
        );
        let done = next(&[pod("a", "new"), pod("b", "new")]);
        assert!(done.start.is_empty() && done.stop.is_empty());
        assert_eq!(done.status.updated_number_scheduled, Some(2));
    }
}
