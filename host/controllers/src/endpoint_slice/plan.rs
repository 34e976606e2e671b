//! Which endpoints a Service has, and how they are laid out in slices. Pure.
//!
//! Invariants: a slice holds at most [`ENDPOINTS_MAX`] endpoints, all with the same ports; an endpoint stays in
//! the slice that it is in, so that a change of one pod writes one slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::owner::reference;
use crate::pod;

/// Endpoints in one slice (`--max-endpoints-per-slice`).
pub(crate) const ENDPOINTS_MAX: usize = 100;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is seen of one Service.
pub(crate) struct Snapshot<'a> {
    pub(crate) service: &'a Service,
    /// The pods that its selector matches.
    pub(crate) pods: &'a [Arc<Pod>],
    pub(crate) nodes: &'a [Arc<Node>],
    /// The slices that we made for it before.
    pub(crate) slices: &'a [Arc<EndpointSlice>],
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Box<EndpointSlice>),
}

/// An address family of endpoints with the same ports.
type Group = (&'static str, Vec<PortKey>);
type PortKey = (Option<String>, Option<i32>, Option<String>, Option<String>);

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Vec<Change> {
    let mut groups = desired(seen);
    if groups.is_empty() {
        // A Service without endpoints has one empty slice, so that readers know that it was looked at.
        let ports = Vec::new();
        groups.insert((families(seen.service)[0], ports), Vec::new());
    }
    let mut changes = Vec::new();
    let mut used = BTreeSet::new();
    for ((family, ports), endpoints) in groups {
        lay_out(seen, family, &ports, endpoints, &mut used, &mut changes);
    }
    for (at, slice) in seen.slices.iter().enumerate() {
        if !used.contains(&at) && slice.metadata.deletion_timestamp.is_none() {
            changes.push(Change::Delete(Box::new(slice.as_ref().clone())));
        }
    }
    changes
}

fn lay_out(
    seen: &Snapshot<'_>,
    family: &str,
    ports: &[PortKey],
    mut endpoints: Vec<Endpoint>,
    used: &mut BTreeSet<usize>,
    changes: &mut Vec<Change>,
) {
    let mut candidates: Vec<usize> = (0..seen.slices.len())
        .filter(|at| {
            let slice = &seen.slices[*at];
            let free = slice.metadata.deletion_timestamp.is_none() && !used.contains(at);
            free && slice.address_type == family && port_keys(slice.ports.as_deref()) == ports
        })
        .collect();
    candidates.sort_by_key(|at| seen.slices[*at].metadata.name.clone());
    // First every endpoint keeps its place; then the free places are filled; then new slices are made.
    let mut kept: Vec<(usize, Vec<Endpoint>)> = Vec::new();
    for at in candidates {
        let mut mine = Vec::new();
        for old in seen.slices[at].endpoints.iter().flatten() {
            if let Some(place) = endpoints.iter().position(|new| same(new, old)) {
                mine.push(endpoints.swap_remove(place));
            }
        }
        kept.push((at, mine));
    }
    endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    let mut rest = endpoints.into_iter().peekable();
    for (_, mine) in &mut kept {
        while mine.len() < ENDPOINTS_MAX && rest.peek().is_some() {
            mine.extend(rest.next());
        }
    }
    let any = kept.iter().any(|(_, mine)| !mine.is_empty()) || rest.peek().is_some();
    let mut keep_one_empty = !any;
    for (at, mine) in kept {
        if mine.is_empty() && !std::mem::take(&mut keep_one_empty) {
            continue;
        }
        used.insert(at);
        let before = seen.slices[at].as_ref();
        let wanted = slice(seen.service, family, ports, mine, Some(before));
        if wanted != *before {
            changes.push(Change::Update(Box::new(wanted)));
        }
    }
    loop {
        let chunk: Vec<Endpoint> = rest.by_ref().take(ENDPOINTS_MAX).collect();
        if chunk.is_empty() && !std::mem::take(&mut keep_one_empty) {
            return;
        }
        changes.push(Change::Create(Box::new(slice(
            seen.service,
            family,
            ports,
            chunk,
            None,
        ))));
    }
}

fn same(a: &Endpoint, b: &Endpoint) -> bool {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

fn slice(
    service: &Service,
    family: &str,
    ports: &[PortKey],
    endpoints: Vec<Endpoint>,
    before: Option<&EndpointSlice>,
) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    let mut metadata = before
        .map(|slice| slice.metadata.clone())
        .unwrap_or_else(|| ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            ..Default::default()
        });
    metadata.labels = Some(labels);
    metadata.owner_references = Some(vec![reference(service)]);
    let ports = ports
        .iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: name.clone(),
            port: *port,
            protocol: protocol.clone(),
            app_protocol: app_protocol.clone(),
        });
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.collect()),
    }
}

