//! Constraints that are preferences (`whenUnsatisfiable: ScheduleAnyway`), and those by default.

use crate::constraint::{Inclusion, are_everywhere, columns, counted, has_all};
use capstan_sdk::scheduler::{
    ABSENT, Cluster, DomainCounts, Node, NodeId, NodeSet, Operator, Pod, PodCounts, Requirement,
    SpreadConstraint, WhenUnsatisfiable,
    normalize::{SCORE_MAX, quotient},
};
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Skews of the original's default constraints.
const ZONE_SKEW: i32 = 5;
const HOSTNAME_SKEW: i32 = 3;
/// Labels that tell revisions of one workload apart, which are spread as one.
const REVISION_LABELS: [&str; 3] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
];
/// Stands for a node that the constraints leave out; it ends up with 0.
const LEFT_OUT: i64 = i64::MIN;

/// All preferences of a pod.
pub struct Soft {
    constraints: Vec<Preference>,
    left_out: Option<NodeSet>,
}

struct Preference {
    sums: Sums,
    /// Evens out that few domains hold more pods each than many do.
    weight: f64,
    max_skew: f64,
}

enum Sums {
    /// Every node is a domain of its own.
    Nodes(DomainCounts, Arc<Vec<u32>>),
    Domains(DomainCounts),
}

pub(crate) fn prepare(
    counts: &mut PodCounts,
    cluster: &Cluster,
    pod: &Pod,
    candidates: &NodeSet,
    defaults: bool,
) -> Option<Soft> {
    let constraints = match pod.spread.is_empty() && defaults {
        true => default_constraints(cluster, pod),
        false => pod
            .spread
            .iter()
            .filter(|c| c.when_unsatisfiable == WhenUnsatisfiable::ScheduleAnyway)
            .cloned()
            .collect(),
    };
    if constraints.is_empty() {
        return None;
    }
    // A pod's own constraints leave out nodes that lack one of the keys; the default ones do not.
    let all_keys = !pod.spread.is_empty();
    let columns = columns(cluster, &constraints);
    let in_play = |node: Node<'_>| !all_keys || has_all(&columns, node);
    let plays = |id: NodeId| cluster.node(id).is_some_and(in_play);
    let everywhere = are_everywhere(cluster, &columns);
    let left_out: NodeSet = match all_keys && !everywhere {
        true => candidates.iter().filter(|id| !plays(*id)).collect(),
        false => NodeSet::default(),
    };
    let playing = candidates.len() - left_out.len();
    let inclusion = Inclusion::of(cluster, pod);
    let hostname = cluster.find(HOSTNAME);
    let mut preferences = Vec::with_capacity(constraints.len());
    for (constraint, column) in constraints.iter().zip(&columns) {
        let what = counted(pod, constraint);
        let (sums, domains) = if Some(constraint.topology_key) == hostname {
            let hosts = DomainCounts::new(column.clone());
            (Sums::Nodes(hosts, counts.by_node(cluster, what)), playing)
        } else if everywhere && inclusion.is_everything(constraint) && playing == cluster.nodes_len() {
            let domains = 0..column.domains_len() as u32;
            let sums = counts.by_domain(cluster, what, constraint.topology_key);
            (
                Sums::Domains(sums),
                domains.filter(|domain| column.nodes_in(*domain) > 0).count(),
            )
        } else {
            let by_node = counts.by_node(cluster, what);
            let mut sums = DomainCounts::new(column.clone());
            let domains = domains(
                column.domains_len(),
                candidates
                    .iter()
                    .filter(|id| !left_out.contains(*id))
                    .map(|id| column.domain(id)),
            );
            let counted_here = (0..).zip(by_node.iter()).filter(|(_, count)| **count > 0);
            for (id, count) in counted_here {
                let counted = |node: Node<'_>| in_play(node) && inclusion.includes(cluster, constraint, node);
                if cluster.node(id).is_some_and(counted) {
                    sums.add(id, i64::from(*count));
                }
            }
            (Sums::Domains(sums), domains)
        };
        let weight = ((domains + 2) as f64).ln();
        preferences.push(Preference {
            sums,
            weight,
            max_skew: constraint.max_skew.into(),
        });
    }
    Some(Soft {
        constraints: preferences,
        left_out: (!left_out.is_empty()).then_some(left_out),
    })
}

fn domains(len: usize, seen: impl Iterator<Item = u32>) -> usize {
    let mut present = vec![false; len];
    seen.filter(|domain| *domain != ABSENT)
        .for_each(|domain| present[domain as usize] = true);
    present.into_iter().filter(|present| *present).count()
}

fn default_constraints(cluster: &Cluster, pod: &Pod) -> Vec<SpreadConstraint> {
    let tells_apart = |key: u32| REVISION_LABELS.contains(&cluster.text(key));
    let selector: Vec<Requirement> = pod
        .labels
        .iter()
        .filter(|label| !tells_apart(label.key))
        .map(|label| Requirement {
            key: label.key,
            operator: Operator::In,
            values: vec![label.value],
        })
        .collect();
    if selector.is_empty() {
        return Vec::new();
    }
    let constraint = |(key, max_skew): (&str, i32)| {
        Some(SpreadConstraint {
            max_skew,
            topology_key: cluster.find(key)?,
            when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
            pods: Some(selector.clone()),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        })
    };
    [(HOSTNAME, HOSTNAME_SKEW), (ZONE, ZONE_SKEW)]
        .into_iter()
        .filter_map(constraint)
        .collect()
}

impl Soft {
    /// Weighted count of the pods already in the node's domains: less is better, see [`normalize`].
    pub(crate) fn score(&self, node: Node<'_>) -> i64 {
        if self
            .left_out
            .as_ref()
            .is_some_and(|nodes| nodes.contains(node.id))
        {
            return LEFT_OUT;
        }
        let part = |preference: &Preference| {
            let count = match &preference.sums {
                Sums::Nodes(hosts, by_node) => hosts
                    .at(node.id)
                    .map(|_| by_node.get(node.id as usize).copied().unwrap_or(0).into()),
                Sums::Domains(sums) => sums.at(node.id),
            };
            count.map_or(0.0, |count: i64| {
                count as f64 * preference.weight + preference.max_skew - 1.0
            })
        };
        // Rounded: the sum is not negative, since a skew is at least 1.
        (self.constraints.iter().map(part).sum::<f64>() + 0.5) as i64
    }
}

/// Fewest pods become 100.
pub(crate) fn normalize(scores: &mut [i64]) {
    let counted = || scores.iter().copied().filter(|score| *score != LEFT_OUT);
    let (lowest, highest) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
    for score in scores {
        *score = match *score {
            LEFT_OUT => 0,
            _ if highest == 0 => SCORE_MAX,
            counted => quotient(SCORE_MAX * (highest + lowest - counted), highest),
        };
    }
}
