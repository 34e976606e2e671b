//! A cluster on paper: what a policy is told and asked about it, without a scheduler.
//!
//! The conversion and the feed are the scheduler's own, so that a policy is tried on what it will meet. Called
//! by the plugin authors' commands.

use std::collections::BTreeMap;

use capstan_points::scheduler::{Pod, Policy};
use capstan_points::{Bits, Fault};
use k8s_openapi::api::core::v1 as core;

use crate::view::View;

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
