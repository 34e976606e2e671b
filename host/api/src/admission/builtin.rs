//! The built-in entries: namespaces' lives, pods' service account, tolerations and priority.

use capstan_kinds::status::{Status, StatusCause};
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use super::Subject;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::registry::Entry;
use crate::server::Server;

/// Namespaces that cannot be deleted.
pub(crate) const IMMORTAL_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

/// How long a pod stays on a node that is not ready or not reached.
const TOLERATION_SECONDS: i64 = 300;

pub(super) async fn mutate(
    server: &Server,
    call: &Call,
    subject: &Subject,
    object: &mut Value,
) -> Result<(), Refusal> {
    if subject.operation != Operation::Create || !subject.subresource.is_empty() {
        return Ok(());
    }
    if call.resource.namespaced {
        namespace_lives(server, call, object).await?;
    }
    if call.resource.is("", "Pod") {
        service_account(object);
        tolerations(object);
        priority(server, call, object)?;
    }
    Ok(())
}

pub(super) fn validate(call: &Call, subject: &Subject) -> Result<(), Refusal> {
    if subject.operation == Operation::Delete
        && call.resource.is("", "Namespace")
        && let Some(name) = subject
            .old
            .as_ref()
            .and_then(|old| old["metadata"]["name"].as_str())
        && IMMORTAL_NAMESPACES.contains(&name)
    {
        return Err(Status::forbidden(&call.resource, name, "this namespace may not be deleted").into());
    }
    Ok(())
}

/// NamespaceLifecycle: nothing is created in a namespace that is not there or is going.
async fn namespace_lives(server: &Server, call: &Call, object: &Value) -> Result<(), Refusal> {
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
    let object_name = object["metadata"]["name"].as_str().unwrap_or_default();
    let cause = StatusCause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    };
    Err(Status::forbidden(&call.resource, object_name, &why)
        .with_causes(vec![cause])
        .into())
}

fn is_going(namespace: &Entry) -> bool {
    namespace
        .bytes
        .windows(b"\"deletionTimestamp\"".len())
        .any(|window| window == b"\"deletionTimestamp\"")
        && namespace.decode()["metadata"]["deletionTimestamp"].is_string()
}

fn service_account(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        let older = spec["serviceAccount"].as_str().unwrap_or_default();
        spec["serviceAccountName"] = json!(if older.is_empty() { "default" } else { older });
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
}

/// DefaultTolerationSeconds.
fn tolerations(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(list) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "" | "NoExecute")
        });
        if !covered {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}

/// Priority: the class's value, or the default class's, or 0.
fn priority(server: &Server, call: &Call, pod: &mut Value) -> Result<(), Refusal> {
    let name = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let classes = server.registry.cache(&server.priority_classes);
    let class = if name.is_empty() {
        let (_, all) = classes.list("");
        let default = all
            .into_iter()
            .map(|(_, entry)| entry.decode())
            .find(|c| c["globalDefault"] == true);
        if let Some(class) = &default {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        default
    } else {
        let Some(entry) = classes.get(&name) else {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!("no PriorityClass with name {name} was found");
            return Err(Status::forbidden(&call.resource, pod_name, &why).into());
        };
        Some(entry.decode())
    };
    let value = class
        .as_ref()
        .and_then(|class| class["value"].as_i64())
        .unwrap_or(0);
    pod["spec"]["priority"] = json!(value);
    if pod["spec"]["preemptionPolicy"].is_null() {
        let policy = class
            .as_ref()
            .and_then(|class| class["preemptionPolicy"].as_str());
        pod["spec"]["preemptionPolicy"] = json!(policy.unwrap_or("PreemptLowerPriority"));
    }
    Ok(())
}
