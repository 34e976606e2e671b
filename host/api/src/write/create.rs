//! CREATE.

use std::sync::Arc;

use capstan_kinds::status::Status;
use capstan_kinds::{default, name, resource::Resource, strategy, validate};
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use super::managed::{self, Guard, Track};
use super::{decode, finish};
use crate::access;
use crate::admission::{self, Subject};
use crate::answer::Answer;
use crate::call::Call;
use crate::evaluation::evaluate;
use crate::refusal::{self, Refusal};
use crate::registry::{WriteError, keys};
use crate::server::Server;

/// Names that are tried for one generateName.
const GENERATED_NAMES_MAX: usize = 8;

/// POST of a new object.
pub(crate) async fn create(server: &Server, call: &mut Call) -> Answer {
    managed::check_options(call, "CreateOptions")?;
    let object = decode::object(call)?;
    if let Some(trail) = call.trail.as_ref().filter(|trail| trail.tells_objects()) {
        let mut meant = object.clone();
        if place(call, &mut meant).is_ok() {
            trail.decoded(&call.resource, meant);
        }
    }
    create_object(server, call, object).await
}

/// Stores a decoded object.
pub(crate) async fn create_object(server: &Server, call: &mut Call, object: Value) -> Answer {
    create_tracked(server, call, object, Track::Write).await
}

/// Stores an object whose managers may be known already.
pub(crate) async fn create_tracked(
    server: &Server,
    call: &mut Call,
    mut object: Value,
    track: Track,
) -> Answer {
    let resource = call.resource.clone();
    if resource.custom.as_ref().is_some_and(|custom| custom.terminating) {
        let message = "create not allowed while custom resource definition is terminating";
        return Err(Status::failure(405, "MethodNotAllowed", message).into());
    }
    let dry_run = call.dry_run()?;
    place(call, &mut object)?;
    access::requests::stamp(&resource, &call.user, &mut object);
    default::apply(&resource, &mut object);
    if track == Track::Write {
        managed::track(call, "", None, &mut object);
    }
    let chain = server.admission.pin();
    let guard = Guard::new(chain.is_plugged(), &object);
    let subject = Subject {
        operation: Operation::Create,
        subresource: "",
        old: None,
        dry_run,
    };
    let mut object = chain.mutate(server, call, &subject, object).await?;
    guard.check(call, &mut object);
    default::apply(&resource, &mut object);
    prepare(&resource, &mut object);
    let (name, generated) = (
        text(&object, "name").to_owned(),
        text(&object, "generateName").to_owned(),
    );
    let holds = server
        .services
        .assign(server, &resource, &mut object, None)
        .await?;
    let errors = match resource.custom {
        Some(_) => evaluate(|| validate::create(&resource, &object)).await,
        None => validate::create(&resource, &object),
    };
    if !errors.is_empty() {
        return Err(Status::invalid(&resource, &name, errors).into());
    }
    for warning in validate::warnings(&resource, &object, None) {
        call.warn(warning);
    }
    let object = Arc::new(object);
    chain
        .validate(server, call, &subject, Some(object.clone()))
        .await?;
    let object = Arc::try_unwrap(object).unwrap_or_else(|shared| (*shared).clone());
    let answer = store(server, call, object, (name, generated), dry_run).await;
    drop(holds);
    if answer.is_err() {
        admission::refund(server, call).await;
    }
    answer
}

async fn store(
    server: &Server,
    call: &Call,
    mut object: Value,
    (mut name, generate): (String, String),
    dry_run: bool,
) -> Answer {
    let resource = &call.resource;
    let expires = resource.storage_prefix() == "events";
    for attempt in 1.. {
        let key = keys::of(resource, call.namespace(), &name);
        let last = generate.is_empty() || attempt == GENERATED_NAMES_MAX;
        let retry = (!last).then(|| object.clone());
        let stored = finish::encode(&server.registry, resource, object).await?;
        if dry_run {
            let current = server.registry.current(&key).await.map_err(WriteError::Store);
            if current
                .map_err(|error| refusal::of_write(error, resource, &name))?
                .is_some()
            {
                return Err(Status::already_exists(resource, &name).into());
            }
            return finish::respond(&server.registry, call, 201, &stored, 0).await;
        }
        match server.registry.put(&key, stored.clone(), 0, expires).await {
            Ok(revision) => return finish::respond(&server.registry, call, 201, &stored, revision).await,
            Err(WriteError::Conflict) => {}
            Err(error) => return Err(refusal::of_write(error, resource, &name)),
        }
        let Some(again) = retry else { break };
        object = again;
        name = name::generate(&generate, |bound| fastrand::usize(..bound));
        object["metadata"]["name"] = json!(name);
    }
    Err(Status::already_exists(resource, &name).into())
}

/// Puts the object into the request's namespace.
fn place(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let namespace = text(object, "namespace").to_owned();
    if !call.resource.namespaced {
        if !namespace.is_empty() {
            object["metadata"]
                .as_object_mut()
                .map(|metadata| metadata.remove("namespace"));
        }
        return Ok(());
    }
    if call.target.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation").into());
    }
    if !namespace.is_empty() && namespace != call.target.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message).into());
    }
    object["metadata"]["namespace"] = json!(call.target.namespace);
    Ok(())
}

/// Gives the object what only a server gives: identity, time, a generated name, no status.
pub(crate) fn prepare(resource: &Resource, object: &mut Value) {
    let prefix = text(object, "generateName").to_owned();
    if text(object, "name").is_empty() && !prefix.is_empty() {
        object["metadata"]["name"] = json!(name::generate(&prefix, |bound| fastrand::usize(..bound)));
    }
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
    metadata["creationTimestamp"] = json!(crate::time::now());
    if let Some(metadata) = metadata.as_object_mut() {
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
    }
    // After name and uid, which a Job's selector is made of.
    strategy::prepare_create(resource, object);
    if resource.is("", "Namespace") {
        let finalizers = &mut object["spec"]["finalizers"];
        match finalizers.as_array_mut() {
            Some(list) if list.iter().any(|one| one == "kubernetes") => {}
            Some(list) => list.push(json!("kubernetes")),
            None => *finalizers = json!(["kubernetes"]),
        }
        let name = object["metadata"]["name"].clone();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
