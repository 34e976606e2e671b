//! A scheduler policy to start from: a node scores the higher the fewer taints it has.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    scheduler::{Cluster, Node, NodeSet, Pod, Policy, Score, normalize},
};

pub struct FewestTaints;

impl Plugin for FewestTaints {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Policy for FewestTaints {
    const PODS: bool = false; // it never reads assigned pods: keep none
}

impl Score for FewestTaints {
    type Prepared = ();

    fn prepare_score(&mut self, _: &Cluster, _: &Pod, _: &NodeSet) -> Option<()> {
        Some(())
    }

    fn score(&self, _: &Cluster, _: &(), _: &Pod, node: Node<'_>) -> i64 {
        node.taints.len() as i64
    }

    fn normalize(&self, _: &(), scores: &mut [i64]) {
        normalize::by_highest_reversed(scores); // most taints: 0, none: 100
    }
}

capstan_sdk::export!(scheduler: score => FewestTaints);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_without_taints_is_preferred() {
        let mut bench = capstan_sdk::scheduler::testing::Bench::<FewestTaints>::new(json!({}));
        bench.node(
            json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        );
        bench.node(json!({"metadata": {"name": "b"}}));
        let scores = bench.scores(json!({}));
        assert_eq!((scores["a"], scores["b"]), (0, 100));
    }
}
