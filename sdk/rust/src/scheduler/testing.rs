//! A small cluster for native tests of a scheduler policy: nodes and pods in, verdicts by node name out.
//!
//! Nodes and pods are given as the manifests that users write, as JSON, and turned into deltas the way
//! the host does it. Not part of a component.

mod manifest;

use super::{
    AssignedPod, Budget, Delta, Event, EventKinds, Filter, Hints, Hypothesis, Label, NamespaceLabels, NodeId,
    NodeSet, Permission, Permit, Pod, PodId, Policy, PostFilter, Question, Release, Runner, Score, Step,
    Symbol,
};
use crate::Config;
use serde_json::Value;
use std::collections::BTreeMap;

/// A policy in a cluster of its own. Its methods panic on a fault: it is for tests.
pub struct Bench<P> {
    /// The policy with its tables.
    pub runner: Runner<P>,
    symbols: BTreeMap<String, Symbol>,
    fresh: Vec<String>,
    nodes: BTreeMap<String, NodeId>,
    pods: BTreeMap<String, u32>,
    pods_told: u32,
}

#[allow(clippy::unwrap_used, clippy::expect_used)]
impl<P: Policy> Bench<P> {
    /// The policy with a configuration, in an empty cluster.
    pub fn new(config: Value) -> Self {
        let config = P::Config::read(&config.to_string()).expect("the configuration is good");
        let runner = Runner::new(P::new(config).expect("the policy takes its configuration"));
        let mut bench = Self {
            runner,
            symbols: BTreeMap::from([(String::new(), 0)]),
            fresh: Vec::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_told: 0,
        };
        bench.runner.apply(true, Vec::new()).unwrap();
        bench
    }

    /// The symbol of a text, new where it must be.
    pub fn symbol(&mut self, text: &str) -> Symbol {
        if let Some(&symbol) = self.symbols.get(text) {
            return symbol;
        }
        let symbol = self.symbols.len() as Symbol;
        self.symbols.insert(text.to_owned(), symbol);
        self.fresh.push(text.to_owned());
        symbol
    }

    /// Adds or changes a node, given as a manifest.
    pub fn node(&mut self, manifest: Value) -> NodeId {
        let name = manifest["metadata"]["name"]
            .as_str()
            .expect("a node has a name")
            .to_owned();
        let next = self.nodes.len() as NodeId;
        let id = *self.nodes.entry(name).or_insert(next);
        let facts = manifest::node(self, id, &manifest);
        self.tell(Delta::NodeUpserted(facts));
        id
    }

    /// A pod that waits for a node, given as a manifest.
    pub fn pod(&mut self, manifest: Value) -> Pod {
        let pod = manifest::pod(self, &manifest);
        self.tell_symbols();
        pod
    }

    /// Assigns a pod, given as a manifest with a name, to a node.
    pub fn assign(&mut self, node: &str, manifest: Value) {
        let name = manifest["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let pod = manifest::pod(self, &manifest);
        let id = self.pods_told;
        self.pods_told += 1;
        self.pods.insert(name, id);
        let node = self.nodes[node];
        self.tell(Delta::PodUpserted(AssignedPod { id, node, pod }));
    }

    /// Removes an assigned pod.
    pub fn remove(&mut self, pod: &str) {
        let id = self.pods.remove(pod).expect("the pod was assigned");
        self.tell(Delta::PodRemoved(id));
    }

    /// Tells the labels of a namespace.
    pub fn namespace(&mut self, name: &str, labels: Value) {
        let namespace = self.symbol(name);
        let labels = manifest::labels(self, &labels);
        self.tell(Delta::NamespaceUpserted(NamespaceLabels { namespace, labels }));
    }

    /// Tells when an assigned pod started, in milliseconds since the Unix epoch.
    pub fn start(&mut self, pod: &str, at_ms: u64) {
        let id = self.pods[pod];
        self.tell(Delta::PodStarted((id, at_ms)));
    }

    /// Tells a disruption budget of the namespace `default`, given as a label selector, that allows so many.
    pub fn budget(&mut self, name: &str, selector: Value, allowed: i32) {
        let budget = Budget {
            namespace: self.symbol("default"),
            name: self.symbol(name),
            pods: manifest::selector(self, &selector),
            allowed,
            disrupted: Vec::new(),
        };
        self.tell(Delta::BudgetUpserted(budget));
    }

    /// The number of a node.
    pub fn node_id(&self, name: &str) -> NodeId {
        self.nodes[name]
    }

    /// The number of an assigned pod.
    pub fn pod_id(&self, name: &str) -> PodId {
        self.pods[name]
    }

    /// All nodes.
    pub fn everywhere(&self) -> NodeSet {
        self.nodes.values().copied().collect()
    }

    fn tell_symbols(&mut self) {
        if !self.fresh.is_empty() {
            let first = (self.symbols.len() - self.fresh.len()) as Symbol;
            let texts = std::mem::take(&mut self.fresh);
            self.runner
                .apply(false, vec![Delta::Symbols((first, texts))])
                .unwrap();
        }
    }

    fn tell(&mut self, delta: Delta) {
        self.tell_symbols();
        self.runner.apply(false, vec![delta]).unwrap();
    }

    fn label(&mut self, key: &str, value: &str) -> Label {
        Label {
            key: self.symbol(key),
            value: self.symbol(value),
        }
    }
}

#[allow(clippy::unwrap_used)]
impl<P: Filter> Bench<P> {
    /// The reasons against each node, by its name; nodes that can take the pod are absent.
    pub fn rejected(&mut self, pod: Value) -> BTreeMap<String, Vec<String>> {
        let pod = self.pod(pod);
        let rows = self.runner.filter(&pod, &self.everywhere()).unwrap();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            let nodes = NodeSet::from_words(row.nodes);
            for (name, _) in self.nodes.iter().filter(|(_, id)| nodes.contains(**id)) {
                found.entry(name.clone()).or_default().push(row.reason.clone());
            }
        }
        found
    }

