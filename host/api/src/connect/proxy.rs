//! Proxy: a request to a pod, to a service's endpoint, or to a node's kubelet, with any method, path, query
//! and body, and upgrades; answers come back as they are, redirects included.

use std::sync::Arc;

use capstan_kinds::status::Status;
use http::header::{HOST, HeaderValue, LOCATION};
use http::{Method, Request, Response, Uri};

use super::backend::{self, TRUSTING};
use super::{Rest, is_upgrade, join, place};
use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

pub(super) async fn answer(server: &Arc<Server>, call: &mut Call, rest: Rest) -> Answer {
    let path = remainder(&rest.uri, &call.target.namespace).to_owned();
    let Some(nodes) = server.kubelet.clone() else {
        return Err(Status::unavailable("this API server has no way to nodes and pods").into());
    };
    server.registry.newest().await?;
    let (scheme, name, port) = split(call)?;
    let to = match call.resource.kind.as_str() {
        "Node" => None,
        "Service" => Some(place::endpoint(server, call, name, port)?),
        _ => Some(place::pod_address(server, call, name, port)?),
    };
    let upgrades = is_upgrade(&call.headers);
    // The root of a place ends in a slash, so that relative links lead to the right one.
    if path.is_empty() && !upgrades && matches!(call.method, Method::GET | Method::HEAD) {
        return redirect(&rest.uri);
    }
    let request = forwarded(call, &rest.uri, &path, rest.body, upgrades)?;
    let sent = match to {
        None => nodes.request(name, request).await,
        Some(address) if scheme == "https" => {
            let host = address.ip().to_string();
            backend::dial_tls(address, &host, TRUSTING.clone(), request).await
        }
        Some(address) => nodes.pod(address, request).await,
    };
    let mut response = sent.map_err(|error| {
        Refusal::from(Status::unavailable(format!(
            "error trying to reach service: {error}"
        )))
    })?;
    let switches = upgrades && response.status() == 101;
    backend::strip_hop(response.headers_mut(), switches);
    Ok(join(server, rest.upgrade, response))
}

/// A name may be `[SCHEME:]NAME[:PORT]`.
fn split(call: &Call) -> Result<(&str, &str, &str), Refusal> {
    let parts: Vec<&str> = call.name().split(':').collect();
    match parts.as_slice() {
        [name] if !name.is_empty() => Ok(("", name, "")),
        [name, port] if !name.is_empty() => Ok(("", name, port)),
        [scheme @ ("" | "http" | "https"), name, port] if !name.is_empty() => Ok((scheme, name, port)),
        _ => {
            let kind = call.resource.kind.to_ascii_lowercase();
            Err(Status::bad_request(format!("invalid {kind} request \"{}\"", call.name())).into())
        }
    }
}

/// What follows `…/proxy` in the path, as the client wrote it.
fn remainder<'a>(uri: &'a Uri, namespace: &str) -> &'a str {
    let segments = if namespace.is_empty() { 5 } else { 7 };
    let path = uri.path();
    let (mut seen, mut inside) = (0, false);
    for (place, byte) in path.bytes().enumerate() {
        if byte == b'/' && inside && seen == segments {
            return &path[place..];
        }
        if byte != b'/' && !inside {
            seen += 1;
        }
        inside = byte != b'/';
    }
    ""
}

fn redirect(uri: &Uri) -> Answer {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", uri.path());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&location).map_err(Status::internal)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn forwarded(
    call: &Call,
    uri: &Uri,
    path: &str,
    body: Body,
    upgrades: bool,
) -> Result<Request<Body>, Refusal> {
    let path = if path.is_empty() { "/" } else { path };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = format!("{path}{query}")
        .parse()
        .map_err(|error| Status::bad_request(format!("the proxied path cannot be sent on: {error}")))?;
    let headers = request.headers_mut();
    *headers = call.headers.clone();
    backend::strip_hop(headers, upgrades);
    let own: Vec<_> = headers
        .keys()
        .filter(|name| *name == "authorization" || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    // A body of another length may be sent on than the client announced, chunk by chunk.
    if !headers.contains_key(HOST) {
        let host = uri
            .authority()
            .and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("kubernetes")));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_taken_as_it_is() {
        for (path, namespace, expected) in [
            ("/api/v1/nodes/n/proxy", "", ""),
            ("/api/v1/nodes/n/proxy/", "", "/"),
            ("/api/v1/nodes/n/proxy/a%2Fb//c/", "", "/a%2Fb//c/"),
            ("/api/v1/namespaces/d/pods/proxy/proxy/x/proxy", "d", "/x/proxy"),
            ("/api/v1/namespaces/d/services/http:s:80/proxy/?q", "d", "/"),
        ] {
            assert_eq!(remainder(&path.parse().unwrap(), namespace), expected, "{path}");
        }
    }
}
