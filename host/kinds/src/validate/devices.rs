//! Rules of devices: classes of them, claims on them, and what a node has.
//! Invariants: a claim never changes; expressions are judged for their length alone.

use std::collections::{HashMap, HashSet};

use super::at::{At, IMMUTABLE, POSITIVE};
use super::metadata;
use super::pod::source::csi_driver;
use super::pod::{placement, resources};
use crate::name;
use crate::resource::Resource;

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const POOL_LENGTH_MAX: usize = 253;
const DEVICES_MAX: usize = 128;
const DEVICES_WITH_EXTRAS_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 32;
const TAINTS_MAX: usize = 16;
const RESERVED_MAX: usize = 256;
const MODES: [&str; 2] = ["All", "ExactCount"];
const EXACTLY_ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    match resource.kind.as_str() {
        "ResourceClaim" | "ResourceClaimTemplate" => {
            if let Some(old) = old {
                return object.frozen("spec", old);
            }
            if resource.kind == "ResourceClaim" {
                return claim(&spec.at("devices"));
            }
            metadata::template(&spec.at("metadata"), true);
            claim(&spec.at("spec.devices"));
        }
        "DeviceClass" => class(&spec),
        "ResourceSlice" => {
            slice(&spec);
            if let Some(old) = old {
                for field in ["pool.name", "driver", "nodeName"] {
                    spec.frozen(field, &old.at("spec"));
                }
            }
        }
        _ => {}
    }
}

/// Items of a list: not too many, each by its name once.
fn set<'a>(at: &At<'a>, field: &str, most: usize, key: &str, rule: impl Fn(&At<'a>)) {
    if at.count(field) > most {
        at.too_many(field, most);
    }
    let mut seen = HashSet::new();
    for item in at.each(field) {
        rule(&item);
        if !seen.insert(item.text(key)) {
            item.duplicate(key);
        }
    }
}

fn claim(at: &At) {
    set(at, "requests", REQUESTS_MAX, "name", request);
    let names = Names::of(at);
    for constraint in at.each("constraints") {
        set(&constraint, "requests", REQUESTS_MAX, "", |one| names.check(one));
        if constraint.has("matchAttribute") {
            qualified(&constraint.at("matchAttribute"));
        } else if constraint.has("distinctAttribute") {
            qualified(&constraint.at("distinctAttribute"));
        } else {
            let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            constraint.required("", why);
        }
    }
    for list in ["constraints", "config"] {
        if at.count(list) > REQUESTS_MAX {
            at.too_many(list, REQUESTS_MAX);
        }
    }
    for config in at.each("config") {
        set(&config, "requests", REQUESTS_MAX, "", |one| names.check(one));
        configuration(&config);
    }
}

/// The requests of a claim and the alternatives in each.
struct Names<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Names<'a> {
    fn of(devices: &At<'a>) -> Self {
        let requests = devices.each("requests");
        Self(
            requests
                .map(|request| {
                    let parts = request.each("firstAvailable").map(|one| one.text("name"));
                    (request.text("name"), parts.collect())
                })
                .collect(),
        )
    }

    fn check(&self, at: &At) {
        let text = at.text("");
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 2 {
            return at.invalid("", REFERENCE);
        }
        for part in &parts {
            for why in name::dns1123_label(part) {
                at.invalid_as("", *part, &why);
            }
        }
        let known = self
            .0
            .get(parts[0])
            .is_some_and(|inner| parts.get(1).is_none_or(|part| inner.contains(part)));
        if !known {
            at.invalid("", REFERENCE);
        }
    }
}

fn request(at: &At) {
    at.name("name", name::dns1123_label);
    let alternatives = at.count("firstAvailable") > 0;
    match (at.some("exactly"), alternatives) {
        (None, false) => at.required("", EXACTLY_ONE),
        (Some(_), true) => {
            let why = format!("{EXACTLY_ONE}, but multiple fields are set");
            at.invalid_as("", serde_json::Value::Null, &why);
        }
        (Some(exact), false) => exactly(&exact),
        (None, true) => set(at, "firstAvailable", ALTERNATIVES_MAX, "name", |one| {
            one.name("name", name::dns1123_label);
            exactly(one);
        }),
    }
}

