//! The scale subresource: `autoscaling/v1 Scale` in front of `spec.replicas`, or of what a custom kind's
//! definition names.

use capstan_kinds::resource::Resource;
use capstan_kinds::selector::{LabelSelector, Operator};
use capstan_kinds::status::Status;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::conversion;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::write::{self, PatchBody, Update};

const API_VERSION: &str = "autoscaling/v1";

/// What hooks of admission see of a change of the scale.
pub(crate) const VIEW: write::View = write::View {
    subresource: "scale",
    kind: ("autoscaling", "v1", "Scale"),
    of: scale_of,
    with: with_scale,
};

pub(super) async fn answer(server: &Server, call: &mut Call) -> Answer {
    let resource = call.resource.clone();
    if call.target.verb == "get" {
        server.registry.newest().await?;
        let Some(entry) = server.registry.cached(&resource, call.namespace(), call.name()) else {
            return Err(Status::not_found(&resource, call.name()).into());
        };
        let entry = conversion::entry(&server.registry, &resource, entry).await?;
        return Ok(answer::json(200, &scale_of(&resource, &entry.decode())));
    }
    let media = crate::negotiate::content_type(&call.headers).to_owned();
    if call.target.verb == "patch" && media == write::APPLY_PATCH {
        let configured = |scale: &Value| configuration(&resource, scale);
        let written = write::apply_scale(server, call, configured).await?;
        let object = write::read(&server.registry, &resource, &written.stored, written.revision).await?;
        return Ok(answer::json(200, &scale_of(&resource, &object)));
    }
    let patch = match call.target.verb {
        "patch" => Some(PatchBody::read(call)?),
        _ => None,
    };
    let sent = match patch {
        Some(_) => Value::Null,
        None => write::decode(&media, &call.body)?.object,
    };
    let update = Update {
        track: write::Track::Through("scale"),
        view: Some(VIEW),
        ..Update::default()
    };
    let written = write::write_update(server, call, update, |old| {
        let mut scale = sent.clone();
        if let Some(patch) = &patch {
            scale = scale_of(&resource, old);
            patch.apply(API_VERSION, "Scale", &mut scale)?;
        }
        with_scale(&resource, old, &scale)
    })
    .await?;
    let object = write::read(&server.registry, &resource, &written.stored, written.revision).await?;
    Ok(answer::json(200, &scale_of(&resource, &object)))
}

/// An applied scale as a configuration of the object behind it.
fn configuration(resource: &Resource, scale: &Value) -> Result<Value, Refusal> {
    let name = &scale["metadata"]["name"];
    let own =
        json!({ "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": { "name": name } });
    match &scale["spec"]["replicas"] {
        Value::Null => Ok(own),
        Value::Number(_) => with_scale(resource, &own, scale),
        other => {
            let message = format!(".spec.replicas: expected numeric (int or float), got {other}");
            Err(Status::bad_request(message).into())
        }
    }
}

fn with_scale(resource: &Resource, old: &Value, scale: &Value) -> Result<Value, Refusal> {
    // As in Go's decoding, an absent number is zero.
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if !(0..=i64::from(i32::MAX)).contains(&replicas) {
        let name = scale["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!(
            "Scale.autoscaling \"{name}\" is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"
        );
        return Err(Status::failure(422, "Invalid", message).into());
    }
    let mut new = old.clone();
    match resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => paths
            .spec_replicas
            .put(&mut new, json!(replicas))
            .map_err(Status::bad_request)?,
        None => new["spec"]["replicas"] = json!(replicas),
    }
    if let Some(revision) = scale["metadata"]["resourceVersion"].as_str() {
        new["metadata"]["resourceVersion"] = json!(revision);
    }
    Ok(new)
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut own = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !metadata[field].is_null() {
            own[field] = metadata[field].clone();
        }
    }
    let paths = resource.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    let (wanted, is, selector) = match paths {
        Some(paths) => {
            let selector = paths.selector.as_ref().and_then(|path| path.first(object));
            (
                number(paths.spec_replicas.first(object)),
                number(paths.status_replicas.first(object)),
                selector.and_then(Value::as_str).unwrap_or_default().to_owned(),
            )
        }
        None => (
            number(object["spec"].get("replicas")),
            number(object["status"].get("replicas")),
            selector_text(resource, &object["spec"]["selector"]),
        ),
    };
    let spec = if wanted == 0 {
        json!({})
    } else {
        json!({ "replicas": wanted })
    };
    let mut status = json!({ "replicas": is });
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({ "kind": "Scale", "apiVersion": API_VERSION, "metadata": own, "spec": spec, "status": status })
}

fn selector_text(resource: &Resource, selector: &Value) -> String {
    let selector = match resource.is("", "ReplicationController") {
        true => LabelSelector::from_map_value(selector),
        false => LabelSelector::from_value(selector).unwrap_or_else(|_| LabelSelector::nothing()),
    };
    let terms: Vec<String> = selector
        .requirements()
        .iter()
        .map(|one| {
            let values = one.values.join(",");
            match one.operator {
                Operator::In if one.values.len() == 1 => format!("{}={values}", one.key),
                Operator::In => format!("{} in ({values})", one.key),
                Operator::NotIn => format!("{} notin ({values})", one.key),
                Operator::Exists => one.key.clone(),
                Operator::DoesNotExist => format!("!{}", one.key),
                Operator::Gt => format!("{}>{values}", one.key),
                Operator::Lt => format!("{}<{values}", one.key),
            }
        })
        .collect();
    terms.join(",")
}
