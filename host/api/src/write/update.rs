//! UPDATE and everything that ends as one: patches, status, scale, finalize, binding.
//!
//! One loop: read the current state from the store, let the caller make the new one, check it, write it
//! conditionally. A caller that named a resourceVersion gets a conflict; the others are tried again.

use std::sync::Arc;

use capstan_kinds::status::{OBJECT_MODIFIED, Status};
use capstan_kinds::{apply, default, pod_part, resource::Resource, strategy, validate};
use capstan_points::admission::Operation;
use capstan_store::Revision;
use serde_json::{Value, json};

use super::managed::{self, Guard, Track};
use super::{create, decode, finish};
use crate::access;
use crate::admission::{self, Other, Pinned, Subject};
use crate::answer::Answer;
use crate::call::Call;
use crate::conversion;
use crate::evaluation::evaluate;
use crate::refusal::{self, Refusal};
use crate::registry::{Registry, WriteError, keys};
use crate::server::Server;

/// Times that an update without resourceVersion is tried.
const ATTEMPTS_MAX: usize = 10;

/// How an update treats the object.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Update {
    /// Of the request, for admission and the choice of strategy.
    pub subresource: &'static str,
    /// Whether to write even where the object is being deleted with nothing left to wait for.
    pub keep: bool,
    /// What it means for the managers of the object's fields.
    pub track: Track,
    /// The form in which hooks of admission see it, where that is not the object.
    pub view: Option<View>,
}

/// Another form of an object, such as its Scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub subresource: &'static str,
    /// Group, version and kind.
    pub kind: (&'static str, &'static str, &'static str),
    pub of: fn(&Resource, &Value) -> Value,
    /// The object with a changed form.
    pub with: fn(&Resource, &Value, &Value) -> Result<Value, Refusal>,
}

/// What an update led to.
pub(crate) struct Written {
    /// In the stored form, without revision.
    pub stored: Vec<u8>,
    pub revision: Revision,
}

/// PUT of an object or its status.
pub(crate) async fn update(server: &Server, call: &mut Call, subresource: &'static str) -> Answer {
    managed::check_options(call, "UpdateOptions")?;
    let object = decode::object(call)?;
    let resource = call.resource.clone();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        ))
        .into());
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if resource.namespaced && !namespace.is_empty() && namespace != call.namespace() {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message).into());
    }
    if let Some(trail) = call.trail.as_ref().filter(|trail| trail.tells_objects()) {
        trail.decoded(&resource, object.clone());
    }
    if resource.custom.is_some()
        && object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
    {
        let why = "Invalid value: 0x0: must be specified for an update";
        let error = validate::FieldError::new(
            "metadata.resourceVersion",
            validate::Cause::FieldValueInvalid,
            why,
        );
        return Err(Status::invalid(&resource, call.name(), vec![error]).into());
    }
    if subresource.is_empty() && creates_on_update(&resource) {
        let key = keys::of(&resource, call.namespace(), call.name());
        let current = server.registry.current(&key).await.map_err(WriteError::Store);
        if current
            .map_err(|error| refusal::of_write(error, &resource, call.name()))?
            .is_none()
        {
            return create::create_object(server, call, object).await;
        }
    }
    let written = write_update(
        server,
        call,
        Update {
            subresource,
            ..Update::default()
        },
        |_| Ok(object.clone()),
    )
    .await?;
    finish::respond(&server.registry, call, 200, &written.stored, written.revision).await
}

/// Kinds of which a PUT may make a new object, as in the original.
fn creates_on_update(resource: &Resource) -> bool {
    let plural = resource.storage_prefix().split('.').next();
    resource.custom.is_none() && matches!(plural, Some("events" | "endpoints" | "leases" | "services"))
}

/// Writes what `make` makes of the current object.
pub(crate) async fn write_update(
    server: &Server,
    call: &mut Call,
    update: Update,
    make: impl Fn(&Value) -> Result<Value, Refusal>,
) -> Result<Written, Refusal> {
    let resource = call.resource.clone();
    let name = call.name().to_owned();
    let key = keys::of(&resource, call.namespace(), &name);
    for _ in 0..ATTEMPTS_MAX {
        let current = server.registry.current(&key).await.map_err(WriteError::Store);
        let Some(kv) = current.map_err(|error| refusal::of_write(error, &resource, &name))? else {
            return Err(Status::not_found(&resource, &name).into());
        };
        let old = read(&server.registry, &resource, &kv.value, kv.mod_revision).await?;
        let new = make(&old)?;
        let asked = new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        // The document that `make` started from carries the current revision: only another one is a demand.
        let demanded = !asked.is_empty() && asked != kv.mod_revision.to_string();
        if demanded && asked != "0" {
            return Err(Status::conflict(&resource, &name, OBJECT_MODIFIED).into());
        }
        same_uid(&resource, &name, &new, &old)?;
        match attempt(server, call, update, new, old, (&key, kv.mod_revision, &kv.value)).await {
            Err(Outcome::Raced) => {}
            Err(Outcome::Refused(refusal)) => return Err(refusal),
            Ok(written) => return Ok(written),
        }
    }
    Err(Status::conflict(&resource, &name, OBJECT_MODIFIED).into())
}

/// The stored object in the request's version, with its revision.
pub(crate) async fn read(
    registry: &Registry,
    resource: &Resource,
    stored: &[u8],
    revision: Revision,
) -> Result<Value, Refusal> {
    let mut object: Value = serde_json::from_slice(stored).map_err(Status::internal)?;
    if object["apiVersion"] != resource.api_version() || resource.custom.is_some() {
        object = conversion::to_version(registry, resource, object).await?;
    }
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    Ok(object)
}

