//! Rules of services.
//! Invariants: which addresses and node ports are free is the allocator's to say; here only their form and
//! how they may change.

use std::collections::HashSet;

use serde_json::json;

use super::address;
use super::at::{At, PORT_MAX};
use super::pod::PROTOCOLS;
use super::selector;
use crate::name;

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const ONCE: &str = "may not change once set";
/// Longest time that a client sticks to a pod.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// A service, new or changed.
pub(super) fn check(object: &At, old: Option<&At>) {
    let annotation = |key: &str| object.map("metadata.annotations")?.get(key)?.as_str();
    if let (Some(mode), Some(hints)) = (annotation(MODE), annotation(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        object.invalid_as(&format!("metadata.annotations[{MODE}]"), mode, &why);
    }
    let spec = object.at("spec");
    let kind = spec.text("type");
    if let Some(old) = old {
        changed(&spec, &old.at("spec"));
    }
    if spec.count("ports") == 0 && !is_headless(&spec) && kind != "ExternalName" {
        spec.required("ports", "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(&spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            spec.invalid_as("clusterIPs[0]", "None", &why);
        }
        "ExternalName" => external_name(&spec),
        _ => {}
    }
    ports(&spec);
    selector::labels(&spec, "selector");
    affinity(&spec);
    addresses(&spec, old);
    let known: Vec<&str> = old
        .map(|old| old.texts("spec.externalIPs").collect())
        .unwrap_or_default();
    for external in spec.each("externalIPs") {
        if address::check(&external, "", &known) {
            address::check_remote(&external, "");
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    spec.must_be_one_of("type", &types);
    unique_ports(&spec);
    source_ranges(object, &spec, old);
    let allocate = "allocateLoadBalancerNodePorts";
    if spec.has(allocate) && kind != "LoadBalancer" {
        spec.forbidden(allocate, "may only be used when `type` is 'LoadBalancer'");
    }
    match (kind == "LoadBalancer", spec.has("loadBalancerClass")) {
        (true, true) => spec.name("loadBalancerClass", name::qualified),
        (false, true) => {
            let why = "may only be used when `type` is 'LoadBalancer'";
            spec.forbidden("loadBalancerClass", why);
        }
        _ => {}
    }
    traffic(&spec);
}

fn is_headless(spec: &At) -> bool {
    spec.texts("clusterIPs").eq(["None"])
        || (spec.count("clusterIPs") == 0 && spec.text("clusterIP") == "None")
}

fn external_name(spec: &At) {
    for field in ["clusterIPs", "ipFamilies"] {
        if spec.count(field) > 0 {
            spec.forbidden(field, "may not be set for ExternalName services");
        }
    }
    if spec.has("ipFamilyPolicy") {
        spec.forbidden("ipFamilyPolicy", "may not be set for ExternalName services");
    }
    let target = spec.text("externalName");
    let target = target.strip_suffix('.').unwrap_or(target);
    if target.is_empty() {
        return spec.required("externalName", "");
    }
    for why in name::dns1123_subdomain(target) {
        spec.invalid_as("externalName", target, &why);
    }
}

fn ports(spec: &At) {
    let several = spec.count("ports") > 1;
    let mut names = HashSet::new();
    for port in spec.each("ports") {
        let name = port.text("name");
        if name.is_empty() && several {
            port.required("name", "");
        } else if !name.is_empty() {
            port.name("name", name::dns1123_label);
            if !names.insert(name) {
                port.duplicate("name");
            }
        }
        port.number_in("port", 1, PORT_MAX);
        port.must_be_one_of("protocol", &PROTOCOLS);
        port.port("targetPort");
        if port.has("appProtocol") {
            port.name("appProtocol", name::qualified);
        }
    }
}

fn unique_ports(spec: &At) {
    if spec.text("type") == "ClusterIP" {
        for port in spec.each("ports").filter(|port| port.number("nodePort") != 0) {
            port.forbidden("nodePort", "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = HashSet::new();
    for port in spec.each("ports").filter(|port| port.number("nodePort") != 0) {
        if !seen.insert((port.text("protocol"), port.number("nodePort"))) {
            port.duplicate("nodePort");
        }
    }
    seen.clear();
    for port in spec.each("ports") {
        let (protocol, number) = (port.text("protocol"), port.number("port"));
        if !seen.insert((protocol, number)) {
            port.duplicate_as("", json!({"protocol": protocol, "port": number}));
        }
    }
}

fn affinity(spec: &At) {
    const CONFIG: &str = "sessionAffinityConfig";
    spec.must_be_one_of("sessionAffinity", &["ClientIP", "None"]);
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let why = "when session affinity type is ClientIP";
            for field in [CONFIG, "sessionAffinityConfig.clientIP"] {
                if !spec.has(field) {
                    return spec.required(field, why);
                }
            }
            let field = "sessionAffinityConfig.clientIP.timeoutSeconds";
            match spec.int(field) {
                None => spec.required(field, why),
                Some(seconds) if seconds <= 0 || seconds > AFFINITY_SECONDS_MAX => {
                    let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    spec.invalid(field, &why);
                }
                Some(_) => {}
            }
        }
        "None" if spec.has(CONFIG) => {
            spec.forbidden(CONFIG, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn addresses(spec: &At, old: Option<&At>) {
    const FIELD: &str = "clusterIPs";
    if spec.text("type") == "ExternalName" {
        return;
    }
    let (one, all) = (spec.text("clusterIP"), spec.texts(FIELD).collect::<Vec<&str>>());
    match (one, all.first()) {
        ("", Some(_)) => spec.invalid(FIELD, "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => spec.required(FIELD, ""),
        (one, Some(first)) if one != *first => {
            spec.invalid(FIELD, "first value must match `clusterIP`");
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    for family in spec.each("ipFamilies") {
        family.exactly_one_of("", &["IPv4", "IPv6"]);
        if !seen.insert(family.text("")) {
            family.duplicate("");
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if spec.has("ipFamilyPolicy") {
        spec.exactly_one_of("ipFamilyPolicy", &policies);
    }
    let known: Vec<&str> = old
        .map(|old| old.texts("spec.clusterIPs").collect())
        .unwrap_or_default();
    let mut wrong = false;
    for (index, address) in spec.each(FIELD).enumerate() {
        if index == 0 && address.text("") == "None" {
            if all.len() > 1 {
                wrong = true;
                spec.invalid(FIELD, "'None' must be the first and only value");
            }
            continue;
        }
        wrong |= !address::check(&address, "", &known);
    }
    if all.len() > 2 {
        spec.invalid(FIELD, "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    if all.len() > 1 && !address::one_of_each_family(all.iter().copied()) {
        let why = "may specify no more than one IP for each IP family";
        spec.invalid(FIELD, why);
    }
    if is_headless(spec) {
        return;
    }
    for (index, (address, family)) in spec.each(FIELD).zip(spec.texts("ipFamilies")).enumerate() {
        let four = address::sloppy(address.text("")).is_some_and(|one| one.is_ipv4());
        if (family == "IPv4" && !four) || (family == "IPv6" && four) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            address.invalid("", &why);
        }
    }
}

fn source_ranges(object: &At, spec: &At, old: Option<&At>) {
    const WHY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balances = spec.text("type") == "LoadBalancer";
    let annotation = |object: &At| {
        object
            .map("metadata.annotations")
            .and_then(|map| map.get(RANGES).cloned())
    };
    if spec.count("loadBalancerSourceRanges") > 0 {
        let told = spec
            .at("loadBalancerSourceRanges")
            .named(spec.path("LoadBalancerSourceRanges"));
        if !balances {
            told.forbidden("", WHY);
        }
        let known: Vec<&str> = old
            .map(|old| {
                old.texts("spec.loadBalancerSourceRanges")
                    .map(str::trim)
                    .collect()
            })
            .unwrap_or_default();
        for range in told.each("") {
            address::check_network(&range, "", range.text("").trim(), &known);
        }
    } else if let Some(value) = annotation(object) {
        let field = format!("metadata.annotations[{RANGES}]");
        if !balances {
            object.forbidden(&field, WHY);
        }
        let text = value.as_str().unwrap_or_default().trim();
        if old.and_then(annotation).as_ref() != Some(&value) && !text.is_empty() {
            for range in text.split(',') {
                address::check_network(object, &field, range.trim(), &[]);
            }
        }
    }
}

fn is_external(spec: &At) -> bool {
    matches!(spec.text("type"), "LoadBalancer" | "NodePort")
        || (spec.text("type") == "ClusterIP" && spec.count("externalIPs") > 0)
}

fn has_health_check(spec: &At) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn traffic(spec: &At) {
    const EXTERNAL: &str = "externalTrafficPolicy";
    const INTERNAL: &str = "internalTrafficPolicy";
    const HEALTH: &str = "healthCheckNodePort";
    let policies = ["Cluster", "Local"];
    if is_external(spec) {
        spec.must_be_one_of(EXTERNAL, &policies);
    } else if !spec.text(EXTERNAL).is_empty() {
        spec.invalid(EXTERNAL, "may only be set for externally-accessible services");
    }
    // The allocator gives the port of a service that needs one.
    let port = spec.number(HEALTH);
    if has_health_check(spec) {
        if port != 0 {
            spec.range(HEALTH, 1, PORT_MAX);
        }
    } else if port != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        spec.invalid(HEALTH, why);
    }
    match spec.has(INTERNAL) {
        true => spec.exactly_one_of(INTERNAL, &policies),
        false if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            spec.required(INTERNAL, "");
        }
        false => {}
    }
    if spec.has("trafficDistribution") {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        spec.exactly_one_of("trafficDistribution", &known);
    }
}

/// What of a service stays.
fn changed(spec: &At, before: &At) {
    let external = |spec: &At| spec.text("type") == "ExternalName";
    if !external(spec) && !external(before) {
        if !(is_headless(spec) && is_headless(before)) {
            kept(spec, before, "clusterIPs", "clusterIP");
        }
        if is_headless(spec) == is_headless(before) && !is_headless(spec) {
            kept(spec, before, "ipFamilies", "ipFamily");
        }
    }
    let balances = |spec: &At| spec.text("type") == "LoadBalancer";
    if balances(spec) && balances(before) && spec.get("loadBalancerClass") != before.get("loadBalancerClass")
    {
        spec.invalid("loadBalancerClass", ONCE);
    }
    let health = "healthCheckNodePort";
    if has_health_check(spec) && has_health_check(before) && spec.number(health) != before.number(health) {
        spec.forbidden(health, "field is immutable");
    }
}

/// Of a primary and a secondary, only the secondary may come and go.
fn kept(spec: &At, before: &At, field: &str, single: &str) {
    let after: Vec<&str> = spec.texts(field).collect();
    let old: Vec<&str> = before.texts(field).collect();
    let value = spec.get(field).cloned().unwrap_or_else(|| json!([]));
    let first = format!("{field}[0]");
    if old.len() == after.len() {
        for (index, _) in old
            .iter()
            .enumerate()
            .filter(|(index, one)| after[*index] != **one)
        {
            let index = if single == "clusterIP" { index } else { 0 };
            spec.invalid_as(&format!("{field}[{index}]"), value.clone(), ONCE);
        }
        return;
    }
    if old.len() > after.len() {
        if spec.count("clusterIPs") == 0 {
            spec.invalid_as(
                &first,
                value.clone(),
                &format!("primary {single} can not be unset"),
            );
        }
        if after.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {single}");
            spec.invalid("ipFamilyPolicy", &why);
        }
    }
    if let (Some(new), Some(old)) = (after.first(), old.first())
        && new != old
    {
        spec.invalid_as(&first, value, ONCE);
    }
}

/// The status that a load balancer reports.
pub(super) fn status(new: &At, old: &At) {
    load_balancer(new, old, new.text("spec.type") == "LoadBalancer");
}

/// Addresses of a load balancer, of services and of ingresses.
fn load_balancer(new: &At, old: &At, balances: bool) {
    let at = new.at("status.loadBalancer");
    if !balances && at.count("ingress") > 0 {
        return at.forbidden("ingress", "may only be used when `spec.type` is 'LoadBalancer'");
    }
    let before = old.at("status.loadBalancer");
    let known: Vec<&str> = before.each("ingress").map(|one| one.text("ip")).collect();
    for one in at.each("ingress") {
        let has = !one.text("ip").is_empty();
        if has {
            address::check(&one, "ip", &known);
        }
        match (has, one.has("ipMode")) {
            (true, false) => one.required("ipMode", "must be specified when `ip` is set"),
            (false, true) => one.forbidden("ipMode", "may not be specified when `ip` is not set"),
            (true, true) => one.exactly_one_of("ipMode", &["Proxy", "VIP"]),
            (false, false) => {}
        }
        host(&one);
    }
}

/// The name of a load balancer.
pub(super) fn host(one: &At) {
    if one.text("hostname").is_empty() {
        return;
    }
    one.name("hostname", name::dns1123_subdomain);
    if address::sloppy(one.text("hostname")).is_some() {
        one.invalid("hostname", "must be a DNS name, not an IP address");
    }
}
