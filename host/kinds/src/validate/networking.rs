//! Rules of ingresses, network policies and the addresses that services have.
//! Invariants: a network that stood in the old policy is not judged again.

use super::address;
use super::at::{At, IMMUTABLE, PORT_MAX};
use super::names;
use super::{selector, service};
use crate::name;
use crate::resource::Resource;

const CLASS: &str = "kubernetes.io/ingress.class";
const CONTROLLER_LENGTH_MAX: usize = 250;

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    match resource.kind.as_str() {
        "Ingress" => ingress(object, old.is_none()),
        "IngressClass" => {
            class(&object.at("spec"));
            if let Some(old) = old {
                object.at("spec").frozen("controller", &old.at("spec"));
            }
        }
        "NetworkPolicy" => policy(object, old),
        "IPAddress" => ip_address(object, old),
        "ServiceCIDR" => service_network(&object.at("spec"), old),
        _ => {}
    }
}

fn ingress(object: &At, new: bool) {
    let spec = object.at("spec");
    if spec.count("rules") == 0 && !spec.has("defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        spec.invalid_as("", serde_json::Value::Null, why);
    }
    if let Some(backend) = spec.some("defaultBackend") {
        self::backend(&backend);
    }
    for rule in spec.each("rules") {
        host(&rule);
        let Some(http) = rule.some("http") else { continue };
        if http.count("paths") == 0 {
            http.required("paths", "");
        }
        http.each("paths").for_each(|path| self::path(&path));
    }
    for tls in spec.each("tls") {
        for host in tls.each("hosts") {
            host.name("", host_rule(host.text("")));
        }
        tls.may_name("secretName", name::dns1123_subdomain);
    }
    if spec.has("ingressClassName") {
        spec.name("ingressClassName", name::dns1123_subdomain);
    }
    let annotation = object
        .map("metadata.annotations")
        .and_then(|map| map.get(CLASS)?.as_str());
    if let Some(class) = annotation.filter(|_| new)
        && spec.has("ingressClassName")
        && class != spec.text("ingressClassName")
    {
        let why = "must match `ingressClassName` when both are specified";
        object.invalid_as(&format!("annotations.{CLASS}"), class, why);
    }
}

fn host_rule(host: &str) -> super::at::NameRule {
    if host.contains('*') {
        names::wildcard_subdomain
    } else {
        name::dns1123_subdomain
    }
}

fn host(rule: &At) {
    let host = rule.text("host");
    if host.is_empty() {
        return;
    }
    if address::sloppy(host).is_some() {
        rule.invalid("host", "must be a DNS name, not an IP address");
    }
    rule.name("host", host_rule(host));
}

