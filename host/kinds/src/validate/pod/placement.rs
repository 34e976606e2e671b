//! Rules of where a pod may go: affinity, tolerations, spreading; and of node selectors anywhere.
//! Invariants: the form alone; the scheduler finds out whether a place exists.

use std::collections::{HashMap, HashSet};

use crate::name;
use crate::validate::at::At;
use crate::validate::selector;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
pub(crate) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const BOTH: &str = "exists in both matchLabelKeys and labelSelector";

pub(super) fn affinity(spec: &At) {
    if let Some(node) = spec.some("affinity.nodeAffinity") {
        if let Some(required) = node.some(REQUIRED) {
            node_selector(&required);
        }
        for term in node.each(PREFERRED) {
            weight(&term);
            node_selector_term(&term.at("preference"), false);
        }
    }
    for kind in ["affinity.podAffinity", "affinity.podAntiAffinity"] {
        let Some(pods) = spec.some(kind) else { continue };
        pods.each(REQUIRED).for_each(|term| pod_term(&term));
        for term in pods.each(PREFERRED) {
            weight(&term);
            pod_term(&term.at("podAffinityTerm"));
        }
    }
}

fn weight(at: &At) {
    let weight = at.number("weight");
    if !(1..=100).contains(&weight) {
        at.invalid_as("weight", weight, "must be in the range 1-100");
    }
}

fn pod_term(at: &At) {
    selector::check(at, "labelSelector");
    selector::check(at, "namespaceSelector");
    for namespace in at.texts("namespaces") {
        for why in name::dns1123_label(namespace) {
            at.invalid_as("namespace", namespace, &why);
        }
    }
    label_keys(at);
    if at.text("topologyKey").is_empty() {
        at.required("topologyKey", "can not be empty");
    }
    at.name("topologyKey", name::qualified);
}

/// Keys whose values come from the pod itself.
fn label_keys(at: &At) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if at.count(field) == 0 {
            continue;
        }
        if at.has("labelSelector") {
            at.each(field).for_each(|key| key.name("", name::qualified));
        } else {
            at.forbidden(field, "must not be specified when labelSelector is not set");
        }
    }
    let keys: HashMap<&str, usize> = at
        .texts("matchLabelKeys")
        .enumerate()
        .map(|(index, key)| (key, index))
        .collect();
    let labels = at.map("labelSelector.matchLabels").into_iter().flatten();
    let mut selected: HashSet<&str> = labels.map(|(key, _)| key.as_str()).collect();
    for expression in at.each("labelSelector.matchExpressions") {
        let key = expression.text("key");
        if let Some(index) = keys.get(key)
            && selected.contains(key)
        {
            at.invalid_as(&format!("[{index}]"), key, BOTH);
        }
        selected.insert(key);
    }
    let mismatched: HashSet<&str> = at.texts("mismatchLabelKeys").collect();
    for key in at.each("matchLabelKeys") {
        if mismatched.contains(key.text("")) {
            key.invalid("", "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// A node selector: of pods, of volumes, of devices.
pub(crate) fn node_selector(at: &At) {
    if at.count("nodeSelectorTerms") == 0 {
        at.required("nodeSelectorTerms", "must have at least one node selector term");
    }
    at.each("nodeSelectorTerms")
        .for_each(|term| node_selector_term(&term, true));
}

fn node_selector_term(at: &At, values: bool) {
    for requirement in at.each("matchExpressions") {
        let count = requirement.count("values");
        match requirement.text("operator") {
            "In" | "NotIn" if count == 0 => {
                requirement.required("values", "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if count > 0 => requirement.forbidden(
                "values",
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if count != 1 => requirement.required(
                "values",
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => requirement.invalid_as("operator", other, "not a valid selector operator"),
        }
        requirement.name("key", name::qualified);
        if values {
            let values = requirement.each("values");
            values.for_each(|value| value.name("", name::label_value));
        }
    }
    for requirement in at.each("matchFields") {
        match requirement.text("operator") {
            "In" | "NotIn" if requirement.count("values") != 1 => requirement.required(
                "values",
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => requirement.invalid_as("operator", other, "not a valid selector operator"),
        }
        if requirement.text("key") == "metadata.name" {
            let values = requirement.each("values");
            values.for_each(|value| value.name("", name::dns1123_subdomain));
        } else {
            requirement.invalid_as("key", requirement.text("key"), "not a valid field selector key");
        }
    }
}

pub(crate) fn tolerations(at: &At, field: &str) {
    for toleration in at.each(field) {
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        toleration.may_name("key", name::qualified);
        if key.is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            toleration.invalid_as("operator", operator, why);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            toleration.invalid_as("effect", effect, why);
        }
        match operator {
            "" | "Equal" => {
                let problems = name::label_value(value);
                if !problems.is_empty() {
                    toleration.invalid_as("operator", value, &problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                toleration.invalid_as("operator", value, why);
            }
            "Exists" => {}
            "Lt" | "Gt" => toleration.unsupported("operator", &["Equal", "Exists", "Lt", "Gt"]),
            _ => toleration.unsupported("operator", &["Equal", "Exists"]),
        }
        toleration.one_of("effect", &EFFECTS);
    }
}

pub(super) fn spread(spec: &At) {
    const NOT_SCHEDULED: &str = "DoNotSchedule";
    let constraints: Vec<At> = spec.each("topologySpreadConstraints").collect();
    for (index, at) in constraints.iter().enumerate() {
        let skew = at.number("maxSkew");
        if skew <= 0 {
            at.invalid_as("maxSkew", skew, crate::validate::at::POSITIVE);
        }
        let (key, action) = (at.text("topologyKey"), at.text("whenUnsatisfiable"));
        if key.is_empty() {
            at.required("topologyKey", "can not be empty");
        }
        at.exactly_one_of("whenUnsatisfiable", &[NOT_SCHEDULED, "ScheduleAnyway"]);
        let again = constraints[index + 1..]
            .iter()
            .any(|other| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action);
        if again {
            let shown = format!("{{{key}, {action}}}");
            at.duplicate_as("{topologyKey, whenUnsatisfiable}", shown);
        }
        if at.has("minDomains") {
            at.positive("minDomains");
            if action != NOT_SCHEDULED {
                let why =
                    format!("can only use minDomains if whenUnsatisfiable={NOT_SCHEDULED}, not {action}");
                at.invalid("minDomains", &why);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if at.has(field) {
                at.exactly_one_of(field, &["Honor", "Ignore"]);
            }
        }
        label_keys(at);
        selector::check(at, "labelSelector");
    }
}