fn exactly(at: &At) {
    at.must_name("deviceClassName", name::dns1123_subdomain);
    selectors(at);
    let count = at.number("count");
    match at.text("allocationMode") {
        "All" if count != 0 => {
            at.invalid("count", "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => at.invalid_as("count", count, POSITIVE),
        "All" | "ExactCount" => {}
        _ => at.unsupported("allocationMode", &MODES),
    }
    for toleration in at.each("tolerations") {
        toleration.may_name("key", name::qualified);
        match toleration.text("operator") {
            "Exists" => {
                if !toleration.text("value").is_empty() {
                    toleration.invalid("value", "must be empty for operator `Exists`");
                }
            }
            "Equal" => toleration.name("value", name::label_value),
            "" => toleration.required("operator", ""),
            _ => toleration.unsupported("operator", &["Equal", "Exists"]),
        }
        toleration.one_of("effect", &["NoExecute", "NoSchedule", "None"]);
    }
}

fn selectors(at: &At) {
    if at.count("selectors") > SELECTORS_MAX {
        at.too_many("selectors", SELECTORS_MAX);
    }
    for selector in at.each("selectors") {
        match selector.some("cel") {
            None => selector.required("cel", ""),
            Some(cel) if cel.text("expression").len() > EXPRESSION_BYTES_MAX => {
                cel.too_long("expression", EXPRESSION_BYTES_MAX);
            }
            Some(_) => {}
        }
    }
}

fn configuration(at: &At) {
    let Some(opaque) = at.some("opaque") else {
        return at.required("opaque", "");
    };
    csi_driver(&opaque, "driver");
    match opaque.get("parameters") {
        None => opaque.required("parameters", ""),
        Some(value) if !value.is_object() => {
            opaque.invalid_as("parameters", "<value omitted>", "must be a valid JSON object");
        }
        Some(value) if value.to_string().len() > PARAMETERS_BYTES_MAX => {
            opaque.too_long("parameters", PARAMETERS_BYTES_MAX);
        }
        Some(_) => {}
    }
}

/// A name with a domain in front.
fn qualified(at: &At) {
    let text = at.text("");
    let Some((domain, id)) = text.split_once('/') else {
        return if text.is_empty() {
            at.required("", "name is required")
        } else {
            at.invalid("", "must include a domain")
        };
    };
    for why in name::dns1123_subdomain(domain) {
        at.invalid_as("", domain, &why);
    }
    if id.is_empty() {
        at.required("", "the name must not be empty");
    } else if !super::names::is_identifier(id) {
        at.invalid_as("", id, "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')");
    }
}

fn class(spec: &At) {
    selectors(spec);
    if spec.count("config") > REQUESTS_MAX {
        spec.too_many("config", REQUESTS_MAX);
    }
    spec.each("config").for_each(|one| configuration(&one));
    let extended = spec.text("extendedResourceName");
    if spec.has("extendedResourceName") && !resources::is_extended(extended) {
        spec.invalid("extendedResourceName", "must be a valid extended resource name");
    }
}

fn slice(spec: &At) {
    csi_driver(spec, "driver");
    let pool = spec.at("pool");
    pool_name(&pool, "name");
    if pool.number("resourceSliceCount") <= 0 {
        pool.invalid_as("resourceSliceCount", pool.number("resourceSliceCount"), POSITIVE);
    }
    if pool.number("generation") < 0 {
        pool.invalid("generation", "must be greater than or equal to zero");
    }
    let given = places(spec, true);
    let fields =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => spec.required("", fields),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            let why = format!("{fields}, but multiple fields are set");
            spec.invalid_as("", shown, &why);
        }
    }
    if spec.has("sharedCounters") && spec.has("devices") {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        spec.invalid_as("", "", why);
    }
    let extras = spec
        .each("devices")
        .any(|device| device.count("taints") + device.count("consumesCounters") > 0);
    let most = if extras {
        DEVICES_WITH_EXTRAS_MAX
    } else {
        DEVICES_MAX
    };
    let apart = spec.flag("perDeviceNodeSelection");
    set(spec, "devices", most, "name", |one| device(one, apart));
    set(spec, "sharedCounters", ALTERNATIVES_MAX, "name", |counters| {
        counters.must_name("name", name::dns1123_label);
        if counters.count("counters") == 0 {
            counters.required("counters", "");
        }
    });
}