    /// The names of the nodes that can take the pod.
    pub fn feasible(&mut self, pod: Value) -> Vec<String> {
        let rejected = self.rejected(pod);
        self.nodes
            .keys()
            .filter(|name| !rejected.contains_key(*name))
            .cloned()
            .collect()
    }
}

#[allow(clippy::unwrap_used)]
impl<P: Filter> Bench<P> {
    /// Whether the node can take the pod once some assigned pods are gone and others, given as manifests, are there.
    pub fn fits(&mut self, node: &str, pod: Value, without: &[&str], with: Vec<Value>) -> bool {
        let pod = self.pod(pod);
        let others: Vec<Pod> = with.into_iter().map(|other| self.pod(other)).collect();
        let hypothesis = Hypothesis {
            node: self.nodes[node],
            removed: without.iter().map(|name| self.pods[*name]).collect(),
            added: (0..others.len() as u32).collect(),
        };
        self.runner
            .what_if(&pod, &others, &[hypothesis])
            .unwrap()
            .is_empty()
    }
}

#[allow(clippy::unwrap_used)]
impl<P: Hints> Bench<P> {
    /// Whether the pod, which was rejected, is worth another try after an event on a node.
    pub fn hint(&mut self, kinds: EventKinds, node: &str, pod: Value) -> bool {
        let pod = self.pod(pod);
        let node = Some(self.nodes[node]);
        self.runner.hint(&[Event { kinds, node }], &pod).unwrap()
    }
}

impl<P: Permit> Bench<P> {
    /// What the policy says to a pod that is placed on the node.
    pub fn permit(&mut self, node: &str, pod: Value) -> Permission {
        let pod = self.pod(pod);
        let Runner { policy, cluster, .. } = &mut self.runner;
        policy.permit(cluster, &pod, self.nodes[node])
    }

    /// Which others go or stop because a pod that was placed on the node is not bound after all.
    pub fn withdrawn(&mut self, node: &str, pod: Value) -> Vec<Release> {
        let pod = self.pod(pod);
        let Runner { policy, cluster, .. } = &mut self.runner;
        policy.withdrawn(cluster, &pod, self.nodes[node])
    }
}

impl<P: PostFilter> Bench<P> {
    /// What the policy does for a pod that no node can take: the node and the pods to evict, or why none. `fits`
    /// answers its questions in place of the other policies.
    pub fn find_way(
        &mut self,
        pod: Value,
        nominated: Option<&str>,
        mut fits: impl FnMut(&Hypothesis) -> bool,
    ) -> Result<(String, Vec<String>), String> {
        let question = Question {
            pod: self.pod(pod),
            resolvable: self.everywhere().into_words(),
            nominated: nominated.map(|name| self.nodes[name]),
        };
        let Runner { policy, cluster, .. } = &mut self.runner;
        let mut step = policy.begin(cluster, question, 0);
        loop {
            step = match step {
                Step::Ask(asked) => {
                    let feasible = (0..).zip(&asked).filter(|(_, one)| fits(one));
                    policy.proceed(cluster, &feasible.map(|(number, _)| number).collect())
                }
                Step::GiveUp((why, _)) => return Err(why),
                Step::Nominate(nomination) => {
                    let name = |map: &BTreeMap<String, u32>, id: u32| {
                        let named = map.iter().find(|(_, other)| **other == id);
                        named.map(|(name, _)| name.clone()).unwrap_or_default()
                    };
                    let victims = nomination.victims.iter().map(|id| name(&self.pods, *id));
                    return Ok((name(&self.nodes, nomination.node), victims.collect()));
                }
            };
        }
    }
}

#[allow(clippy::unwrap_used)]
impl<P: Score> Bench<P> {
    /// The score of each node, by its name.
    pub fn scores(&mut self, pod: Value) -> BTreeMap<String, i32> {
        let pod = self.pod(pod);
        let scores = self.runner.score(&pod, &self.everywhere()).unwrap();
        let mut names: Vec<(&String, &NodeId)> = self.nodes.iter().collect();
        names.sort_by_key(|(_, id)| **id);
        names
            .into_iter()
            .map(|(name, _)| name.clone())
            .zip(scores)
            .collect()
    }
}
