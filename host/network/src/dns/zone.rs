//! What the cluster's names mean, by the Kubernetes DNS specification. Pure.
//!
//! Answers for `svc.cluster.local`, `pod.cluster.local` and the reverse names of cluster IPs; everything else
//! is not ours.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SRV};
use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

use crate::plan::{SERVICE_NAME, cluster_addresses, is_ready};

/// The zone of which we speak.
pub(crate) const ZONE: &str = "cluster.local";

/// Records in one answer.
const RECORDS_MAX: usize = 1000;

/// What is known.
pub(crate) struct Zone {
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
}

/// Namespace and name of the Service that a name is about, if it is about one.
pub(crate) fn service_in(name: &str) -> Option<(String, String)> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_suffix(ZONE)?.strip_suffix(".svc.")?;
    let mut labels = rest.rsplit('.');
    let namespace = labels.next()?.to_owned();
    Some((namespace, labels.next()?.to_owned()))
}

/// The answer to one question.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) records: Vec<RData>,
    /// Whether the name is in our zone, so that "no" is authoritative.
    pub(crate) ours: bool,
}

impl Answer {
    fn found(mut records: Vec<RData>) -> Self {
        records.truncate(RECORDS_MAX);
        Self {
            code: ResponseCode::NoError,
            records,
            ours: true,
        }
    }

    fn missing() -> Self {
        Self {
            code: ResponseCode::NXDomain,
            records: Vec::new(),
            ours: true,
        }
    }

    fn refused() -> Self {
        Self {
            code: ResponseCode::Refused,
            records: Vec::new(),
            ours: false,
        }
    }
}

