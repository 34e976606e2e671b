//! Scheduler policies (`capstan:scheduler`): which nodes can take a pod, and which is best.
//!
//! Types mirror the WIT package one to one; see it for what each field means. A [`Policy`] keeps its own
//! copy of the cluster, fed by [`Delta`]s; the scheduler keeps it level by [`Policy::epoch`].

use crate::{Bits, Fault};

/// An interned string; 0 is the empty string.
pub type Symbol = u32;
/// A node's dense number.
pub type NodeId = u32;
/// An assigned pod's dense number.
pub type PodId = u32;

/// Counts batches of deltas since the scheduler started; 0 is "knows nothing".
pub type Epoch = u64;

/// A label or a node selector's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Label {
    pub key: Symbol,
    pub value: Symbol,
}

/// An amount of a resource in its own unit: millicores for `cpu`, bytes for memory, else pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Amount {
    pub resource: Symbol,
    pub value: i64,
}

/// A taint's or toleration's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Taint {
    pub key: Symbol,
    pub value: Symbol,
    pub effect: TaintEffect,
}

/// `exists` with the empty key tolerates everything; no effect tolerates all effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Toleration {
    pub key: Symbol,
    pub exists: bool,
    pub value: Symbol,
    pub effect: Option<TaintEffect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Image {
    pub name: Symbol,
    pub size_bytes: u64,
}

/// A node as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Node {
    pub id: NodeId,
    pub name: Symbol,
    pub labels: Vec<Label>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Vec<Amount>,
    pub images: Vec<Image>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Requirement {
    pub key: Symbol,
    pub operator: Operator,
    pub values: Vec<Symbol>,
}

/// All requirements must hold.
pub type Selector = Vec<Requirement>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct NodeTerm {
    pub labels: Selector,
    pub fields: Selector,
}

/// A preference with its weight (1 to 100).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Weighted<T> {
    pub weight: i32,
    pub term: T,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct PodTerm {
    pub pods: Option<Selector>,
    pub topology_key: Symbol,
    pub namespaces: Vec<Symbol>,
    pub namespace_selector: Option<Selector>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WhenUnsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SpreadConstraint {
    pub max_skew: i32,
    pub topology_key: Symbol,
    pub when_unsatisfiable: WhenUnsatisfiable,
    pub pods: Option<Selector>,
    pub min_domains: i32,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HostPort {
    pub protocol: Symbol,
    pub ip: Symbol,
    pub port: u16,
}

/// A pod as placement sees it, pending or assigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Pod {
    pub namespace: Symbol,
    /// Empty for an assigned pod.
    pub name: String,
    pub labels: Vec<Label>,
    pub annotations: Vec<(String, String)>,
    pub priority: i32,
    pub created_ms: u64,
    pub terminating: bool,
    pub requests: Vec<Amount>,
    pub requests_or_default: Vec<Amount>,
    pub node_name: Symbol,
    pub node_selector: Vec<Label>,
    pub node_required: Option<Vec<NodeTerm>>,
    pub node_preferred: Vec<Weighted<NodeTerm>>,
    pub affinity_required: Vec<PodTerm>,
    pub affinity_preferred: Vec<Weighted<PodTerm>>,
    pub anti_affinity_required: Vec<PodTerm>,
    pub anti_affinity_preferred: Vec<Weighted<PodTerm>>,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<SpreadConstraint>,
    pub host_ports: Vec<HostPort>,
    pub images: Vec<Symbol>,
}

/// One piece of news about the cluster, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
#[allow(clippy::large_enum_variant)] // Nearly all are pods; a box each would cost more than the room.
pub enum Delta {
    /// Texts of new symbols, consecutive from `first`.
    Symbols {
        first: Symbol,
        texts: Vec<String>,
    },
    NodeUpserted(Node),
    NodeRemoved(NodeId),
    PodUpserted {
        id: PodId,
        node: NodeId,
        pod: Pod,
    },
    PodRemoved(PodId),
    NamespaceUpserted {
        namespace: Symbol,
        labels: Vec<Label>,
    },
    NamespaceRemoved(Symbol),
}

/// Whether a pod may enter the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Readiness {
    Ready,
    /// With what it waits for.
    Gated(String),
}

/// One reason and all nodes that it rules out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rejection {
    /// What users see in the event.
    pub reason: String,
    /// Whether evicting pods from the node could change the answer.
    pub resolvable: bool,
    pub nodes: Bits,
}

/// What a policy exports, so that it is asked nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Asks {
    pub view: bool,
    pub enqueue: bool,
    pub filter: bool,
    pub score: bool,
}

/// A scheduler policy. Called from the scheduler's own thread, one call at a time.
pub trait Policy: Send + Sync {
    /// Which questions it answers.
    fn asks(&self) -> Asks;

    /// Weight of its score column, at least 1.
    fn weight(&self) -> i64;

    /// `schedulerName`s of the profiles that it serves.
    fn profiles(&self) -> &[String];

    /// The epoch that it last applied; 0 when its instance is new (also after a trap).
    fn epoch(&self) -> Epoch;

    /// Tells it what happened up to `epoch`. With `reset`, all earlier state is void.
    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault>;

    /// Whether the pod may enter the queue.
    fn enqueue(&self, pod: &Pod) -> Result<Readiness, Fault>;

    /// Which candidates cannot take the pod. Candidates in no row are feasible.
    fn filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault>;

    /// One score from 0 to 100 for each candidate in ascending order; the implementation has checked
    /// length and range.
    fn score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault>;
}

/// The cluster as the scheduler knows it now, for a policy that is about to take its seat.
pub trait Cluster: Send + Sync {
    /// All that a fresh policy must be told, and the epoch that it then stands at.
    fn snapshot(&self) -> (Epoch, Vec<Delta>);
}
