//! How full and how even a node would be with the pod on it.

use crate::{Config, Strategy, amount};
use capstan_sdk::scheduler::{
    Amounts, Cluster, Node, Pod,
    normalize::{SCORE_MAX, quotient},
};

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
        let (mut sum, mut weights) = (0, 0);
        let (mut first, mut last, mut count) = (0.0, 0.0, 0);
        for resource in &self.resources {
            let amounts = node.amounts(resource.column);
            if amounts.allocatable <= 0 {
                continue;
            }
            sum += self.part(resource, amounts) * resource.weight;
            weights += resource.weight;
            if self.balance && self.requests {
                last = resource.fraction(amounts);
                if count == 0 {
                    first = last;
                }
                count += 1;
            }
        }
        let allocated = if weights == 0 { 0 } else { quotient(sum, weights) };
        let deviation = match (self.balance, self.requests, count) {
            (false, _, _) => return allocated,
            (true, false, _) => return allocated / 2,
            (true, true, 0 | 1) => 0.0,
            // The same as the general case, and what nearly every cluster has.
            (true, true, 2) => (first - last).abs() / 2.0,
            (true, true, count) => self.deviation(node, f64::from(count)),
        };
        (allocated + ((1.0 - deviation) * SCORE_MAX as f64) as i64) / 2
    }

    /// 0 to 100 of one resource.
    #[inline]
    fn part(&self, resource: &Resource, amounts: Amounts) -> i64 {
        let used = match resource.defaulted {
            true => amounts.requested_or_default + resource.requested_or_default,
            false => amounts.requested + resource.requested,
        };
        let used = used.min(amounts.allocatable);
        let part = match self.strategy {
            Strategy::LeastAllocated => amounts.allocatable - used,
            Strategy::MostAllocated => used,
        };
        quotient(part * SCORE_MAX, amounts.allocatable)
    }

    /// The standard deviation of the used fractions of `count` resources.
    fn deviation(&self, node: Node<'_>, count: f64) -> f64 {
        let fractions = || {
            let all = self.resources.iter();
            let there = all.map(|resource| (resource, node.amounts(resource.column)));
            there
                .filter(|(_, amounts)| amounts.allocatable > 0)
                .map(|(resource, amounts)| resource.fraction(amounts))
        };
        let mean = fractions().sum::<f64>() / count;
        let squares = fractions().map(|fraction| (fraction - mean) * (fraction - mean));
        (squares.sum::<f64>() / count).sqrt()
    }
}

impl Resource {
    /// How much of the resource would be used, 0 to 1.
    #[inline]
    fn fraction(&self, amounts: Amounts) -> f64 {
        let used = (amounts.requested + self.requested).min(amounts.allocatable);
        used as f64 / amounts.allocatable as f64
    }
}
