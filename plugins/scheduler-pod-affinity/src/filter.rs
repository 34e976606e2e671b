//! What must hold: the pod's own required terms, and the anti-affinity that running pods carry.

use crate::carried::{Carried, Demand};
use capstan_sdk::scheduler::{
    Cluster, Counted, DomainCounts, Node, Pod, PodCounts, PodSelector, PodTerm, Reason, Rejection,
};

/// Counts by domain for each demand that concerns the pod.
pub struct Rules {
    near: Vec<DomainCounts>,
    /// The first pod of a group that wants to be together may go where its keys are.
    first: bool,
    apart: Vec<DomainCounts>,
    others_apart: Vec<DomainCounts>,
}

pub(crate) fn prepare(
    counts: &mut PodCounts,
    carried: &mut Carried,
    cluster: &Cluster,
    pod: &Pod,
) -> Option<Rules> {
    // A pod counts as near only where it fulfils all required terms at once, as the original has it.
    let all: Vec<PodSelector> = pod.affinity_required.iter().map(PodSelector::of).collect();
    let near: Vec<DomainCounts> = pod
        .affinity_required
        .iter()
        .map(|term| sums(counts, cluster, term, all.clone()))
        .collect();
    let nowhere = near.iter().all(DomainCounts::is_zero);
    let first = nowhere && all.iter().all(|selector| selector.selects(cluster, pod));
    let apart: Vec<DomainCounts> = pod
        .anti_affinity_required
        .iter()
        .map(|term| sums(counts, cluster, term, vec![PodSelector::of(term)]))
        .filter(|sums| !sums.is_zero())
        .collect();
    let mut others_apart: Vec<DomainCounts> = Vec::new();
    for (_, key, carriers) in carried.selecting(cluster, pod, |demand| demand == Demand::Apart) {
        DomainCounts::for_key(&mut others_apart, cluster, key).add_sums(carriers, 1);
    }
    let rules = Rules {
        near,
        first,
        apart,
        others_apart,
    };
    (!(rules.near.is_empty() && rules.apart.is_empty() && rules.others_apart.is_empty())).then_some(rules)
}

fn sums(
    counts: &mut PodCounts,
    cluster: &Cluster,
    term: &PodTerm,
    selectors: Vec<PodSelector>,
) -> DomainCounts {
    let counted = Counted {
        selectors,
        terminating: true,
    };
    counts.by_domain(cluster, counted, term.topology_key)
}

impl Rules {
    pub(crate) fn check(&self, node: Node<'_>) -> Result<(), Rejection> {
        let near = |sums: &DomainCounts| sums.at(node.id).is_some_and(|count| count > 0 || self.first);
        if !self.near.iter().all(near) {
            return Err(Rejection::permanent(Reason::new(
                "node(s) didn't match pod affinity rules",
            )));
        }
        let met = |sums: &DomainCounts| sums.at(node.id).is_some_and(|count| count > 0);
        if self.apart.iter().any(met) {
            return Err(Rejection::new("node(s) didn't match pod anti-affinity rules"));
        }
        if self.others_apart.iter().any(met) {
            return Err(Rejection::new(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }
}
