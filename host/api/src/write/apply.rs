//! PATCH by `application/apply-patch+yaml`: server-side apply of an object, its status or its scale.
//!
//! The rules are `capstan_kinds::apply`'s. An object that is not there is created, by who may create it.

use std::sync::Arc;

use capstan_kinds::apply::{self, Problem, Reset, Writer};
use capstan_kinds::resource::Resource;
use capstan_kinds::status::{OBJECT_MODIFIED, Status, StatusCause};
use capstan_kinds::validate;
use serde_json::Value;

use super::decode::{self, Decoded};
use super::managed::{self, Track};
use super::update::{Update, Written, write_update};
use super::{create, finish};
use crate::access::Attributes;
use crate::answer::Answer;
use crate::call::{Call, FieldValidation};
use crate::negotiate::YAML;
use crate::refusal::{self, Refusal};
use crate::registry::{WriteError, keys};
use crate::server::Server;
use crate::subresource;

/// Its media type.
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Times that an apply is tried against others who create or delete the object meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// PATCH of an object or its status.
pub(super) async fn apply(server: &Server, call: &mut Call, subresource: &'static str) -> Answer {
    let request = Arc::new(Request::read(call, subresource)?);
    request.check_kind(&call.resource.group, &call.resource.version, &call.resource.kind)?;
    let resource = call.resource.clone();
    let key = keys::of(&resource, call.namespace(), call.name());
    for _ in 0..ATTEMPTS_MAX {
        let current = server.registry.current(&key).await.map_err(WriteError::Store);
        let current = current.map_err(|error| refusal::of_write(error, &resource, call.name()))?;
        let outcome = if current.is_some() || !subresource.is_empty() {
            let update = Update {
                subresource,
                track: Track::Applied,
                ..Update::default()
            };
            match update_with(server, call, update, &request).await {
                Ok(written) => {
                    finish::respond(&server.registry, call, 200, &written.stored, written.revision).await
                }
                Err(refusal) => Err(refusal),
            }
        } else {
            make(server, call, &request).await
        };
        match outcome {
            Err(refusal) if subresource.is_empty() && raced(&refusal, current.is_some()) => {}
            other => return other,
        }
    }
    Err(Status::conflict(&resource, call.name(), OBJECT_MODIFIED).into())
}

/// Whether somebody deleted the object that was there, or created the one that was not.
fn raced(refusal: &Status, was_there: bool) -> bool {
    match refusal.reason.as_str() {
        "NotFound" => was_there,
        "AlreadyExists" => !was_there,
        _ => false,
    }
}

/// Applies `configured` of the scale's configuration to the object behind it.
pub(crate) async fn apply_scale(
    server: &Server,
    call: &mut Call,
    configured: impl Fn(&Value) -> Result<Value, Refusal>,
) -> Result<Written, Refusal> {
    let mut request = Request::read(call, "scale")?;
    request.check_kind("autoscaling", "v1", "Scale")?;
    let scale = request.config;
    request.config = configured(&scale)?;
    let update = Update {
        track: Track::Applied,
        view: Some(subresource::SCALE_VIEW),
        ..Update::default()
    };
    update_with(server, call, update, &Arc::new(request)).await
}

async fn update_with(
    server: &Server,
    call: &mut Call,
    update: Update,
    request: &Arc<Request>,
) -> Result<Written, Refusal> {
    let (resource, request) = (call.resource.clone(), request.clone());
    let (namespace, name) = (call.namespace().to_owned(), call.name().to_owned());
    write_update(server, call, update, move |old| {
        let new = request.onto(&resource, Some(old))?;
        in_place(&new, &namespace, &name)?;
        Ok(new)
    })
    .await
}

