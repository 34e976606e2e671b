//! From the manifests of nodes and pods, as JSON, to the contract's records.

use super::Bench;
use crate::scheduler::{
    Amount, HostPort, Image, Label, NodeFacts, NodeId, NodeTerm, Operator, Pod, PodTerm, Policy, Requirement,
    SpreadConstraint, Symbol, Taint, TaintEffect, Toleration, WeightedNodeTerm, WeightedPodTerm,
    WhenUnsatisfiable,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What scoring counts for a container that asks for nothing.
const CPU_DEFAULT_MILLI: i64 = 100;
const MEMORY_DEFAULT_BYTES: i64 = 200 << 20;

pub(super) fn node<P: Policy>(bench: &mut Bench<P>, id: NodeId, manifest: &Value) -> NodeFacts {
    let taints = each(&manifest["spec"]["taints"], |taint| Taint {
        key: symbol(bench, &taint["key"]),
        value: symbol(bench, &taint["value"]),
        effect: effect(text(&taint["effect"])).unwrap_or(TaintEffect::NoSchedule),
    });
    let images = each(&manifest["status"]["images"], |image| Image {
        name: symbol(bench, &image["names"][0]),
        size_bytes: image["sizeBytes"].as_u64().unwrap_or(0),
    });
    NodeFacts {
        id,
        name: symbol(bench, &manifest["metadata"]["name"]),
        labels: labels(bench, &manifest["metadata"]["labels"]),
        taints,
        unschedulable: manifest["spec"]["unschedulable"].as_bool().unwrap_or(false),
        allocatable: amounts(bench, &read_amounts(&manifest["status"]["allocatable"])),
        images,
    }
}

pub(super) fn pod<P: Policy>(bench: &mut Bench<P>, manifest: &Value) -> Pod {
    let (meta, spec) = (&manifest["metadata"], &manifest["spec"]);
    let affinity = &spec["affinity"];
    let (near, apart) = (&affinity["podAffinity"], &affinity["podAntiAffinity"]);
    let node_affinity = &affinity["nodeAffinity"];
    let namespace = match text(&meta["namespace"]) {
        "" => bench.symbol("default"),
        name => bench.symbol(name),
    };
    let (requests, requests_or_default) = requests(bench, &spec["containers"]);
    let annotations = members(&meta["annotations"])
        .map(|(key, value)| (key.clone(), text(value).to_owned()))
        .collect();
    let required = &node_affinity[REQUIRED]["nodeSelectorTerms"];
    Pod {
        namespace,
        name: text(&meta["name"]).to_owned(),
        uid: text(&meta["uid"]).to_owned(),
        labels: labels(bench, &meta["labels"]),
        annotations,
        priority: spec["priority"].as_i64().unwrap_or(0) as i32,
        preempts: text(&spec["preemptionPolicy"]) != "Never",
        created_ms: 0,
        terminating: meta.get("deletionTimestamp").is_some(),
        preempted: each(&manifest["status"]["conditions"], Value::clone)
            .iter()
            .any(|one| text(&one["type"]) == "DisruptionTarget"),
        requests,
        requests_or_default,
        node_name: symbol(bench, &spec["nodeName"]),
        node_selector: labels(bench, &spec["nodeSelector"]),
        node_required: required
            .is_array()
            .then(|| each(required, |term| node_term(bench, term))),
        node_preferred: each(&node_affinity[PREFERRED], |preferred| WeightedNodeTerm {
            weight: weight(preferred),
            term: node_term(bench, &preferred["preference"]),
        }),
        affinity_required: each(&near[REQUIRED], |term| pod_term(bench, namespace, term)),
        affinity_preferred: each(&near[PREFERRED], |term| weighted(bench, namespace, term)),
        anti_affinity_required: each(&apart[REQUIRED], |term| pod_term(bench, namespace, term)),
        anti_affinity_preferred: each(&apart[PREFERRED], |term| weighted(bench, namespace, term)),
        tolerations: each(&spec["tolerations"], |toleration| Toleration {
            key: symbol(bench, &toleration["key"]),
            exists: text(&toleration["operator"]) == "Exists",
            value: symbol(bench, &toleration["value"]),
            effect: effect(text(&toleration["effect"])),
        }),
        spread: each(&spec["topologySpreadConstraints"], |constraint| {
            spread(bench, constraint)
        }),
        host_ports: host_ports(bench, &spec["containers"]),
        images: each(&spec["containers"], |container| {
            symbol(bench, &container["image"])
        }),
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn each<T>(list: &Value, read: impl FnMut(&Value) -> T) -> Vec<T> {
    list.as_array().into_iter().flatten().map(read).collect()
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn symbol<P: Policy>(bench: &mut Bench<P>, value: &Value) -> Symbol {
    bench.symbol(text(value))
}

pub(super) fn labels<P: Policy>(bench: &mut Bench<P>, object: &Value) -> Vec<Label> {
    members(object)
        .map(|(key, value)| bench.label(key, text(value)))
        .collect()
}

fn effect(name: &str) -> Option<TaintEffect> {
    match name {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn weight(preferred: &Value) -> i32 {
    preferred["weight"].as_i64().unwrap_or(1) as i32
}

fn requirement<P: Policy>(bench: &mut Bench<P>, expression: &Value) -> Requirement {
    let operator = match text(&expression["operator"]) {
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => Operator::In,
    };
    let values = each(&expression["values"], |value| symbol(bench, value));
    Requirement {
        key: symbol(bench, &expression["key"]),
        operator,
        values,
    }
}

fn node_term<P: Policy>(bench: &mut Bench<P>, term: &Value) -> NodeTerm {
    NodeTerm {
        labels: each(&term["matchExpressions"], |expression| {
            requirement(bench, expression)
        }),
        fields: each(&term["matchFields"], |expression| requirement(bench, expression)),
    }
}

pub(super) fn selector<P: Policy>(bench: &mut Bench<P>, selector: &Value) -> Option<Vec<Requirement>> {
    selector.as_object()?;
    let labels = labels(bench, &selector["matchLabels"]).into_iter();
    let mut all: Vec<Requirement> = labels
        .map(|label| Requirement {
            key: label.key,
            operator: Operator::In,
            values: vec![label.value],
        })
        .collect();
    all.extend(each(&selector["matchExpressions"], |expression| {
        requirement(bench, expression)
    }));
    Some(all)
}

fn pod_term<P: Policy>(bench: &mut Bench<P>, own: Symbol, term: &Value) -> PodTerm {
    let mut namespaces = each(&term["namespaces"], |name| symbol(bench, name));
    let namespace_selector = selector(bench, &term["namespaceSelector"]);
    if namespaces.is_empty() && namespace_selector.is_none() {
        namespaces.push(own);
    }
    PodTerm {
        pods: selector(bench, &term["labelSelector"]),
        topology_key: symbol(bench, &term["topologyKey"]),
        namespaces,
        namespace_selector,
    }
}

fn weighted<P: Policy>(bench: &mut Bench<P>, own: Symbol, preferred: &Value) -> WeightedPodTerm {
    WeightedPodTerm {
        weight: weight(preferred),
        term: pod_term(bench, own, &preferred["podAffinityTerm"]),
    }
}

fn spread<P: Policy>(bench: &mut Bench<P>, constraint: &Value) -> SpreadConstraint {
    SpreadConstraint {
        max_skew: constraint["maxSkew"].as_i64().unwrap_or(1) as i32,
        topology_key: symbol(bench, &constraint["topologyKey"]),
        when_unsatisfiable: match text(&constraint["whenUnsatisfiable"]) {
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            _ => WhenUnsatisfiable::DoNotSchedule,
        },
        pods: selector(bench, &constraint["labelSelector"]),
        min_domains: constraint["minDomains"].as_i64().unwrap_or(1) as i32,
        honor_affinity: text(&constraint["nodeAffinityPolicy"]) != "Ignore",
        honor_taints: text(&constraint["nodeTaintsPolicy"]) == "Honor",
    }
}

fn host_ports<P: Policy>(bench: &mut Bench<P>, containers: &Value) -> Vec<HostPort> {
    let ports = containers
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|container| each(&container["ports"], Value::clone));
    let wanted = ports.filter(|port| port["hostPort"].as_u64().is_some_and(|number| number > 0));
    let port = |port: Value| HostPort {
        protocol: bench.symbol(port["protocol"].as_str().unwrap_or("TCP")),
        ip: bench.symbol(text(&port["hostIP"])),
        port: port["hostPort"].as_u64().unwrap_or(0) as u16,
    };
    wanted.map(port).collect()
}

fn requests<P: Policy>(bench: &mut Bench<P>, containers: &Value) -> (Vec<Amount>, Vec<Amount>) {
    let (mut sum, mut or_default) = (
        BTreeMap::from([("pods".to_owned(), 1)]),
        BTreeMap::from([("pods".to_owned(), 1)]),
    );
    for container in containers.as_array().into_iter().flatten() {
        let mut asked = read_amounts(&container["resources"]["requests"]);
        for (name, value) in &asked {
            *sum.entry(name.clone()).or_insert(0) += value;
        }
        asked.entry("cpu".into()).or_insert(CPU_DEFAULT_MILLI);
        asked.entry("memory".into()).or_insert(MEMORY_DEFAULT_BYTES);
        for (name, value) in asked {
            *or_default.entry(name).or_insert(0) += value;
        }
    }
    (amounts(bench, &sum), amounts(bench, &or_default))
}

fn amounts<P: Policy>(bench: &mut Bench<P>, amounts: &BTreeMap<String, i64>) -> Vec<Amount> {
    amounts
        .iter()
        .map(|(name, &value)| Amount {
            resource: bench.symbol(name),
            value,
        })
        .collect()
}

fn read_amounts(list: &Value) -> BTreeMap<String, i64> {
    members(list)
        .map(|(name, quantity)| (name.clone(), amount(name, quantity)))
        .collect()
}

/// Whole quantities with the suffixes that tests use: `m`, `Ki`, `Mi`, `Gi`, `Ti`.
fn amount(resource: &str, quantity: &Value) -> i64 {
    let text = quantity
        .as_str()
        .map_or_else(|| quantity.to_string(), str::to_owned);
    let number = text.trim_end_matches(|c: char| c.is_alphabetic());
    let value: i64 = number.parse().unwrap_or(0);
    match (&text[number.len()..], resource) {
        ("m", "cpu") => value,
        (_, "cpu") => value * 1000,
        ("Ki", _) => value << 10,
        ("Mi", _) => value << 20,
        ("Gi", _) => value << 30,
        ("Ti", _) => value << 40,
        _ => value,
    }
}
