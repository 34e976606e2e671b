//! Counts of assigned pods by selector, node and topology domain, kept by each delta.
//!
//! A selector is counted from its first use on: once by walking the pods, then by each pod that comes or
//! goes, and so are its sums by the topology keys asked for. A cycle reads them; it walks neither pods nor nodes.
//! Counts by node stay right when labels of nodes change; sums by domain are then made anew from those.

use super::{Change, Cluster, LabelColumn, NodeId, Pod, PodTerm, Requirement, Symbol, matches};
use std::sync::Arc;

/// How many selectors are counted; the one unused for longest makes room.
const COUNTED_MAX: usize = 256;

/// Which pods a term of affinity or spread speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodSelector {
    /// Labels; none selects no pod.
    pub pods: Option<Vec<Requirement>>,
    /// Namespaces by name.
    pub namespaces: Vec<Symbol>,
    /// Namespaces by label, in addition.
    pub namespace_selector: Option<Vec<Requirement>>,
}

impl PodSelector {
    /// That of an affinity term.
    pub fn of(term: &PodTerm) -> Self {
        Self {
            pods: term.pods.clone(),
            namespaces: term.namespaces.clone(),
            namespace_selector: term.namespace_selector.clone(),
        }
    }

    /// Whether it selects the pod.
    pub fn selects(&self, cluster: &Cluster, pod: &Pod) -> bool {
        self.pods
            .as_ref()
            .is_some_and(|selector| matches(cluster, selector, &pod.labels))
            && (self.namespaces.contains(&pod.namespace) || self.selects_namespace(cluster, pod.namespace))
    }

    fn selects_namespace(&self, cluster: &Cluster, name: Symbol) -> bool {
        let labels = cluster.namespace(name).unwrap_or_default();
        self.namespace_selector
            .as_ref()
            .is_some_and(|selector| matches(cluster, selector, labels))
    }
}

/// What is counted: pods that all of the selectors select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// All must select the pod.
    pub selectors: Vec<PodSelector>,
    /// Whether pods that are being deleted count.
    pub terminating: bool,
}

impl Counted {
    fn counts(&self, cluster: &Cluster, pod: &Pod) -> bool {
        (self.terminating || !pod.terminating)
            && self
                .selectors
                .iter()
                .all(|selector| selector.selects(cluster, pod))
    }
}

/// Counts by node and by domain for every selector in use.
#[derive(Debug, Default)]
pub struct PodCounts {
    /// The most recently used last.
    entries: Vec<Tally>,
}

#[derive(Debug)]
struct Tally {
    counted: Counted,
    by_node: Arc<Vec<u32>>,
    /// One for each topology key asked for.
    by_domain: Vec<DomainCounts>,
}

impl PodCounts {
    /// To be called from [`Policy::on_change`](super::Policy::on_change) with every change.
    pub fn on_change(&mut self, cluster: &Cluster, change: Change<'_>) {
        match change {
            Change::Reset => self.entries.clear(),
            Change::PodAdded(pod) => self.count(cluster, &pod.pod, pod.node, 1),
            Change::PodRemoved(pod) => self.count(cluster, &pod.pod, pod.node, -1),
            // What a namespace selector counted may be another set now.
            Change::Namespace(_) => self.entries.retain(|tally| {
                tally
                    .counted
                    .selectors
                    .iter()
                    .all(|selector| selector.namespace_selector.is_none())
            }),
            Change::NodeUpserted(_) | Change::NodeRemoved(_) => {
                self.entries.iter_mut().for_each(|tally| tally.by_domain.clear());
            }
        }
    }

    fn count(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId, step: i32) {
        for tally in &mut self.entries {
            if tally.counted.counts(cluster, pod) {
                add(Arc::make_mut(&mut tally.by_node), node, step);
                let sums = tally.by_domain.iter_mut();
                sums.for_each(|sums| sums.add(node, step.into()));
            }
        }
    }

    /// How many such pods each node has, by node number; nodes beyond the end have none.
    pub fn by_node(&mut self, cluster: &Cluster, counted: Counted) -> Arc<Vec<u32>> {
        self.tally(cluster, counted).by_node.clone()
    }

    /// How many such pods each domain of a topology key has.
    pub fn by_domain(&mut self, cluster: &Cluster, counted: Counted, key: Symbol) -> DomainCounts {
        let tally = self.tally(cluster, counted);
        if let Some(sums) = tally.by_domain.iter().find(|sums| sums.column.key() == key) {
            return sums.clone();
        }
        let mut sums = DomainCounts::new(cluster.column(key));
        sums.add_all(&tally.by_node, 1);
        tally.by_domain.push(sums.clone());
        sums
    }

    fn tally(&mut self, cluster: &Cluster, counted: Counted) -> &mut Tally {
        if let Some(at) = self.entries.iter().position(|tally| tally.counted == counted) {
            self.entries[at..].rotate_left(1);
        } else {
            let mut by_node = vec![0; cluster.node_ids()];
            for pod in cluster.pods().filter(|pod| counted.counts(cluster, &pod.pod)) {
                add(&mut by_node, pod.node, 1);
            }
            if self.entries.len() == COUNTED_MAX {
                self.entries.remove(0);
            }
            self.entries.push(Tally {
                counted,
                by_node: Arc::new(by_node),
                by_domain: Vec::new(),
            });
        }
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }
}

fn add(by_node: &mut Vec<u32>, node: NodeId, step: i32) {
    let at = node as usize;
    if at >= by_node.len() {
        by_node.resize(at + 1, 0);
    }
    by_node[at] = by_node[at].saturating_add_signed(step);
}

/// Sums by the domains of one topology key.
#[derive(Debug, Clone)]
pub struct DomainCounts {
    column: Arc<LabelColumn>,
    sums: Vec<i64>,
}

impl DomainCounts {
    /// All zero.
    pub fn new(column: Arc<LabelColumn>) -> Self {
        let sums = vec![0; column.domains_len()];
        Self { column, sums }
    }

    /// Adds to the domain of a node; nodes without the label are in none.
    pub fn add(&mut self, node: NodeId, amount: i64) {
        if let Some(sum) = self.sums.get_mut(self.column.domain(node) as usize) {
            *sum += amount;
        }
    }

    /// The sum of the node's domain, or none where the node lacks the label.
    #[inline]
    pub fn at(&self, node: NodeId) -> Option<i64> {
        self.sums.get(self.column.domain(node) as usize).copied()
    }

    /// The sum of a domain by its number in the column.
    pub fn of_domain(&self, domain: u32) -> i64 {
        self.sums.get(domain as usize).copied().unwrap_or(0)
    }

    /// Adds a column of counts by node, each times `weight`.
    pub fn add_all(&mut self, by_node: &[u32], weight: i64) {
        for (node, &count) in by_node.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(node as NodeId, weight * i64::from(count));
        }
    }

    /// Adds the sums of the same topology key, each times `weight`.
    pub fn add_sums(&mut self, other: &Self, weight: i64) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += weight * more;
        }
    }

    /// Whether all sums are zero.
    pub fn is_zero(&self) -> bool {
        self.sums.iter().all(|&sum| sum == 0)
    }

    /// The sums of a topology key among several, new where they are not there yet.
    pub fn for_key<'a>(all: &'a mut Vec<Self>, cluster: &Cluster, key: Symbol) -> &'a mut Self {
        let at = all
            .iter()
            .position(|sums| sums.column.key() == key)
            .unwrap_or_else(|| {
                all.push(Self::new(cluster.column(key)));
                all.len() - 1
            });
        &mut all[at]
    }
}
