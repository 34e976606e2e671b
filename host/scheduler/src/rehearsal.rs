//! A cluster on paper: what a policy is told and asked about it, and where pods would go, without a scheduler.
//!
//! Conversion, feed and cycle are the scheduler's own, so that a policy is tried on what it will meet. Nothing is
//! written anywhere. Called by the plugin authors' commands and the scheduler's bench.

use std::collections::BTreeMap;

use capstan_points::scheduler::{Pod, Policy};
use capstan_points::{Bits, Fault, Seat};
use k8s_openapi::api::core::v1 as core;

use crate::cycle::{self, Outcome, Question, Way};
use crate::report;
use crate::view::View;
use crate::worker::{key_of, now_ms};

/// What came of a pod's cycle on paper.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It counts on this node now.
    Placed(String),
    /// Pods (`namespace/name`) are to leave this node first; nothing was changed.
    Evict {
        /// The node that would do then.
        node: String,
        /// Who must go.
        victims: Vec<String>,
    },
    /// No node can take it: why, as users read it.
    Unschedulable(String),
    /// A policy could not answer.
    Fault(String),
}

/// See the module.
#[derive(Default)]
pub struct Rehearsal {
    view: View,
}

impl Rehearsal {
    /// Adds a namespace.
    pub fn namespace(&mut self, object: &core::Namespace) {
        self.view.upsert_namespace(object);
    }

    /// Adds a node.
    pub fn node(&mut self, object: &core::Node) {
        self.view.upsert_node(object);
    }

    /// Adds a pod that runs on the node of its `spec.nodeName`.
    pub fn assigned(&mut self, object: &core::Pod) {
        let metadata = &object.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let key = format!("{}/{}", namespace.unwrap_or("default"), name.unwrap_or_default());
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        self.view.upsert_pod(&key, node.unwrap_or_default(), object);
    }

    /// A pod to place.
    pub fn pending(&mut self, object: &core::Pod) -> Pod {
        self.view.pending(object)
    }

    /// Tells the policy all that it does not know yet.
    ///
    /// # Errors
    /// When the policy cannot take it.
    pub fn level(&self, policy: &dyn Policy) -> Result<(), Fault> {
        self.view.level(policy)
    }

    /// Takes a pod (`namespace/name`) off its node.
    pub fn remove(&mut self, key: &str) {
        self.view.remove_pod(key);
    }

    /// Runs the pod's cycle with these policies, in their order, and counts it on the node that it gets.
    pub fn place(&mut self, object: &core::Pod, seats: &[Seat<dyn Policy>]) -> Decision {
        let pod = self.view.pending(object);
        let question = Question {
            pod: &pod,
            nominated: None,
            promises: &[],
            now_ms: now_ms(),
        };
        let name = |view: &View, node| view.node_name(node).unwrap_or_default().to_owned();
        match cycle::run(&self.view, seats, &question) {
            Outcome::Placed(node) => {
                let node = name(&self.view, node);
                self.view.assume(&key_of(object), &node, object);
                Decision::Placed(node)
            }
            Outcome::Unschedulable {
                way: Way::Evict { node, victims, .. },
                ..
            } => Decision::Evict {
                node: name(&self.view, node),
                victims: victims
                    .iter()
                    .filter_map(|id| Some(self.view.assigned(*id)?.0.to_owned()))
                    .collect(),
            },
            Outcome::Unschedulable {
                nodes,
                refusals,
                way: Way::None { reason, .. },
            } => Decision::Unschedulable(report::unschedulable(nodes, &refusals, &reason)),
            Outcome::Fault { plugin, fault } => Decision::Fault(format!("plugin {plugin:?}: {fault}")),
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> &Bits {
        self.view.nodes()
    }

    /// Names of these nodes, by number.
    pub fn names(&self, nodes: &Bits) -> BTreeMap<u32, String> {
        let name = |id| Some((id, self.view.node_name(id)?.to_owned()));
        nodes.iter().filter_map(name).collect()
    }
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}
