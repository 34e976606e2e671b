//! Topology spread: kube-scheduler's PodTopologySpread.
//!
//! Counts of pods by selector and node are kept with each delta; a cycle adds them up by domain once and
//! then reads. Pods without constraints are spread softly over zones and nodes by their own labels, where
//! the original derives a selector from Services and ReplicaSets that it reads.

mod constraint;
mod filter;
mod score;

use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        Change, Cluster, EventKinds, Filter, Hints, Node, NodeSet, Pod, PodCounts, Policy, Rejection, Score,
        WhatIf, empty_pod,
    },
};

/// What pods without constraints get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub enum DefaultingType {
    /// Soft constraints over zones and nodes.
    #[default]
    System,
    /// Nothing.
    None,
}

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    defaulting_type: DefaultingType,
}

/// The policy, with its counts.
pub struct TopologySpread {
    config: Config,
    counts: PodCounts,
}

impl Plugin for TopologySpread {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            config,
            counts: PodCounts::default(),
        })
    }
}

impl Policy for TopologySpread {
    const NAMESPACES: bool = false;

    fn trim(pod: &mut Pod) {
        let labels = std::mem::take(&mut pod.labels);
        *pod = Pod {
            labels,
            namespace: pod.namespace,
            terminating: pod.terminating,
            ..empty_pod()
        };
    }

    fn on_change(&mut self, cluster: &Cluster, change: Change<'_>) {
        self.counts.on_change(cluster, change);
    }
}

impl Filter for TopologySpread {
    type Prepared = Vec<filter::Hard>;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<Self::Prepared> {
        filter::prepare(&mut self.counts, cluster, pod)
    }

    fn filter(
        &self,
        _: &Cluster,
        constraints: &Self::Prepared,
        _: &Pod,
        node: Node<'_>,
    ) -> Result<(), Rejection> {
        constraints
            .iter()
            .try_for_each(|constraint| constraint.check(node))
    }
}

impl WhatIf for TopologySpread {}

impl Hints for TopologySpread {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED
            | EventKinds::NODE_REMOVED
            | EventKinds::NODE_LABELS
            | EventKinds::NODE_TAINTS
            | EventKinds::POD_ADDED
            | EventKinds::POD_REMOVED
            | EventKinds::POD_LABELS
    }
}

impl Score for TopologySpread {
    type Prepared = score::Soft;

    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, candidates: &NodeSet) -> Option<score::Soft> {
        let defaults = self.config.defaulting_type == DefaultingType::System;
        score::prepare(&mut self.counts, cluster, pod, candidates, defaults)
    }

    fn score(&self, _: &Cluster, soft: &score::Soft, _: &Pod, node: Node<'_>) -> i64 {
        soft.score(node)
    }

    fn normalize(&self, _: &score::Soft, scores: &mut [i64]) {
        score::normalize(scores);
    }
}

capstan_sdk::export!(scheduler: filter, what_if, hints, score => TopologySpread);
