//! From the scheduler point's types to the generated ones, field by field: lists of numbers throughout.

use capstan_points::scheduler::{self as point, WhenUnsatisfiable};

use crate::bindings::scheduler::capstan::scheduler::types as wit;
use crate::bindings::scheduler::exports::capstan::scheduler::{hints, view};

pub(super) fn pod(pod: &point::Pod) -> wit::Pod {
    wit::Pod {
        namespace: pod.namespace,
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        labels: labels(&pod.labels),
        annotations: pod.annotations.clone(),
        priority: pod.priority,
        preempts: pod.preempts,
        created_ms: pod.created_ms,
        terminating: pod.terminating,
        preempted: pod.preempted,
        requests: amounts(&pod.requests),
        requests_or_default: amounts(&pod.requests_or_default),
        node_name: pod.node_name,
        node_selector: labels(&pod.node_selector),
        node_required: pod
            .node_required
            .as_ref()
            .map(|terms| terms.iter().map(node_term).collect()),
        node_preferred: pod.node_preferred.iter().map(weighted_node_term).collect(),
        affinity_required: pod.affinity_required.iter().map(pod_term).collect(),
        affinity_preferred: pod.affinity_preferred.iter().map(weighted_pod_term).collect(),
        anti_affinity_required: pod.anti_affinity_required.iter().map(pod_term).collect(),
        anti_affinity_preferred: pod
            .anti_affinity_preferred
            .iter()
            .map(weighted_pod_term)
            .collect(),
        tolerations: pod.tolerations.iter().map(toleration).collect(),
        spread: pod.spread.iter().map(spread).collect(),
        host_ports: pod.host_ports.iter().map(host_port).collect(),
        images: pod.images.clone(),
    }
}

pub(super) fn delta(delta: &point::Delta) -> view::Delta {
    match delta {
        point::Delta::Symbols { first, texts } => view::Delta::Symbols((*first, texts.clone())),
        point::Delta::NodeUpserted(n) => view::Delta::NodeUpserted(node(n)),
        point::Delta::NodeRemoved(id) => view::Delta::NodeRemoved(*id),
        point::Delta::PodUpserted { id, node, pod: p } => view::Delta::PodUpserted(wit::AssignedPod {
            id: *id,
            node: *node,
            pod: pod(p),
        }),
        point::Delta::PodRemoved(id) => view::Delta::PodRemoved(*id),
        point::Delta::NamespaceUpserted { namespace, labels: l } => {
            view::Delta::NamespaceUpserted(wit::NamespaceLabels {
                namespace: *namespace,
                labels: labels(l),
            })
        }
        point::Delta::NamespaceRemoved(namespace) => view::Delta::NamespaceRemoved(*namespace),
        point::Delta::PodStarted(id, at_ms) => view::Delta::PodStarted((*id, *at_ms)),
        point::Delta::BudgetUpserted(budget) => view::Delta::BudgetUpserted(wit::Budget {
            namespace: budget.namespace,
            name: budget.name,
            pods: budget.pods.as_deref().map(selector),
            allowed: budget.allowed,
            disrupted: budget.disrupted.clone(),
        }),
        point::Delta::BudgetRemoved { namespace, name } => view::Delta::BudgetRemoved((*namespace, *name)),
    }
}

pub(super) fn hypothesis(hypothesis: &point::Hypothesis) -> wit::Hypothesis {
    wit::Hypothesis {
        node: hypothesis.node,
        removed: hypothesis.removed.clone(),
        added: hypothesis.added.clone(),
    }
}

pub(super) fn topics(topics: view::Topics) -> point::Topics {
    point::Topics {
        pods: topics.contains(view::Topics::PODS),
        starts: topics.contains(view::Topics::STARTS),
        namespaces: topics.contains(view::Topics::NAMESPACES),
        budgets: topics.contains(view::Topics::BUDGETS),
    }
}

/// The point's kind of each kind of the contract.
const EVENT_KINDS: [(hints::EventKinds, point::EventKinds); 11] = [
    (hints::EventKinds::NODE_ADDED, point::EventKinds::NODE_ADDED),
    (
        hints::EventKinds::NODE_ALLOCATABLE,
        point::EventKinds::NODE_ALLOCATABLE,
    ),
    (hints::EventKinds::NODE_LABELS, point::EventKinds::NODE_LABELS),
    (hints::EventKinds::NODE_TAINTS, point::EventKinds::NODE_TAINTS),
    (hints::EventKinds::NODE_IMAGES, point::EventKinds::NODE_IMAGES),
    (hints::EventKinds::POD_ADDED, point::EventKinds::POD_ADDED),
    (hints::EventKinds::POD_REMOVED, point::EventKinds::POD_REMOVED),
    (hints::EventKinds::POD_LABELS, point::EventKinds::POD_LABELS),
    (hints::EventKinds::POD_REQUESTS, point::EventKinds::POD_REQUESTS),
    (
        hints::EventKinds::NAMESPACE_LABELS,
        point::EventKinds::NAMESPACE_LABELS,
    ),
    (hints::EventKinds::NODE_REMOVED, point::EventKinds::NODE_REMOVED),
];

