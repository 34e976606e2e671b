//! Constraints that must hold (`whenUnsatisfiable: DoNotSchedule`).

use crate::constraint::{Inclusion, are_everywhere, columns, counted, has_all, selector};
use capstan_sdk::scheduler::{
    Cluster, DomainCounts, Node, Pod, PodCounts, Reason, Rejection, SpreadConstraint, WhenUnsatisfiable,
};

/// One constraint, with the pods in each domain.
pub struct Hard {
    sums: DomainCounts,
    /// 1 where the pod itself counts.
    own: i64,
    /// Pods in the emptiest domain; none where no node counts.
    fewest: Option<i64>,
    max_skew: i64,
}

pub(crate) fn prepare(counts: &mut PodCounts, cluster: &Cluster, pod: &Pod) -> Option<Vec<Hard>> {
    let constraints: Vec<SpreadConstraint> = pod
        .spread
        .iter()
        .filter(|c| c.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule)
        .cloned()
        .collect();
    if constraints.is_empty() {
        return None;
    }
    let columns = columns(cluster, &constraints);
    let inclusion = Inclusion::of(cluster, pod);
    let everywhere = are_everywhere(cluster, &columns);
    let hard = constraints.iter().zip(&columns).map(|(constraint, column)| {
        let what = counted(pod, constraint);
        let (sums, taken_in) = if everywhere && inclusion.is_everything(constraint) {
            let sums = counts.by_domain(cluster, what, constraint.topology_key);
            let domains = 0..column.domains_len() as u32;
            (sums, domains.map(|domain| column.nodes_in(domain) > 0).collect())
        } else {
            let by_node = counts.by_node(cluster, what);
            let mut sums = DomainCounts::new(column.clone());
            let mut taken_in = vec![false; column.domains_len()];
            for node in cluster.nodes().filter(|node| has_all(&columns, *node)) {
                if inclusion.includes(cluster, constraint, node) {
                    let count = by_node.get(node.id as usize).copied().unwrap_or(0);
                    sums.add(node.id, count.into());
                    taken_in[column.domain(node.id) as usize] = true;
                }
            }
            (sums, taken_in)
        };
        Hard {
            own: selector(pod, constraint).selects(cluster, pod).into(),
            fewest: fewest(&sums, &taken_in, constraint.min_domains),
            max_skew: constraint.max_skew.into(),
            sums,
        }
    });
    Some(hard.collect())
}

fn fewest(sums: &DomainCounts, counted: &[bool], min_domains: i32) -> Option<i64> {
    let domains = counted.iter().filter(|counted| **counted).count() as i64;
    if domains < i64::from(min_domains) && domains > 0 {
        return Some(0);
    }
    let each = counted.iter().enumerate().filter(|(_, counted)| **counted);
    each.map(|(domain, _)| sums.of_domain(domain as u32)).min()
}

impl Hard {
    pub(crate) fn check(&self, node: Node<'_>) -> Result<(), Rejection> {
        let Some(there) = self.sums.at(node.id) else {
            let reason =
                Reason::new("node(s) didn't match pod topology spread constraints (missing required label)");
            return Err(Rejection::permanent(reason));
        };
        match self.fewest {
            Some(fewest) if there + self.own - fewest > self.max_skew => Err(Rejection::new(
                "node(s) didn't match pod topology spread constraints",
            )),
            _ => Ok(()),
        }
    }
}
