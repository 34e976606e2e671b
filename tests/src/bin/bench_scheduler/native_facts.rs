//! From the scheduler point's types to the SDK's, field by field, as `host/plugin` does for components.

use capstan_points::scheduler::{self as point, WhenUnsatisfiable};
use capstan_sdk::scheduler as sdk;

pub(crate) fn delta(delta: &point::Delta) -> sdk::Delta {
    match delta {
        point::Delta::Symbols { first, texts } => sdk::Delta::Symbols((*first, texts.clone())),
        point::Delta::NodeUpserted(one) => sdk::Delta::NodeUpserted(node(one)),
        point::Delta::NodeRemoved(id) => sdk::Delta::NodeRemoved(*id),
        point::Delta::PodUpserted { id, node, pod: one } => sdk::Delta::PodUpserted(sdk::AssignedPod {
            id: *id,
            node: *node,
            pod: pod(one),
        }),
        point::Delta::PodRemoved(id) => sdk::Delta::PodRemoved(*id),
        point::Delta::NamespaceUpserted {
            namespace,
            labels: all,
        } => sdk::Delta::NamespaceUpserted(sdk::NamespaceLabels {
            namespace: *namespace,
            labels: labels(all),
        }),
        point::Delta::NamespaceRemoved(namespace) => sdk::Delta::NamespaceRemoved(*namespace),
        point::Delta::PodStarted(id, at_ms) => sdk::Delta::PodStarted((*id, *at_ms)),
        point::Delta::BudgetUpserted(budget) => sdk::Delta::BudgetUpserted(sdk::Budget {
            namespace: budget.namespace,
            name: budget.name,
            pods: budget.pods.as_deref().map(selector),
            allowed: budget.allowed,
            disrupted: budget.disrupted.clone(),
        }),
        point::Delta::BudgetRemoved { namespace, name } => sdk::Delta::BudgetRemoved((*namespace, *name)),
    }
}

pub(crate) fn pod(pod: &point::Pod) -> sdk::Pod {
    sdk::Pod {
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

fn node(node: &point::Node) -> sdk::NodeFacts {
    sdk::NodeFacts {
        id: node.id,
        name: node.name,
        labels: labels(&node.labels),
        taints: node.taints.iter().map(taint).collect(),
        unschedulable: node.unschedulable,
        allocatable: amounts(&node.allocatable),
        images: node
            .images
            .iter()
            .map(|image| sdk::Image {
                name: image.name,
                size_bytes: image.size_bytes,
            })
            .collect(),
    }
}

fn labels(labels: &[point::Label]) -> Vec<sdk::Label> {
    let label = |label: &point::Label| sdk::Label {
        key: label.key,
        value: label.value,
    };
    labels.iter().map(label).collect()
}

fn amounts(amounts: &[point::Amount]) -> Vec<sdk::Amount> {
    let amount = |amount: &point::Amount| sdk::Amount {
        resource: amount.resource,
        value: amount.value,
    };
    amounts.iter().map(amount).collect()
}

fn effect(effect: point::TaintEffect) -> sdk::TaintEffect {
    match effect {
        point::TaintEffect::NoSchedule => sdk::TaintEffect::NoSchedule,
        point::TaintEffect::PreferNoSchedule => sdk::TaintEffect::PreferNoSchedule,
        point::TaintEffect::NoExecute => sdk::TaintEffect::NoExecute,
    }
}

fn taint(taint: &point::Taint) -> sdk::Taint {
    sdk::Taint {
        key: taint.key,
        value: taint.value,
        effect: effect(taint.effect),
    }
}

fn toleration(one: &point::Toleration) -> sdk::Toleration {
    sdk::Toleration {
        key: one.key,
        exists: one.exists,
        value: one.value,
        effect: one.effect.map(effect),
    }
}

fn requirement(one: &point::Requirement) -> sdk::Requirement {
    sdk::Requirement {
        key: one.key,
        operator: match one.operator {
            point::Operator::In => sdk::Operator::In,
            point::Operator::NotIn => sdk::Operator::NotIn,
            point::Operator::Exists => sdk::Operator::Exists,
            point::Operator::DoesNotExist => sdk::Operator::DoesNotExist,
            point::Operator::GreaterThan => sdk::Operator::GreaterThan,
            point::Operator::LessThan => sdk::Operator::LessThan,
        },
        values: one.values.clone(),
    }
}

fn selector(selector: &[point::Requirement]) -> Vec<sdk::Requirement> {
    selector.iter().map(requirement).collect()
}

fn node_term(term: &point::NodeTerm) -> sdk::NodeTerm {
    sdk::NodeTerm {
        labels: selector(&term.labels),
        fields: selector(&term.fields),
    }
}

fn weighted_node_term(one: &point::Weighted<point::NodeTerm>) -> sdk::WeightedNodeTerm {
    sdk::WeightedNodeTerm {
        weight: one.weight,
        term: node_term(&one.term),
    }
}

fn pod_term(term: &point::PodTerm) -> sdk::PodTerm {
    sdk::PodTerm {
        pods: term.pods.as_deref().map(selector),
        topology_key: term.topology_key,
        namespaces: term.namespaces.clone(),
        namespace_selector: term.namespace_selector.as_deref().map(selector),
    }
}

fn weighted_pod_term(one: &point::Weighted<point::PodTerm>) -> sdk::WeightedPodTerm {
    sdk::WeightedPodTerm {
        weight: one.weight,
        term: pod_term(&one.term),
    }
}

fn spread(one: &point::SpreadConstraint) -> sdk::SpreadConstraint {
    sdk::SpreadConstraint {
        max_skew: one.max_skew,
        topology_key: one.topology_key,
        when_unsatisfiable: match one.when_unsatisfiable {
            WhenUnsatisfiable::DoNotSchedule => sdk::WhenUnsatisfiable::DoNotSchedule,
            WhenUnsatisfiable::ScheduleAnyway => sdk::WhenUnsatisfiable::ScheduleAnyway,
        },
        pods: one.pods.as_deref().map(selector),
        min_domains: one.min_domains,
        honor_affinity: one.honor_affinity,
        honor_taints: one.honor_taints,
    }
}

fn host_port(one: &point::HostPort) -> sdk::HostPort {
    sdk::HostPort {
        protocol: one.protocol,
        ip: one.ip,
        port: one.port,
    }
}
