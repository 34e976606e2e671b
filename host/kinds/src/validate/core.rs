//! Rules of configuration, nodes, namespaces and limits.
//! Invariants: one function a kind; kinds that are not named have only the rules of their metadata.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::address;
use super::at::{At, IMMUTABLE};
use super::pod::placement::EFFECTS;
use super::pod::resources;
use crate::name;
use crate::quantity::Quantity;

/// Bytes of all data of a config map or secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;
const SEALED: &str = "field is immutable when `immutable` is set";
const ACCOUNT: &str = "kubernetes.io/service-account.name";

fn bytes_of(value: &Value, encoded: bool) -> usize {
    let text = value.as_str().unwrap_or_default();
    if encoded {
        STANDARD
            .decode(text)
            .map_or(text.len() / 4 * 3, |bytes| bytes.len())
    } else {
        text.len()
    }
}

pub(super) fn config_map(object: &At, old: Option<&At>) {
    if let Some(old) = old {
        sealed(object, old, &["data", "binaryData"]);
    }
    let mut bytes = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object.keyed(field) {
            for why in name::config_key(key) {
                value.invalid_as("", key, &why);
            }
            let twice = field == "data" && object.map("binaryData").is_some_and(|map| map.contains_key(key));
            if twice {
                value.invalid_as("", key, "duplicate of key present in binaryData");
            }
            bytes += bytes_of(value.value(), field == "binaryData");
        }
    }
    if bytes > DATA_BYTES_MAX {
        object.too_long("", DATA_BYTES_MAX);
    }
}

/// Data of an object that said it would not change.
fn sealed(object: &At, old: &At, fields: &[&str]) {
    if !old.flag("immutable") {
        return;
    }
    if !object.flag("immutable") {
        object.forbidden("immutable", SEALED);
    }
    let data = |at: &At, field: &str| at.map(field).cloned().unwrap_or_default();
    for field in fields
        .iter()
        .filter(|field| data(object, field) != data(old, field))
    {
        object.forbidden(field, SEALED);
    }
}

pub(super) fn secret(object: &At, old: Option<&At>) {
    if let Some(old) = old {
        object.frozen("type", old);
        sealed(object, old, &["data"]);
    }
    let mut bytes = 0;
    for (key, value) in object.keyed("data") {
        for why in name::config_key(key) {
            value.invalid_as("", key, &why);
        }
        bytes += bytes_of(value.value(), true);
    }
    if bytes > DATA_BYTES_MAX {
        object.too_long("data", DATA_BYTES_MAX);
    }
    let empty = Map::new();
    let data = object.map("data").unwrap_or(&empty);
    let need = |key: &str| object.required(&format!("data[{key}]"), "");
    match object.text("type") {
        "kubernetes.io/service-account-token" => {
            let name = object
                .map("metadata.annotations")
                .and_then(|map| map.get(ACCOUNT)?.as_str())
                .unwrap_or_default();
            if name.is_empty() {
                object.required(&format!("metadata.annotations[{ACCOUNT}]"), "");
            }
        }
        "kubernetes.io/dockercfg" => registry_logins(object, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => registry_logins(object, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if keys.iter().all(|key| !data.contains_key(*key)) {
                keys.iter().for_each(|key| need(key));
            }
        }
        "kubernetes.io/ssh-auth" => {
            let key = data.get("ssh-privatekey").and_then(Value::as_str);
            if key.unwrap_or_default().is_empty() {
                need("ssh-privatekey");
            }
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"]
                .iter()
                .filter(|key| !data.contains_key(**key))
            {
                need(key);
            }
        }
        _ => {}
    }
}

/// Logins are JSON; what is wrong with them is told without showing them.
fn registry_logins(object: &At, data: &Map<String, Value>, key: &str) {
    let field = format!("data[{key}]");
    let Some(value) = data.get(key).and_then(Value::as_str) else {
        return object.required(&field, "");
    };
    let bytes = STANDARD.decode(value).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_string(),
        Err(_) => {
            let text = String::from_utf8_lossy(&bytes);
            let first = text.trim_start().chars().next().unwrap_or('\0');
            format!("invalid character '{first}' looking for beginning of value")
        }
    };
    object.invalid_as(&field, "<secret contents redacted>", &why);
}

pub(super) fn namespace(object: &At) {
    finalizers(object, |_| "spec.finalizers".to_string());
}

/// Finalizers of a namespace, as told at some place.
pub(super) fn finalizers(object: &At, place: impl Fn(usize) -> String) {
    for (index, finalizer) in object.texts("spec.finalizers").enumerate() {
        let field = place(index);
        for why in name::qualified(finalizer) {
            object.invalid_as(&field, finalizer, &why);
        }
        let known = ["kubernetes", "orphan", "foregroundDeletion"];
        if !finalizer.contains('/') && !known.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            object.invalid_as(&field, finalizer, why);
        }
    }
}