pub(super) fn event_kinds(kinds: hints::EventKinds) -> point::EventKinds {
    EVENT_KINDS
        .iter()
        .filter(|(theirs, _)| kinds.contains(*theirs))
        .fold(point::EventKinds::default(), |all, (_, ours)| all.and(*ours))
}

pub(super) fn event(event: &point::Event) -> hints::Event {
    let kinds = EVENT_KINDS
        .iter()
        .filter(|(_, ours)| event.kinds.meets(*ours))
        .fold(hints::EventKinds::empty(), |all, (theirs, _)| all | *theirs);
    hints::Event {
        kinds,
        node: event.node,
    }
}

fn node(node: &point::Node) -> wit::Node {
    wit::Node {
        id: node.id,
        name: node.name,
        labels: labels(&node.labels),
        taints: node
            .taints
            .iter()
            .map(|taint| wit::Taint {
                key: taint.key,
                value: taint.value,
                effect: effect(taint.effect),
            })
            .collect(),
        unschedulable: node.unschedulable,
        allocatable: amounts(&node.allocatable),
        images: node
            .images
            .iter()
            .map(|image| wit::Image {
                name: image.name,
                size_bytes: image.size_bytes,
            })
            .collect(),
    }
}

fn labels(labels: &[point::Label]) -> Vec<wit::Label> {
    labels
        .iter()
        .map(|label| wit::Label {
            key: label.key,
            value: label.value,
        })
        .collect()
}

fn amounts(amounts: &[point::Amount]) -> Vec<wit::Amount> {
    amounts
        .iter()
        .map(|amount| wit::Amount {
            resource: amount.resource,
            value: amount.value,
        })
        .collect()
}

fn effect(effect: point::TaintEffect) -> wit::TaintEffect {
    match effect {
        point::TaintEffect::NoSchedule => wit::TaintEffect::NoSchedule,
        point::TaintEffect::PreferNoSchedule => wit::TaintEffect::PreferNoSchedule,
        point::TaintEffect::NoExecute => wit::TaintEffect::NoExecute,
    }
}

fn selector(selector: &[point::Requirement]) -> Vec<wit::Requirement> {
    let operator = |operator| match operator {
        point::Operator::In => wit::Operator::In,
        point::Operator::NotIn => wit::Operator::NotIn,
        point::Operator::Exists => wit::Operator::Exists,
        point::Operator::DoesNotExist => wit::Operator::DoesNotExist,
        point::Operator::GreaterThan => wit::Operator::GreaterThan,
        point::Operator::LessThan => wit::Operator::LessThan,
    };
    selector
        .iter()
        .map(|r| wit::Requirement {
            key: r.key,
            operator: operator(r.operator),
            values: r.values.clone(),
        })
        .collect()
}

fn node_term(term: &point::NodeTerm) -> wit::NodeTerm {
    wit::NodeTerm {
        labels: selector(&term.labels),
        fields: selector(&term.fields),
    }
}

fn weighted_node_term(weighted: &point::Weighted<point::NodeTerm>) -> wit::WeightedNodeTerm {
    wit::WeightedNodeTerm {
        weight: weighted.weight,
        term: node_term(&weighted.term),
    }
}

fn pod_term(term: &point::PodTerm) -> wit::PodTerm {
    wit::PodTerm {
        pods: term.pods.as_deref().map(selector),
        topology_key: term.topology_key,
        namespaces: term.namespaces.clone(),
        namespace_selector: term.namespace_selector.as_deref().map(selector),
    }
}

fn weighted_pod_term(weighted: &point::Weighted<point::PodTerm>) -> wit::WeightedPodTerm {
    wit::WeightedPodTerm {
        weight: weighted.weight,
        term: pod_term(&weighted.term),
    }
}

fn toleration(toleration: &point::Toleration) -> wit::Toleration {
    wit::Toleration {
        key: toleration.key,
        exists: toleration.exists,
        value: toleration.value,
        effect: toleration.effect.map(effect),
    }
}

fn spread(constraint: &point::SpreadConstraint) -> wit::SpreadConstraint {
    wit::SpreadConstraint {
        max_skew: constraint.max_skew,
        topology_key: constraint.topology_key,
        when_unsatisfiable: match constraint.when_unsatisfiable {
            WhenUnsatisfiable::DoNotSchedule => wit::WhenUnsatisfiable::DoNotSchedule,
            WhenUnsatisfiable::ScheduleAnyway => wit::WhenUnsatisfiable::ScheduleAnyway,
        },
        pods: constraint.pods.as_deref().map(selector),
        min_domains: constraint.min_domains,
        honor_affinity: constraint.honor_affinity,
        honor_taints: constraint.honor_taints,
    }
}

fn host_port(port: &point::HostPort) -> wit::HostPort {
    wit::HostPort {
        protocol: port.protocol,
        ip: port.ip,
        port: port.port,
    }
}