fn same_uid(resource: &Resource, name: &str, new: &Value, old: &Value) -> Result<(), Refusal> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let (asked, is) = (uid(new), uid(old));
    if asked.is_empty() || asked == is {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {is}");
    Err(Status::conflict(resource, name, &why).into())
}

enum Outcome {
    Raced,
    Refused(Refusal),
}

impl<T: Into<Refusal>> From<T> for Outcome {
    fn from(refusal: T) -> Self {
        Self::Refused(refusal.into())
    }
}

async fn attempt(
    server: &Server,
    call: &mut Call,
    update: Update,
    mut new: Value,
    old: Value,
    (key, revision, before): (&str, Revision, &[u8]),
) -> Result<Written, Outcome> {
    let resource = call.resource.clone();
    let dry_run = call.dry_run()?;
    let (old, name) = (Arc::new(old), call.name().to_owned());
    prepare(&resource, update.subresource, &mut new, &old);
    match update.track {
        Track::Write => managed::track(call, update.subresource, Some(&old), &mut new),
        Track::Through(subresource) => managed::track(call, subresource, Some(&old), &mut new),
        Track::Nothing | Track::Applied => {}
    }
    let chain = server.admission.pin();
    let guard = Guard::new(chain.is_plugged(), &new);
    let subject = Subject {
        operation: Operation::Update,
        subresource: update.subresource,
        old: Some(old.clone()),
        dry_run,
    };
    let mut new = chain.mutate(server, call, &subject, new).await?;
    if let Some(view) = update.view {
        new = viewed(server, call, &chain, view, (new, &old)).await?;
    }
    guard.check(call, &mut new);
    prepare(&resource, update.subresource, &mut new, &old);
    apply::keep_times(&mut new, &old);
    let holds = server
        .services
        .assign(server, &resource, &mut new, Some(&old))
        .await?;
    let validated = || validate::update_through(&resource, update.subresource, &new, &old);
    let errors = match resource.custom {
        Some(_) => evaluate(validated).await,
        None => validated(),
    };
    if !errors.is_empty() {
        return Err(Status::invalid(&resource, &name, errors).into());
    }
    if update.subresource.is_empty() {
        for warning in validate::warnings(&resource, &new, Some(&old)) {
            call.warn(warning);
        }
    }
    let new = Arc::new(new);
    chain.validate(server, call, &subject, Some(new.clone())).await?;
    let gone = !update.keep && nothing_holds(&new, &old);
    let new = Arc::try_unwrap(new).unwrap_or_else(|shared| (*shared).clone());
    let stored = finish::encode(&server.registry, &resource, new).await?;
    if dry_run || (stored == before && !gone) {
        return Ok(Written { stored, revision });
    }
    let expires = resource.storage_prefix() == "events";
    let outcome = if gone {
        server.registry.remove(key, revision).await
    } else {
        server.registry.put(key, stored.clone(), revision, expires).await
    };
    drop(holds);
    if outcome.is_err() {
        admission::refund(server, call).await;
    }
    match outcome {
        Ok(revision) => Ok(Written { stored, revision }),
        Err(WriteError::Conflict) => Err(Outcome::Raced),
        Err(error) => Err(refusal::of_write(error, &resource, &name).into()),
    }
}

/// Lets hooks of admission judge and change the object in its other form.
async fn viewed(
    server: &Server,
    call: &mut Call,
    chain: &Pinned,
    view: View,
    (new, old): (Value, &Value),
) -> Result<Value, Refusal> {
    let resource = call.resource.clone();
    let (group, version, kind) = view.kind;
    let other = Other {
        operation: Operation::Update,
        subresource: view.subresource.to_owned(),
        kind: (group.to_owned(), version.to_owned(), kind.to_owned()),
    };
    let form = (view.of)(&resource, &new);
    let before = Some((view.of)(&resource, old));
    let wanted = chain.pass(server, call, &other, (form.clone(), before)).await?;
    if wanted == form {
        return Ok(new);
    }
    (view.with)(&resource, &new, &wanted)
}

fn prepare(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "status" | "approval" => strategy::prepare_status_update(resource, new, old),
        // Made by the server from the old object: everything it changed is meant.
        "binding" | "finalize" | "deletion" => {}
        "ephemeralcontainers" | "resize" => {
            default::apply(resource, new);
            pod_part::prepare(subresource, new, old);
        }
        _ => {
            default::apply(resource, new);
            strategy::prepare_update(resource, new, old);
        }
    }
    access::requests::settle(resource, subresource, new, old);
    if let Some(metadata) = new["metadata"].as_object_mut() {
        for field in ["name", "namespace", "uid", "creationTimestamp"] {
            match old["metadata"].get(field) {
                Some(value) => metadata.insert(field.into(), value.clone()),
                None => metadata.remove(field),
            };
        }
    }
}

/// Whether the object is being deleted, its time is up, and no finalizer is left.
fn nothing_holds(new: &Value, old: &Value) -> bool {
    let metadata = &old["metadata"];
    let ended = metadata["deletionTimestamp"].is_string()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
    let free = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let namespace_done = old["kind"] != "Namespace" || free(&new["spec"]["finalizers"]);
    ended && free(&new["metadata"]["finalizers"]) && namespace_done
}
