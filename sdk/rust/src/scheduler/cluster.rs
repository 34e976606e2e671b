//! The cluster as a policy sees it: nodes, what is assigned to them, namespaces and symbols.
//!
//! Kept level by deltas alone. Per node there is one row of [`Amounts`], one entry for each resource that
//! anything has or asks for; sums of assigned pods are kept with each delta, never recomputed. Numbers of
//! nodes and pods are dense, so every table is an array.

use super::{
    AssignedPod, Budget, Delta, Label, LabelColumn, NodeFacts, NodeId, Pod, PodId, Symbol, Symbols,
    resources::{Resources, Sums},
};
use crate::Fault;
use std::{cell::RefCell, collections::BTreeMap, ops::Deref, sync::Arc};

pub use super::resources::Amounts;

/// Highest number that a node may have: guards the tables against a wild number.
const NODE_ID_MAX: NodeId = 1 << 17;
/// Highest number that an assigned pod may have.
const POD_ID_MAX: PodId = 1 << 22;
/// How many labels are kept as columns; the one asked for longest ago makes room.
const COLUMNS_MAX: usize = 64;

/// Tables of the whole cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    symbols: Symbols,
    nodes: Vec<Option<NodeFacts>>,
    nodes_len: usize,
    resources: Resources,
    pods: Vec<Option<AssignedPod>>,
    starts_ms: BTreeMap<PodId, u64>,
    namespaces: BTreeMap<Symbol, Vec<Label>>,
    budgets: BTreeMap<(Symbol, Symbol), Budget>,
    columns: RefCell<Vec<Arc<LabelColumn>>>,
}

/// What just changed; the tables already show it.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Everything is forgotten.
    Reset,
    /// A node is new or other facts are known of it.
    NodeUpserted(NodeId),
    /// A node is gone.
    NodeRemoved(NodeId),
    /// A pod now counts on its node.
    PodAdded(&'a AssignedPod),
    /// A pod no longer counts on the node where it was. A changed pod is removed, then added.
    PodRemoved(&'a AssignedPod),
    /// A namespace is new, gone, or its labels changed.
    Namespace(Symbol),
}

/// A node: its facts and its amounts, borrowed from the tables.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    facts: &'a NodeFacts,
    amounts: &'a [Amounts],
}

impl Deref for Node<'_> {
    type Target = NodeFacts;

    fn deref(&self) -> &NodeFacts {
        self.facts
    }
}

impl<'a> Node<'a> {
    /// What the node has of a resource, and what is asked of it. The column is from
    /// [`Cluster::resource`].
    #[inline]
    pub fn amounts(&self, resource: usize) -> Amounts {
        self.amounts.get(resource).copied().unwrap_or_default()
    }

    /// The value of a label. In a loop over many nodes, a column ([`Cluster::column`]) is faster.
    pub fn label(&self, key: Symbol) -> Option<Symbol> {
        super::column::find(&self.facts.labels, key)
    }
}

impl Cluster {
    /// The text of a symbol.
    pub fn text(&self, symbol: Symbol) -> &str {
        self.symbols.text(symbol)
    }

