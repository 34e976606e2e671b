//! What a scheduler policy is told: nodes, pods, namespaces and budgets in dense numbers and symbols.
//!
//! Types mirror `capstan:scheduler/types` one to one; see the WIT package for what each field means.

/// An interned string; 0 is the empty string.
pub type Symbol = u32;
/// A node's dense number.
pub type NodeId = u32;
/// An assigned pod's dense number.
pub type PodId = u32;

/// A label or a node selector's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Label {
    pub key: Symbol,
    pub value: Symbol,
}

/// An amount of a resource in its own unit: millicores for `cpu`, bytes for memory, else pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Amount {
    pub resource: Symbol,
    pub value: i64,
}

/// A taint's or toleration's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Taint {
    pub key: Symbol,
    pub value: Symbol,
    pub effect: TaintEffect,
}

/// `exists` with the empty key tolerates everything; no effect tolerates all effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Toleration {
    pub key: Symbol,
    pub exists: bool,
    pub value: Symbol,
    pub effect: Option<TaintEffect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Image {
    pub name: Symbol,
    pub size_bytes: u64,
}

/// A node as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Requirement {
    pub key: Symbol,
    pub operator: Operator,
    pub values: Vec<Symbol>,
}

/// All requirements must hold.
pub type Selector = Vec<Requirement>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub struct NodeTerm {
    pub labels: Selector,
    pub fields: Selector,
}

/// A preference with its weight (1 to 100).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Weighted<T> {
    pub weight: i32,
    pub term: T,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub struct PodTerm {
    pub pods: Option<Selector>,
    pub topology_key: Symbol,
    pub namespaces: Vec<Symbol>,
    pub namespace_selector: Option<Selector>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum WhenUnsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct HostPort {
    pub protocol: Symbol,
    pub ip: Symbol,
    pub port: u16,
}

/// A pod as placement sees it, pending or assigned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub struct Pod {
    pub namespace: Symbol,
    /// Empty for an assigned pod.
    pub name: String,
    /// Empty for an assigned pod.
    pub uid: String,
    pub labels: Vec<Label>,
    pub annotations: Vec<(String, String)>,
    pub priority: i32,
    /// `preemptionPolicy` is not `Never`.
    pub preempts: bool,
    pub created_ms: u64,
    pub terminating: bool,
    /// It is terminating because the scheduler evicted it for another pod.
    pub preempted: bool,
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
    /// Milliseconds since the Unix epoch.
    PodStarted(PodId, u64),
    BudgetUpserted(Budget),
    BudgetRemoved {
        namespace: Symbol,
        name: Symbol,
    },
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Budget {
    pub namespace: Symbol,
    pub name: Symbol,
    pub pods: Option<Selector>,
    pub allowed: i32,
    /// Whose eviction was granted already.
    pub disrupted: Vec<PodId>,
}