fn pool_name(at: &At, field: &str) {
    let name = at.text(field);
    if name.is_empty() {
        return at.required(field, "");
    }
    if name.len() > POOL_LENGTH_MAX {
        at.too_long(field, POOL_LENGTH_MAX);
    }
    for part in name.split('/') {
        for why in name::dns1123_subdomain(part) {
            at.invalid_as(field, part, &why);
        }
    }
}

/// Which of the fields say where devices are.
fn places(at: &At, whole: bool) -> Vec<&'static str> {
    let mut given = Vec::new();
    if at.has("nodeName") {
        if at.text("nodeName").is_empty() {
            let why = if whole {
                "must be either unset or set to a non-empty string"
            } else {
                "must not be empty"
            };
            at.invalid("nodeName", why);
        } else {
            given.push("`nodeName`");
            at.name("nodeName", name::dns1123_subdomain);
        }
    }
    if let Some(selector) = at.some("nodeSelector") {
        given.push("`nodeSelector`");
        placement::node_selector(&selector);
        if whole && selector.count("nodeSelectorTerms") != 1 {
            selector.invalid("nodeSelectorTerms", "must have exactly one node selector term");
        }
    }
    let flags = [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ];
    for (field, told) in flags.into_iter().filter(|(field, _)| at.has(field)) {
        if at.flag(field) {
            given.push(told);
        } else {
            at.invalid(field, "must be either unset or set to true");
        }
    }
    given
}

fn device(at: &At, apart: bool) {
    at.name("name", name::dns1123_label);
    let count = at.count("attributes") + at.count("capacity");
    if count > ATTRIBUTES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        at.invalid_as("", count, &why);
    }
    for (_, attribute) in at.keyed("attributes") {
        let kinds = ["int", "bool", "string", "version"];
        match kinds.iter().filter(|kind| attribute.has(kind)).count() {
            0 => attribute.required("", "exactly one value must be specified"),
            1 => {}
            _ => attribute.invalid("", "exactly one value must be specified"),
        }
    }
    if at.count("taints") > TAINTS_MAX {
        at.too_many("taints", TAINTS_MAX);
    }
    for taint in at.each("taints") {
        taint.name("key", name::qualified);
        taint.may_name("value", name::label_value);
        taint.must_be_one_of("effect", &["NoExecute", "NoSchedule", "None"]);
    }
    let fields = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if apart {
        let given = places(at, false);
        match given.len() {
            0 => at.required("", fields),
            1 => {}
            _ => at.invalid_as("", format!("{{{}}}", given.join(", ")), fields),
        }
    } else if ["nodeName", "nodeSelector", "allNodes"]
        .iter()
        .any(|field| at.has(field))
    {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        at.invalid_as("", serde_json::Value::Null, why);
    }
}

/// Who holds a claim, and what it was given.
pub(super) fn claim_status(new: &At, old: &At) {
    let status = new.at("status");
    set(&status, "reservedFor", RESERVED_MAX, "uid", |one| {
        one.need(&["resource", "name", "uid"]);
    });
    if status.count("reservedFor") > 0 && !status.has("allocation") {
        let why = "may not be specified when `allocated` is not set";
        status.forbidden("reservedFor", why);
    }
    let before = old.at("status");
    if status.has("allocation")
        && before.has("allocation")
        && status.get("allocation") != before.get("allocation")
    {
        status.invalid("allocation", IMMUTABLE);
    }
    if status.has("allocation") && !before.has("allocation") {
        let names = Names::of(&new.at("spec.devices"));
        for result in status.each("allocation.devices.results") {
            names.check(&result.at("request"));
            csi_driver(&result, "driver");
            pool_name(&result, "pool");
            result.name("device", name::dns1123_label);
        }
    }
}
