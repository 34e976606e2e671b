//! The traits that authors implement: one for each interface of `capstan:scheduler`, for one node or one pod.
//!
//! [`Policy`] is what all have in common. The loops over nodes, hypotheses and pods are `runner`'s, `what_if`'s
//! and `steps`'.

use super::{
    Binding, Change, Cluster, Event, EventKinds, Node, NodeId, NodeSet, Permission, Pod, Preparation,
    Question, Readiness, Reason, Rejection, Release, Step, Verdict,
};
use crate::Plugin;

/// What every scheduler policy has: what it keeps of the cluster, and what it does on news.
pub trait Policy: Plugin {
    /// Whether assigned pods are of interest at all. `false` keeps the tables small and news away.
    const PODS: bool = true;

    /// Whether it asks when assigned pods started ([`Cluster::started_ms`]).
    const STARTS: bool = false;

    /// Whether it asks for the labels of namespaces.
    const NAMESPACES: bool = true;

    /// Whether it asks for disruption budgets ([`Cluster::budgets`]).
    const BUDGETS: bool = false;

    /// Drops what the policy never reads of an assigned pod, before it is kept.
    fn trim(_pod: &mut Pod) {}

    /// Called after each change of the cluster's tables, for policies that keep counts of their own.
    fn on_change(&mut self, _cluster: &Cluster, _change: Change<'_>) {}
}

/// A policy that holds pods back before they are queued.
pub trait Enqueue: Policy {
    /// Whether the pod may be queued.
    fn check(&mut self, cluster: &Cluster, pod: &Pod) -> Readiness;
}

/// A policy that says in which order pods are tried.
pub trait QueueSort: Policy {
    /// Where the pod stands; lower ranks go first, equals by `queued_ms` (since the Unix epoch).
    fn rank(&mut self, cluster: &Cluster, pod: &Pod, queued_ms: u64) -> Vec<i64>;
}

/// What of the nodes is worth asking a filter about.
#[derive(Debug)]
pub enum Narrowing {
    /// Everything.
    All,
    /// Nothing: the filter has nothing against any node.
    Skip,
    /// Only these; the others are out for the reason, whatever is evicted.
    Only(NodeSet, Reason),
    /// No node can take the pod, and no eviction would help.
    Rejected(Reason),
}

/// A policy that can tell from the pod alone that few nodes are worth asking about.
pub trait PreFilter: Policy {
    /// Which nodes are.
    fn pre_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Narrowing;
}

/// A policy that rules nodes out.
pub trait Filter: Policy {
    /// Whether the verdict depends on the pod (but for its name, uid and age), the node and the node's pods alone:
    /// on no other node, and no pod of another one. A verdict then stands until the node changes and is not asked
    /// for again, many nodes can be thought of at once ([`WhatIf`]), and only the node that changed need be asked
    /// about ([`Hints`]).
    const NODE_LOCAL: bool = false;

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

/// A filter that looks at assigned pods. There is nothing to write: the tables are changed as the hypothesis has
/// it, the filter is asked, and the tables are changed back.
pub trait WhatIf: Filter {}

/// A filter that says when a pod that it rejected is worth another try.
pub trait Hints: Filter {
    /// What could make a pod schedulable that the filter rejected.
    fn interests() -> EventKinds;

    /// Whether the pod is worth another try after an event that interests the policy. By default it is where the
    /// filter now takes the node of the event, or any node unless [`Filter::NODE_LOCAL`]; then this is not asked.
    fn hint(&mut self, _cluster: &Cluster, _event: &Event, _pod: &Pod) -> Option<bool> {
        None
    }
}

/// A policy that finds room where there is none. It is a dialogue; see the WIT interface `post-filter`.
pub trait PostFilter: Policy {
    /// The first step.
    fn begin(&mut self, cluster: &Cluster, question: Question, now_ms: u64) -> Step;

    /// The next step, knowing which hypotheses leave a node that can take the pod.
    fn proceed(&mut self, cluster: &Cluster, feasible: &NodeSet) -> Step;
}

/// A scoring policy that can tell from the pod and the candidates that it has no preference.
pub trait PreScore: Policy {
    /// Whether scores are asked for.
    fn pre_score(&mut self, cluster: &Cluster, pod: &Pod, candidates: &NodeSet) -> bool;
}

/// A policy that prefers some nodes.
pub trait Score: Policy {
    /// Whether the raw score depends on the pod (but for its name, uid and age), the node and the node's pods alone,
    /// so that it stands until the node changes. `normalize` may still look at all scores.
    const NODE_LOCAL: bool = false;

    /// What is worked out once for a pod.
    type Prepared;

    /// Works out what `score` needs, knowing which nodes are left. `None` scores all nodes 0.
    fn prepare_score(&mut self, cluster: &Cluster, pod: &Pod, candidates: &NodeSet)
    -> Option<Self::Prepared>;

    /// The raw score of a node; higher is better unless `normalize` turns it around.
    fn score(&self, cluster: &Cluster, prepared: &Self::Prepared, pod: &Pod, node: Node<'_>) -> i64;

    /// Brings the raw scores of all candidates to 0 to 100; see [`normalize`](super::normalize).
    fn normalize(&self, _prepared: &Self::Prepared, _scores: &mut [i64]) {}
}

/// A policy that keeps books of its own of what pods take.
pub trait Reserve: Policy {
    /// The pod is assumed on the node.
    fn reserve(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId) -> Verdict;

    /// The pod does not go there after all; it may never have been reserved for.
    fn unreserve(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId);
}

/// A policy that may hold back a pod whose node is chosen.
pub trait Permit: Policy {
    /// Whether the pod may be bound, and which others may go on or not.
    fn permit(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId) -> Permission;

    /// A pod that this policy was asked to permit is not bound after all.
    fn withdrawn(&mut self, _cluster: &Cluster, _pod: &Pod, _node: NodeId) -> Vec<Release> {
        Vec::new()
    }
}

/// A policy that prepares what a pod needs on its node.
pub trait PreBind: Policy {
    /// The annotations that the pod gets with its binding, or why it cannot be bound.
    fn pre_bind(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId) -> Preparation;
}

/// A policy that binds pods itself.
pub trait Bind: Policy {
    /// Binds the pod, or leaves it to others.
    fn bind(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId) -> Binding;
}

/// A policy that wants to know of bindings.
pub trait PostBind: Policy {
    /// The binding was written.
    fn bound(&mut self, cluster: &Cluster, pod: &Pod, node: NodeId);
}
