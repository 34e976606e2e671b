//! Rules of endpoints, old and new: the addresses behind a service.
//! Invariants: endpoints that did not change are not judged again.

use std::collections::HashSet;

use super::address;
use super::at::{At, IMMUTABLE, PORT_MAX};
use super::pod::PROTOCOLS;
use super::selector;
use crate::name;

const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

pub(super) fn endpoints(object: &At, old: Option<&At>) {
    if old.is_some_and(|old| old.get("subsets") == object.get("subsets")) {
        return;
    }
    for subset in object.each("subsets") {
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| subset.count(list) == 0) {
            subset.required("", "must specify `addresses` or `notReadyAddresses`");
        }
        for one in lists.iter().flat_map(|list| subset.each(list)) {
            address::check(&one, "ip", &[]);
            one.may_name("hostname", name::dns1123_label);
            if one.has("nodeName") {
                one.name("nodeName", name::dns1123_subdomain);
            }
            address::check_reachable(&one, "ip");
        }
        let several = subset.count("ports") > 1;
        for port in subset.each("ports") {
            if several && port.text("name").is_empty() {
                port.required("name", "");
            } else {
                port.may_name("name", name::dns1123_label);
            }
            port.number_in("port", 1, PORT_MAX);
            port.must_be_one_of("protocol", &PROTOCOLS);
            if port.has("appProtocol") {
                port.name("appProtocol", name::qualified);
            }
        }
    }
}

pub(super) fn slice(object: &At, old: Option<&At>) {
    object.must_be_one_of("addressType", &["FQDN", "IPv4", "IPv6"]);
    ports(object);
    if old.is_none_or(|old| old.get("endpoints") != object.get("endpoints")) {
        if object.count("endpoints") > ENDPOINTS_MAX {
            object.too_many("endpoints", ENDPOINTS_MAX);
        } else {
            let kind = object.text("addressType");
            object.each("endpoints").for_each(|one| endpoint(&one, kind));
        }
    }
    if let Some(old) = old
        && object.get("addressType") != old.get("addressType")
    {
        object.invalid("addressType", IMMUTABLE);
    }
}

fn ports(object: &At) {
    if object.count("ports") > PORTS_MAX {
        return object.too_many("ports", PORTS_MAX);
    }
    let mut names = HashSet::new();
    for port in object.each("ports") {
        port.may_name("name", name::dns1123_label);
        if !names.insert(port.text("name")) {
            port.duplicate_as("name", port.text("name"));
        }
        port.must_be_one_of("protocol", &PROTOCOLS);
        if port.has("appProtocol") {
            port.name("appProtocol", name::qualified);
        }
    }
}

fn endpoint(at: &At, kind: &str) {
    match at.count("addresses") {
        0 => at.required("addresses", "must contain at least 1 address"),
        count if count > ADDRESSES_MAX => at.too_many("addresses", ADDRESSES_MAX),
        _ => {}
    }
    for one in at.each("addresses") {
        let text = one.text("");
        let four = address::sloppy(text).is_some_and(|address| address.is_ipv4());
        match kind {
            "IPv4" if address::check(&one, "", &[]) => {
                if !four {
                    at.invalid_as("addresses", text, "must be an IPv4 address");
                }
                address::check_reachable(&one, "");
            }
            "IPv6" => {
                let before = one.found().count();
                address::check_canonical(&one, "");
                if one.found().count() == before {
                    if four {
                        at.invalid_as("addresses", text, "must be an IPv6 address");
                    }
                    address::check_reachable(&one, "");
                }
            }
            "FQDN" => domain(&one),
            _ => {}
        }
    }
    if at.has("nodeName") {
        at.name("nodeName", name::dns1123_subdomain);
    }
    if at.count("deprecatedTopology") > TOPOLOGY_MAX {
        at.too_many("deprecatedTopology", TOPOLOGY_MAX);
    }
    selector::labels(at, "deprecatedTopology");
    if at.has("hostname") {
        at.name("hostname", name::dns1123_label);
    }
    for (list, rule) in [
        ("hints.forZones", name::label_value as super::at::NameRule),
        ("hints.forNodes", name::dns1123_subdomain),
    ] {
        if at.count(list) > HINTS_MAX {
            at.too_many(list, HINTS_MAX);
            continue;
        }
        let mut seen = HashSet::new();
        for hint in at.each(list) {
            if !seen.insert(hint.text("name")) {
                hint.duplicate_as("name", hint.text("name"));
            }
            hint.name("name", rule);
        }
    }
}

/// A domain of at least two parts.
fn domain(at: &At) {
    let text = at.text("");
    if text.is_empty() {
        return at.required("", "");
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let problems = name::dns1123_subdomain(text);
    if !problems.is_empty() {
        return at.invalid_as("", text, &problems.join(","));
    }
    if !text.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        return at.invalid_as("", text, why);
    }
    for part in text.split('.') {
        let problems = name::dns1123_label(part);
        if !problems.is_empty() {
            at.invalid_as("", part, &problems.join(","));
        }
    }
}