pub(super) fn namespace_status(new: &At) {
    let phase = new.text("status.phase");
    let (wanted, when) = if new.has("metadata.deletionTimestamp") {
        ("Terminating", "not empty")
    } else {
        ("Active", "empty")
    };
    if phase != wanted {
        let why = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        new.invalid_as("status.Phase", phase, &why);
    }
}

pub(super) fn node(object: &At, old: Option<&At>) {
    taints(&object.at("spec.taints").named("metadata.taints"));
    node_resources(object);
    let spec = object.at("spec");
    match old {
        None => {
            for network in spec.each("podCIDRs") {
                address::check_network(&network, "", network.text(""), &[]);
            }
            if !address::one_of_each_family(spec.texts("podCIDRs")) {
                let why = "may specify no more than one CIDR for each IP family";
                spec.invalid("podCIDRs", why);
            }
        }
        Some(old) => {
            let before = old.at("spec");
            if before.count("podCIDRs") > 0 && before.get("podCIDRs") != spec.get("podCIDRs") {
                let why = "node updates may not change podCIDR except from \"\" to valid";
                spec.forbidden("podCIDRs", why);
            }
            let id = before.text("providerID");
            if !id.is_empty() && id != spec.text("providerID") {
                let why = "node updates may not change providerID except from \"\" to valid";
                spec.forbidden("providerID", why);
            }
        }
    }
}

/// What a node reports that it has.
pub(super) fn node_resources(object: &At) {
    for list in ["status.capacity", "status.allocatable"] {
        for (name, amount) in object.keyed(list) {
            resources::amount(&amount.named(format!("{list}.{name}")), name);
        }
    }
    let mut seen = HashSet::new();
    for address in object.each("status.addresses") {
        if !seen.insert((address.text("type"), address.text("address"))) {
            address.duplicate("");
        }
    }
}

fn taints(list: &At) {
    let mut seen = HashSet::new();
    for taint in list.each("") {
        taint.name("key", name::qualified);
        let problems = name::label_value(taint.text("value"));
        if !problems.is_empty() {
            taint.invalid("value", &problems.join(";"));
        }
        taint.must_be_one_of("effect", &EFFECTS);
        if !seen.insert((taint.text("effect"), taint.text("key"))) {
            let mut error = super::FieldError::duplicate(taint.path(""), taint.value());
            error.message += ": taints must be unique by key and effect pair";
            taint.say(error);
        }
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(limit: &At, field: &str) -> Amounts {
    let amounts = limit.keyed(field);
    amounts
        .filter_map(|(name, amount)| Some((name.to_string(), amount.quantity("")?)))
        .collect()
}

pub(super) fn limit_range(object: &At) {
    let mut kinds = HashSet::new();
    for limit in object.each("spec.limits") {
        let kind = limit.text("type");
        let problems = name::qualified(kind);
        for why in &problems {
            limit.invalid_as("type", kind, why);
        }
        let standard = ["Pod", "Container", "PersistentVolumeClaim"];
        if problems.is_empty() && !kind.contains('/') && !standard.contains(&kind) {
            limit.invalid("type", "must be a standard limit type or fully qualified");
        }
        if !kinds.insert(kind) {
            limit.duplicate("type");
        }
        limit_item(&limit, kind);
    }
}

fn limit_item(limit: &At, kind: &str) {
    let names = |field: &str| {
        for (name, amount) in limit.keyed(field) {
            if matches!(kind, "Pod" | "Container") {
                resources::container_name(&amount, name);
            } else {
                resources::any_name(&amount, name);
            }
        }
    };
    names("max");
    names("min");
    for field in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names(field);
        } else if limit.count(field) > 0 {
            limit.forbidden(field, "may not be specified when `type` is 'Pod'");
        }
    }
    if kind == "PersistentVolumeClaim" {
        let sized = ["min", "max"]
            .iter()
            .any(|field| limit.map(field).is_some_and(|map| map.contains_key("storage")));
        if !sized {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            limit.required("limits", why);
        }
    }
    names("maxLimitRequestRatio");
    let [max, min, default, request, ratio] =
        ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
            .map(|field| amounts(limit, field));
    let defaults = kind != "Pod";
    let all: BTreeSet<&String> = [&max, &min, &default, &request, &ratio]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .collect();
    for name in all {
        let (low, high) = (min.get(name), max.get(name));
        let (usual, asked) = if defaults {
            (default.get(name), request.get(name))
        } else {
            (None, None)
        };
        ordered(limit, name, low, high, usual, asked);
        ratios(limit, name, low, high, ratio.get(name));
        if let (Some(usual), Some(asked)) = (usual, asked)
            && !resources::may_overcommit(name)
            && usual != asked
        {
            let why = format!("default value {usual} must equal to defaultRequest value {asked} in {name}");
            limit.invalid_as(&format!("defaultRequest[{name}]"), asked.to_string(), &why);
        }
    }
}

