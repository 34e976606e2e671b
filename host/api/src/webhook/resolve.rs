//! From a webhook's service to an address.

use std::net::{IpAddr, SocketAddr};

use capstan_kinds::resource::find;
use serde_json::Value;

use crate::registry::Registry;

/// Whom a connector connects to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The host of the URL.
    Host,
    /// A service of the cluster.
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
}

/// A ready endpoint of a service's port, chosen at random; its cluster IP where none is listed.
pub(super) fn endpoint(
    registry: &Registry,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<String, String> {
    let missing = || format!("service \"{name}\" not found");
    let services = find("", "v1", "services").ok_or_else(missing)?;
    let service = registry.cached(&services, namespace, name).ok_or_else(missing)?;
    let service = service.decode();
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        let host = spec["externalName"].as_str().unwrap_or_default();
        return Ok(format!("{host}:{port}"));
    }
    let ports = spec["ports"].as_array().into_iter().flatten();
    let Some(asked) = ports
        .into_iter()
        .find(|one| one["port"].as_u64() == Some(port.into()))
    else {
        return Err(format!("no service port {port} found for service \"{name}\""));
    };
    let found = endpoints(registry, namespace, name, asked);
    if !found.is_empty() {
        return Ok(found[fastrand::usize(..found.len())].to_string());
    }
    match spec["clusterIP"]
        .as_str()
        .and_then(|ip| ip.parse::<IpAddr>().ok())
    {
        // Without a selector nobody lists endpoints; the cluster IP may lead somewhere all the same.
        Some(address) if spec["selector"].is_null() => Ok(SocketAddr::new(address, port).to_string()),
        _ => Err(format!("no endpoints available for service \"{name}\"")),
    }
}

fn endpoints(registry: &Registry, namespace: &str, name: &str, asked: &Value) -> Vec<SocketAddr> {
    let Some(slices) = find("discovery.k8s.io", "v1", "endpointslices") else {
        return Vec::new();
    };
    let wanted = asked["name"].as_str().unwrap_or_default();
    let (_, slices) = registry.cache(&slices).list(&format!("{namespace}/"));
    let mut found = Vec::new();
    for (_, slice) in slices {
        if slice.index.label("kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let slice = slice.decode();
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports.find(|one| one["name"].as_str().unwrap_or_default() == wanted);
        let number = number.and_then(|one| u16::try_from(one["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        let ready = slice["endpoints"].as_array().into_iter().flatten();
        let ready = ready.filter(|one| one["conditions"]["ready"] != false);
        let addresses = ready.filter_map(|one| one["addresses"][0].as_str()?.parse::<IpAddr>().ok());
        found.extend(addresses.map(|address| SocketAddr::new(address, number)));
    }
    found
}
