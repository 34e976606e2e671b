//! What a scheduler policy is asked and answers, by step of a pod's way.
//!
//! Types mirror the interfaces of `capstan:scheduler`; see the WIT package for when each is asked.

use super::{NodeId, Pod, PodId};
use crate::Bits;

/// Whether a pod may enter the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Readiness {
    Ready,
    /// With what it waits for.
    Gated(String),
}

/// What of the nodes is worth asking a policy's filter about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Narrowing {
    /// Everything.
    All,
    /// Nothing: the filter has nothing against any node.
    Skip,
    /// Only these; the others are out for the reason, whatever is evicted.
    Only(Bits, String),
    /// No node can take the pod, and no eviction would help: why.
    Rejected(String),
}

/// One reason and all that it rules out: nodes, or hypotheses by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What users see in the event.
    pub reason: String,
    /// Whether evicting pods from the node could change the answer.
    pub resolvable: bool,
    /// What is ruled out.
    pub nodes: Bits,
}

/// The cluster as it is, but for one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hypothesis {
    /// The node.
    pub node: NodeId,
    /// Pods thought away from it.
    pub removed: Vec<PodId>,
    /// Pods thought onto it: positions among the question's others.
    pub added: Vec<u32>,
}

/// What preemption starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Nodes that are out for reasons that an eviction could lift, all of them.
    pub resolvable: Bits,
    /// The node that it was nominated to before.
    pub nominated: Option<NodeId>,
}

/// A step of a post-filter's dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What would be if?
    Ask(Vec<Hypothesis>),
    /// The pod is to go to the node once the victims are gone.
    Nominate {
        /// The node.
        node: NodeId,
        /// The most important first.
        victims: Vec<PodId>,
    },
    /// Nothing is to be done.
    GiveUp {
        /// Why, as users read it.
        reason: String,
        /// Whether an earlier nomination is void.
        clear: bool,
    },
}

/// Whether a step of the binding may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verdict {
    Accepted,
    /// Why not, as users read it.
    Rejected(String),
}

/// Whether a placed pod may be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Permit {
    Allow,
    /// At most so many milliseconds.
    Wait(u32),
    Rejected(String),
}

/// Word about a pod that waits for a policy's permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its uid.
    pub uid: String,
    /// Why it is rejected; none lets it go on.
    pub rejected: Option<String>,
}

/// How a pod is made ready for its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// With annotations to set together with the binding.
    Proceed(Vec<(String, String)>),
    /// Why it cannot be.
    Rejected(String),
}

/// Who binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Somebody else.
    Pass,
    /// The policy did.
    Bound,
    /// The policy would have and cannot.
    Rejected(String),
}

/// Kinds of change of the cluster, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EventKinds(pub u16);

#[allow(missing_docs)]
impl EventKinds {
    pub const NODE_ADDED: Self = Self(1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABELS: Self = Self(1 << 2);
    pub const NODE_TAINTS: Self = Self(1 << 3);
    pub const NODE_IMAGES: Self = Self(1 << 4);
    pub const POD_ADDED: Self = Self(1 << 5);
    pub const POD_REMOVED: Self = Self(1 << 6);
    pub const POD_LABELS: Self = Self(1 << 7);
    pub const POD_REQUESTS: Self = Self(1 << 8);
    pub const NAMESPACE_LABELS: Self = Self(1 << 9);
    pub const NODE_REMOVED: Self = Self(1 << 10);
    pub const ALL: Self = Self((1 << 11) - 1);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two have any kind in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is no kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A change of the cluster that may make a pod schedulable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// What happened, at once.
    pub kinds: EventKinds,
    /// Where.
    pub node: Option<NodeId>,
}