    /// The symbol of a text, where the cluster knows it: for texts of the configuration.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.symbols.find(text)
    }

    /// The column of a resource in every node's amounts, where any node or pod has it.
    pub fn resource(&self, resource: Symbol) -> Option<usize> {
        self.resources.column(resource)
    }

    /// How many resources have a column; it never gets fewer.
    pub(super) fn resources_len(&self) -> usize {
        self.resources.columns_len()
    }

    /// A node by number.
    #[inline]
    pub fn node(&self, id: NodeId) -> Option<Node<'_>> {
        let facts = self.nodes.get(id as usize)?.as_ref()?;
        Some(Node {
            facts,
            amounts: self.resources.row(id),
        })
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.nodes.iter().flatten().map(|facts| Node {
            facts,
            amounts: self.resources.row(facts.id),
        })
    }

    /// How many nodes there are.
    pub fn nodes_len(&self) -> usize {
        self.nodes_len
    }

    /// One above the highest node number in use so far: the size of a table by node.
    pub fn node_ids(&self) -> usize {
        self.nodes.len()
    }

    /// All assigned pods. A policy that walks them in each cycle is slow; see
    /// [`Policy::on_change`](super::Policy::on_change) for keeping counts instead.
    pub fn pods(&self) -> impl Iterator<Item = &AssignedPod> {
        self.pods.iter().flatten()
    }

    /// An assigned pod by number.
    pub fn pod(&self, id: PodId) -> Option<&AssignedPod> {
        self.pods.get(id as usize)?.as_ref()
    }

    /// When an assigned pod started, in milliseconds since the Unix epoch, for policies with
    /// [`STARTS`](super::Policy::STARTS); none where it has not.
    pub fn started_ms(&self, id: PodId) -> Option<u64> {
        self.starts_ms.get(&id).copied()
    }

    /// Disruption budgets, for policies with [`BUDGETS`](super::Policy::BUDGETS).
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// The labels of a namespace, where it is known.
    pub fn namespace(&self, name: Symbol) -> Option<&[Label]> {
        self.namespaces.get(&name).map(Vec::as_slice)
    }

    /// One label of all nodes. The first call for a key walks the nodes; from then on it is kept level.
    pub fn column(&self, key: Symbol) -> Arc<LabelColumn> {
        let mut columns = self.columns.borrow_mut();
        if let Some(column) = columns.iter().find(|column| column.key() == key) {
            return column.clone();
        }
        let mut column = LabelColumn::new(key);
        for node in self.nodes.iter().flatten() {
            column.set(node.id, &node.labels);
        }
        if columns.len() == COLUMNS_MAX {
            columns.remove(0);
        }
        let column = Arc::new(column);
        columns.push(column.clone());
        column
    }

    pub(super) fn apply(
        &mut self,
        delta: Delta,
        rules: Rules,
        observe: &mut dyn FnMut(&Self, Change<'_>),
    ) -> Result<(), Fault> {
        match delta {
            Delta::Symbols((first, texts)) => self.symbols.extend(first, &texts)?,
            Delta::NodeUpserted(node) => {
                let id = node.id;
                self.upsert_node(node)?;
                observe(self, Change::NodeUpserted(id));
            }
            Delta::NodeRemoved(id) => {
                self.remove_node(id);
                observe(self, Change::NodeRemoved(id));
            }
            Delta::PodUpserted(pod) if rules.pods => self.upsert_pod(pod, rules.trim, observe)?,
            Delta::PodRemoved(id) => {
                self.starts_ms.remove(&id);
                self.take_pod(id, observe);
            }
            Delta::PodUpserted(_) => {}
            Delta::PodStarted((id, at_ms)) => {
                self.starts_ms.insert(id, at_ms);
            }
            Delta::BudgetUpserted(budget) => {
                self.budgets.insert((budget.namespace, budget.name), budget);
            }
            Delta::BudgetRemoved(key) => {
                self.budgets.remove(&key);
            }
            Delta::NamespaceUpserted(told) => {
                self.namespaces.insert(told.namespace, told.labels);
                observe(self, Change::Namespace(told.namespace));
            }
            Delta::NamespaceRemoved(name) => {
                self.namespaces.remove(&name);
                observe(self, Change::Namespace(name));
            }
        }
        Ok(())
    }

    fn upsert_node(&mut self, node: NodeFacts) -> Result<(), Fault> {
        let id = node.id;
        if id > NODE_ID_MAX {
            return Err(Fault::permanent(format!(
                "node number {id} is above {NODE_ID_MAX}"
            )));
        }
        self.resources.set_allocatable(id, &node.allocatable)?;
        for column in self.columns.get_mut() {
            Arc::make_mut(column).set(id, &node.labels);
        }
        let slot = slot(&mut self.nodes, id as usize);
        self.nodes_len += usize::from(slot.is_none());
        *slot = Some(node);
        Ok(())
    }

    fn remove_node(&mut self, id: NodeId) {
        let Some(slot) = self.nodes.get_mut(id as usize) else {
            return;
        };
        self.nodes_len -= usize::from(slot.is_some());
        *slot = None;
        self.resources.clear_allocatable(id);
        for column in self.columns.get_mut() {
            Arc::make_mut(column).set(id, &[]);
        }
    }

    /// A number that no assigned pod has.
    pub(super) fn free_pod_id(&self) -> PodId {
        let free = self
            .pods
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
        free as PodId
    }

    pub(super) fn upsert_pod(
        &mut self,
        mut pod: AssignedPod,
        trim: fn(&mut Pod),
        observe: &mut dyn FnMut(&Self, Change<'_>),
    ) -> Result<(), Fault> {
        let (id, node) = (pod.id, pod.node);
        if id > POD_ID_MAX || node > NODE_ID_MAX {
            return Err(Fault::permanent(format!(
                "pod number {id} on node number {node} is out of bounds"
            )));
        }
        self.take_pod(id, observe);
        trim(&mut pod.pod);
        self.resources.count(node, Sums::of(&pod.pod), 1)?;
        *slot(&mut self.pods, id as usize) = Some(pod);
        if let Some(pod) = &self.pods[id as usize] {
            observe(self, Change::PodAdded(pod));
        }
        Ok(())
    }

    /// The pod no longer counts on its node.
    pub(super) fn take_pod(
        &mut self,
        id: PodId,
        observe: &mut dyn FnMut(&Self, Change<'_>),
    ) -> Option<AssignedPod> {
        let pod = self.pods.get_mut(id as usize).and_then(Option::take)?;
        // Its resources were counted when it came, so their columns exist.
        let _ = self.resources.count(pod.node, Sums::of(&pod.pod), -1);
        observe(self, Change::PodRemoved(&pod));
        Some(pod)
    }
}

/// What of the news a policy wants.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) pods: bool,
    pub(super) trim: fn(&mut Pod),
}

fn slot<T>(table: &mut Vec<Option<T>>, at: usize) -> &mut Option<T> {
    if at >= table.len() {
        table.resize_with(at + 1, || None);
    }
    &mut table[at]
}
