//! The terms that running pods carry, each with the nodes of its carriers.
//!
//! Pods of one workload carry equal terms, so there are as many entries as workloads with affinity, and
//! a pending pod is compared with those rather than with every pod.

use capstan_sdk::scheduler::{Change, Cluster, NodeId, Pod, PodSelector, PodTerm, Symbol};
use std::collections::{BTreeMap, HashMap};

/// What a term demands of pods that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Demand {
    /// Never in the same domain.
    Apart,
    /// In the same domain; binds its carrier, and draws others by the configured weight.
    Near,
    /// A preference: its weight, negative for apart.
    Preferred(i32),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    demand: Demand,
    selector: PodSelector,
    topology_key: Symbol,
}

impl Entry {
    fn new(demand: Demand, term: &PodTerm) -> Self {
        Self {
            demand,
            selector: PodSelector::of(term),
            topology_key: term.topology_key,
        }
    }
}

/// How many carriers of each term each node has.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    entries: HashMap<Entry, BTreeMap<NodeId, u32>>,
}

impl Carried {
    pub(crate) fn on_change(&mut self, change: Change<'_>) {
        match change {
            Change::Reset => self.entries.clear(),
            Change::PodAdded(pod) => each(&pod.pod, &mut |entry| {
                *self
                    .entries
                    .entry(entry)
                    .or_default()
                    .entry(pod.node)
                    .or_default() += 1;
            }),
            Change::PodRemoved(pod) => each(&pod.pod, &mut |entry| self.remove(&entry, pod.node)),
            _ => {}
        }
    }

    fn remove(&mut self, entry: &Entry, node: NodeId) {
        let Some(nodes) = self.entries.get_mut(entry) else {
            return;
        };
        if let Some(count) = nodes.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(&node);
            }
        }
        if nodes.is_empty() {
            self.entries.remove(entry);
        }
    }

    /// The terms with such a demand that select the pod: demand, topology key, carriers by node.
    pub(crate) fn selecting<'a>(
        &'a self,
        cluster: &'a Cluster,
        pod: &'a Pod,
        wanted: impl Fn(Demand) -> bool + 'a,
    ) -> impl Iterator<Item = (Demand, Symbol, &'a BTreeMap<NodeId, u32>)> + 'a {
        let entries = self
            .entries
            .iter()
            .filter(move |(entry, _)| wanted(entry.demand) && entry.selector.selects(cluster, pod));
        entries.map(|(entry, nodes)| (entry.demand, entry.topology_key, nodes))
    }
}

fn each(pod: &Pod, act: &mut dyn FnMut(Entry)) {
    pod.anti_affinity_required
        .iter()
        .for_each(|term| act(Entry::new(Demand::Apart, term)));
    pod.affinity_required
        .iter()
        .for_each(|term| act(Entry::new(Demand::Near, term)));
    pod.affinity_preferred
        .iter()
        .for_each(|p| act(Entry::new(Demand::Preferred(p.weight), &p.term)));
    pod.anti_affinity_preferred
        .iter()
        .for_each(|p| act(Entry::new(Demand::Preferred(-p.weight), &p.term)));
}
