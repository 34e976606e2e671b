//! From Kubernetes objects to what policies are told. Pure but for the interning of texts.

use std::collections::BTreeMap;

use capstan_kinds::quantity::Quantity;
use capstan_points::scheduler::{
    Amount, Budget, HostPort, Image, Label, Node, NodeTerm, Operator, Pod, PodId, PodTerm, Requirement,
    Selector, SpreadConstraint, Taint, TaintEffect, Toleration, Weighted, WhenUnsatisfiable,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::bind::PREEMPTED_REASON;
use crate::symbols::Symbols;

/// What a container that asks for nothing counts as in scoring (the original's `schedutil` defaults).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

type Amounts = BTreeMap<String, i64>;

/// The node without its number.
pub(crate) fn node(node: &core::Node, symbols: &mut Symbols) -> Node {
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
    let images = status
        .and_then(|status| status.images.as_ref())
        .into_iter()
        .flatten();
    Node {
        id: 0,
        name: symbols.intern(node.metadata.name.as_deref().unwrap_or_default()),
        labels: labels(node.metadata.labels.as_ref(), symbols),
        taints: spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|taint| {
                Some(Taint {
                    key: symbols.intern(&taint.key),
                    value: symbols.intern(taint.value.as_deref().unwrap_or_default()),
                    effect: effect(&taint.effect)?,
                })
            })
            .collect(),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: amounts(&quantities(allocatable), symbols),
        images: images
            .flat_map(|image| {
                let size_bytes = image.size_bytes.unwrap_or(0).max(0) as u64;
                image
                    .names
                    .iter()
                    .flatten()
                    .map(move |name| (name.clone(), size_bytes))
            })
            .map(|(name, size_bytes)| Image {
                name: symbols.intern(&name),
                size_bytes,
            })
            .collect(),
    }
}

/// The pod; `pending` pods carry their name and annotations too.
pub(crate) fn pod(pod: &core::Pod, pending: bool, symbols: &mut Symbols) -> Pod {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let default = core::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let near_required = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let near_preferred = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let apart_required = apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let apart_preferred = apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let on = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    Pod {
        namespace: symbols.intern(namespace),
        name: if pending {
            meta.name.clone().unwrap_or_default()
        } else {
            String::new()
        },
        uid: if pending {
            meta.uid.clone().unwrap_or_default()
        } else {
            String::new()
        },
        labels: labels(meta.labels.as_ref(), symbols),
        annotations: if pending {
            meta.annotations.clone().into_iter().flatten().collect()
        } else {
            Vec::new()
        },
        priority: spec.priority.unwrap_or(0),
        preempts: spec.preemption_policy.as_deref() != Some("Never"),
        created_ms: meta
            .creation_timestamp
            .as_ref()
            .map_or(0, |at| at.0.as_millisecond().max(0) as u64),
        terminating: meta.deletion_timestamp.is_some(),
        preempted: meta.deletion_timestamp.is_some() && was_preempted(pod),
        requests: amounts(&requests(spec, false), symbols),
        requests_or_default: amounts(&requests(spec, true), symbols),
        node_name: symbols.intern(if pending {
            spec.node_name.as_deref().unwrap_or_default()
        } else {
            ""
        }),
        node_selector: labels(spec.node_selector.as_ref(), symbols),
        node_required: on
            .and_then(|on| on.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|required| {
                required
                    .node_selector_terms
                    .iter()
                    .map(|term| node_term(term, symbols))
                    .collect()
            }),
        node_preferred: on
            .and_then(|on| on.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .map(|term| Weighted {
                weight: term.weight,
                term: node_term(&term.preference, symbols),
            })
            .collect(),
        affinity_required: pod_terms(near_required, namespace, symbols),
        affinity_preferred: weighted_pod_terms(near_preferred, namespace, symbols),
        anti_affinity_required: pod_terms(apart_required, namespace, symbols),
        anti_affinity_preferred: weighted_pod_terms(apart_preferred, namespace, symbols),
        tolerations: spec
            .tolerations
            .iter()
            .flatten()
            .map(|one| toleration(one, symbols))
            .collect(),
        spread: spec
            .topology_spread_constraints
            .iter()
            .flatten()
            .map(|one| spread(one, meta.labels.as_ref(), symbols))
            .collect(),
        host_ports: host_ports(spec, symbols),
        images: containers(spec)
            .filter_map(|container| container.image.as_deref())
            .map(|image| symbols.intern(image))
            .collect(),
    }
}

/// Whether the scheduler evicted the pod for another.
fn was_preempted(pod: &core::Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| {
        one.type_ == "DisruptionTarget"
            && one.status == "True"
            && one.reason.as_deref() == Some(PREEMPTED_REASON)
    })
}

/// When the pod started, in milliseconds since the Unix epoch; 0 where it has not.
pub(crate) fn started_ms(pod: &core::Pod) -> u64 {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.map_or(0, |at| at.0.as_millisecond().max(0) as u64)
}

