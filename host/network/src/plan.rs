//! What is to be listened on, from Services and EndpointSlices. Pure.
//!
//! The rules are the original proxy's: ready endpoints; where there is none, those that still serve while they
//! end; `Local` policies keep to this node. A port without endpoints is not listened on at all, so that a
//! client is refused by the kernel at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

/// The label that ties a slice to its Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How long a client stays bound, where the Service does not say.
const AFFINITY_SECONDS: i32 = 10_800;

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Front {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// Where to forward to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Back {
    pub(crate) service: Arc<Service>,
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) affinity: Option<Duration>,
}

/// What is seen.
pub(crate) struct Snapshot<'a> {
    pub(crate) services: &'a [Arc<Service>],
    pub(crate) slices: &'a [Arc<EndpointSlice>],
    pub(crate) node_name: &'a str,
    pub(crate) node_addresses: &'a [IpAddr],
}

/// Every listener that there should be.
pub(crate) fn plan(seen: &Snapshot<'_>) -> BTreeMap<Front, Back> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in seen.slices {
        let name = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME));
        if let (Some(namespace), Some(name)) = (slice.metadata.namespace.as_deref(), name) {
            by_service.entry((namespace, name)).or_default().push(slice);
        }
    }
    let mut listeners = BTreeMap::new();
    for service in seen.services {
        let key = (
            service.metadata.namespace.as_deref().unwrap_or_default(),
            service.metadata.name.as_deref().unwrap_or_default(),
        );
        let (Some(spec), Some(slices)) = (&service.spec, by_service.get(&key)) else {
            continue;
        };
        for port in spec.ports.iter().flatten() {
            for (front, local) in fronts(spec, port, seen.node_addresses) {
                let endpoints = endpoints(slices, port, front.protocol, local.then_some(seen.node_name));
                if !endpoints.is_empty() {
                    let back = Back {
                        service: Arc::clone(service),
                        endpoints,
                        affinity: affinity(spec),
                    };
                    listeners.entry(front).or_insert(back);
                }
            }
        }
    }
    listeners
}

/// Cluster addresses of a Service, without `None` and empty.
pub(crate) fn cluster_addresses(spec: &ServiceSpec) -> Vec<IpAddr> {
    let mut all: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
    all.extend(&spec.cluster_ip);
    let mut addresses: Vec<IpAddr> = all.into_iter().filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Where one port is offered, and whether only to this node's endpoints.
fn fronts(spec: &ServiceSpec, port: &ServicePort, node_addresses: &[IpAddr]) -> Vec<(Front, bool)> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(_) => return Vec::new(),
    };
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let mut fronts = Vec::new();
    let mut add = |addresses: &[IpAddr], number: Option<i32>, local: bool| {
        let Some(number) = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number > 0)
        else {
            return;
        };
        for ip in addresses {
            fronts.push((
                Front {
                    protocol,
                    address: SocketAddr::new(*ip, number),
                },
                local,
            ));
        }
    };
    add(
        &cluster_addresses(spec),
        Some(port.port),
        is_local(&spec.internal_traffic_policy),
    );
    if matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) {
        add(
            node_addresses,
            port.node_port,
            is_local(&spec.external_traffic_policy),
        );
    }
    fronts
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let seconds = config
        .and_then(|client| client.timeout_seconds)
        .unwrap_or(AFFINITY_SECONDS);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn endpoints(
    slices: &[&EndpointSlice],
    port: &ServicePort,
    protocol: Protocol,
    only_node: Option<&str>,
) -> Vec<SocketAddr> {
    let (mut ready, mut ending) = (Vec::new(), Vec::new());
    let name = port.name.as_deref().unwrap_or_default();
    for slice in slices {
        let numbers = slice.ports.iter().flatten().filter(|port| {
            let udp = port.protocol.as_deref() == Some("UDP");
            port.name.as_deref().unwrap_or_default() == name && udp == (protocol == Protocol::Udp)
        });
        for number in numbers.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten() {
                if only_node.is_some_and(|node| endpoint.node_name.as_deref() != Some(node)) {
                    continue;
                }
                let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else {
                    continue;
                };
                let list = if is_ready(endpoint) {
                    &mut ready
                } else if is_ending(endpoint) {
                    &mut ending
                } else {
                    continue;
                };
                list.push(SocketAddr::new(ip, number));
            }
        }
    }
    let mut endpoints = if ready.is_empty() { ending } else { ready };
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

/// Absent means ready, as the API has it.
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn is_ending(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_some_and(|conditions| conditions.serving == Some(true) && conditions.terminating == Some(true))
}

/// A Service in a message.
pub(crate) fn name_of(service: &Service) -> String {
    format!(
        "{}/{}",
        service.namespace().unwrap_or_default(),
        service.name_any()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn seen(spec: Value, endpoints: Value) -> Vec<String> {
        let service: Service =
            from_value(json!({"metadata": {"name": "web", "namespace": "a"}, "spec": spec})).unwrap();
        let slice: EndpointSlice = from_value(json!({
            "metadata": {"name": "web-1", "namespace": "a", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }))
        .unwrap();
        let other: EndpointSlice = from_value(json!({
            "metadata": {"name": "o", "namespace": "b", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["127.9.9.9"]}],
            "ports": [{"name": "http", "port": 1}],
        }))
        .unwrap();
        let listeners = plan(&Snapshot {
            services: &[Arc::new(service)],
            slices: &[Arc::new(slice), Arc::new(other)],
            node_name: "here",
            node_addresses: &[IpAddr::from([127, 0, 0, 1])],
        });
        listeners
            .iter()
            .map(|(front, back)| {
                let to: Vec<_> = back
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.ip().to_string())
                    .collect();
                format!("{} -> {}", front.address, to.join(" "))
            })
            .collect()
    }

    #[test]
    fn listeners() {
        let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        let ready = json!([
            {"addresses": ["127.1.0.1"], "nodeName": "here", "conditions": {"ready": true}},
            {"addresses": ["127.1.0.2"], "nodeName": "there"},
            {"addresses": ["127.1.0.3"], "nodeName": "here", "conditions": {"ready": false, "serving": false}},
            {"addresses": ["127.1.0.4"], "nodeName": "here",
             "conditions": {"ready": false, "serving": true, "terminating": true}},
        ]);
        let cluster = json!({"clusterIP": "127.96.0.7", "clusterIPs": ["127.96.0.7"], "ports": ports});
        assert_eq!(
            seen(cluster.clone(), ready.clone()),
            ["127.96.0.7:80 -> 127.1.0.1 127.1.0.2"]
        );
        assert_eq!(
            seen(cluster.clone(), json!([])),
            [] as [&str; 0],
            "nobody there: refused"
        );
        assert_eq!(
            seen(cluster, json!([ready[2], ready[3]])),
            ["127.96.0.7:80 -> 127.1.0.4"],
            "ending still serves"
        );
        let node_port = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "127.96.0.7", "ports": ports});
        assert_eq!(
            seen(node_port, ready.clone()),
            [
                "127.0.0.1:30080 -> 127.1.0.1",
                "127.96.0.7:80 -> 127.1.0.1 127.1.0.2"
            ]
        );
        assert_eq!(
            seen(json!({"clusterIP": "None", "ports": ports}), ready),
            [] as [&str; 0],
            "headless"
        );
    }
}
