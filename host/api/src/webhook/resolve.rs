//! From a webhook's service to an address.

use std::net::{IpAddr, SocketAddr};

use capstan_kinds::resource::find;

use crate::connect::place;
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
    let port_name = asked["name"].as_str().unwrap_or_default();
    if let Some(address) = place::ready(registry, namespace, name, port_name) {
        return Ok(address.to_string());
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
