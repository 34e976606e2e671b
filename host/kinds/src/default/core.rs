//! Defaults of the core group.
//! Invariants: addresses and ports of services are the API server's allocator's to give; here only what
//! follows from the object itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Fields, each, is_empty, made, object, pod, put, put_text, text, workload};

pub(super) fn apply(kind: &str, document: &mut Fields) {
    match kind {
        "Pod" => {
            if let Some(spec) = object(document, "spec") {
                pod::spec(spec);
                pod::pod(spec);
            }
        }
        "PodTemplate" => {
            if let Some(spec) = object(document, "template").and_then(|template| object(template, "spec")) {
                pod::spec(spec);
            }
        }
        "ReplicationController" => workload::replication_controller(document),
        "Service" => service(document),
        "Secret" => secret(document),
        "Namespace" => namespace(document),
        "Node" => node(document),
        "PersistentVolumeClaim" => {
            if let Some(spec) = made(document, "spec") {
                put_text(spec, "volumeMode", "Filesystem");
            }
        }
        "PersistentVolume" => {
            if let Some(spec) = made(document, "spec") {
                put_text(spec, "volumeMode", "Filesystem");
                put_text(spec, "persistentVolumeReclaimPolicy", "Retain");
                if let Some(path) = object(spec, "hostPath") {
                    put(path, "type", "");
                }
            }
        }
        "Endpoints" => {
            for subset in each(document, "subsets") {
                each(subset, "ports").for_each(|port| put_text(port, "protocol", "TCP"));
            }
        }
        "LimitRange" => {
            if let Some(spec) = object(document, "spec") {
                each(spec, "limits").for_each(limit);
            }
        }
        _ => {}
    }
}

fn service(document: &mut Fields) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    put_text(spec, "type", "ClusterIP");
    put_text(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
    if text(spec, "sessionAffinity") == "ClientIP"
        && let Some(client) = made(spec, "sessionAffinityConfig").and_then(|config| made(config, "clientIP"))
    {
        put(client, "timeoutSeconds", 10_800);
    }
    for port in each(spec, "ports") {
        put_text(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        let unset = match port.get("targetPort") {
            None => true,
            Some(target) => target.as_i64() == Some(0) || target.as_str() == Some(""),
        };
        if unset {
            port.insert("targetPort".to_string(), number);
        }
    }
    let kind = text(spec, "type").to_string();
    if kind == "ExternalName" {
        return;
    }
    put_text(spec, "internalTrafficPolicy", "Cluster");
    put(spec, "ipFamilies", json!(["IPv4"]));
    put_text(spec, "ipFamilyPolicy", "SingleStack");
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if external || !is_empty(spec, "externalIPs") {
        put_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        put(spec, "allocateLoadBalancerNodePorts", true);
    }
    let address = text(spec, "clusterIP").to_string();
    if !address.is_empty() && is_empty(spec, "clusterIPs") {
        spec.insert("clusterIPs".to_string(), json!([address]));
    }
    if let Some(balancer) = made(document, "status").and_then(|status| made(status, "loadBalancer"))
        && kind == "LoadBalancer"
    {
        for ingress in each(balancer, "ingress") {
            if !text(ingress, "ip").is_empty() {
                put_text(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// Plain text becomes data; it wins over data of the same key.
fn secret(document: &mut Fields) {
    if let Some(Value::Object(plain)) = document.remove("stringData")
        && !plain.is_empty()
        && let Some(data) = made(document, "data")
    {
        for (key, value) in plain {
            data.insert(key, json!(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
    put_text(document, "type", "Opaque");
}

fn namespace(document: &mut Fields) {
    if let Some(spec) = made(document, "spec") {
        put(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(metadata) = object(document, "metadata") {
        let name = text(metadata, "name").to_string();
        if !name.is_empty()
            && let Some(labels) = made(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_string(), json!(name));
        }
    }
}

/// A node that reports only its capacity can allocate all of it.
fn node(document: &mut Fields) {
    put(document, "spec", json!({}));
    if let Some(status) = object(document, "status")
        && let Some(capacity) = status.get("capacity").cloned()
        && is_empty(status, "allocatable")
    {
        status.insert("allocatable".to_string(), capacity);
    }
}

fn limit(limit: &mut Fields) {
    if text(limit, "type") != "Container" {
        return;
    }
    let copy = |limit: &Fields, name: &str| limit.get(name).and_then(Value::as_object).cloned();
    for (target, source) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        if let (Some(from), Some(to)) = (copy(limit, source), made(limit, target)) {
            for (name, amount) in from {
                to.entry(name).or_insert(amount);
            }
        }
    }
}
