//! The cluster as placement sees it: nodes, assigned pods and namespaces by dense number, and the feed that
//! keeps the policies level with it.
//!
//! Invariants: every change of the view is a delta of the feed, in order; a delta never uses a symbol that was
//! not told before it; an object that is told again unchanged makes no delta. Owned by the scheduler's thread,
//! lent under a lock to a policy that is about to take its seat.

use std::collections::HashMap;

use capstan_points::scheduler::{Delta, Epoch, Label, Node, NodeId, Pod, PodId, Policy, Symbol};
use capstan_points::{Bits, Fault};
use k8s_openapi::api::core::v1 as core;

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
}

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
    waiting: HashMap<Key, (String, Pod)>,
    free_pods: Vec<PodId>,
    pod_count: PodId,
    namespaces: HashMap<Symbol, Vec<Label>>,
    restart_at: usize,
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
            pod_count: 0,
            namespaces: HashMap::new(),
            restart_at: SYMBOLS_BEFORE_RESTART_MIN,
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

    /// A node is new or changed. Returns whether anything that placement can see did.
    pub(crate) fn upsert_node(&mut self, object: &core::Node) -> bool {
        let Some(name) = object.metadata.name.clone() else {
            return false;
        };
        let mut node = convert::node(object, &mut self.symbols);
        let known = self.node_ids.get(&name).copied();
        node.id = known.unwrap_or_else(|| self.free_node());
        let slot = &mut self.nodes[node.id as usize];
        if slot.as_ref() == Some(&node) {
            return false;
        }
        *slot = Some(node.clone());
        self.present.insert(node.id);
        self.tell(Delta::NodeUpserted(node.clone()));
        if known.is_none() {
            self.node_ids.insert(name.clone(), node.id);
            self.settle_waiting(&name);
        }
        true
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
            .filter(|(_, (on, _))| on == node)
            .map(|(key, _)| key.clone())
            .collect();
        for key in here {
            if let Some((node, pod)) = self.waiting.remove(&key) {
                self.place(&key, &node, pod);
            }
        }
    }

    /// A node is gone. Its pods wait for it to come back, as their objects still name it.
    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(id) = self.node_ids.remove(name) else {
            return;
        };
        let here: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.node == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in here {
            if let Some(assigned) = self.take_pod(&key) {
                self.waiting.insert(key, (name.to_owned(), assigned.pod));
            }
        }
        self.nodes[id as usize] = None;
        self.present.remove(id);
        self.tell(Delta::NodeRemoved(id));
    }

    /// A pod is on a node, or assumed to be.
    pub(crate) fn upsert_pod(&mut self, key: &str, node: &str, object: &core::Pod) {
        let pod = convert::pod(object, false, &mut self.symbols);
        self.place(key, node, pod);
    }

    fn place(&mut self, key: &str, node: &str, pod: Pod) {
        let Some(&node_id) = self.node_ids.get(node) else {
            self.take_pod(key);
            self.waiting.insert(key.to_owned(), (node.to_owned(), pod));
            return;
        };
        if let Some(known) = self.pods.get(key) {
            if known.node == node_id && known.pod == pod {
                return;
            }
            if known.node != node_id {
                self.take_pod(key);
            }
        }
        self.waiting.remove(key);
        let id = match self.pods.get(key) {
            Some(known) => known.id,
            None => self.free_pods.pop().unwrap_or_else(|| {
                self.pod_count += 1;
                self.pod_count - 1
            }),
        };
        self.pods.insert(
            key.to_owned(),
            Assigned {
                id,
                node: node_id,
                pod: pod.clone(),
            },
        );
        self.tell(Delta::PodUpserted {
            id,
            node: node_id,
            pod,
        });
    }

    /// A pod is gone from its node. Returns whether it was there.
    pub(crate) fn remove_pod(&mut self, key: &str) -> bool {
        let waited = self.waiting.remove(key).is_some();
        self.take_pod(key).is_some() || waited
    }

    fn take_pod(&mut self, key: &str) -> Option<Assigned> {
        let assigned = self.pods.remove(key)?;
        self.free_pods.push(assigned.id);
        self.tell(Delta::PodRemoved(assigned.id));
        Some(assigned)
    }

    pub(crate) fn upsert_namespace(&mut self, object: &core::Namespace) {
        let namespace = self
            .symbols
            .intern(object.metadata.name.as_deref().unwrap_or_default());
        let labels = convert::labels(object.metadata.labels.as_ref(), &mut self.symbols);
        if self.namespaces.get(&namespace) == Some(&labels) {
            return;
        }
        self.namespaces.insert(namespace, labels.clone());
        self.tell(Delta::NamespaceUpserted { namespace, labels });
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
        deltas
    }
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
        assert!(view.upsert_node(&node("a", "1")));
        let epoch = view.feed.epoch();
        assert!(!view.upsert_node(&node("a", "1")));
        assert_eq!(view.feed.epoch(), epoch);
        assert!(view.upsert_node(&node("a", "2")));
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
