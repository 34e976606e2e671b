//! The terms that running pods carry, each with the nodes of its carriers, added up by domain.
//!
//! Pods of one workload carry equal terms, so there are as many entries as workloads with affinity, and
//! a pending pod is compared with those rather than with every pod.

use capstan_sdk::scheduler::{Change, Cluster, DomainCounts, NodeId, Pod, PodSelector, PodTerm, Symbol};
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
    entries: HashMap<Entry, Carriers>,
}

#[derive(Debug, Default)]
struct Carriers {
    by_node: BTreeMap<NodeId, u32>,
    /// By the term's topology key, from its first use until the labels of a node change.
    by_domain: Option<DomainCounts>,
}

impl Carriers {
    fn count(&mut self, node: NodeId, step: i32) {
        let count = self.by_node.entry(node).or_default();
        *count = count.saturating_add_signed(step);
        if *count == 0 {
            self.by_node.remove(&node);
        }
        if let Some(sums) = &mut self.by_domain {
            sums.add(node, step.into());
        }
    }

    fn sums(&mut self, cluster: &Cluster, key: Symbol) -> &DomainCounts {
        let by_node = &self.by_node;
        self.by_domain.get_or_insert_with(|| {
            let mut sums = DomainCounts::new(cluster.column(key));
            by_node
                .iter()
                .for_each(|(node, count)| sums.add(*node, (*count).into()));
            sums
        })
    }
}

impl Carried {
    pub(crate) fn on_change(&mut self, change: Change<'_>) {
        match change {
            Change::Reset => self.entries.clear(),
            Change::PodAdded(pod) => each(&pod.pod, &mut |entry| {
                self.entries.entry(entry).or_default().count(pod.node, 1);
            }),
            Change::PodRemoved(pod) => each(&pod.pod, &mut |entry| self.remove(&entry, pod.node)),
            Change::NodeUpserted(_) | Change::NodeRemoved(_) => {
                self.entries
                    .values_mut()
                    .for_each(|carriers| carriers.by_domain = None);
            }
            Change::Namespace(_) => {}
        }
    }

    fn remove(&mut self, entry: &Entry, node: NodeId) {
        let Some(carriers) = self.entries.get_mut(entry) else {
            return;
        };
        carriers.count(node, -1);
        if carriers.by_node.is_empty() {
            self.entries.remove(entry);
        }
    }

    /// The terms with such a demand that select the pod: demand, topology key, carriers by domain.
    pub(crate) fn selecting<'a>(
        &'a mut self,
        cluster: &'a Cluster,
        pod: &'a Pod,
        wanted: impl Fn(Demand) -> bool + 'a,
    ) -> impl Iterator<Item = (Demand, Symbol, &'a DomainCounts)> + 'a {
        let entries = self
            .entries
            .iter_mut()
            .filter(move |(entry, _)| wanted(entry.demand) && entry.selector.selects(cluster, pod));
        entries.map(|(entry, carriers)| {
            let key = entry.topology_key;
            (entry.demand, key, carriers.sums(cluster, key))
        })
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