/// The budget; pods whose eviction was granted are found by `pod_id`.
pub(crate) fn budget(
    budget: &PodDisruptionBudget,
    symbols: &mut Symbols,
    pod_id: impl Fn(&str) -> Option<PodId>,
) -> Budget {
    let meta = &budget.metadata;
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let status = budget.status.as_ref();
    let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
    Budget {
        namespace: symbols.intern(meta.namespace.as_deref().unwrap_or_default()),
        name: symbols.intern(meta.name.as_deref().unwrap_or_default()),
        pods: selector.map(|selector| label_selector(selector, symbols)),
        allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
        disrupted: disrupted
            .into_iter()
            .flatten()
            .filter_map(|(name, _)| pod_id(name))
            .collect(),
    }
}

/// Labels sorted by key, as the map is.
pub(crate) fn labels(map: Option<&BTreeMap<String, String>>, symbols: &mut Symbols) -> Vec<Label> {
    map.into_iter()
        .flatten()
        .map(|(key, value)| Label {
            key: symbols.intern(key),
            value: symbols.intern(value),
        })
        .collect()
}

fn containers(spec: &core::PodSpec) -> impl Iterator<Item = &core::Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn effect(text: &str) -> Option<TaintEffect> {
    match text {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn toleration(one: &core::Toleration, symbols: &mut Symbols) -> Toleration {
    Toleration {
        key: symbols.intern(one.key.as_deref().unwrap_or_default()),
        exists: one.operator.as_deref() == Some("Exists"),
        value: symbols.intern(one.value.as_deref().unwrap_or_default()),
        effect: one.effect.as_deref().and_then(effect),
    }
}

/// A quantity in its resource's unit; what cannot be read counts as nothing (admission refuses it).
fn value(resource: &str, quantity: &ApiQuantity) -> i64 {
    let Ok(quantity) = quantity.0.parse::<Quantity>() else {
        return 0;
    };
    if resource == "cpu" {
        quantity.milli_value()
    } else {
        quantity.as_i64_ceil()
    }
}

fn quantities(map: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    map.into_iter()
        .flatten()
        .map(|(resource, quantity)| (resource.clone(), value(resource, quantity)))
        .collect()
}

fn amounts(map: &Amounts, symbols: &mut Symbols) -> Vec<Amount> {
    map.iter()
        .map(|(resource, &value)| Amount {
            resource: symbols.intern(resource),
            value,
        })
        .collect()
}

fn container_requests(container: &core::Container, with_defaults: bool) -> Amounts {
    let mut asked = quantities(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    );
    if with_defaults {
        asked.entry("cpu".to_owned()).or_insert(DEFAULT_MILLI_CPU);
        asked.entry("memory".to_owned()).or_insert(DEFAULT_MEMORY_BYTES);
    }
    asked
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, value) in more {
        *sum.entry(resource.clone()).or_default() += value;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (resource, &value) in other {
        let entry = most.entry(resource.clone()).or_default();
        *entry = (*entry).max(value);
    }
}

/// The pod's effective requests, as the original's `PodRequests`: restartable init containers add up with
/// what runs beside them, others only raise the peak before the containers start.
fn requests(spec: &core::PodSpec, with_defaults: bool) -> Amounts {
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &container_requests(container, with_defaults));
    }
    let (mut beside, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut asked = container_requests(container, with_defaults);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &asked);
            add(&mut beside, &asked);
            raise(&mut peak, &beside);
        } else {
            add(&mut asked, &beside);
            raise(&mut peak, &asked);
        }
    }
    raise(&mut running, &peak);
    let whole = quantities(
        spec.resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    );
    running.extend(whole);
    add(&mut running, &quantities(spec.overhead.as_ref()));
    running.insert("pods".to_owned(), 1);
    running
}

fn operator(text: &str) -> Option<Operator> {
    Some(match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    })
}

fn requirement(
    key: &str,
    op: &str,
    values: Option<&Vec<String>>,
    symbols: &mut Symbols,
) -> Option<Requirement> {
    Some(Requirement {
        key: symbols.intern(key),
        operator: operator(op)?,
        values: values
            .into_iter()
            .flatten()
            .map(|value| symbols.intern(value))
            .collect(),
    })
}

fn node_term(term: &core::NodeSelectorTerm, symbols: &mut Symbols) -> NodeTerm {
    let mut selector = |list: Option<&Vec<core::NodeSelectorRequirement>>| -> Selector {
        list.into_iter()
            .flatten()
            .filter_map(|one| requirement(&one.key, &one.operator, one.values.as_ref(), symbols))
            .collect()
    };
    NodeTerm {
        labels: selector(term.match_expressions.as_ref()),
        fields: selector(term.match_fields.as_ref()),
    }
}

fn label_selector(selector: &LabelSelector, symbols: &mut Symbols) -> Selector {
    let mut all: Selector = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| Requirement {
            key: symbols.intern(key),
            operator: Operator::In,
            values: vec![symbols.intern(value)],
        })
        .collect();
    for one in selector.match_expressions.iter().flatten() {
        all.extend(requirement(&one.key, &one.operator, one.values.as_ref(), symbols));
    }
    all
}

