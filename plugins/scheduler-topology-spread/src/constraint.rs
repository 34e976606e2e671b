//! What filter and score share: which nodes a constraint speaks of, and its counts by node.

use capstan_sdk::scheduler::{
    Cluster, Counted, LabelColumn, Node, NodeSelector, Pod, PodSelector, SpreadConstraint, Taint,
    TaintEffect, tolerates,
};
use std::sync::Arc;

/// Which nodes count for a pod's constraints, by the constraints' policies.
pub(crate) struct Inclusion<'a> {
    pod: &'a Pod,
    selector: Option<NodeSelector>,
}

impl<'a> Inclusion<'a> {
    pub(crate) fn of(cluster: &Cluster, pod: &'a Pod) -> Self {
        Self {
            pod,
            selector: NodeSelector::of(cluster, pod),
        }
    }

    pub(crate) fn includes(&self, cluster: &Cluster, constraint: &SpreadConstraint, node: Node<'_>) -> bool {
        let affinity = || {
            self.selector
                .as_ref()
                .is_none_or(|selector| selector.matches(cluster, node))
        };
        (!constraint.honor_affinity || affinity())
            && (!constraint.honor_taints || node.taints.iter().all(|t| self.bears(t)))
    }

    /// Whether it takes every node in, whatever node that is.
    pub(crate) fn is_everything(&self, constraint: &SpreadConstraint) -> bool {
        !constraint.honor_taints && (!constraint.honor_affinity || self.selector.is_none())
    }

    fn bears(&self, taint: &Taint) -> bool {
        taint.effect == TaintEffect::PreferNoSchedule
            || self.pod.tolerations.iter().any(|t| tolerates(t, taint))
    }
}

/// The pods that a constraint counts: those that it selects in the pod's namespace and that stay.
pub(crate) fn counted(pod: &Pod, constraint: &SpreadConstraint) -> Counted {
    Counted {
        selectors: vec![selector(pod, constraint)],
        terminating: false,
    }
}

pub(crate) fn selector(pod: &Pod, constraint: &SpreadConstraint) -> PodSelector {
    PodSelector {
        pods: constraint.pods.clone(),
        namespaces: vec![pod.namespace],
        namespace_selector: None,
    }
}

pub(crate) fn columns(cluster: &Cluster, constraints: &[SpreadConstraint]) -> Vec<Arc<LabelColumn>> {
    constraints
        .iter()
        .map(|constraint| cluster.column(constraint.topology_key))
        .collect()
}

/// Whether every node has every topology key of the constraints.
pub(crate) fn are_everywhere(cluster: &Cluster, columns: &[Arc<LabelColumn>]) -> bool {
    columns
        .iter()
        .all(|column| column.nodes_len() == cluster.nodes_len())
}

/// Whether the node has every topology key of the constraints.
pub(crate) fn has_all(columns: &[Arc<LabelColumn>], node: Node<'_>) -> bool {
    columns
        .iter()
        .all(|column| column.domain(node.id) != capstan_sdk::scheduler::ABSENT)
}
