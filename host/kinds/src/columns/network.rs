//! The columns of services, endpoints, ingresses and network policies.

use serde_json::{Value, json};

use super::table::{AGE, NAME, Spec, text, wide};
use super::{list, or_none, selector, shown, string};

/// Endpoints and hosts that are spelled out; of more, their number is told.
const SHOWN_MAX: usize = 3;

pub(super) static SERVICES: [Spec; 7] = [
    NAME,
    text("Type", |service, _| json!(string(service, "/spec/type"))),
    text("Cluster-IP", |service, _| {
        let first = list(service, "/spec/clusterIPs").next().and_then(Value::as_str);
        or_none(first.unwrap_or_else(|| string(service, "/spec/clusterIP")))
    }),
    text("External-IP", |service, _| json!(external_address(service))),
    text("Port(s)", |service, _| or_none(&service_ports(service))),
    AGE,
    wide("Selector", |service, _| {
        json!(selector(service.pointer("/spec/selector")))
    }),
];

pub(super) static ENDPOINTS: [Spec; 3] = [
    NAME,
    text("Endpoints", |object, _| or_none(&endpoints(object))),
    AGE,
];

pub(super) static ENDPOINT_SLICES: [Spec; 5] = [
    NAME,
    text("AddressType", |object, _| json!(string(object, "/addressType"))),
    text("Ports", |object, _| {
        let ports = list(object, "/ports")
            .map(|port| shown(port.get("port"), "*"))
            .collect();
        unset_or(bounded(ports))
    }),
    text("Endpoints", |object, _| {
        let addresses = list(object, "/endpoints").flat_map(|endpoint| list(endpoint, "/addresses"));
        unset_or(bounded(
            addresses.filter_map(Value::as_str).map(str::to_string).collect(),
        ))
    }),
    AGE,
];

pub(super) static INGRESSES: [Spec; 6] = [
    NAME,
    text("Class", |ingress, _| {
        let annotation = "/metadata/annotations/kubernetes.io~1ingress.class";
        let class = string(ingress, "/spec/ingressClassName");
        or_none(if class.is_empty() {
            string(ingress, annotation)
        } else {
            class
        })
    }),
    text("Hosts", |ingress, _| {
        let hosts = list(ingress, "/spec/rules").map(|rule| string(rule, "/host"));
        let hosts: Vec<String> = hosts
            .filter(|host| !host.is_empty())
            .map(str::to_string)
            .collect();
        json!(if hosts.is_empty() {
            "*".to_string()
        } else {
            bounded(hosts)
        })
    }),
    text("Address", |ingress, _| json!(balancer_addresses(ingress))),
    text("Ports", |ingress, _| {
        json!(if list(ingress, "/spec/tls").next().is_some() {
            "80, 443"
        } else {
            "80"
        })
    }),
    AGE,
];

pub(super) static INGRESS_CLASSES: [Spec; 4] = [
    NAME,
    text("Controller", |object, _| {
        json!(string(object, "/spec/controller"))
    }),
    text("Parameters", |object, _| {
        let part = |name: &str| string(object, &format!("/spec/parameters/{name}")).to_string();
        let (group, kind, name) = (part("apiGroup"), part("kind"), part("name"));
        let dot = if group.is_empty() { "" } else { "." };
        if name.is_empty() {
            json!("<none>")
        } else {
            json!(format!("{kind}{dot}{group}/{name}"))
        }
    }),
    AGE,
];

pub(super) static SERVICE_NETWORKS: [Spec; 3] = [
    NAME,
    text("CIDRs", |object, _| {
        let networks: Vec<&str> = list(object, "/spec/cidrs").filter_map(Value::as_str).collect();
        json!(networks.join(","))
    }),
    AGE,
];

pub(super) static ADDRESSES: [Spec; 3] = [
    NAME,
    text("ParentRef", |object, _| {
        let part = |field: &str| string(object, &format!("/spec/parentRef/{field}")).to_string();
        if object.pointer("/spec/parentRef").is_none() {
            return json!("<none>");
        }
        let kind = match (part("resource"), part("group")) {
            (resource, group) if group.is_empty() => resource,
            (resource, group) => format!("{resource}.{group}"),
        };
        let mut parts = vec![kind.to_lowercase(), part("namespace"), part("name")];
        parts.retain(|part| !part.is_empty());
        json!(parts.join("/"))
    }),
    AGE,
];

pub(super) static POLICIES: [Spec; 3] = [
    NAME,
    text("Pod-Selector", |object, _| {
        json!(selector(object.pointer("/spec/podSelector")))
    }),
    AGE,
];

fn unset_or(text: String) -> Value {
    json!(if text.is_empty() {
        "<unset>".to_string()
    } else {
        text
    })
}

fn bounded(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(SHOWN_MAX);
    texts.truncate(SHOWN_MAX);
    let shown = texts.join(",");
    if more == 0 {
        shown
    } else {
        format!("{shown} + {more} more...")
    }
}

fn balancer_addresses(object: &Value) -> String {
    let points = list(object, "/status/loadBalancer/ingress");
    let address = |point: &Value| match string(point, "/ip") {
        "" => string(point, "/hostname").to_string(),
        ip => ip.to_string(),
    };
    points.map(address).collect::<Vec<_>>().join(",")
}

fn external_address(service: &Value) -> String {
    let external = list(service, "/spec/externalIPs")
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(",");
    match string(service, "/spec/type") {
        "ExternalName" => string(service, "/spec/externalName").to_string(),
        "LoadBalancer" => match (balancer_addresses(service), external) {
            (given, external) if given.is_empty() && external.is_empty() => "<pending>".to_string(),
            (given, external) if given.is_empty() => external,
            (given, external) if external.is_empty() => given,
            (given, external) => format!("{given},{external}"),
        },
        _ if external.is_empty() => "<none>".to_string(),
        _ => external,
    }
}

fn service_ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (shown(port.get("port"), "0"), shown(port.get("protocol"), "TCP"));
        match port.get("nodePort").and_then(Value::as_i64) {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    list(service, "/spec/ports")
        .map(port)
        .collect::<Vec<_>>()
        .join(",")
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(object, "/subsets") {
        let addresses = || list(subset, "/addresses").map(|address| string(address, "/ip"));
        let mut ports = list(subset, "/ports").peekable();
        if ports.peek().is_none() {
            all.extend(addresses().map(str::to_string));
        }
        for port in ports {
            all.extend(addresses().map(|ip| format!("{ip}:{}", shown(port.get("port"), "0"))));
        }
    }
    bounded(all)
}
