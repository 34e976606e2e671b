//! Resources: kube-scheduler's NodeResourcesFit and NodeResourcesBalancedAllocation as one policy.
//!
//! The filter demands what the pod requests; the score is the mean of how empty (or full) and how even
//! the node would be, so that at weight 2 it counts as the original's two plugins do at weight 1 each.

mod config;
mod fit;
mod score;

pub use config::{Config, Resource, Strategy};

use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        Amount, Cluster, EventKinds, Filter, Hints, Node, NodeSet, Pod, Policy, Rejection, Score, WhatIf,
    },
};

/// The policy.
pub struct Resources {
    config: Config,
}

impl Plugin for Resources {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self { config })
    }
}

impl Policy for Resources {
    const NAMESPACES: bool = false;

    fn trim(pod: &mut Pod) {
        let (requests, requests_or_default) = (
            std::mem::take(&mut pod.requests),
            std::mem::take(&mut pod.requests_or_default),
        );
        *pod = Pod {
            requests,
            requests_or_default,
            ..capstan_sdk::scheduler::empty_pod()
        };
    }
}

impl Filter for Resources {
    const NODE_LOCAL: bool = true;

    type Prepared = fit::Demands;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<fit::Demands> {
        fit::Demands::of(cluster, pod, &self.config.ignored_resources)
    }

    fn filter(&self, _: &Cluster, demands: &fit::Demands, _: &Pod, node: Node<'_>) -> Result<(), Rejection> {
        demands.check(node)
    }
}

impl WhatIf for Resources {}

impl Hints for Resources {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED
            | EventKinds::NODE_ALLOCATABLE
            | EventKinds::POD_REMOVED
            | EventKinds::POD_REQUESTS
    }
}

impl Score for Resources {
    const NODE_LOCAL: bool = true;

    type Prepared = score::Weighed;

    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, _: &NodeSet) -> Option<score::Weighed> {
        Some(score::Weighed::of(cluster, pod, &self.config))
    }

    fn score(&self, _: &Cluster, weighed: &score::Weighed, _: &Pod, node: Node<'_>) -> i64 {
        weighed.score(node)
    }
}

fn amount(amounts: &[Amount], resource: u32) -> i64 {
    amounts
        .iter()
        .find(|amount| amount.resource == resource)
        .map_or(0, |amount| amount.value)
}

capstan_sdk::export!(scheduler: filter, what_if, hints, score => Resources);
