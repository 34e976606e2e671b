//! The cluster as placement sees it: nodes, assigned pods and namespaces by dense number, and the feed that
//! keeps the policies level with it.
//!
//! Invariants: every change of the view is a delta of the feed, in order; a delta never uses a symbol that was
//! not told before it; an object that is told again unchanged makes no delta. Owned by the scheduler's thread,
//! lent under a lock to a policy that is about to take its seat.

use std::collections::HashMap;

use capstan_points::scheduler::{
    Budget, Delta, Epoch, Event, EventKinds, Label, Node, NodeId, Pod, PodId, Policy, Symbol,
};
use capstan_points::{Bits, Fault};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::convert;
use crate::feed::Feed;
use crate::symbols::Symbols;

/// Symbols above which the view starts over once most of them must be dead.
const SYMBOLS_BEFORE_RESTART_MIN: usize = 1 << 17;

/// `namespace/name`.
pub(crate) type Key = String;

struct Assigned {
    id: PodId,
    node: NodeId,
    pod: Pod,
    started_ms: u64,
}

/// Labels of a node that its pods get with their binding.
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// See the module.
pub(crate) struct View {
    symbols: Symbols,
    feed: Feed,
    node_ids: HashMap<String, NodeId>,
    nodes: Vec<Option<Node>>,
    /// All nodes that exist.
    present: Bits,
    pods: HashMap<Key, Assigned>,
    /// Pods of a node that is not known yet, or not any more.
    waiting: HashMap<Key, (String, Pod, u64)>,
    free_pods: Vec<PodId>,
    /// The pod of each number in use.
    keys: Vec<Option<Key>>,
    namespaces: HashMap<Symbol, Vec<Label>>,
    budgets: HashMap<Key, Budget>,
    restart_at: usize,
    /// Changes whenever a node's number may mean another node.
    numbering: u64,
}

impl Default for View {
    fn default() -> Self {
        Self {
            symbols: Symbols::default(),
            feed: Feed::default(),
            node_ids: HashMap::new(),
            nodes: Vec::new(),
            present: Bits::default(),
            pods: HashMap::new(),
            waiting: HashMap::new(),
            free_pods: Vec::new(),
            keys: Vec::new(),
            namespaces: HashMap::new(),
            budgets: HashMap::new(),
            restart_at: SYMBOLS_BEFORE_RESTART_MIN,
            numbering: 0,
        }
    }
}

impl View {
    /// Forgets everything; the caller tells it anew. Policies start over too.
    pub(crate) fn clear(&mut self) {
        let mut feed = std::mem::take(&mut self.feed);
        feed.start_over();
        *self = Self {
            feed,
            numbering: self.numbering + 1,
            ..Self::default()
        };
    }

    /// Whether symbols of objects long gone should be shed by a `clear`.
    pub(crate) fn is_stale(&self) -> bool {
        self.symbols.len() > self.restart_at
    }

    /// To be called after everything was told anew: sets the next mark of `is_stale`.
    pub(crate) fn told_anew(&mut self) {
        self.restart_at = (2 * self.symbols.len()).max(SYMBOLS_BEFORE_RESTART_MIN);
    }

    fn tell(&mut self, delta: Delta) {
        if let Some(symbols) = self.symbols.news() {
            self.feed.push(symbols);
        }
        self.feed.push(delta);
    }

    /// A node is new or changed. Returns what of it placement can see.
    pub(crate) fn upsert_node(&mut self, object: &core::Node) -> Option<Event> {
        let name = object.metadata.name.clone()?;
        let mut node = convert::node(object, &mut self.symbols);
        let known = self.node_ids.get(&name).copied();
        node.id = known.unwrap_or_else(|| self.free_node());
        let slot = &mut self.nodes[node.id as usize];
        if slot.as_ref() == Some(&node) {
            return None;
        }
        let kinds = slot
            .as_ref()
            .map_or(EventKinds::NODE_ADDED, |before| node_changes(before, &node));
        let event = Event {
            kinds,
            node: Some(node.id),
        };
        *slot = Some(node.clone());
        self.present.insert(node.id);
        self.tell(Delta::NodeUpserted(node.clone()));
        if known.is_none() {
            self.node_ids.insert(name.clone(), node.id);
            self.settle_waiting(&name);
        }
        Some(event)
    }