/// Narrows `selector` to the pod's own values of `keys` (`matchLabelKeys`).
fn narrow(
    selector: &mut Selector,
    keys: Option<&Vec<String>>,
    own: Option<&BTreeMap<String, String>>,
    symbols: &mut Symbols,
) {
    for key in keys.into_iter().flatten() {
        if let Some(value) = own.and_then(|own| own.get(key)) {
            let values = vec![symbols.intern(value)];
            selector.push(Requirement {
                key: symbols.intern(key),
                operator: Operator::In,
                values,
            });
        }
    }
}

fn pod_term(term: &core::PodAffinityTerm, own_namespace: &str, symbols: &mut Symbols) -> PodTerm {
    let named = term.namespaces.iter().flatten();
    let mut namespaces: Vec<_> = named.map(|namespace| symbols.intern(namespace)).collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(symbols.intern(own_namespace));
    }
    PodTerm {
        pods: term
            .label_selector
            .as_ref()
            .map(|selector| label_selector(selector, symbols)),
        topology_key: symbols.intern(&term.topology_key),
        namespaces,
        namespace_selector: term
            .namespace_selector
            .as_ref()
            .map(|selector| label_selector(selector, symbols)),
    }
}

fn pod_terms(
    terms: Option<&Vec<core::PodAffinityTerm>>,
    namespace: &str,
    symbols: &mut Symbols,
) -> Vec<PodTerm> {
    terms
        .into_iter()
        .flatten()
        .map(|term| pod_term(term, namespace, symbols))
        .collect()
}

fn weighted_pod_terms(
    terms: Option<&Vec<core::WeightedPodAffinityTerm>>,
    namespace: &str,
    symbols: &mut Symbols,
) -> Vec<Weighted<PodTerm>> {
    terms
        .into_iter()
        .flatten()
        .map(|one| Weighted {
            weight: one.weight,
            term: pod_term(&one.pod_affinity_term, namespace, symbols),
        })
        .collect()
}

fn spread(
    one: &core::TopologySpreadConstraint,
    own: Option<&BTreeMap<String, String>>,
    symbols: &mut Symbols,
) -> SpreadConstraint {
    let mut pods = one
        .label_selector
        .as_ref()
        .map(|selector| label_selector(selector, symbols));
    if let Some(selector) = &mut pods {
        narrow(selector, one.match_label_keys.as_ref(), own, symbols);
    }
    SpreadConstraint {
        max_skew: one.max_skew,
        topology_key: symbols.intern(&one.topology_key),
        when_unsatisfiable: match one.when_unsatisfiable.as_str() {
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            _ => WhenUnsatisfiable::DoNotSchedule,
        },
        pods,
        min_domains: one.min_domains.unwrap_or(1).max(1),
        honor_affinity: one.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: one.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn host_ports(spec: &core::PodSpec, symbols: &mut Symbols) -> Vec<HostPort> {
    let mut found = Vec::new();
    for port in containers(spec).flat_map(|container| container.ports.iter().flatten()) {
        let number = if spec.host_network == Some(true) {
            Some(port.container_port)
        } else {
            port.host_port
        };
        let Some(number) = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|&number| number > 0)
        else {
            continue;
        };
        let ip = port
            .host_ip
            .as_deref()
            .filter(|ip| *ip != "0.0.0.0")
            .unwrap_or_default();
        found.push(HostPort {
            protocol: symbols.intern(port.protocol.as_deref().unwrap_or("TCP")),
            ip: symbols.intern(ip),
            port: number,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn amounts_of(spec: serde_json::Value) -> Amounts {
        requests(&serde_json::from_value(spec).unwrap(), false)
    }

    #[test]
    fn requests_are_the_larger_of_running_and_starting() {
        let amounts = amounts_of(json!({
            "containers": [
                { "name": "a", "resources": { "requests": { "cpu": "100m", "memory": "1Gi" } } },
                { "name": "b", "resources": { "requests": { "cpu": "0.2" } } },
            ],
            "initContainers": [
                { "name": "proxy", "restartPolicy": "Always", "resources": { "requests": { "cpu": "50m" } } },
                { "name": "load", "resources": { "requests": { "cpu": "1" } } },
            ],
            "overhead": { "memory": "1Mi" },
        }));
        assert_eq!(amounts["cpu"], 1050);
        assert_eq!(amounts["memory"], (1 << 30) + (1 << 20));
        assert_eq!(amounts["pods"], 1);
    }

    #[test]
    fn a_term_without_namespaces_means_the_pods_own() {
        let mut symbols = Symbols::default();
        let term: core::PodAffinityTerm =
            serde_json::from_value(json!({ "topologyKey": "zone", "labelSelector": {} })).unwrap();
        let own = symbols.intern("mine");
        assert_eq!(pod_term(&term, "mine", &mut symbols).namespaces, [own]);
    }
}