fn path(at: &At) {
    let path = at.text("path");
    match at.text("pathType") {
        "" => return at.required("pathType", "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                at.invalid_as("path", path, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.contains(part) {
                    at.invalid("path", &format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if path.ends_with(end) {
                    at.invalid("path", &format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                at.invalid("path", "must be an absolute path");
            }
        }
        _ => at.unsupported("pathType", &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&at.at("backend"));
}

fn backend(at: &At) {
    match (at.some("resource"), at.some("service")) {
        (Some(_), Some(_)) => at.invalid_as("", "", "cannot set both resource and service backends"),
        (Some(resource), None) => object_reference(&resource),
        (None, Some(service)) => {
            service.must_name("name", name::dns1123_label);
            let (text, number) = (service.text("port.name"), service.number("port.number"));
            match (text.is_empty(), number) {
                (true, 0) => at.required("", "port name or number is required"),
                (true, _) => service.range("port.number", 1, PORT_MAX),
                (false, 0) => service.name("port.name", name::port),
                (false, _) => at.invalid_as("", "", "cannot set both port name & port number"),
            }
        }
        (None, None) => at.invalid_as("", "", "resource or service backend is required"),
    }
}

/// A reference to an object of some kind.
fn object_reference(at: &At) {
    if at.has("apiGroup") {
        at.name("apiGroup", name::dns1123_subdomain);
    }
    at.must_name("kind", name::path_segment);
    at.must_name("name", name::path_segment);
}

fn class(spec: &At) {
    if spec.text("controller").len() > CONTROLLER_LENGTH_MAX {
        spec.too_long("controller", CONTROLLER_LENGTH_MAX);
    }
    names::domain_path(spec, "controller");
    let Some(at) = spec.some("parameters") else { return };
    object_reference(&at);
    if !at.has("scope") {
        return at.required("scope", "");
    }
    match (at.text("scope"), at.has("namespace")) {
        ("Namespace", false) => {
            at.required("namespace", "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", true) => at.name("namespace", name::dns1123_label),
        ("Cluster", true) => at.forbidden("namespace", "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", false) => {}
        _ => at.unsupported("scope", &["Cluster", "Namespace"]),
    }
}

fn policy(object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    let peers = |object: &At| -> Vec<String> {
        let rules = [("spec.ingress", "from"), ("spec.egress", "to")];
        let peers = rules
            .iter()
            .flat_map(|(list, peers)| object.each(list).flat_map(|rule| rule.each(peers)));
        peers
            .flat_map(|peer| {
                let mut networks: Vec<&str> = peer.texts("ipBlock.except").collect();
                networks.push(peer.text("ipBlock.cidr"));
                networks.into_iter().map(str::to_string).collect::<Vec<_>>()
            })
            .collect()
    };
    let known = old.map(peers).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    selector::check(&spec, "podSelector");
    for (list, others) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.each(list) {
            rule.each("ports").for_each(|port| policy_port(&port));
            rule.each(others).for_each(|peer| policy_peer(&peer, &known));
        }
    }
    if spec.count("policyTypes") > 2 {
        spec.invalid("policyTypes", "may not specify more than two policyTypes");
    }
    for kind in spec.each("policyTypes") {
        kind.exactly_one_of("", &["Ingress", "Egress"]);
    }
}

fn policy_port(at: &At) {
    if at.has("protocol") {
        at.exactly_one_of("protocol", &["TCP", "UDP", "SCTP"]);
    }
    match (at.get("port"), at.int("endPort")) {
        (None, Some(_)) => {
            at.invalid("endPort", "may not be specified when `port` is not specified");
        }
        (Some(port), end) if port.is_number() => {
            at.port("port");
            if let Some(end) = end {
                if end < at.number("port") {
                    let why = "must be greater than or equal to `port`";
                    at.invalid_as("endPort", at.number("port"), why);
                }
                at.range("endPort", 1, PORT_MAX);
            }
        }
        (Some(_), end) => {
            if end.is_some() {
                at.invalid("endPort", "may not be specified when `port` is non-numeric");
            }
            at.port("port");
        }
        (None, None) => {}
    }
}

fn policy_peer(at: &At, known: &[&str]) {
    let kinds = ["podSelector", "namespaceSelector", "ipBlock"];
    let count = kinds.iter().filter(|kind| at.has(kind)).count();
    selector::check(at, "podSelector");
    selector::check(at, "namespaceSelector");
    if let Some(block) = at.some("ipBlock") {
        ip_block(&block, known);
    }
    if count == 0 {
        at.required("", "must specify a peer");
    } else if count > 1 && at.has("ipBlock") {
        at.forbidden("", "may not specify both ipBlock and another peer");
    }
}

fn ip_block(at: &At, known: &[&str]) {
    let cidr = at.text("cidr");
    if cidr.is_empty() {
        return at.required("cidr", "");
    }
    address::check_network(at, "cidr", cidr, known);
    let Some(whole) = address::network(cidr) else {
        return;
    };
    for except in at.each("except") {
        address::check_network(&except, "", except.text(""), known);
        let Some(part) = address::network(except.text("")) else {
            continue;
        };
        let inside = part.1 > whole.1 && address::contains(whole, part.0);
        if !inside {
            except.invalid("", "must be a strict subset of `cidr`");
        }
    }
}

fn ip_address(object: &At, old: Option<&At>) {
    let metadata = object.at("metadata");
    if old.is_none() && !metadata.text("name").is_empty() {
        address::check_canonical(&metadata, "name");
    }
    let spec = object.at("spec");
    if let Some(old) = old {
        return spec.frozen("parentRef", &old.at("spec"));
    }
    let Some(parent) = spec.some("parentRef") else {
        return spec.required("parentRef", "");
    };
    parent.may_name("group", name::dns1123_subdomain);
    parent.must_name("resource", name::path_segment);
    parent.must_name("name", name::path_segment);
    parent.may_name("namespace", name::path_segment);
}

fn service_network(spec: &At, old: Option<&At>) {
    let given: Vec<&str> = spec.texts("cidrs").collect();
    if let Some(old) = old {
        let before: Vec<&str> = old.texts("spec.cidrs").collect();
        for network in spec
            .each("cidrs")
            .zip(&before)
            .filter(|(new, old)| new.text("") != **old)
        {
            if before.len() <= given.len() {
                network.0.invalid("", IMMUTABLE);
            }
        }
        match (before.len(), given.len()) {
            (old, new) if old == new => return,
            (1, 2) => {}
            _ => return spec.invalid("cidrs", IMMUTABLE),
        }
    }
    if given.is_empty() {
        return spec.required("cidrs", "at least one CIDR required");
    }
    if given.len() > 2 {
        return spec.invalid("cidrs", "may only hold up to 2 values");
    }
    for network in spec.each("cidrs") {
        address::check_canonical_network(&network, "");
    }
    if !address::one_of_each_family(given) {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        spec.invalid("cidrs", why);
    }
}

/// Addresses that an ingress is reached at.
pub(super) fn status(new: &At, old: &At) {
    let known: Vec<&str> = old
        .each("status.loadBalancer.ingress")
        .map(|one| one.text("ip"))
        .collect();
    for one in new.each("status.loadBalancer.ingress") {
        if !one.text("ip").is_empty() {
            address::check(&one, "ip", &known);
        }
        service::host(&one);
    }
}
