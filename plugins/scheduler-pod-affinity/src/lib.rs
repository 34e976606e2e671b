//! Affinity and anti-affinity between pods: kube-scheduler's InterPodAffinity.
//!
//! Two kinds of counts are kept with each delta: pods by what a pending pod's terms select, and pods by
//! the terms that they carry themselves, since a running pod's anti-affinity binds pods that come later.
//! Both are kept by node and by topology domain.

mod carried;
mod filter;
mod score;

use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        Change, Cluster, EventKinds, Filter, Hints, Node, NodeSet, Pod, PodCounts, Policy, Rejection, Score,
        WhatIf, empty_pod, normalize,
    },
};
use carried::Carried;
use std::mem::take;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    hard_pod_affinity_weight: i64,
    ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// The policy, with its counts.
pub struct PodAffinity {
    config: Config,
    counts: PodCounts,
    carried: Carried,
}

impl Plugin for PodAffinity {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            config,
            counts: PodCounts::default(),
            carried: Carried::default(),
        })
    }
}

impl Policy for PodAffinity {
    fn trim(pod: &mut Pod) {
        *pod = Pod {
            namespace: pod.namespace,
            labels: take(&mut pod.labels),
            affinity_required: take(&mut pod.affinity_required),
            affinity_preferred: take(&mut pod.affinity_preferred),
            anti_affinity_required: take(&mut pod.anti_affinity_required),
            anti_affinity_preferred: take(&mut pod.anti_affinity_preferred),
            ..empty_pod()
        };
    }

    fn on_change(&mut self, cluster: &Cluster, change: Change<'_>) {
        self.counts.on_change(cluster, change);
        self.carried.on_change(change);
    }
}

impl Filter for PodAffinity {
    type Prepared = filter::Rules;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<filter::Rules> {
        filter::prepare(&mut self.counts, &mut self.carried, cluster, pod)
    }

    fn filter(&self, _: &Cluster, rules: &filter::Rules, _: &Pod, node: Node<'_>) -> Result<(), Rejection> {
        rules.check(node)
    }
}

impl WhatIf for PodAffinity {}

impl Hints for PodAffinity {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED
            | EventKinds::NODE_LABELS
            | EventKinds::POD_ADDED
            | EventKinds::POD_REMOVED
            | EventKinds::POD_LABELS
            | EventKinds::NAMESPACE_LABELS
    }
}

impl Score for PodAffinity {
    type Prepared = score::Sums;

    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, _: &NodeSet) -> Option<score::Sums> {
        score::prepare(&mut self.counts, &mut self.carried, cluster, pod, self.config)
    }

    fn score(&self, _: &Cluster, sums: &score::Sums, _: &Pod, node: Node<'_>) -> i64 {
        sums.of(node)
    }

    fn normalize(&self, _: &score::Sums, scores: &mut [i64]) {
        normalize::by_range(scores);
    }
}

capstan_sdk::export!(scheduler: filter, what_if, hints, score => PodAffinity);
