//! Remedies (`capstan:remedy`): what to do about a sick node, and when to undo it.

use crate::Fault;
pub use crate::problem::ConditionStatus;
pub use crate::scheduler::TaintEffect;

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: TaintEffect,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct NodeFacts {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Condition {
    pub type_name: String,
    pub status: ConditionStatus,
    pub reason: String,
    pub message: String,
    /// Since when it has had this status.
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Cordon,
    Uncordon,
    Taint(Taint),
    /// Key and effect; any value.
    Untaint(Taint),
    Drain,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Decision {
    pub action: Action,
    /// Why, for the event on the node.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PastAction {
    pub action: Action,
    pub at_ms: u64,
    pub succeeded: bool,
}

/// All that a remedy may weigh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Case {
    pub node: NodeFacts,
    pub conditions: Vec<Condition>,
    /// Its own actions on this node, oldest first, at most 64.
    pub history: Vec<PastAction>,
    /// How many further nodes it may put out of service.
    pub budget: u32,
    pub now_ms: u64,
}

/// A remedy. Called from a blocking thread, one call at a time.
pub trait Remedy: Send + Sync {
    /// Whether it looks after a node with these labels.
    fn selects(&self, node_labels: &std::collections::BTreeMap<String, String>) -> bool;

    /// How many nodes it may have out of service at once (`bind.nodes.budget`, default 1).
    fn budget(&self) -> u32;

    /// What to do now.
    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault>;
}
