//! Service addresses: cluster IPs and node ports, each given out once.
//!
//! One lock is held from the choice to the write. What is taken is read from the services in the cache,
//! brought level with the store first; decoded services are kept by revision, so that a write looks at the
//! changed ones only. One API server on a store is assumed (two would need IPAddress objects).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::validate::{Cause, FieldError};
use capstan_store::Revision;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::refusal::Refusal;
use crate::server::Server;

/// Ports given to NodePort and LoadBalancer services.
const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
/// Addresses tried at random before the range is searched in order.
const RANDOM_TRIES: usize = 16;

/// An IPv4 range in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// First address.
    pub base: Ipv4Addr,
    /// Length of the prefix in bits.
    pub prefix_bits: u8,
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no IPv4 range: write it as 10.96.0.0/16");
        let (base, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (base, prefix_bits): (Ipv4Addr, u8) = (
            base.parse().map_err(|_| wrong())?,
            bits.parse().map_err(|_| wrong())?,
        );
        if !(8..=30).contains(&prefix_bits) {
            return Err(format!("\"{text}\": the prefix must have 8 to 30 bits"));
        }
        Ok(Self {
            base: Ipv4Addr::from(u32::from(base) & (u32::MAX << (32 - prefix_bits))),
            prefix_bits,
        })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

impl Cidr {
    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        1 << (32 - self.prefix_bits)
    }

    /// Its n-th address; 0 is the base.
    pub fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base).wrapping_add(n))
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address).wrapping_sub(u32::from(self.base)) < self.size()
    }
}

#[derive(Debug, Default)]
struct Held {
    revision: Revision,
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
}

/// See the module.
pub(crate) struct Services {
    cidr: Cidr,
    held: Arc<Mutex<HashMap<Arc<str>, Held>>>,
}

/// Keeps the choice from others until the write has happened.
pub(crate) struct Hold(#[allow(dead_code)] OwnedMutexGuard<HashMap<Arc<str>, Held>>);

struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<(String, u16)>,
}

impl Services {
    pub(crate) fn new(cidr: Cidr) -> Self {
        Self {
            cidr,
            held: Arc::default(),
        }
    }

    /// Gives a service that is about to be written the addresses that it lacks.
    pub(crate) async fn assign(
        &self,
        server: &Server,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Hold>, Refusal> {
        if !resource.is("", "Service") {
            return Ok(None);
        }
        let mut held = self.held.clone().lock_owned().await;
        server.registry.newest().await?;
        let own = format!(
            "{}/{}",
            service["metadata"]["namespace"].as_str().unwrap_or_default(),
            service["metadata"]["name"].as_str().unwrap_or_default()
        );
        refresh(&mut held, server, resource);
        let mut taken = Taken {
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        for (_, one) in held.iter().filter(|(key, _)| ***key != *own) {
            taken.addresses.extend(&one.addresses);
            taken.ports.extend(one.ports.iter().cloned());
        }
        let errors = [
            self.address(service, old, &taken),
            node_ports(service, old, &mut taken),
            health_check(&mut service["spec"], old, &mut taken),
        ];
        let errors: Vec<FieldError> = errors.into_iter().filter_map(Result::err).collect();
        if !errors.is_empty() {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Status::invalid(resource, name, errors).into());
        }
        Ok(Some(Hold(held)))
    }

    fn address(&self, service: &mut Value, old: Option<&Value>, taken: &Taken) -> Result<(), FieldError> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        let mut asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if asked.is_empty() {
            asked = spec["clusterIPs"][0].as_str().unwrap_or_default().to_owned();
        }
        let before = old
            .map(|old| &old["spec"])
            .filter(|spec| spec["type"] != "ExternalName");
        if asked.is_empty()
            && let Some(kept) = before.and_then(|spec| spec["clusterIP"].as_str())
        {
            asked = kept.to_owned();
        }
        let chosen = match asked.as_str() {
            "None" => asked,
            "" => self.free_address(taken)?.to_string(),
            _ => {
                self.check_address(&asked, taken)?;
                asked
            }
        };
        spec["clusterIPs"] = json!([chosen]);
        spec["clusterIP"] = json!(chosen);
        for (field, value) in [
            ("ipFamilies", json!(["IPv4"])),
            ("ipFamilyPolicy", json!("SingleStack")),
        ] {
            if spec[field].is_null() {
                spec[field] = value;
            }
        }
        Ok(())
    }

