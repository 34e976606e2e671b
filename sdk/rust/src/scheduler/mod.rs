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
//! The traits of all points are in the order of a pod's way in `wit/scheduler`; a policy implements those it
//! needs and names them in [`export!`](crate::export). [`Runner`] keeps the [`Cluster`] from deltas and loops over the candidates. Whatever costs more than
//! a few comparisons (strings, searches, allocation) belongs in `prepare_*`, which runs once a pod.

mod cluster;
mod column;
mod counts;
mod memo;
mod node_set;
pub mod normalize;
mod points;
mod resources;
mod runner;
mod selector;
mod steps;
mod symbols;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;
mod what_if;

pub use crate::wit::{
    scheduler_bind::exports::capstan::scheduler::bind::Binding,
    scheduler_enqueue::exports::capstan::scheduler::enqueue::Readiness,
    scheduler_hints::exports::capstan::scheduler::hints::{Event, EventKinds},
    scheduler_permit::exports::capstan::scheduler::permit::{Decision, Permission, Release},
    scheduler_post_filter::exports::capstan::scheduler::post_filter::{Nomination, Question, Step},
    scheduler_pre_bind::exports::capstan::scheduler::pre_bind::Preparation,
    scheduler_view::exports::capstan::scheduler::view::{Delta, Topics},
    types::capstan::scheduler::types::{
        Amount, AssignedPod, Budget, HostPort, Hypothesis, Image, Label, NamespaceLabels, Node as NodeFacts,
        NodeId, NodeTerm, Operator, Pod, PodId, PodTerm, Rejection as Row, Requirement, Selector,
        SpreadConstraint, Symbol, Taint, TaintEffect, Toleration, Verdict, WeightedNodeTerm, WeightedPodTerm,
        WhenUnsatisfiable,
    },
};
pub use cluster::{Amounts, Change, Cluster, Node};
pub use column::{ABSENT, LabelColumn};
pub use counts::{Counted, DomainCounts, PodCounts, PodSelector};
pub use node_set::NodeSet;
pub use points::{
    Bind, Enqueue, Filter, Hints, Narrowing, Permit, Policy, PostBind, PostFilter, PreBind, PreFilter,
    PreScore, QueueSort, Reserve, Score, WhatIf,
};
pub use runner::Runner;
pub use selector::{NodeSelector, ReadyTerm, matches, tolerates};
pub use symbols::Symbols;
pub use verdict::{Reason, Rejection};

/// A pod without anything: what [`Policy::trim`] leaves of one by struct update.
pub fn empty_pod() -> Pod {
    Pod {
        namespace: 0,
        name: String::new(),
        uid: String::new(),
        labels: Vec::new(),
        annotations: Vec::new(),
        priority: 0,
        preempts: true,
        created_ms: 0,
        terminating: false,
        preempted: false,
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