impl Zone {
    /// Answers one question; `name` may end with a dot and has any case.
    pub(crate) fn answer(&self, name: &str, type_: RecordType) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(reverse) = name.strip_suffix(".in-addr.arpa") {
            return self.reverse(reverse, type_);
        }
        if name == ZONE {
            return Answer::found(Vec::new());
        }
        let Some(rest) = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.')) else {
            return Answer::refused();
        };
        let labels: Vec<&str> = rest.split('.').collect();
        match labels.as_slice() {
            ["svc" | "pod"] | [_, "svc" | "pod"] => Answer::found(Vec::new()),
            [address, _, "pod"] => match dashed(address) {
                Some(ip) => Answer::found(of_type(type_, &[ip])),
                None => Answer::missing(),
            },
            [before @ .., service, namespace, "svc"] => self.service(before, service, namespace, type_),
            _ => Answer::missing(),
        }
    }

    fn service(&self, before: &[&str], name: &str, namespace: &str, type_: RecordType) -> Answer {
        let found = self.services.iter().find(|service| {
            service.metadata.namespace.as_deref() == Some(namespace)
                && service.metadata.name.as_deref() == Some(name)
        });
        let Some((service, spec)) = found.and_then(|service| Some((service, service.spec.as_ref()?))) else {
            return Answer::missing();
        };
        match before {
            [] if spec.type_.as_deref() == Some("ExternalName") => external(spec),
            [] => Answer::found(of_type(type_, &self.addresses(service, spec))),
            [host] => {
                let wanted = |endpoint: &&Endpoint| host_of(endpoint).as_deref() == Some(*host);
                let endpoints = self.endpoints(service);
                let addresses: Vec<_> = endpoints
                    .iter()
                    .map(|(endpoint, _)| *endpoint)
                    .filter(wanted)
                    .flat_map(ips)
                    .collect();
                if addresses.is_empty() {
                    Answer::missing()
                } else {
                    Answer::found(of_type(type_, &addresses))
                }
            }
            [port, protocol] => self.ports(service, spec, port, protocol, type_),
            _ => Answer::missing(),
        }
    }

    fn addresses(&self, service: &Service, spec: &ServiceSpec) -> Vec<IpAddr> {
        let cluster = cluster_addresses(spec);
        if !cluster.is_empty() {
            return cluster;
        }
        let mut all: Vec<_> = self
            .endpoints(service)
            .iter()
            .flat_map(|(endpoint, _)| ips(endpoint))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Ready endpoints with their slices.
    fn endpoints(&self, service: &Service) -> Vec<(&Endpoint, &EndpointSlice)> {
        let of_service = |slice: &&Arc<EndpointSlice>| {
            let name = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SERVICE_NAME));
            slice.metadata.namespace == service.metadata.namespace && name == service.metadata.name.as_ref()
        };
        let slices = self.slices.iter().filter(of_service);
        slices
            .flat_map(|slice| {
                slice
                    .endpoints
                    .iter()
                    .flatten()
                    .map(move |endpoint| (endpoint, slice.as_ref()))
            })
            .filter(|(endpoint, _)| is_ready(endpoint))
            .collect()
    }

    fn ports(
        &self,
        service: &Service,
        spec: &ServiceSpec,
        port: &str,
        protocol: &str,
        type_: RecordType,
    ) -> Answer {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Answer::missing();
        };
        let same = |name: Option<&String>, of: Option<&String>| {
            name.is_some_and(|name| name == port)
                && of.map_or("TCP", String::as_str).eq_ignore_ascii_case(protocol)
        };
        let domain = format!(
            "{}.{}.svc.{ZONE}.",
            service.name_any(),
            service.namespace().unwrap_or_default()
        );
        let mut targets: Vec<(u16, String)> = Vec::new();
        if cluster_addresses(spec).is_empty() {
            for (endpoint, slice) in self.endpoints(service) {
                let found = slice
                    .ports
                    .iter()
                    .flatten()
                    .find(|p| same(p.name.as_ref(), p.protocol.as_ref()));
                let number = found.and_then(|port| u16::try_from(port.port?).ok());
                if let (Some(number), Some(host)) = (number, host_of(endpoint)) {
                    targets.push((number, format!("{host}.{domain}")));
                }
            }
        } else {
            let found = spec
                .ports
                .iter()
                .flatten()
                .find(|p| same(p.name.as_ref(), p.protocol.as_ref()));
            targets.extend(
                found
                    .and_then(|port| u16::try_from(port.port).ok())
                    .map(|number| (number, domain)),
            );
        }
        if targets.is_empty() {
            return Answer::missing();
        }
        if !matches!(type_, RecordType::SRV | RecordType::ANY) {
            return Answer::found(Vec::new());
        }
        let record = |(number, target): (u16, String)| {
            Some(RData::SRV(SRV::new(0, 100, number, target.parse().ok()?)))
        };
        Answer::found(targets.into_iter().filter_map(record).collect())
    }

    fn reverse(&self, reversed: &str, type_: RecordType) -> Answer {
        let mut parts: Vec<&str> = reversed.split('.').collect();
        parts.reverse();
        let Ok(address) = parts.join(".").parse::<Ipv4Addr>() else {
            return Answer::refused();
        };
        let owner = self.services.iter().find(|service| {
            service
                .spec
                .as_ref()
                .is_some_and(|spec| cluster_addresses(spec).contains(&IpAddr::V4(address)))
        });
        let Some(service) = owner else {
            return Answer::refused();
        };
        let domain = format!(
            "{}.{}.svc.{ZONE}.",
            service.name_any(),
            service.namespace().unwrap_or_default()
        );
        match domain.parse::<Name>() {
            Ok(name) if matches!(type_, RecordType::PTR | RecordType::ANY) => {
                Answer::found(vec![RData::PTR(PTR(name))])
            }
            _ => Answer::found(Vec::new()),
        }
    }
}

fn external(spec: &ServiceSpec) -> Answer {
    let name = spec
        .external_name
        .as_deref()
        .unwrap_or_default()
        .trim_end_matches('.');
    match format!("{name}.").parse() {
        Ok(name) => Answer::found(vec![RData::CNAME(CNAME(name))]),
        Err(_) => Answer::missing(),
    }
}

/// The name of an endpoint within its Service: its hostname, or its address with dashes.
fn host_of(endpoint: &Endpoint) -> Option<String> {
    let address = endpoint.addresses.first()?;
    Some(
        endpoint
            .hostname
            .clone()
            .unwrap_or_else(|| address.replace(['.', ':'], "-")),
    )
}

