//! What is preferred: the pod's own preferences and those that running pods carry about it.

use crate::{
    Config,
    carried::{Carried, Demand},
};
use capstan_sdk::scheduler::{Cluster, Counted, DomainCounts, Node, Pod, PodCounts, PodSelector};

/// Weights added up by the domains of each topology key.
pub struct Sums(Vec<DomainCounts>);

pub(crate) fn prepare(
    counts: &mut PodCounts,
    carried: &mut Carried,
    cluster: &Cluster,
    pod: &Pod,
    config: Config,
) -> Option<Sums> {
    let mut sums = Vec::new();
    let near = pod.affinity_preferred.iter().map(|preferred| (preferred, 1));
    let apart = pod
        .anti_affinity_preferred
        .iter()
        .map(|preferred| (preferred, -1));
    for (preferred, sign) in near.chain(apart) {
        let key = preferred.term.topology_key;
        let counted = Counted {
            selectors: vec![PodSelector::of(&preferred.term)],
            terminating: true,
        };
        let selected = counts.by_domain(cluster, counted, key);
        DomainCounts::for_key(&mut sums, cluster, key)
            .add_sums(&selected, i64::from(preferred.weight) * sign);
    }
    let own = !(pod.affinity_preferred.is_empty() && pod.anti_affinity_preferred.is_empty());
    if own || !config.ignore_preferred_terms_of_existing_pods {
        for (demand, key, carriers) in carried.selecting(cluster, pod, |demand| demand != Demand::Apart) {
            let weight = match demand {
                Demand::Preferred(weight) => weight.into(),
                _ => config.hard_pod_affinity_weight,
            };
            DomainCounts::for_key(&mut sums, cluster, key).add_sums(carriers, weight);
        }
    }
    (!sums.iter().all(DomainCounts::is_zero)).then_some(Sums(sums))
}

impl Sums {
    pub(crate) fn of(&self, node: Node<'_>) -> i64 {
        self.0.iter().filter_map(|sums| sums.at(node.id)).sum()
    }
}
