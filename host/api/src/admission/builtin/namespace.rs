//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going, and some never go.

use capstan_kinds::status::{Status, StatusCause};
use capstan_points::admission::Operation;
use serde_json::Value;

use super::{Asked, forbidden, text};
use crate::refusal::Refusal;
use crate::registry::Entry;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn lives(asked: &Asked<'_>, object: &Value) -> Result<(), Refusal> {
    let Asked {
        server,
        call,
        subject,
    } = asked;
    if subject.operation != Operation::Create || !subject.subresource.is_empty() || !call.resource.namespaced
    {
        return Ok(());
    }
    let name = call.namespace();
    let mut namespace = server.namespace(name);
    if namespace.is_none() {
        server.registry.newest().await?;
        namespace = server.namespace(name);
    }
    let Some(namespace) = namespace else {
        return Err(Status::not_found(&server.namespaces, name).into());
    };
    if namespace.index.field("status.phase") != Some("Terminating") && !is_going(&namespace) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = StatusCause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    };
    let status = *forbidden(call, object, &why);
    Err(status.with_causes(vec![cause]).into())
}

fn is_going(namespace: &Entry) -> bool {
    namespace
        .bytes
        .windows(b"\"deletionTimestamp\"".len())
        .any(|window| window == b"\"deletionTimestamp\"")
        && namespace.decode()["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn stays(asked: &Asked<'_>) -> Result<(), Refusal> {
    if !asked.is("", "namespaces", Operation::Delete, "") {
        return Ok(());
    }
    let name = asked
        .subject
        .old
        .as_ref()
        .map(|old| text(&old["metadata"]["name"]).to_owned());
    match name {
        Some(name) if IMMORTAL.contains(&name.as_str()) => {
            let why = "this namespace may not be deleted";
            Err(Status::forbidden(&asked.call.resource, &name, why).into())
        }
        _ => Ok(()),
    }
}