    fn free_node(&mut self) -> NodeId {
        if let Some(free) = self.nodes.iter().position(Option::is_none) {
            return free as NodeId;
        }
        self.nodes.push(None);
        self.nodes.len() as NodeId - 1
    }

    fn settle_waiting(&mut self, node: &str) {
        let here: Vec<Key> = self
            .waiting
            .iter()
            .filter(|(_, (on, ..))| on == node)
            .map(|(key, _)| key.clone())
            .collect();
        for key in here {
            if let Some((node, pod, started_ms)) = self.waiting.remove(&key) {
                self.place(&key, &node, pod, started_ms);
            }
        }
    }

    /// A node is gone. Its pods wait for it to come back, as their objects still name it.
    pub(crate) fn remove_node(&mut self, name: &str) -> Option<Event> {
        let id = self.node_ids.remove(name)?;
        self.numbering += 1;
        let here: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.node == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in here {
            if let Some(assigned) = self.take_pod(&key) {
                self.waiting
                    .insert(key, (name.to_owned(), assigned.pod, assigned.started_ms));
            }
        }
        self.nodes[id as usize] = None;
        self.present.remove(id);
        self.tell(Delta::NodeRemoved(id));
        Some(Event {
            kinds: EventKinds::NODE_REMOVED.and(EventKinds::POD_REMOVED),
            node: None,
        })
    }

    /// A pod is on a node.
    pub(crate) fn upsert_pod(&mut self, key: &str, node: &str, object: &core::Pod) -> Option<Event> {
        let pod = convert::pod(object, false, &mut self.symbols);
        self.place(key, node, pod, convert::started_ms(object))
    }

    /// A pod is assumed on a node: it counts as it will once it is bound.
    pub(crate) fn assume(&mut self, key: &str, node: &str, object: &core::Pod) -> Option<Event> {
        let mut pod = convert::pod(object, false, &mut self.symbols);
        let id = *self.node_ids.get(node)?;
        let there = self.nodes.get(id as usize).and_then(Option::as_ref)?;
        for key in TOPOLOGY_LABELS {
            let own = |label: &&Label| self.symbols.text(label.key) == key;
            if let (Some(label), None) = (there.labels.iter().find(own), pod.labels.iter().find(own)) {
                pod.labels.push(*label);
            }
        }
        let symbols = &self.symbols;
        pod.labels
            .sort_by(|a, b| symbols.text(a.key).cmp(symbols.text(b.key)));
        self.place(key, node, pod, 0)
    }

    fn place(&mut self, key: &str, node: &str, pod: Pod, started_ms: u64) -> Option<Event> {
        let Some(&node_id) = self.node_ids.get(node) else {
            self.take_pod(key);
            self.waiting
                .insert(key.to_owned(), (node.to_owned(), pod, started_ms));
            return None;
        };
        self.waiting.remove(key);
        let mut kinds = EventKinds::POD_ADDED;
        if let Some(known) = self.pods.get(key) {
            if known.node != node_id {
                self.take_pod(key);
            } else {
                kinds = pod_changes(&known.pod, &pod);
                let started = (known.started_ms != started_ms).then_some(known.id);
                if known.pod == pod {
                    self.start_pod(key, started, started_ms);
                    return None;
                }
            }
        }
        let id = self
            .pods
            .get(key)
            .map(|known| known.id)
            .unwrap_or_else(|| self.number(key));
        let started_before = self.pods.get(key).map_or(0, |known| known.started_ms);
        let assigned = Assigned {
            id,
            node: node_id,
            pod: pod.clone(),
            started_ms: started_before,
        };
        self.pods.insert(key.to_owned(), assigned);
        self.tell(Delta::PodUpserted {
            id,
            node: node_id,
            pod,
        });
        self.start_pod(key, (started_before != started_ms).then_some(id), started_ms);
        Some(Event {
            kinds,
            node: Some(node_id),
        })
    }

    fn start_pod(&mut self, key: &str, changed: Option<PodId>, started_ms: u64) {
        // An assumption knows no start, so it never takes one back.
        let Some(id) = changed.filter(|_| started_ms > 0) else {
            return;
        };
        if let Some(assigned) = self.pods.get_mut(key) {
            assigned.started_ms = started_ms;
            self.tell(Delta::PodStarted(id, started_ms));
        }
    }