/// Creates what is not there.
async fn make(server: &Server, call: &mut Call, request: &Request) -> Answer {
    let target = &call.target;
    let attributes = Attributes {
        verb: "create".to_owned(),
        group: target.group.clone(),
        resource: target.resource.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        ..Attributes::default()
    };
    server.authorize(&call.user, &attributes)?;
    let resource = call.resource.clone();
    let object = request.onto(&resource, None)?;
    in_place(&object, call.namespace(), call.name())?;
    if let Some(uid) = object["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(&resource, call.name(), &why).into());
    }
    create::create_tracked(server, call, object, Track::Applied).await
}

/// Whether the object is the one of the URL.
fn in_place(object: &Value, namespace: &str, name: &str) -> Result<(), Refusal> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let own = text("name");
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))
        .into());
    }
    if own != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))
        .into());
    }
    if !namespace.is_empty() && !text("namespace").is_empty() && text("namespace") != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message).into());
    }
    Ok(())
}

/// A decoded request to apply.
struct Request {
    config: Value,
    manager: String,
    force: bool,
    subresource: &'static str,
    now: String,
}

impl Request {
    fn read(call: &mut Call, subresource: &'static str) -> Result<Self, Refusal> {
        managed::check_options(call, "PatchOptions")?;
        let Some(manager) = call.query.get("fieldManager").map(str::to_owned) else {
            let problem = "fieldManager: Required value: is required for apply patch";
            return Err(managed::invalid_option("PatchOptions", problem));
        };
        let mode = call.field_validation()?;
        let Decoded {
            object: config,
            duplicates,
        } = decode::decode(YAML, &call.body).map_err(|refusal| {
            let why = refusal.message.trim_start_matches("the body is not valid YAML: ");
            Status::bad_request(format!("error decoding YAML: {why}"))
        })?;
        if !config.is_object() {
            let message =
                "error decoding YAML: the configuration must be an object with apiVersion, kind and metadata";
            return Err(Status::bad_request(message).into());
        }
        let texts: Vec<String> = duplicates
            .iter()
            .map(|path| format!("key \"{path}\" already set in map"))
            .collect();
        if !texts.is_empty() && mode != FieldValidation::Ignore {
            let text = format!(
                "error converting YAML to JSON: yaml: unmarshal errors: {}",
                texts.join(", ")
            );
            if mode == FieldValidation::Strict {
                return Err(Status::bad_request(format!("error strict decoding YAML: {text}")).into());
            }
            call.warn(text);
        }
        Ok(Self {
            config,
            manager,
            force: call.query.flag("force"),
            subresource,
            now: crate::time::now(),
        })
    }

    fn check_kind(&self, group: &str, version: &str, kind: &str) -> Result<(), Refusal> {
        let text = |field: &str| self.config[field].as_str().unwrap_or_default();
        let (own_version, own_kind) = (text("apiVersion"), text("kind"));
        let (own_group, own_version) = own_version.rsplit_once('/').unwrap_or(("", own_version));
        if (own_group, own_version, own_kind) == (group, version, kind) {
            return Ok(());
        }
        Err(Status::bad_request(format!(
            "invalid object type: {own_group}/{own_version}, Kind={own_kind}"
        ))
        .into())
    }

    /// The live object with the configuration applied.
    fn onto(&self, resource: &Resource, live: Option<&Value>) -> Result<Value, Refusal> {
        let api_version = resource.api_version();
        let reset = Reset::of(resource, self.subresource);
        let writer = Writer {
            manager: &self.manager,
            api_version: &api_version,
            subresource: self.subresource,
            now: &self.now,
            reset: &reset,
        };
        let mut new = apply::apply(resource, &writer, live, &self.config, self.force).map_err(refused)?;
        decode::of_kind(resource, &mut new)?;
        validate::types(resource, &new).map_err(Status::bad_request)?;
        Ok(new)
    }
}

fn refused(problem: Problem) -> Refusal {
    let message = problem.to_string();
    match problem {
        Problem::Malformed(message) => Status::bad_request(message).into(),
        Problem::Conflicts(conflicts) => {
            let causes = conflicts.iter().map(|conflict| StatusCause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.field(),
            });
            Status::failure(409, "Conflict", message)
                .with_causes(causes.collect())
                .into()
        }
    }
}
