//! Proxy: a request to a pod, to a service's endpoint, or to a node's kubelet, through the API server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

/// Time to reach the other side.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// Headers that speak of the connection or of the caller's identity.
const OWN_HEADERS: [&str; 6] = [
    "authorization",
    "connection",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Sends a request to an address by plain HTTP/1.1.
pub(crate) async fn dial(address: SocketAddr, request: Request<Body>) -> std::io::Result<Response<Body>> {
    let stream = tokio::time::timeout(DIAL_MAX, TcpStream::connect(address))
        .await
        .map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::TimedOut, format!("cannot reach {address}"))
        })??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let response = sender
        .send_request(request)
        .await
        .map_err(std::io::Error::other)?;
    Ok(response.map(Body::wrap))
}

pub(crate) async fn proxy(server: &Arc<Server>, call: &Call, body: Body) -> Answer {
    let Some(nodes) = server.kubelet.clone() else {
        return Err(Status::unavailable("this API server has no way to nodes and pods").into());
    };
    server.registry.newest().await?;
    // As in the original, the name may be `[http:]NAME[:PORT]`.
    let parts: Vec<&str> = call.name().split(':').collect();
    let (name, port) = match parts.as_slice() {
        [name] => (*name, ""),
        [name, port] if !matches!(*name, "http" | "https") => (*name, *port),
        [_, name] => (*name, ""),
        [_, name, port] => (*name, *port),
        _ => return Err(Status::bad_request(format!("invalid name \"{}\"", call.name())).into()),
    };
    let request = forwarded(call, body)?;
    let unreachable = |error: std::io::Error| {
        Refusal::from(Status::unavailable(format!(
            "error trying to reach {}: {error}",
            call.name()
        )))
    };
    if call.resource.is("", "Node") {
        return nodes.request(name, request).await.map_err(unreachable);
    }
    let address = match call.resource.is("", "Pod") {
        true => pod_address(server, call, name, port)?,
        false => endpoint(server, call, name, port)?,
    };
    nodes.pod(address, request).await.map_err(unreachable)
}

fn forwarded(call: &Call, body: Body) -> Result<Request<Body>, Refusal> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in call.query.pairs() {
        query.append_pair(name, value);
    }
    let query = query.finish();
    let separator = if query.is_empty() { "" } else { "?" };
    let path = percent_encoding::utf8_percent_encode(&call.target.rest, percent_encoding::CONTROLS);
    let uri: Uri = format!("/{path}{separator}{query}")
        .parse()
        .map_err(|error| Status::bad_request(format!("the proxied path cannot be sent on: {error}")))?;
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    for (name, value) in call
        .headers
        .iter()
        .filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str()))
    {
        request.headers_mut().append(name, value.clone());
    }
    request
        .headers_mut()
        .insert("host", http::HeaderValue::from_static("capstan"));
    Ok(request)
}

fn pod_address(server: &Server, call: &Call, name: &str, port: &str) -> Result<SocketAddr, Refusal> {
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

/// A ready endpoint of a service, chosen at random.
fn endpoint(server: &Server, call: &Call, name: &str, port: &str) -> Result<SocketAddr, Refusal> {
    let Some(service) = server.registry.cached(&call.resource, call.namespace(), name) else {
        return Err(Status::not_found(&call.resource, name).into());
    };
    let service = service.decode();
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let asked = ports.iter().find(|one| {
        let number = one["port"]
            .as_u64()
            .map(|number| number.to_string())
            .unwrap_or_default();
        (port.is_empty() && ports.len() == 1) || one["name"] == port || number == port
    });
    let missing = || {
        Refusal::from(Status::unavailable(format!(
            "no endpoints available for service \"{name}\""
        )))
    };
    let port_name = asked.ok_or_else(missing)?["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let slices = find("discovery.k8s.io", "v1", "endpointslices").ok_or_else(missing)?;
    let (_, slices) = server
        .registry
        .cache(&slices)
        .list(&format!("{}/", call.namespace()));
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
    if found.is_empty() {
        return Err(missing());
    }
    Ok(found[fastrand::usize(..found.len())])
}
