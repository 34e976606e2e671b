//! Requests that are connected through to something else: exec, attach and port forwarding to a pod's kubelet;
//! proxy to a node, a pod or a service; logs over WebSocket.
//!
//! Each was authorized and admitted before it comes here; its way is found from the caches, and the request
//! goes on with its method, path, query and body. Upgrades
//! become a tunnel of bytes. Not here: aggregated APIs, which share `backend` and `tunnel`.

pub(crate) mod backend;
mod frames;
mod log;
pub(crate) mod place;
mod proxy;
mod stream;
mod tunnel;

use std::sync::Arc;

use capstan_kinds::status::Status;
use http::{HeaderMap, Uri};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

pub(crate) use self::backend::dial;
pub use self::tunnel::Tunnel;
pub(crate) use self::tunnel::{is_upgrade, join};
use crate::access::Attributes;
use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

/// What of a request is left once its head is read.
pub(crate) struct Rest {
    pub(crate) uri: Uri,
    pub(crate) body: Body,
    pub(crate) upgrade: OnUpgrade,
}

/// Whether a subresource is one that is connected through; a log is, where a client asks for WebSocket.
pub(crate) fn connects(subresource: &str, headers: &HeaderMap) -> bool {
    match subresource {
        "exec" | "attach" | "portforward" | "proxy" => true,
        "log" => log::is_websocket(headers),
        _ => false,
    }
}

/// Answers a request to such a subresource.
pub(crate) async fn answer(server: &Arc<Server>, call: &mut Call, rest: Rest) -> Answer {
    match call.target.subresource.as_str() {
        "proxy" => proxy::answer(server, call, rest).await,
        "log" => log::answer(server, call, rest).await,
        _ => stream::answer(server, call, rest).await,
    }
}

/// Refuses what may be read but not created, as these are (a WebSocket client comes with GET).
fn may_create(server: &Server, call: &Call) -> Result<(), Refusal> {
    if call.target.verb == "create" {
        return Ok(());
    }
    let attributes = Attributes {
        verb: "create".into(),
        ..crate::server::target_attributes(&call.target)
    };
    server.authorize(&call.user, &attributes)
}

/// The pod that is asked for, as it is now.
async fn pod(server: &Server, call: &Call) -> Result<Value, Refusal> {
    server.registry.newest().await?;
    let found = server
        .registry
        .cached(&call.resource, call.namespace(), call.name());
    match found {
        Some(entry) => Ok(entry.decode()),
        None => Err(Status::not_found(&call.resource, call.name()).into()),
    }
}

/// The container that is meant: the named one, or the only one.
pub(crate) fn container(call: &Call, pod: &Value) -> Result<String, Refusal> {
    let names = |list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array().into_iter().flatten();
        list.filter_map(|one| one["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (own, name) = (names("containers"), call.name());
    let mut all = names("initContainers");
    all.extend(own.iter().cloned());
    all.extend(names("ephemeralContainers"));
    match call.query.get("container") {
        Some(asked) if all.iter().any(|one| one == asked) => Ok(asked.to_owned()),
        Some(asked) => {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")).into())
        }
        None if own.len() == 1 => Ok(own.concat()),
        None => {
            let message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                all.join(" ")
            );
            Err(Status::bad_request(message).into())
        }
    }
}

/// The node that a pod runs on.
pub(crate) fn node<'a>(call: &Call, pod: &'a Value) -> Result<&'a str, Refusal> {
    match pod["spec"]["nodeName"].as_str() {
        Some(node) if !node.is_empty() => Ok(node),
        _ => {
            let message = format!("pod {} does not have a host assigned", call.name());
            Err(Status::bad_request(message).into())
        }
    }
}
