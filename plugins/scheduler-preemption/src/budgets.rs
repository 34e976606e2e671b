//! Which evictions would break a disruption budget.

use crate::candidate::Victim;
use capstan_sdk::scheduler::{Budget, Cluster, Pod, matches};

pub(crate) struct Budgets<'a>(Vec<&'a Budget>);

impl<'a> Budgets<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Self {
        Self(cluster.budgets().collect())
    }

    /// Pods whose eviction, in this order and after those before them, would break a budget; and the others. The
    /// order is kept.
    pub(crate) fn split(&self, cluster: &Cluster, pods: Vec<Victim>) -> (Vec<Victim>, Vec<Victim>) {
        let mut allowed: Vec<i32> = self.0.iter().map(|budget| budget.allowed).collect();
        pods.into_iter().partition(|victim| {
            let Some(assigned) = cluster.pod(victim.id) else {
                return false;
            };
            let mut violates = false;
            for (left, budget) in allowed.iter_mut().zip(&self.0) {
                if protects(cluster, budget, &assigned.pod) && !budget.disrupted.contains(&victim.id) {
                    *left -= 1;
                    violates |= *left < 0;
                }
            }
            violates
        })
    }
}

/// Whether the budget speaks of the pod. As in the original's preemption, a pod without labels is nobody's, and
/// neither a selector that is absent nor an empty one selects any.
fn protects(cluster: &Cluster, budget: &Budget, pod: &Pod) -> bool {
    let selects = budget
        .pods
        .as_ref()
        .is_some_and(|selector| !selector.is_empty() && matches(cluster, selector, &pod.labels));
    selects && budget.namespace == pod.namespace && !pod.labels.is_empty()
}
