//! Logs: the request goes on to the kubelet of the pod's node, and its stream comes back.

use capstan_kinds::status::Status;
use http::Request;

use crate::answer::{self, Answer};
use crate::body::Body;
use crate::call::Call;
use crate::connect;
use crate::server::Server;

/// Options that the kubelet knows.
const OPTIONS: [&str; 8] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

pub(crate) async fn read(server: &Server, call: &mut Call) -> Answer {
    server.registry.newest().await?;
    let Some(entry) = server
        .registry
        .cached(&call.resource, call.namespace(), call.name())
    else {
        return Err(Status::not_found(&call.resource, call.name()).into());
    };
    let pod = entry.decode();
    let container = connect::container(call, &pod)?;
    let node = connect::node(call, &pod)?;
    let kubelet = server.kubelet.as_ref();
    let kubelet = kubelet.ok_or_else(|| Status::unavailable("this API server has no way to the kubelets"))?;
    let path = format!(
        "/containerLogs/{}/{}/{container}?{}",
        call.namespace(),
        call.name(),
        options(call)
    );
    let request = Request::get(path).body(Body::empty()).map_err(Status::internal)?;
    let response = kubelet
        .request(node, request)
        .await
        .map_err(|error| Status::internal(format!("Get logs from node {node}: {error}")))?;
    if response.status().is_success() {
        let (_, body) = response.into_parts();
        return Ok(answer::with_type(200, "text/plain", body));
    }
    let code = response.status().as_u16();
    let text = response
        .into_body()
        .collect(64 << 10)
        .await
        .ok()
        .flatten()
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Err(match code {
        400 => Status::bad_request(text),
        404 => Status::failure(404, "NotFound", text),
        _ => Status::internal(text),
    }
    .into())
}

/// The options of the query that the kubelet knows.
fn options(call: &Call) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in OPTIONS
        .iter()
        .filter_map(|name| Some((name, call.query.get(name)?)))
    {
        query.append_pair(name, value);
    }
    query.finish()
}
