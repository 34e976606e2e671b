//! Taints and cordons: kube-scheduler's TaintToleration and NodeUnschedulable as one policy.
//!
//! Filters by `NoSchedule` and `NoExecute` taints and by `spec.unschedulable`; scores by how many
//! `PreferNoSchedule` taints the pod does not tolerate. It reads no pods.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    scheduler::{
        Cluster, EventKinds, Filter, Hints, Node, NodeSet, Pod, Policy, Reason, Rejection, Score, Taint,
        TaintEffect, Toleration, normalize, tolerates,
    },
};

/// Taint that the node controller sets on cordoned nodes; tolerating it tolerates the cordon.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The policy.
pub struct Taints;

impl Plugin for Taints {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Policy for Taints {
    const PODS: bool = false;
    const NAMESPACES: bool = false;
}

impl Filter for Taints {
    const NODE_LOCAL: bool = true;

    /// Whether the pod may go to cordoned nodes.
    type Prepared = bool;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<bool> {
        let key = cluster.find(UNSCHEDULABLE);
        let cordon = |toleration: &Toleration| match key {
            Some(key) => tolerates(
                toleration,
                &Taint {
                    key,
                    value: 0,
                    effect: TaintEffect::NoSchedule,
                },
            ),
            None => {
                toleration.key == 0
                    && toleration.exists
                    && toleration.effect.is_none_or(|e| e == TaintEffect::NoSchedule)
            }
        };
        Some(pod.tolerations.iter().any(cordon))
    }

    fn filter(&self, _: &Cluster, cordon: &bool, pod: &Pod, node: Node<'_>) -> Result<(), Rejection> {
        if node.unschedulable && !cordon {
            return Err(Rejection::permanent(Reason::new("node(s) were unschedulable")));
        }
        match node
            .taints
            .iter()
            .find(|taint| taint.effect != TaintEffect::PreferNoSchedule && !tolerated(pod, taint))
        {
            None => Ok(()),
            Some(taint) => {
                let reason = Reason::with("node(s) had untolerated taint {$1: $2}", taint.key, taint.value);
                Err(Rejection::permanent(reason))
            }
        }
    }
}

impl Hints for Taints {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED | EventKinds::NODE_TAINTS
    }
}

impl Score for Taints {
    const NODE_LOCAL: bool = true;

    type Prepared = ();

    fn prepare_score(&mut self, _: &Cluster, _: &Pod, _: &NodeSet) -> Option<()> {
        Some(())
    }

    fn score(&self, _: &Cluster, (): &(), pod: &Pod, node: Node<'_>) -> i64 {
        let preferred = |taint: &&Taint| taint.effect == TaintEffect::PreferNoSchedule;
        node.taints
            .iter()
            .filter(preferred)
            .filter(|taint| !tolerated(pod, taint))
            .count() as i64
    }

    fn normalize(&self, (): &(), scores: &mut [i64]) {
        normalize::by_highest_reversed(scores);
    }
}

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    pod.tolerations
        .iter()
        .any(|toleration| tolerates(toleration, taint))
}

capstan_sdk::export!(scheduler: filter, hints, score => Taints);
