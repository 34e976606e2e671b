//! Scheduler policies (`capstan:scheduler`): an author judges one node at a time.
//!
//! ```
//! use capstan_sdk::{scheduler::{Cluster, Filter, Node, Pod, Policy, Rejection}, Fault, NoConfig, Plugin};
//!
//! struct OnlyNamed;
//! impl Plugin for OnlyNamed {
//!     type Config = NoConfig;
//!     const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;
//!     fn new(_: NoConfig) -> Result<Self, Fault> { Ok(Self) }
//! }
//! impl Policy for OnlyNamed {}
//! impl Filter for OnlyNamed {
//!     type Prepared = ();
//!     fn prepare_filter(&mut self, _: &Cluster, _: &Pod) -> Option<()> { Some(()) }
//!     fn filter(&self, _: &Cluster, _: &(), pod: &Pod, node: Node<'_>) -> Result<(), Rejection> {
//!         if pod.node_name == node.name { Ok(()) } else { Err(Rejection::new("node(s) have another name")) }
//!     }
//! }
//! capstan_sdk::export!(scheduler: filter => OnlyNamed);
//! ```
//!
//! [`Runner`] keeps the [`Cluster`] from deltas and loops over the candidates. Whatever costs more than
//! a few comparisons (strings, searches, allocation) belongs in `prepare_*`, which runs once a pod.

mod cluster;
mod column;
mod counts;
mod node_set;
pub mod normalize;
mod resources;
mod runner;
mod selector;
mod symbols;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;

pub use crate::wit::{
    scheduler_enqueue::exports::capstan::scheduler::enqueue::Readiness,
    scheduler_filter::exports::capstan::scheduler::filter::Rejection as Row,
    scheduler_view::exports::capstan::scheduler::view::Delta,
    types::capstan::scheduler::types::{
        Amount, AssignedPod, HostPort, Image, Label, NamespaceLabels, Node as NodeFacts, NodeId, NodeTerm,
        Operator, Pod, PodId, PodTerm, Requirement, Selector, SpreadConstraint, Symbol, Taint, TaintEffect,
        Toleration, WeightedNodeTerm, WeightedPodTerm, WhenUnsatisfiable,
    },
};
pub use cluster::{Amounts, Change, Cluster, Node};
pub use column::{ABSENT, LabelColumn};
pub use counts::{Counted, DomainCounts, PodCounts, PodSelector};
pub use node_set::NodeSet;
pub use runner::Runner;
pub use selector::{NodeSelector, ReadyTerm, matches, tolerates};
pub use symbols::Symbols;
pub use verdict::{Reason, Rejection};

use crate::Plugin;

/// What every scheduler policy has: what it keeps of the cluster, and what it does on news.
pub trait Policy: Plugin {
    /// Whether assigned pods are of interest at all. `false` keeps the tables small.
    const PODS: bool = true;

    /// Drops what the policy never reads of an assigned pod, before it is kept.
    fn trim(_pod: &mut Pod) {}

    /// Called after each change of the cluster's tables, for policies that keep counts of their own.
    fn on_change(&mut self, _cluster: &Cluster, _change: Change<'_>) {}
}

/// A policy that rules nodes out.
pub trait Filter: Policy {
    /// What is worked out once for a pod.
    type Prepared;

    /// Works out what `filter` needs. `None` rules no node out, and `filter` is not asked.
    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<Self::Prepared>;

    /// Whether the node can take the pod.
    fn filter(
        &self,
        cluster: &Cluster,
        prepared: &Self::Prepared,
        pod: &Pod,
        node: Node<'_>,
    ) -> Result<(), Rejection>;
}

/// A policy that prefers some nodes.
pub trait Score: Policy {
    /// What is worked out once for a pod.
    type Prepared;

    /// Works out what `score` needs, knowing which nodes are left. `None` scores all nodes 0.
    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, candidates: &NodeSet)
    -> Option<Self::Prepared>;

    /// The raw score of a node; higher is better unless `normalize` turns it around.
    fn score(&self, cluster: &Cluster, prepared: &Self::Prepared, pod: &Pod, node: Node<'_>) -> i64;

    /// Brings the raw scores of all candidates to 0 to 100; see [`normalize`].
    fn normalize(&self, _prepared: &Self::Prepared, _scores: &mut [i64]) {}
}

/// A policy that holds pods back before they are queued.
pub trait Enqueue: Policy {
    /// Whether the pod may be queued.
    fn check(&mut self, pod: &Pod) -> Readiness;
}

/// A pod without anything: what [`Policy::trim`] leaves of one by struct update.
pub fn empty_pod() -> Pod {
    Pod {
        namespace: 0,
        name: String::new(),
        labels: Vec::new(),
        annotations: Vec::new(),
        priority: 0,
        created_ms: 0,
        terminating: false,
        requests: Vec::new(),
        requests_or_default: Vec::new(),
        node_name: 0,
        node_selector: Vec::new(),
        node_required: None,
        node_preferred: Vec::new(),
        affinity_required: Vec::new(),
        affinity_preferred: Vec::new(),
        anti_affinity_required: Vec::new(),
        anti_affinity_preferred: Vec::new(),
        tolerations: Vec::new(),
        spread: Vec::new(),
        host_ports: Vec::new(),
        images: Vec::new(),
    }
}