fn ips(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint
        .addresses
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

fn dashed(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn of_type(type_: RecordType, addresses: &[IpAddr]) -> Vec<RData> {
    let record = |ip: &IpAddr| match (ip, type_) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => Some(RData::A(A(*ip))),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*ip))),
        _ => None,
    };
    addresses.iter().filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn which_service_a_name_is_about() {
        let cases = [
            ("web.a.svc.cluster.local.", Some(("a", "web"))),
            ("_http._tcp.WEB.a.svc.cluster.local", Some(("a", "web"))),
            ("pod.web.a.svc.cluster.local.", Some(("a", "web"))),
            ("a.svc.cluster.local.", None),
            ("1-2-3-4.a.pod.cluster.local.", None),
            ("1.0.0.127.in-addr.arpa.", None),
        ];
        for (name, want) in cases {
            let want = want.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
            assert_eq!(service_in(name), want, "{name}");
        }
    }

    #[test]
    fn names() {
        let service = |name: &str, spec| -> Arc<Service> {
            Arc::new(from_value(json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec})).unwrap())
        };
        let ports = json!([{"name": "http", "port": 80}]);
        let slice = json!({
            "metadata": {"name": "s", "namespace": "a", "labels": {SERVICE_NAME: "db"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.1.0.1"], "hostname": "db-0"}, {"addresses": ["127.1.0.2"]},
                          {"addresses": ["127.1.0.3"], "conditions": {"ready": false}}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        });
        let zone = Zone {
            services: vec![
                service("web", json!({"clusterIP": "127.96.0.7", "ports": ports})),
                service("db", json!({"clusterIP": "None", "ports": ports})),
                service(
                    "out",
                    json!({"type": "ExternalName", "externalName": "example.com"}),
                ),
            ],
            slices: vec![Arc::new(from_value(slice).unwrap())],
        };
        use RecordType as T;
        let cases = [
            ("web.a.svc.cluster.local.", T::A, "No Error: 127.96.0.7"),
            ("WEB.a.svc.Cluster.local", T::A, "No Error: 127.96.0.7"),
            ("web.a.svc.cluster.local", T::AAAA, "No Error:"),
            ("web.b.svc.cluster.local", T::A, "Non-Existent Domain:"),
            ("db.a.svc.cluster.local", T::A, "No Error: 127.1.0.1 127.1.0.2"),
            ("db-0.db.a.svc.cluster.local", T::A, "No Error: 127.1.0.1"),
            ("127-1-0-2.db.a.svc.cluster.local", T::A, "No Error: 127.1.0.2"),
            ("db-9.db.a.svc.cluster.local", T::A, "Non-Existent Domain:"),
            (
                "_http._tcp.web.a.svc.cluster.local",
                T::SRV,
                "No Error: 0 100 80 web.a.svc.cluster.local.",
            ),
            (
                "_http._tcp.db.a.svc.cluster.local",
                T::SRV,
                "No Error: 0 100 8080 db-0.db.a.svc.cluster.local. 0 100 8080 127-1-0-2.db.a.svc.cluster.local.",
            ),
            (
                "_dns._udp.web.a.svc.cluster.local",
                T::SRV,
                "Non-Existent Domain:",
            ),
            ("out.a.svc.cluster.local", T::A, "No Error: example.com."),
            ("10-0-0-9.a.pod.cluster.local", T::A, "No Error: 10.0.0.9"),
            (
                "7.0.96.127.in-addr.arpa",
                T::PTR,
                "No Error: web.a.svc.cluster.local.",
            ),
            ("a.svc.cluster.local", T::A, "No Error:"),
            ("example.com", T::A, "Query Refused:"),
        ];
        for (name, type_, want) in cases {
            let answer = zone.answer(name, type_);
            let records: String = answer.records.iter().map(|record| format!(" {record}")).collect();
            assert_eq!(format!("{}:{records}", answer.code), want, "{name} {type_}");
        }
    }
}