    fn check_address(&self, asked: &str, taken: &Taken) -> Result<(), FieldError> {
        let wrong = |detail: String| {
            let shown = json!([asked]);
            FieldError::invalid(
                "spec.clusterIPs",
                &shown,
                &format!("failed to allocate IP {asked}: {detail}"),
            )
        };
        match asked.parse::<Ipv4Addr>() {
            Err(_) => Err(FieldError::invalid_text(
                "spec.clusterIPs[0]",
                asked,
                "must be a valid IP address, (e.g. 10.9.8.7)",
            )),
            Ok(address) if !self.cidr.contains(address) => Err(wrong(format!(
                "the provided IP is not in the valid range {}",
                self.cidr
            ))),
            Ok(address) if taken.addresses.contains(&address.into()) => {
                Err(wrong("provided IP is already allocated".into()))
            }
            Ok(_) => Ok(()),
        }
    }

    /// A free address; the network's own, its broadcast and the API server's stay out.
    fn free_address(&self, taken: &Taken) -> Result<Ipv4Addr, FieldError> {
        let last = self.cidr.size() - 1;
        let free = |n: &u32| !taken.addresses.contains(&self.cidr.nth(*n).into());
        let random = std::iter::repeat_with(|| fastrand::u32(2..last)).take(RANDOM_TRIES);
        let found = random.chain(2..last).find(free);
        found.map(|n| self.cidr.nth(n)).ok_or_else(|| {
            let message = format!(
                "Internal error: failed to allocate a serviceIP: range {} is full",
                self.cidr
            );
            FieldError::new("spec.clusterIPs", Cause::FieldValueInvalid, message)
        })
    }
}

fn refresh(held: &mut HashMap<Arc<str>, Held>, server: &Server, resource: &Resource) {
    let (_, services) = server.registry.cache(resource).list("");
    let now: HashMap<&Arc<str>, Revision> = services
        .iter()
        .map(|(key, entry)| (key, entry.revision))
        .collect();
    held.retain(|key, one| now.get(key) == Some(&one.revision));
    for (key, entry) in &services {
        if held.contains_key(key) {
            continue;
        }
        let spec = &entry.decode()["spec"];
        let addresses = spec["clusterIPs"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
        let ports = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(node_port);
        let ports = ports.chain(health_port(spec)).collect();
        held.insert(
            key.clone(),
            Held {
                revision: entry.revision,
                addresses,
                ports,
            },
        );
    }
}

fn node_port(port: &Value) -> Option<(String, u16)> {
    let number = u16::try_from(port["nodePort"].as_u64()?)
        .ok()
        .filter(|number| *number > 0)?;
    Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), number))
}

fn health_port(spec: &Value) -> Option<(String, u16)> {
    let number = u16::try_from(spec["healthCheckNodePort"].as_u64()?)
        .ok()
        .filter(|number| *number > 0)?;
    Some(("TCP".to_owned(), number))
}

fn node_ports(service: &mut Value, old: Option<&Value>, taken: &mut Taken) -> Result<(), FieldError> {
    let spec = &mut service["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let balanced = kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false;
    let wanted = kind == "NodePort" || balanced;
    let exposed = matches!(kind, "NodePort" | "LoadBalancer");
    let before = old.map(|old| old["spec"]["ports"].clone()).unwrap_or_default();
    let Some(ports) = spec["ports"].as_array_mut() else {
        return Ok(());
    };
    for (position, port) in ports.iter_mut().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        if !exposed {
            continue;
        }
        let field = format!("spec.ports[{position}].nodePort");
        match node_port(port) {
            Some(chosen) => check_port(&field, &chosen, taken)?,
            None if wanted => {
                let kept = same_port(&before, port).filter(|kept| !taken.ports.contains(kept));
                let chosen = match kept {
                    Some(kept) => kept,
                    None => free_port(&field, protocol, taken)?,
                };
                port["nodePort"] = json!(chosen.1);
            }
            None => continue,
        }
        taken.ports.extend(node_port(port));
    }
    Ok(())
}