fn port_keys(ports: Option<&[EndpointPort]>) -> Vec<PortKey> {
    let key = |port: &EndpointPort| {
        // Readers of slices see "" for an unnamed port.
        let name = Some(port.name.clone().unwrap_or_default());
        (name, port.port, port.protocol.clone(), port.app_protocol.clone())
    };
    let mut keys: Vec<_> = ports.into_iter().flatten().map(key).collect();
    keys.sort();
    keys
}

pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods stand behind the Service by its selector.
pub(crate) fn selects(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !external && selector.is_some_and(|selector| !selector.is_empty())
}

fn families(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let named: Vec<_> = families
        .into_iter()
        .flatten()
        .map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if named.is_empty() { vec!["IPv4"] } else { named }
}

fn desired(seen: &Snapshot<'_>) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    let families = families(seen.service);
    for pod in seen.pods.iter().filter(|pod| !pod::is_finished(pod)) {
        let ports = ports_of(seen.service, pod);
        for (family, address) in addresses(pod) {
            if families.contains(&family) {
                let endpoint = endpoint(seen, pod, address);
                groups.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    groups
}

pub(crate) fn addresses(pod: &Pod) -> Vec<(&'static str, String)> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let mut all: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if all.is_empty() {
        all.extend(status.pod_ip.clone());
    }
    all.retain(|ip| !ip.is_empty());
    all.into_iter()
        .map(|ip| (if ip.contains(':') { "IPv6" } else { "IPv4" }, ip))
        .collect()
}

fn endpoint(seen: &Snapshot<'_>, pod: &Pod, address: String) -> Endpoint {
    let spec = seen.service.spec.as_ref();
    let publish = spec
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false);
    let (serving, terminating) = (pod::is_ready(pod), pod::is_deleting(pod));
    let node = pod::node(pod);
    let zone = node
        .and_then(|name| {
            seen.nodes
                .iter()
                .find(|node| node.metadata.name.as_deref() == Some(name))
        })
        .and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    let pod_spec = pod.spec.as_ref();
    let hostname = pod_spec.and_then(|spec| {
        let in_domain = spec.subdomain.as_deref() == seen.service.metadata.name.as_deref();
        spec.hostname
            .clone()
            .filter(|hostname| in_domain && !hostname.is_empty())
    });
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: node.map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            ..Default::default()
        }),
        zone,
        ..Default::default()
    }
}

/// The Service's ports as this pod has them; a named port that the pod lacks is left out.
fn ports_of(service: &Service, pod: &Pod) -> Vec<PortKey> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut keys: Vec<PortKey> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let target = target(port, pod, &protocol)?;
            let name = Some(port.name.clone().unwrap_or_default());
            Some((name, Some(target), Some(protocol), port.app_protocol.clone()))
        })
        .collect();
    keys.sort();
    keys
}

