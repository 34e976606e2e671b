//! Where a pod or a service is reached: an address and a port, from the caches.

use std::net::{IpAddr, SocketAddr};

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::server::Server;

/// A pod's address; without a port the first one that it declares.
pub(super) fn pod_address(
    server: &Server,
    call: &Call,
    name: &str,
    port: &str,
) -> Result<SocketAddr, Refusal> {
    let Some(entry) = server.registry.cached(&call.resource, call.namespace(), name) else {
        return Err(Status::not_found(&call.resource, name).into());
    };
    let pod = entry.decode();
    let address: Option<IpAddr> = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
    let Some(address) = address else {
        return Err(Status::unavailable(format!("pod {name} has no address yet")).into());
    };
    let ports = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = ports.flat_map(|one| one["ports"].as_array().into_iter().flatten());
    let number = match port {
        "" => ports
            .next()
            .and_then(|one| one["containerPort"].as_u64())
            .or(Some(80)),
        text => text.parse().ok().or_else(|| {
            ports
                .find(|one| one["name"] == text)
                .and_then(|one| one["containerPort"].as_u64())
        }),
    };
    with_port(address, number, port)
}

fn with_port(address: IpAddr, number: Option<u64>, port: &str) -> Result<SocketAddr, Refusal> {
    match number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
    {
        Some(number) => Ok(SocketAddr::new(address, number)),
        None => Err(Status::bad_request(format!(
            "\"{port}\" is neither a port number nor the name of a port"
        ))
        .into()),
    }
}

/// A service, as the cache has it.
pub(crate) fn service(server: &Server, namespace: &str, name: &str) -> Option<Value> {
    let services = find("", "v1", "services")?;
    Some(server.registry.cached(&services, namespace, name)?.decode())
}

/// A ready endpoint of the service that a call names.
pub(super) fn endpoint(server: &Server, call: &Call, name: &str, port: &str) -> Result<SocketAddr, Refusal> {
    let Some(service) = service(server, call.namespace(), name) else {
        return Err(Status::not_found(&call.resource, name).into());
    };
    // A number is one of the service's ports, anything else the name of one.
    let port_name = match port.parse::<u64>() {
        Ok(number) => {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let found = ports.into_iter().find(|one| one["port"] == number);
            let why = format!("no service port {number} found for service \"{name}\"");
            found.ok_or_else(|| Status::unavailable(why))?["name"]
                .as_str()
                .unwrap_or_default()
        }
        Err(_) => port,
    };
    ready(&server.registry, call.namespace(), name, port_name)
        .ok_or_else(|| Status::unavailable(format!("no endpoints available for service \"{name}\"")).into())
}

/// A ready endpoint of a service's port, chosen at random.
pub(crate) fn ready(registry: &Registry, namespace: &str, name: &str, port_name: &str) -> Option<SocketAddr> {
    let slices = find("discovery.k8s.io", "v1", "endpointslices")?;
    let (_, slices) = registry.cache(&slices).list(&format!("{namespace}/"));
    let mut found: Vec<SocketAddr> = Vec::new();
    for (_, slice) in slices
        .iter()
        .filter(|(_, e)| e.index.label("kubernetes.io/service-name") == Some(name))
    {
        let slice: Value = slice.decode();
        let ports = slice["ports"].as_array().into_iter().flatten();
        let named = |one: &&Value| one["name"].as_str().unwrap_or_default() == port_name;
        let Some(number) = ports.into_iter().find(named).and_then(|one| one["port"].as_u64()) else {
            continue;
        };
        let Ok(number) = u16::try_from(number) else {
            continue;
        };
        let ready = slice["endpoints"].as_array().into_iter().flatten();
        let ready = ready.filter(|one| one["conditions"]["ready"] != false);
        let addresses = ready.filter_map(|one| one["addresses"][0].as_str()?.parse::<IpAddr>().ok());
        found.extend(addresses.map(|address| SocketAddr::new(address, number)));
    }
    match found.is_empty() {
        true => None,
        false => Some(found[fastrand::usize(..found.len())]),
    }
}
