//! Binding: the one way by which a pod gets its node, once.

use capstan_kinds::resource::{Resource, find};
use capstan_kinds::status::Status;
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use crate::admission::Other;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::time;
use crate::write::{self, Update};

/// POST to `pods/X/binding`, or to `bindings` with the pod's name in it.
pub(crate) async fn bind(server: &Server, call: &mut Call) -> Answer {
    let mut binding = write::decode(crate::negotiate::content_type(&call.headers), &call.body)?.object;
    if call.target.name.is_empty() {
        call.target.name = binding["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        call.resource = find("", "v1", "pods").ok_or_else(|| Status::internal("no pods in the table"))?;
    }
    if !binding.is_object() {
        return Err(Status::bad_request("the body of a binding must be an object").into());
    }
    binding["apiVersion"] = json!("v1");
    binding["kind"] = json!("Binding");
    let other = Other {
        operation: Operation::Create,
        subresource: "binding".into(),
        kind: (String::new(), "v1".into(), "Binding".into()),
    };
    let chain = server.admission.pin();
    let binding = chain.pass(server, call, &other, (binding, None)).await?;
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or_default();
    let kind = target["kind"].as_str().unwrap_or_default();
    if node.is_empty() || !matches!(kind, "" | "Node") {
        let message = format!(
            "target: Invalid value: {target}: must name a Node: {{\"kind\":\"Node\",\"name\":\"…\"}}"
        );
        return Err(Status::failure(
            422,
            "Invalid",
            format!("Binding \"{}\" is invalid: {message}", call.name()),
        )
        .into());
    }
    let node = node.to_owned();
    let binding = with_topology(server, &node, binding);
    let resource = call.resource.clone();
    let name = call.name().to_owned();
    let update = Update {
        subresource: "binding",
        keep: true,
        track: write::Track::Nothing,
        ..Update::default()
    };
    write::write_update(server, call, update, |old| {
        bound(&resource, &name, old, &node, &binding)
    })
    .await?;
    let mut success = Status::success();
    success.code = 201;
    Ok(answer::json(201, &{
        let mut document = success.to_value();
        document["code"] = json!(201);
        document
    }))
}

/// PodTopologyLabels: a pod is labelled with the zone and region of its node.
fn with_topology(server: &Server, node: &str, mut binding: Value) -> Value {
    const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
    if !server.switches.on("PodTopologyLabels") {
        return binding;
    }
    let found = find("", "v1", "nodes").and_then(|nodes| server.registry.cached(&nodes, "", node));
    for label in LABELS {
        if let Some(value) = found.as_ref().and_then(|node| node.index.label(label)) {
            binding["metadata"]["labels"][label] = json!(value);
        }
    }
    binding
}

fn bound(
    resource: &Resource,
    name: &str,
    old: &Value,
    node: &str,
    binding: &Value,
) -> Result<Value, Refusal> {
    let refuse = |why: String| Err(Status::conflict(resource, name, &why).into());
    if old["metadata"]["deletionTimestamp"].is_string() {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(before) = old["spec"]["nodeName"]
        .as_str()
        .filter(|before| !before.is_empty())
    {
        return refuse(format!("pod {name} is already assigned to node \"{before}\""));
    }
    if old["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    if let Some(uid) = binding["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty())
        && old["metadata"]["uid"] != uid
    {
        return refuse(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"]
        ));
    }
    let mut new = old.clone();
    new["spec"]["nodeName"] = json!(node);
    for (key, value) in binding["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
    {
        new["metadata"]["annotations"][key] = value.clone();
    }
    for (key, value) in binding["metadata"]["labels"].as_object().into_iter().flatten() {
        if new["metadata"]["labels"][key].is_null() {
            new["metadata"]["labels"][key] = value.clone();
        }
    }
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::now(),
        "observedGeneration": old["metadata"]["generation"],
    });
    if !new["status"]["conditions"].is_array() {
        new["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = new["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions.push(scheduled);
    }
    Ok(new)
}
