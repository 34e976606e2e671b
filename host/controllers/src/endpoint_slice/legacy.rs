//! The Endpoints object of a Service, which older clients still read. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::plan::{addresses, is_headless, target};
use crate::pod;

/// Addresses that one Endpoints object holds; over it, it is cut and says so.
const ADDRESSES_MAX: usize = 1000;

const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";

type Ports = Vec<(Option<String>, i32, String, Option<String>)>;

/// The object as it should be; `before` is what there is.
pub(crate) fn endpoints(service: &Service, pods: &[Arc<Pod>], before: Option<&Endpoints>) -> Endpoints {
    let mut subsets: BTreeMap<Ports, [Vec<EndpointAddress>; 2]> = BTreeMap::new();
    let publish = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false);
    let mut count = 0;
    for pod in pods.iter().filter(|pod| !pod::is_finished(pod)) {
        if pod::is_deleting(pod) && !publish {
            continue;
        }
        let Some((_, ip)) = addresses(pod).into_iter().next() else {
            continue;
        };
        count += 1;
        if count > ADDRESSES_MAX {
            break;
        }
        let ready = publish || pod::is_ready(pod);
        let place = usize::from(!ready);
        subsets.entry(ports(service, pod)).or_default()[place].push(address(service, pod, ip));
    }
    let subsets: Vec<_> = subsets
        .into_iter()
        .map(|(ports, [mut ready, mut unready])| {
            ready.sort_by(|a, b| a.ip.cmp(&b.ip));
            unready.sort_by(|a, b| a.ip.cmp(&b.ip));
            let some = |all: Vec<EndpointAddress>| (!all.is_empty()).then_some(all);
            let port = |(name, port, protocol, app_protocol)| EndpointPort {
                name,
                port,
                protocol: Some(protocol),
                app_protocol,
            };
            let ports: Vec<_> = ports.into_iter().map(port).collect();
            EndpointSubset {
                addresses: some(ready),
                not_ready_addresses: some(unready),
                ports: (!ports.is_empty()).then_some(ports),
            }
        })
        .collect();
    Endpoints {
        metadata: metadata(service, count > ADDRESSES_MAX, before),
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn metadata(service: &Service, cut: bool, before: Option<&Endpoints>) -> ObjectMeta {
    let mut meta = before
        .map(|before| before.metadata.clone())
        .unwrap_or_else(|| ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            ..Default::default()
        });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    meta.labels = Some(labels);
    if cut {
        meta.annotations
            .get_or_insert_with(BTreeMap::new)
            .insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut meta.annotations {
        annotations.remove(OVER_CAPACITY);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
    meta
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut all: Ports = ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = target(port, pod, &protocol)?;
            Some((port.name.clone(), number, protocol, port.app_protocol.clone()))
        })
        .collect();
    all.sort();
    all
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let hostname = pod.spec.as_ref().and_then(|spec| {
        let in_domain = spec.subdomain.as_deref() == service.metadata.name.as_deref();
        spec.hostname
            .clone()
            .filter(|hostname| in_domain && !hostname.is_empty())
    });
    EndpointAddress {
        ip,
        hostname,
        node_name: pod::node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            ..Default::default()
        }),
    }
}
