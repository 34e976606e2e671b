//! Node selectors and node affinity: kube-scheduler's NodeAffinity.
//!
//! The filter demands `nodeSelector` and the required terms; the score sums the weights of the preferred
//! terms that hold. It reads no pods.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    scheduler::{
        Cluster, EventKinds, Filter, Hints, Node, NodeSelector, NodeSet, Pod, Policy, ReadyTerm, Reason,
        Rejection, Score, normalize,
    },
};

/// The policy.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Policy for NodeAffinity {
    const PODS: bool = false;
    const NAMESPACES: bool = false;
}

impl Filter for NodeAffinity {
    const NODE_LOCAL: bool = true;

    type Prepared = NodeSelector;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<NodeSelector> {
        NodeSelector::of(cluster, pod)
    }

    fn filter(
        &self,
        cluster: &Cluster,
        selector: &NodeSelector,
        _: &Pod,
        node: Node<'_>,
    ) -> Result<(), Rejection> {
        match selector.matches(cluster, node) {
            true => Ok(()),
            false => Err(Rejection::permanent(Reason::new(
                "node(s) didn't match Pod's node affinity/selector",
            ))),
        }
    }
}

impl Hints for NodeAffinity {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED | EventKinds::NODE_LABELS
    }
}

impl Score for NodeAffinity {
    const NODE_LOCAL: bool = true;

    type Prepared = Vec<(i64, ReadyTerm)>;

    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, _: &NodeSet) -> Option<Self::Prepared> {
        let ready = pod
            .node_preferred
            .iter()
            .map(|p| (i64::from(p.weight), ReadyTerm::new(cluster, &p.term)));
        (!pod.node_preferred.is_empty()).then(|| ready.collect())
    }

    fn score(&self, cluster: &Cluster, preferred: &Self::Prepared, _: &Pod, node: Node<'_>) -> i64 {
        preferred
            .iter()
            .filter(|(_, term)| term.matches(cluster, node))
            .map(|(weight, _)| weight)
            .sum()
    }

    fn normalize(&self, _: &Self::Prepared, scores: &mut [i64]) {
        normalize::by_highest(scores);
    }
}

capstan_sdk::export!(scheduler: filter, hints, score => NodeAffinity);