    fn number(&mut self, key: &str) -> PodId {
        let id = self.free_pods.pop().unwrap_or(self.keys.len() as PodId);
        if id as usize == self.keys.len() {
            self.keys.push(None);
        }
        self.keys[id as usize] = Some(key.to_owned());
        id
    }

    /// The pod with a number, and its node.
    pub(crate) fn assigned(&self, id: PodId) -> Option<(&str, NodeId)> {
        let key = self.keys.get(id as usize)?.as_deref()?;
        Some((key, self.pods.get(key)?.node))
    }

    /// A pod is gone from its node.
    pub(crate) fn remove_pod(&mut self, key: &str) -> Option<Event> {
        self.waiting.remove(key);
        let assigned = self.take_pod(key)?;
        Some(Event {
            kinds: EventKinds::POD_REMOVED,
            node: Some(assigned.node),
        })
    }

    fn take_pod(&mut self, key: &str) -> Option<Assigned> {
        let assigned = self.pods.remove(key)?;
        self.free_pods.push(assigned.id);
        self.keys[assigned.id as usize] = None;
        self.tell(Delta::PodRemoved(assigned.id));
        Some(assigned)
    }

    pub(crate) fn upsert_budget(&mut self, object: &PodDisruptionBudget) {
        let meta = &object.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default());
        let pods = &self.pods;
        let budget = convert::budget(object, &mut self.symbols, |name| {
            pods.get(&format!("{namespace}/{name}")).map(|pod| pod.id)
        });
        if self.budgets.get(&key) != Some(&budget) {
            self.budgets.insert(key, budget.clone());
            self.tell(Delta::BudgetUpserted(budget));
        }
    }

    pub(crate) fn remove_budget(&mut self, key: &str) {
        if let Some(Budget { namespace, name, .. }) = self.budgets.remove(key) {
            self.tell(Delta::BudgetRemoved { namespace, name });
        }
    }

    /// A namespace is new or changed. Returns what of it placement can see.
    pub(crate) fn upsert_namespace(&mut self, object: &core::Namespace) -> Option<Event> {
        let namespace = self
            .symbols
            .intern(object.metadata.name.as_deref().unwrap_or_default());
        let labels = convert::labels(object.metadata.labels.as_ref(), &mut self.symbols);
        if self.namespaces.get(&namespace) == Some(&labels) {
            return None;
        }
        self.namespaces.insert(namespace, labels.clone());
        self.tell(Delta::NamespaceUpserted { namespace, labels });
        Some(Event {
            kinds: EventKinds::NAMESPACE_LABELS,
            node: None,
        })
    }

    pub(crate) fn remove_namespace(&mut self, name: &str) {
        let namespace = self.symbols.intern(name);
        if self.namespaces.remove(&namespace).is_some() {
            self.tell(Delta::NamespaceRemoved(namespace));
        }
    }

    /// A pending pod in the policies' terms; its new symbols are told.
    pub(crate) fn pending(&mut self, object: &core::Pod) -> Pod {
        let pod = convert::pod(object, true, &mut self.symbols);
        if let Some(symbols) = self.symbols.news() {
            self.feed.push(symbols);
        }
        pod
    }

    pub(crate) fn nodes(&self) -> &Bits {
        &self.present
    }

    /// As long as this stays the same, so does what a node's number means.
    pub(crate) fn numbering(&self) -> u64 {
        self.numbering
    }

    pub(crate) fn node_id(&self, name: &str) -> Option<NodeId> {
        self.node_ids.get(name).copied()
    }

    pub(crate) fn node_name(&self, id: NodeId) -> Option<&str> {
        let node = self.nodes.get(id as usize)?.as_ref()?;
        Some(self.symbols.text(node.name))
    }

    /// Tells the policy what it does not know yet.
    pub(crate) fn level(&self, policy: &dyn Policy) -> Result<(), Fault> {
        self.feed.level(policy, || self.everything())
    }

    /// All that a policy must be told, and the epoch that it then stands at.
    pub(crate) fn snapshot(&self) -> (Epoch, Vec<Delta>) {
        (self.feed.epoch(), self.everything())
    }

    fn everything(&self) -> Vec<Delta> {
        let mut deltas = vec![self.symbols.all()];
        deltas.extend(
            self.namespaces
                .iter()
                .map(|(&namespace, labels)| Delta::NamespaceUpserted {
                    namespace,
                    labels: labels.clone(),
                }),
        );
        deltas.extend(self.nodes.iter().flatten().cloned().map(Delta::NodeUpserted));
        deltas.extend(self.pods.values().map(|one| Delta::PodUpserted {
            id: one.id,
            node: one.node,
            pod: one.pod.clone(),
        }));
        let started = self.pods.values().filter(|one| one.started_ms > 0);
        deltas.extend(started.map(|one| Delta::PodStarted(one.id, one.started_ms)));
        deltas.extend(self.budgets.values().cloned().map(Delta::BudgetUpserted));
        deltas
    }
}

