//! How full and how even a node would be with the pod on it.

use crate::{Config, Strategy, amount};
use capstan_sdk::scheduler::{Cluster, Node, Pod, normalize::{SCORE_MAX, quotient}};

/// Resources that scores can weigh (the configuration's schema allows no more).
const RESOURCES_MAX: usize = 16;

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
            sum += quotient(part * SCORE_MAX, amounts.allocatable) * resource.weight;
            weights += resource.weight;
        }
        if weights == 0 { 0 } else { quotient(sum, weights) }
    }

    /// 100 less the standard deviation of the resources' used fractions.
    fn balanced(&self, node: Node<'_>) -> i64 {
        let (mut fractions, mut count) = ([0.0; RESOURCES_MAX], 0);
        for resource in &self.resources {
            let amounts = node.amounts(resource.column);
            if amounts.allocatable > 0 && count < RESOURCES_MAX {
                let used = amounts.requested + resource.requested;
                fractions[count] = (used as f64 / amounts.allocatable as f64).min(1.0);
                count += 1;
            }
        }
        let deviation = match &fractions[..count] {
            [] | [_] => return SCORE_MAX,
            // The same as below, and what nearly every cluster has.
            [one, other] => (one - other).abs() / 2.0,
            several => {
                let mean = several.iter().sum::<f64>() / count as f64;
                let squares = several.iter().map(|fraction| (fraction - mean) * (fraction - mean));
                (squares.sum::<f64>() / count as f64).sqrt()
            }
        };
        ((1.0 - deviation) * SCORE_MAX as f64) as i64
    }
}