fn ordered(
    limit: &At,
    name: &str,
    low: Option<&Quantity>,
    high: Option<&Quantity>,
    usual: Option<&Quantity>,
    asked: Option<&Quantity>,
) {
    // What must not be more than what, the words for both, where it is told, and which of the two is shown.
    let rows = [
        (low, high, "min value", "max value", "min", true),
        (
            low,
            asked,
            "min value",
            "default request value",
            "defaultRequest",
            false,
        ),
        (
            asked,
            high,
            "default request value",
            "max value",
            "defaultRequest",
            true,
        ),
        (
            asked,
            usual,
            "default request value",
            "default limit value",
            "defaultRequest",
            true,
        ),
        (low, usual, "min value", "default value", "default", true),
        (usual, high, "default value", "max value", "default", false),
    ];
    for (less, more, first, second, field, show_first) in rows {
        let (Some(less), Some(more)) = (less, more) else {
            continue;
        };
        if less > more {
            let shown = if show_first { less } else { more };
            let why = format!("{first} {less} is greater than {second} {more}");
            limit.invalid_as(&format!("{field}[{name}]"), shown.to_string(), &why);
        }
    }
}

#[expect(clippy::cast_precision_loss)]
fn ratios(limit: &At, name: &str, low: Option<&Quantity>, high: Option<&Quantity>, ratio: Option<&Quantity>) {
    let Some(ratio) = ratio else { return };
    let field = format!("maxLimitRequestRatio[{name}]");
    let number = ratio.milli_value() as f64 / 1000.0;
    if number < 1.0 {
        limit.invalid_as(
            &field,
            ratio.to_string(),
            &format!("ratio {ratio} is less than 1"),
        );
    }
    if let (Some(low), Some(high)) = (low, high) {
        let most = high.milli_value() as f64 / low.milli_value() as f64;
        if number > most {
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            limit.invalid_as(&field, ratio.to_string(), &why);
        }
    }
}

const TERMINATING: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(super) fn quota(object: &At, old: Option<&At>) {
    quota_amounts(object, "spec.hard");
    let spec = object.at("spec");
    let hard: Vec<&str> = spec
        .map("hard")
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    for scope in spec.texts("scopes") {
        if !TERMINATING.contains(&scope) {
            spec.invalid("scopes", "unsupported scope");
        }
        for _ in hard.iter().filter(|name| !scope_applies(scope, name)) {
            spec.invalid("scopes", "unsupported scope applied to resource");
        }
    }
    conflicting(&spec, "scopes", spec.texts("scopes"));
    if let Some(selector) = spec.some("scopeSelector") {
        scope_selector(&spec, &selector, &hard);
    }
    let scopes = |at: &At| -> BTreeSet<String> { at.texts("spec.scopes").map(str::to_string).collect() };
    if old.is_some_and(|old| scopes(old) != scopes(object)) {
        spec.invalid("scopes", IMMUTABLE);
    }
}

/// Names and amounts of a quota.
pub(super) fn quota_amounts(object: &At, field: &str) {
    for (name, amount) in object.keyed(field) {
        resources::any_name(&amount, name);
        if !name.contains('/') && !resources::is_standard_quota(name) {
            amount.invalid_as("", name, "must be a standard resource for quota");
        }
        resources::amount(&amount, name);
    }
}

fn scope_applies(scope: &str, name: &str) -> bool {
    const COMPUTE: [&str; 6] = [
        "cpu",
        "memory",
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
    ];
    if !resources::is_standard_quota(name) {
        return true;
    }
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ if TERMINATING.contains(&scope) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    }
}

fn conflicting<'a>(spec: &At, told: &str, scopes: impl Iterator<Item = &'a str>) {
    let scopes: HashSet<&str> = scopes.collect();
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            let shown = spec.get("scopes").cloned().unwrap_or(Value::Null);
            spec.invalid_as(told, shown, "conflicting scopes");
        }
    }
}

fn scope_selector(spec: &At, selector: &At, hard: &[&str]) {
    const LIST: &str = "matchExpressions";
    let told = selector.at(LIST);
    for requirement in selector.each(LIST) {
        let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
        if !TERMINATING.contains(&scope) {
            told.invalid_as("scopeName", scope, "unsupported scope");
        }
        for _ in hard.iter().filter(|name| !scope_applies(scope, name)) {
            let shown = selector.value().clone();
            told.invalid_as("", shown, "unsupported scope applied to resource");
        }
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
            && TERMINATING.contains(&scope)
            && operator != "Exists"
        {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            told.invalid_as("operator", operator, why);
        }
        let count = requirement.count("values");
        match operator {
            "In" | "NotIn" if count == 0 => told.required(
                "values",
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if count != 0 => told.invalid_as(
                "values",
                requirement.get("values").cloned().unwrap_or(Value::Null),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => told.invalid_as("operator", operator, "not a valid selector operator"),
        }
    }
    let scopes = selector.each(LIST);
    conflicting(
        spec,
        "scopeSelector.matchExpressions",
        scopes.map(|one| one.text("scopeName")),
    );
}
