//! CONNECT: who opens a connection through the server (exec, attach, port-forward, proxy) is judged by the
//! connection's options, as the original hands them to its chain.

use capstan_points::admission::Operation;
use serde_json::{Map, Value, json};

use super::Other;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

/// Options of a subresource that connects, by the names of their query parameters.
fn options_kind(call: &Call) -> Option<&'static str> {
    let of = |kind: &str| call.resource.is("", kind);
    Some(match call.target.subresource.as_str() {
        "exec" if of("Pod") => "PodExecOptions",
        "attach" if of("Pod") => "PodAttachOptions",
        "portforward" if of("Pod") => "PodPortForwardOptions",
        "proxy" if of("Pod") => "PodProxyOptions",
        "proxy" if of("Service") => "ServiceProxyOptions",
        "proxy" if of("Node") => "NodeProxyOptions",
        _ => return None,
    })
}

fn options(call: &Call, kind: &str) -> Value {
    let mut options = Map::new();
    options.insert("kind".into(), json!(kind));
    options.insert("apiVersion".into(), json!("v1"));
    let query = &call.query;
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for stream in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(stream) {
                    options.insert(stream.into(), json!(true));
                }
            }
            if let Some(container) = query.get("container") {
                options.insert("container".into(), json!(container));
            }
            let command: Vec<&str> = query
                .pairs()
                .filter(|(name, _)| *name == "command")
                .map(|(_, value)| value)
                .collect();
            if kind == "PodExecOptions" {
                options.insert("command".into(), json!(command));
            }
        }
        "PodPortForwardOptions" => {
            let ports = query.pairs().filter(|(name, _)| *name == "ports");
            let ports: Vec<u16> = ports
                .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
                .filter_map(|port| port.parse().ok())
                .collect();
            if !ports.is_empty() {
                options.insert("ports".into(), json!(ports));
            }
        }
        _ => {
            options.insert("path".into(), json!(format!("/{}", call.target.rest)));
        }
    }
    Value::Object(options)
}

/// Whether the chain lets a connection be opened; at once for what opens none.
pub(crate) async fn connect(server: &Server, call: &mut Call) -> Result<(), Refusal> {
    let Some(kind) = options_kind(call) else {
        return Ok(());
    };
    let other = Other {
        operation: Operation::Connect,
        subresource: call.target.subresource.clone(),
        kind: (String::new(), "v1".into(), kind.into()),
    };
    let options = options(call, kind);
    let chain = server.admission.pin();
    chain.pass(server, call, &other, (options, None)).await.map(drop)
}