/// Where a balancer asks a node whether it has pods of a service whose traffic stays on the node.
fn health_check(spec: &mut Value, old: Option<&Value>, taken: &mut Taken) -> Result<(), FieldError> {
    const FIELD: &str = "spec.healthCheckNodePort";
    let local = |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if !local(spec) {
        return Ok(());
    }
    let before = old.map(|old| &old["spec"]).filter(|spec| local(spec));
    let chosen = match (health_port(spec), before.and_then(health_port)) {
        (Some(asked), _) => {
            check_port(FIELD, &asked, taken)?;
            asked
        }
        (None, Some(kept)) => kept,
        (None, None) => free_port(FIELD, "TCP".to_owned(), taken)?,
    };
    spec["healthCheckNodePort"] = json!(chosen.1);
    taken.ports.insert(chosen);
    Ok(())
}

/// The node port that the same port had before.
fn same_port(before: &Value, port: &Value) -> Option<(String, u16)> {
    let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
    before.as_array()?.iter().find(same).and_then(node_port)
}

fn check_port(field: &str, chosen: &(String, u16), taken: &Taken) -> Result<(), FieldError> {
    let problem = if !NODE_PORTS.contains(&chosen.1) {
        format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            NODE_PORTS.start(),
            NODE_PORTS.end()
        )
    } else if taken.ports.contains(chosen) {
        "provided port is already allocated".to_owned()
    } else {
        return Ok(());
    };
    Err(FieldError::invalid(field, &json!(chosen.1), &problem))
}

fn free_port(field: &str, protocol: String, taken: &Taken) -> Result<(String, u16), FieldError> {
    let random = std::iter::repeat_with(|| fastrand::u16(NODE_PORTS)).take(RANDOM_TRIES);
    let mut candidates = random.chain(NODE_PORTS).map(|number| (protocol.clone(), number));
    let found = candidates.find(|candidate| !taken.ports.contains(candidate));
    found.ok_or_else(|| {
        FieldError::new(
            field,
            Cause::FieldValueInvalid,
            "failed to allocate a nodePort: range is full",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_addresses_chosen_within() {
        let cidr: Cidr = "10.96.1.7/30".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.96.1.4/30");
        assert!(cidr.contains(Ipv4Addr::new(10, 96, 1, 7)) && !cidr.contains(Ipv4Addr::new(10, 96, 1, 8)));
        let services = Services::new(cidr);
        let mut taken = Taken {
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        assert_eq!(
            services.free_address(&taken).unwrap(),
            Ipv4Addr::new(10, 96, 1, 6)
        );
        taken.addresses.insert(Ipv4Addr::new(10, 96, 1, 6).into());
        assert!(services.free_address(&taken).is_err());
        assert!("10.0.0.0".parse::<Cidr>().is_err());
    }

    #[test]
    fn node_ports_are_kept_and_never_shared() {
        let mut taken = Taken {
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        taken.ports.insert(("TCP".into(), 30080));
        let old = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30081}]}});
        let mut service = json!({"spec": {"type": "NodePort", "ports": [
            {"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}});
        node_ports(&mut service, Some(&old), &mut taken).unwrap();
        assert_eq!(service["spec"]["ports"][0]["nodePort"], 30081);
        let other = service["spec"]["ports"][1]["nodePort"].as_u64().unwrap();
        assert!((30000..=32767).contains(&other) && other != 30080 && other != 30081);
        let mut clash = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
        assert!(
            node_ports(&mut clash, None, &mut taken)
                .unwrap_err()
                .to_string()
                .contains("already allocated")
        );
    }
}
