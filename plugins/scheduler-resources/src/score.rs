//! How full and how even a node would be with the pod on it.

use crate::{Config, Strategy, amount};
use capstan_sdk::scheduler::{Cluster, Node, Pod, normalize::SCORE_MAX};

/// The resources that count for a pod, by the columns of the nodes' amounts.
pub struct Weighed {
    strategy: Strategy,
    balance: bool,
    /// Whether the pod requests anything: one that does not says nothing about evenness.
    requests: bool,
    resources: Vec<Resource>,
}

struct Resource {
    column: usize,
    weight: i64,
    requested: i64,
    requested_or_default: i64,
    /// Only `cpu` and `memory` have defaults.
    defaulted: bool,
}

impl Weighed {
    pub(crate) fn of(cluster: &Cluster, pod: &Pod, config: &Config) -> Self {
        let mut resources = Vec::new();
        for wanted in &config.resources {
            let Some(symbol) = cluster.find(&wanted.name) else {
                continue;
            };
            let Some(column) = cluster.resource(symbol) else {
                continue;
            };
            let requested = amount(&pod.requests, symbol);
            let defaulted = matches!(wanted.name.as_str(), "cpu" | "memory");
            // A device that the pod does not ask for is no reason to choose or avoid a node.
            if requested == 0 && wanted.name.contains('/') {
                continue;
            }
            let requested_or_default = amount(&pod.requests_or_default, symbol);
            resources.push(Resource {
                column,
                weight: wanted.weight,
                requested,
                requested_or_default,
                defaulted,
            });
        }
        let requests = resources.iter().any(|resource| resource.requested > 0);
        Self {
            strategy: config.strategy,
            balance: config.balance,
            requests,
            resources,
        }
    }

    pub(crate) fn score(&self, node: Node<'_>) -> i64 {
        let allocated = self.allocated(node);
        match (self.balance, self.requests) {
            (false, _) => allocated,
            (true, false) => allocated / 2,
            (true, true) => (allocated + self.balanced(node)) / 2,
        }
    }

    fn allocated(&self, node: Node<'_>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for resource in &self.resources {
            let amounts = node.amounts(resource.column);
            if amounts.allocatable == 0 {
                continue;
            }
            let used = match resource.defaulted {
                true => amounts.requested_or_default + resource.requested_or_default,
                false => amounts.requested + resource.requested,
            };
            let used = used.min(amounts.allocatable);
            let part = match self.strategy {
                Strategy::LeastAllocated => amounts.allocatable - used,
                Strategy::MostAllocated => used,
            };
            sum += part * SCORE_MAX / amounts.allocatable * resource.weight;
            weights += resource.weight;
        }
        if weights == 0 { 0 } else { sum / weights }
    }

    /// 100 less the standard deviation of the resources' used fractions.
    fn balanced(&self, node: Node<'_>) -> i64 {
        let fraction = |resource: &Resource| {
            let amounts = node.amounts(resource.column);
            let used = amounts.requested + resource.requested;
            (amounts.allocatable > 0).then(|| (used as f64 / amounts.allocatable as f64).min(1.0))
        };
        let fractions = || self.resources.iter().filter_map(fraction);
        let count = fractions().count() as f64;
        if count < 2.0 {
            return SCORE_MAX;
        }
        let mean = fractions().sum::<f64>() / count;
        let variance = fractions()
            .map(|fraction| (fraction - mean) * (fraction - mean))
            .sum::<f64>()
            / count;
        ((1.0 - variance.sqrt()) * SCORE_MAX as f64) as i64
    }
}