pub(crate) fn target(port: &ServicePort, pod: &Pod, protocol: &str) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find_map(|found| {
            let same =
                found.name.as_ref() == Some(name) && found.protocol.as_deref().unwrap_or("TCP") == protocol;
            same.then_some(found.container_port)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn service() -> Service {
        from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "s", "labels": {"team": "x"}},
            "spec": {"clusterIP": "127.96.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                     "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
        }))
        .unwrap()
    }

    fn pod(number: usize, port: i32, ready: bool) -> Arc<Pod> {
        Arc::new(
            from_value(json!({
                "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}")},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("127.1.{}.{}", number / 250, number % 250 + 1),
                           "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]},
            }))
            .unwrap(),
        )
    }

    fn apply(slices: &[Arc<EndpointSlice>], changes: Vec<Change>) -> Vec<Arc<EndpointSlice>> {
        let mut slices: Vec<EndpointSlice> = slices.iter().map(|slice| slice.as_ref().clone()).collect();
        for change in changes {
            match change {
                Change::Create(mut slice) => {
                    slice.metadata.name = Some(format!("web-{}", slices.len()));
                    slices.push(*slice);
                }
                Change::Update(slice) => {
                    let at = slices
                        .iter()
                        .position(|other| other.metadata.name == slice.metadata.name)
                        .unwrap();
                    slices[at] = *slice;
                }
                Change::Delete(slice) => slices.retain(|other| other.metadata.name != slice.metadata.name),
            }
        }
        slices.into_iter().map(Arc::new).collect()
    }

    fn next(pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Vec<Change> {
        let node: Node = from_value(json!({"metadata": {"name": "n", "labels": {ZONE: "z"}}})).unwrap();
        plan(&Snapshot {
            service: &service(),
            pods,
            nodes: &[Arc::new(node)],
            slices,
        })
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<(Option<i32>, usize)> {
        let port = |slice: &EndpointSlice| slice.ports.as_ref().and_then(|ports| ports.first()?.port);
        slices
            .iter()
            .map(|slice| (port(slice), slice.endpoints.as_ref().unwrap().len()))
            .collect()
    }

    #[test]
    fn slices_follow_the_pods() {
        let slices = apply(&[], next(&[], &[]));
        assert_eq!(
            sizes(&slices),
            [(None, 0)],
            "an empty slice says that there is none"
        );
        assert_eq!(next(&[], &slices), [], "nothing new is not written");

        let two = [pod(1, 8080, true), pod(2, 8080, false)];
        let slices = apply(&slices, next(&two, &slices));
        assert_eq!(sizes(&slices), [(Some(8080), 2)], "the empty one is replaced");
        let endpoints = slices[0].endpoints.as_ref().unwrap();
        let ready: Vec<_> = endpoints
            .iter()
            .map(|e| e.conditions.as_ref().unwrap().ready)
            .collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(endpoints[0].zone.as_deref(), Some("z"));
        assert_eq!(
            endpoints[0].target_ref.as_ref().unwrap().name.as_deref(),
            Some("p1")
        );
        assert_eq!(slices[0].labels()[SERVICE_NAME], "web");
        assert_eq!(slices[0].labels()["team"], "x");
        assert_eq!(next(&two, &slices), []);

        let mixed = [pod(1, 8080, true), pod(2, 9090, true)];
        let slices = apply(&slices, next(&mixed, &slices));
        assert_eq!(
            sizes(&slices),
            [(Some(8080), 1), (Some(9090), 1)],
            "a named port may differ by pod"
        );
    }

    #[test]
    fn at_most_a_hundred_and_nobody_moves() {
        let many: Vec<_> = (0..250).map(|number| pod(number, 80, true)).collect();
        let slices = apply(&[], next(&many, &[]));
        assert_eq!(sizes(&slices), [(Some(80), 100), (Some(80), 100), (Some(80), 50)]);
        let fewer = &many[1..];
        let changes = next(fewer, &slices);
        assert!(
            changes.len() <= 2,
            "one pod less writes at most two slices: {}",
            changes.len()
        );
        let slices = apply(&slices, changes);
        assert_eq!(sizes(&slices).iter().map(|(_, size)| size).sum::<usize>(), 249);
        let changes = next(&many[100..], &slices);
        let slices = apply(&slices, changes);
        assert_eq!(sizes(&slices).iter().map(|(_, size)| size).sum::<usize>(), 150);
    }
}
