//! Defaults of the groups around the workloads: networking, storage, access, extension.
//! Invariants: one function a kind, in the order of the groups; a kind that is not named has none.

use serde_json::{Value, json};

use super::{Fields, each, is_empty, made, object, put, put_text, text};
use crate::resource::Resource;

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn apply(resource: &Resource, document: &mut Fields) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => binding(document),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(&resource.version, document),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(document),
        ("networking.k8s.io", "IngressClass") => {
            if let Some(parameters) = object(document, "spec").and_then(|spec| object(spec, "parameters")) {
                put_text(parameters, "scope", "Cluster");
            }
        }
        ("networking.k8s.io", "Ingress") => {
            if let Some(status) = made(document, "status") {
                put(status, "loadBalancer", json!({}));
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => each(document, "ports").for_each(|port| {
            put(port, "name", "");
            put_text(port, "protocol", "TCP");
        }),
        ("scheduling.k8s.io", "PriorityClass") => {
            put_text(document, "preemptionPolicy", "PreemptLowerPriority");
            put(document, "value", 0);
        }
        ("storage.k8s.io", "StorageClass") => {
            put_text(document, "reclaimPolicy", "Delete");
            put_text(document, "volumeBindingMode", "Immediate");
        }
        ("storage.k8s.io", "CSIDriver") => csi_driver(document),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(document),
        ("apiregistration.k8s.io", "APIService") => {
            if let Some(service) = object(document, "spec").and_then(|spec| object(spec, "service")) {
                put(service, "port", 443);
            }
        }
        ("admissionregistration.k8s.io", kind) => admission(kind, document),
        ("flowcontrol.apiserver.k8s.io", kind) => flow_control(kind, document),
        ("resource.k8s.io", _) => device_requests(document),
        _ => {}
    }
}

fn binding(document: &mut Fields) {
    if let Some(role) = object(document, "roleRef") {
        put_text(role, "apiGroup", RBAC);
    }
    for subject in each(document, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            put_text(subject, "apiGroup", RBAC);
        }
    }
}

fn autoscaler(version: &str, document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    put(spec, "minReplicas", 1);
    if version == "v2" && is_empty(spec, "metrics") {
        spec.insert(
            "metrics".to_string(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]),
        );
    }
    if let Some(behavior) = object(spec, "behavior") {
        for (direction, window, policies) in [
            (
                "scaleUp",
                0,
                json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
            ),
            (
                "scaleDown",
                -1,
                json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
            ),
        ] {
            if let Some(rules) = made(behavior, direction) {
                put_text(rules, "selectPolicy", "Max");
                put(rules, "policies", policies);
                if window >= 0 {
                    put(rules, "stabilizationWindowSeconds", window);
                }
            }
        }
    }
}

fn network_policy(document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    if is_empty(spec, "policyTypes") {
        let types = if is_empty(spec, "egress") {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        spec.insert("policyTypes".to_string(), types);
    }
    put(spec, "podSelector", json!({}));
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            each(rule, "ports").for_each(|port| put_text(port, "protocol", "TCP"));
        }
    }
}

fn csi_driver(document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    put(spec, "attachRequired", true);
    for name in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        put(spec, name, false);
    }
    put_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if is_empty(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".to_string(), json!(["Persistent"]));
    }
}

fn definition(document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    if let Some(names) = object(spec, "names") {
        let kind = text(names, "kind").to_string();
        put_text(names, "singular", &kind.to_lowercase());
        put_text(names, "listKind", &format!("{kind}List"));
    }
    if let Some(conversion) = made(spec, "conversion") {
        put_text(conversion, "strategy", "None");
        if let Some(webhook) = object(conversion, "webhook") {
            client_config(webhook);
        }
    }
}

/// Where a webhook is called.
fn client_config(webhook: &mut Fields) {
    if let Some(service) = object(webhook, "clientConfig").and_then(|config| object(config, "service")) {
        put(service, "port", 443);
    }
}

fn admission(kind: &str, document: &mut Fields) {
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            for webhook in each(document, "webhooks") {
                put_text(webhook, "failurePolicy", "Fail");
                put_text(webhook, "matchPolicy", "Equivalent");
                put(webhook, "namespaceSelector", json!({}));
                put(webhook, "objectSelector", json!({}));
                put(webhook, "timeoutSeconds", 10);
                if kind.starts_with("Mutating") {
                    put_text(webhook, "reinvocationPolicy", "Never");
                }
                client_config(webhook);
                each(webhook, "rules").for_each(|rule| put_text(rule, "scope", "*"));
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let Some(spec) = made(document, "spec") else {
                return;
            };
            put_text(spec, "failurePolicy", "Fail");
            if let Some(resources) = object(spec, "matchConstraints") {
                match_resources(resources);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(resources) = object(document, "spec").and_then(|spec| object(spec, "matchResources"))
            {
                match_resources(resources);
            }
        }
        _ => {}
    }
}

fn match_resources(resources: &mut Fields) {
    put_text(resources, "matchPolicy", "Equivalent");
    put(resources, "namespaceSelector", json!({}));
    put(resources, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        each(resources, list).for_each(|rule| put_text(rule, "scope", "*"));
    }
}

fn flow_control(kind: &str, document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    if kind == "FlowSchema" {
        if spec
            .get("matchingPrecedence")
            .and_then(Value::as_i64)
            .unwrap_or_default()
            == 0
        {
            spec.insert("matchingPrecedence".to_string(), json!(1000));
        }
        return;
    }
    match text(spec, "type") {
        "Limited" => {
            let Some(limited) = made(spec, "limited") else {
                return;
            };
            put(limited, "nominalConcurrencyShares", 30);
            put(limited, "lendablePercent", 0);
            if let Some(response) = made(limited, "limitResponse") {
                put_text(response, "type", "Reject");
                if let Some(queuing) = object(response, "queuing") {
                    for (name, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                        put(queuing, name, value);
                    }
                }
            }
        }
        "Exempt" => {
            if let Some(exempt) = made(spec, "exempt") {
                put(exempt, "nominalConcurrencyShares", 0);
                put(exempt, "lendablePercent", 0);
            }
        }
        _ => {}
    }
}

/// Claims and their templates ask for exactly one device unless they say otherwise.
fn device_requests(document: &mut Fields) {
    let Some(mut spec) = object(document, "spec") else {
        return;
    };
    if spec.contains_key("spec") {
        let Some(inner) = object(spec, "spec") else { return };
        spec = inner;
    }
    let Some(devices) = object(spec, "devices") else {
        return;
    };
    for request in each(devices, "requests") {
        if let Some(exact) = object(request, "exactly") {
            exact_count(exact);
        }
        each(request, "firstAvailable").for_each(exact_count);
    }
}

fn exact_count(request: &mut Fields) {
    put_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        put(request, "count", 1);
    }
}
