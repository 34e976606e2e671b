//! Rules of services.
//! Invariants: which addresses and node ports are free is the allocator's to say; here only their form.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::error::FieldError;
use super::metadata;
use super::rules::{Errors, list, text};
use crate::name;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn service(object: &Value, errors: &mut Errors) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let (kind, address) = (text(spec, "type"), text(spec, "clusterIP"));
    errors.one_of("spec.type", kind, &TYPES);
    errors.one_of(
        "spec.sessionAffinity",
        text(spec, "sessionAffinity"),
        &["ClientIP", "None"],
    );
    errors.one_of(
        "spec.internalTrafficPolicy",
        text(spec, "internalTrafficPolicy"),
        &["Cluster", "Local"],
    );
    errors.one_of(
        "spec.externalTrafficPolicy",
        text(spec, "externalTrafficPolicy"),
        &["Cluster", "Local"],
    );
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.one_of("spec.ipFamilyPolicy", text(spec, "ipFamilyPolicy"), &policies);
    metadata::labels("spec.selector", spec.get("selector"), &mut errors.list);
    if kind == "ExternalName" {
        let target = text(spec, "externalName");
        errors.must_be_named(
            "spec.externalName",
            target.strip_suffix('.').unwrap_or(target),
            name::dns1123_subdomain,
        );
        if !address.is_empty() {
            errors.add(FieldError::forbidden(
                "spec.clusterIPs[0]",
                "may not be set for ExternalName services",
            ));
        }
    } else if list(spec, "ports").is_empty() && address != "None" {
        errors.add(FieldError::required("spec.ports", ""));
    }
    if !address.is_empty() && address != "None" && address.parse::<IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.add(FieldError::invalid_text("spec.clusterIPs[0]", address, why));
    }
    if kind == "LoadBalancer" && address == "None" {
        let why = "may not be set to 'None' for LoadBalancer services";
        errors.add(FieldError::invalid_text("spec.clusterIPs[0]", address, why));
    }
    ports(spec, errors);
}

fn ports(spec: &Value, errors: &mut Errors) {
    let ports = list(spec, "ports");
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let (name, protocol) = (text(port, "name"), text(port, "protocol"));
        if name.is_empty() && ports.len() > 1 {
            errors.add(FieldError::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            errors.named(&format!("{path}.name"), name, name::dns1123_label);
            if !names.insert(name) {
                errors.add(FieldError::duplicate(format!("{path}.name"), &port["name"]));
            }
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
        errors.range(&format!("{path}.port"), Some(&Value::from(number)), 1, 65_535);
        errors.one_of(&format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        errors.port(&format!("{path}.targetPort"), port.get("targetPort"));
        if !numbers.insert((protocol, number)) {
            errors.add(FieldError::duplicate(path.as_str(), port));
        }
        if let Some(node_port) = port
            .get("nodePort")
            .and_then(Value::as_i64)
            .filter(|port| *port != 0)
        {
            let field = format!("{path}.nodePort");
            if matches!(text(spec, "type"), "ClusterIP" | "ExternalName") {
                errors.add(FieldError::forbidden(
                    field,
                    "may not be used when `type` is 'ClusterIP'",
                ));
            } else if !node_ports.insert((protocol, node_port)) {
                errors.add(FieldError::duplicate(field, &Value::from(node_port)));
            }
        }
    }
}
