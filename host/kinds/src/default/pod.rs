//! Defaults of pod specs, in pods and in the templates of workloads.
//! Invariants: a template gets what the original gives a template, which is less than a pod gets. The
//! service account of a pod is admission's to choose.

use serde_json::{Value, json};

use super::{Fields, each, made, object, put, put_text, text};
use crate::quantity::Quantity;
use crate::validate::resources;

/// Mode of files of a volume: 0644.
const FILE_MODE: i32 = 0o644;

/// Defaults of a pod spec anywhere.
pub(super) fn spec(spec: &mut Fields) {
    put_text(spec, "restartPolicy", "Always");
    put_text(spec, "dnsPolicy", "ClusterFirst");
    put_text(spec, "schedulerName", "default-scheduler");
    put(spec, "terminationGracePeriodSeconds", 30);
    put(spec, "securityContext", json!({}));
    one_service_account(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
    if let Some(overhead) = object(spec, "overhead") {
        round_up(overhead);
    }
    if let Some(resources) = object(spec, "resources") {
        round_up_all(resources);
    }
}

/// Amounts have at most three decimals.
fn round_up(amounts: &mut Fields) {
    for amount in amounts.values_mut() {
        if let Some(quantity) = amount.as_str().and_then(|text| text.parse::<Quantity>().ok()) {
            let rounded = Quantity::from_milli(quantity.milli_value(), quantity.format());
            if rounded != quantity {
                *amount = json!(rounded.to_string());
            }
        }
    }
}

fn round_up_all(resources: &mut Fields) {
    for kind in ["limits", "requests"] {
        if let Some(amounts) = object(resources, kind) {
            round_up(amounts);
        }
    }
}

/// Defaults that pods get and templates do not.
pub(super) fn pod(spec: &mut Fields) {
    put(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            if let Some(resources) = object(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    whole_pod(spec);
    let host_network = spec
        .get("hostNetwork")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            if host_network {
                for port in each(container, "ports") {
                    let unset = port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0;
                    if let Some(number) = port.get("containerPort").cloned().filter(|_| unset) {
                        port.insert("hostPort".to_string(), number);
                    }
                }
            }
        }
    }
}

/// The old and the new name of the service account field say the same.
fn one_service_account(spec: &mut Fields) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_string(),
        name => name.to_string(),
    };
    if !name.is_empty() {
        spec.insert("serviceAccountName".to_string(), json!(name));
        spec.insert("serviceAccount".to_string(), json!(name));
    }
}

/// What a whole pod may use of huge pages and asks for, where it says only part: what its containers do together.
fn whole_pod(spec: &mut Fields) {
    if !spec.contains_key("resources") {
        return;
    }
    let whole = Value::Object(spec.clone());
    let said = |kind: &str| {
        whole
            .pointer(&format!("/resources/{kind}"))
            .and_then(Value::as_object)
    };
    let count = |kind: &str| said(kind).map_or(0, serde_json::Map::len);
    if count("limits") + count("requests") == 0 {
        return;
    }
    let pages = resources::together(&whole, "limits");
    let pages = pages.into_iter().filter(|(name, _)| {
        let asked = said("requests").is_some_and(|requests| requests.contains_key(name));
        resources::is_huge_pages(name) && !asked
    });
    let asked = resources::together(&whole, "requests");
    let asked = asked
        .into_iter()
        .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    let Some(resources) = object(spec, "resources") else {
        return;
    };
    fill(resources, "limits", pages);
    let limits = object(resources, "limits")
        .map(|limits| limits.clone())
        .unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    fill(resources, "requests", asked);
    let limits = limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit.as_str()?.parse().ok()?)));
    let known = |name: &str| matches!(name, "cpu" | "memory") || resources::is_huge_pages(name);
    fill(resources, "requests", limits.filter(|(name, _)| known(name)));
}

/// Sets amounts that are not there; makes no list that would stay empty.
fn fill(resources: &mut Fields, kind: &str, amounts: impl Iterator<Item = (String, Quantity)>) {
    for (name, amount) in amounts {
        if let Some(list) = made(resources, kind) {
            list.entry(name).or_insert_with(|| json!(amount.to_string()));
        }
    }
}

fn requests_from_limits(resources: &mut Fields) {
    let Some(limits) = object(resources, "limits").map(|limits| limits.clone()) else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = made(resources, "requests") {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

fn container(container: &mut Fields) {
    let policy = pull_policy(text(container, "image"));
    put_text(container, "imagePullPolicy", policy);
    put_text(container, "terminationMessagePath", "/dev/termination-log");
    put_text(container, "terminationMessagePolicy", "File");
    put(container, "resources", json!({}));
    if let Some(resources) = object(container, "resources") {
        round_up_all(resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = object(lifecycle, name) {
                http_get(handler);
            }
        }
    }
    for variable in each(container, "env") {
        if let Some(reference) = object(variable, "valueFrom").and_then(|from| object(from, "fieldRef")) {
            put_text(reference, "apiVersion", "v1");
        }
    }
}

/// `Always` for an image that may change under its name: tagged `latest` or not at all.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
}

fn probe(probe: &mut Fields) {
    for (name, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        // Zero counts as not given.
        if probe.get(name).and_then(Value::as_i64).unwrap_or_default() == 0 {
            probe.insert(name.to_string(), json!(value));
        }
    }
    http_get(probe);
    if let Some(grpc) = object(probe, "grpc") {
        put(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = object(handler, "httpGet") {
        put_text(get, "path", "/");
        put_text(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Fields) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".to_string(), json!({}));
    }
    if let Some(image) = object(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        put_text(image, "pullPolicy", policy);
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, source) {
            put(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = object(volume, "hostPath") {
        put(path, "type", "");
    }
    if let Some(downward) = object(volume, "downwardAPI") {
        each(downward, "items").for_each(field_version);
    }
    if let Some(projected) = object(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                put(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = object(source, "downwardAPI") {
                each(downward, "items").for_each(field_version);
            }
        }
    }
    if let Some(claim) = object(volume, "ephemeral")
        .and_then(|ephemeral| object(ephemeral, "volumeClaimTemplate"))
        .and_then(|template| object(template, "spec"))
    {
        put_text(claim, "volumeMode", "Filesystem");
    }
}

fn field_version(item: &mut Fields) {
    if let Some(reference) = object(item, "fieldRef") {
        put_text(reference, "apiVersion", "v1");
    }
}