fn node_changes(before: &Node, after: &Node) -> EventKinds {
    let changes = [
        (
            before.allocatable != after.allocatable,
            EventKinds::NODE_ALLOCATABLE,
        ),
        (before.labels != after.labels, EventKinds::NODE_LABELS),
        (
            before.taints != after.taints || before.unschedulable != after.unschedulable,
            EventKinds::NODE_TAINTS,
        ),
        (before.images != after.images, EventKinds::NODE_IMAGES),
    ];
    all_of(changes)
}

fn pod_changes(before: &Pod, after: &Pod) -> EventKinds {
    let changes = [
        (before.labels != after.labels, EventKinds::POD_LABELS),
        (before.requests != after.requests, EventKinds::POD_REQUESTS),
        (before.terminating != after.terminating, EventKinds::POD_REMOVED),
    ];
    all_of(changes)
}

fn all_of<const N: usize>(changes: [(bool, EventKinds); N]) -> EventKinds {
    let happened = changes.into_iter().filter(|(happened, _)| *happened);
    happened.fold(EventKinds::default(), |all, (_, kind)| all.and(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, cpu: &str) -> core::Node {
        serde_json::from_value(json!({
            "metadata": { "name": name }, "status": { "allocatable": { "cpu": cpu } },
        }))
        .unwrap()
    }

    fn pod(name: &str) -> core::Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default" }, "spec": { "containers": [{ "name": "c" }] },
        }))
        .unwrap()
    }

    #[test]
    fn an_unchanged_node_is_no_news() {
        let mut view = View::default();
        assert!(view.upsert_node(&node("a", "1")).is_some());
        let epoch = view.feed.epoch();
        assert!(view.upsert_node(&node("a", "1")).is_none());
        assert_eq!(view.feed.epoch(), epoch);
        let event = view.upsert_node(&node("a", "2")).unwrap();
        assert_eq!(event.kinds, EventKinds::NODE_ALLOCATABLE);
    }

    #[test]
    fn an_assumed_pod_is_what_it_will_be_once_bound() {
        let mut view = View::default();
        let mut zoned = node("a", "1");
        zoned.metadata.labels = Some([(TOPOLOGY_LABELS[1].to_owned(), "z1".to_owned())].into());
        view.upsert_node(&zoned);
        let mut bound = pod("p");
        bound.metadata.labels = Some([("zz".to_owned(), "last".to_owned())].into());
        assert!(view.assume("default/p", "a", &bound).is_some());
        let labels = bound.metadata.labels.get_or_insert_default();
        labels.insert(TOPOLOGY_LABELS[1].to_owned(), "z1".to_owned());
        let epoch = view.feed.epoch();
        assert!(view.upsert_pod("default/p", "a", &bound).is_none());
        assert_eq!(view.feed.epoch(), epoch, "the binding tells policies nothing new");
    }

    #[test]
    fn a_pod_that_is_told_before_its_node_is_counted_once_the_node_is_there() {
        let mut view = View::default();
        view.upsert_pod("default/p", "late", &pod("p"));
        assert!(view.pods.is_empty());
        view.upsert_node(&node("late", "1"));
        assert_eq!(view.pods.len(), 1);
    }

    #[test]
    fn numbers_are_used_again_after_removal() {
        let mut view = View::default();
        view.upsert_node(&node("a", "1"));
        view.upsert_pod("default/p", "a", &pod("p"));
        view.remove_node("a");
        view.upsert_node(&node("b", "1"));
        assert_eq!(view.node_name(0), Some("b"));
        assert_eq!(view.nodes().count(), 1);
        view.upsert_pod("default/q", "b", &pod("q"));
        assert_eq!(view.pods["default/q"].id, 0);
    }
}
