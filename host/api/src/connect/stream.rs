//! Exec, attach and port forwarding: the request goes on to the kubelet of the pod's node, which speaks
//! WebSocket and SPDY itself; its connection is joined with the client's.

use std::sync::Arc;

use capstan_kinds::status::Status;
use http::Request;

use super::{Rest, container, is_upgrade, join, may_create, node, pod};
use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

/// Streams of the options, each with its name at the kubelet.
const STREAMS: [(&str, &str); 4] = [
    ("stdin", "input"),
    ("stdout", "output"),
    ("stderr", "error"),
    ("tty", "tty"),
];

pub(super) async fn answer(server: &Arc<Server>, call: &mut Call, rest: Rest) -> Answer {
    check_ports(call)?;
    may_create(server, call)?;
    let pod = pod(server, call).await?;
    let (namespace, name) = (call.namespace(), call.name());
    let path = match call.target.subresource.as_str() {
        "portforward" => format!("/portForward/{namespace}/{name}"),
        verb => format!("/{verb}/{namespace}/{name}/{}", container(call, &pod)?),
    };
    let node = node(call, &pod)?.to_owned();
    if !is_upgrade(&call.headers) {
        return Err(Status::bad_request("Upgrade request required").into());
    }
    let kubelet = server.kubelet.as_ref();
    let kubelet = kubelet.ok_or_else(|| Status::unavailable("this API server has no way to the kubelets"))?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = format!("{path}?{}", query(call))
        .parse()
        .map_err(Status::internal)?;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove("authorization");
    let unreachable =
        |error: std::io::Error| Refusal::from(Status::internal(format!("error dialing backend: {error}")));
    let response = kubelet.request(&node, request).await.map_err(unreachable)?;
    let code = response.status().as_u16();
    if code != 101 && code < 400 {
        return Err(Status::internal(format!("invalid upgrade response: status code {code}")).into());
    }
    Ok(join(server, rest.upgrade, response))
}

/// Whether a flag of the query is set, as the original reads one: its name alone is enough.
fn is_set(call: &Call, name: &str) -> bool {
    let mut found = call.query.pairs().filter(|(known, _)| *known == name);
    let value = found.next().map(|(_, value)| value.to_ascii_lowercase());
    value.is_some_and(|value| value != "false" && value != "0")
}

fn all<'a>(call: &'a Call, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = call.query.pairs();
    pairs.filter_map(move |(known, value)| (known == name).then_some(value))
}

/// Refuses ports that are no numbers.
fn check_ports(call: &Call) -> Result<(), Refusal> {
    let mut ports = all(call, "ports").flat_map(|ports| ports.split(','));
    match ports.find(|port| port.parse::<i32>().is_err()) {
        Some(port) => {
            let message = format!("strconv.ParseInt: parsing \"{port}\": invalid syntax");
            Err(Status::bad_request(message).into())
        }
        None => Ok(()),
    }
}

/// The options as the kubelet reads them.
fn query(call: &Call) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if call.target.subresource == "portforward" {
        let ports: Vec<&str> = all(call, "ports").collect();
        if !ports.is_empty() {
            query.append_pair("port", &ports.join(","));
        }
        return query.finish();
    }
    if call.target.subresource == "exec" {
        for word in all(call, "command") {
            query.append_pair("command", word);
        }
    }
    for (_, theirs) in STREAMS.iter().filter(|(name, _)| is_set(call, name)) {
        query.append_pair(theirs, "1");
    }
    query.finish()
}
