//! DELETE of one object and of a collection.

use std::sync::Arc;

use capstan_kinds::resource::Resource;
use capstan_kinds::status::{Details, Status};
use capstan_points::admission::Operation;
use capstan_store::Revision;
use serde_json::{Value, json};

use super::deletion::{DeleteOptions, Plan, plan};
use super::finish;
use super::update::read;
use crate::admission::Subject;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::negotiate::content_type;
use crate::read::{Filter, ListOptions};
use crate::refusal::{self, Refusal};
use crate::registry::{WriteError, keys};
use crate::server::Server;

/// Times that a deletion is tried against writers that come in between.
const ATTEMPTS_MAX: usize = 10;

/// What became of an object.
pub(crate) struct Deleted {
    /// The object in the stored form: as marked, or as it was.
    stored: Vec<u8>,
    revision: Revision,
    uid: String,
    gone: bool,
}

pub(crate) async fn delete(server: &Server, call: &mut Call) -> Answer {
    let options = DeleteOptions::read(content_type(&call.headers), &call.body, &call.query)?;
    let name = call.name().to_owned();
    let deleted = delete_object(server, call, &name, &options).await?;
    let resource = &call.resource;
    if !deleted.gone || returns_object(resource) {
        return finish::respond(&server.registry, call, 200, &deleted.stored, deleted.revision).await;
    }
    let details = Details {
        name: call.name().to_owned(),
        group: resource.group.clone(),
        kind: resource.plural.clone(),
        uid: deleted.uid,
        ..Details::default()
    };
    Ok(answer::json(
        200,
        &Status::success().with_details(details).to_value(),
    ))
}

/// Kinds whose deletion answers with the object itself, as in the original.
fn returns_object(resource: &Resource) -> bool {
    resource.group.is_empty()
        && matches!(
            resource.plural.as_str(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        )
}

/// Deletes an object of the call's resource and namespace.
pub(crate) async fn delete_object(
    server: &Server,
    call: &mut Call,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Refusal> {
    let resource = call.resource.clone();
    let key = keys::of(&resource, call.namespace(), name);
    for _ in 0..ATTEMPTS_MAX {
        let current = server.registry.current(&key).await.map_err(WriteError::Store);
        let Some(kv) = current.map_err(|error| refusal::of_write(error, &resource, name))? else {
            return Err(Status::not_found(&resource, name).into());
        };
        let object = Arc::new(read(&server.registry, &resource, &kv.value, kv.mod_revision).await?);
        options.meets(&resource, name, &object)?;
        let dry_run = options.dry_run();
        let old = Some(object.clone());
        let chain = server.admission.pin();
        let subject = Subject {
            operation: Operation::Delete,
            subresource: "",
            old,
            dry_run,
        };
        chain.validate(server, call, &subject, None).await?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let (stored, outcome, gone) = match plan(&resource, &object, options) {
            Plan::Wait => (kv.value.to_vec(), Ok(kv.mod_revision), false),
            Plan::Remove if dry_run => (kv.value.to_vec(), Ok(kv.mod_revision), true),
            Plan::Remove => (
                kv.value.to_vec(),
                server.registry.remove(&key, kv.mod_revision).await,
                true,
            ),
            Plan::Mark(marked) => {
                let stored = finish::encode(&server.registry, &resource, marked).await?;
                let outcome = match dry_run {
                    true => Ok(kv.mod_revision),
                    false => {
                        server
                            .registry
                            .put(&key, stored.clone(), kv.mod_revision, false)
                            .await
                    }
                };
                (stored, outcome, false)
            }
        };
        match outcome {
            Ok(revision) => {
                return Ok(Deleted {
                    stored,
                    revision,
                    uid,
                    gone,
                });
            }
            Err(WriteError::Conflict) => {}
            Err(error) => return Err(refusal::of_write(error, &resource, name)),
        }
    }
    Err(Status::conflict(&resource, name, capstan_kinds::status::OBJECT_MODIFIED).into())
}

/// DELETE of everything that the selectors match, one by one.
pub(crate) async fn delete_collection(server: &Server, call: &mut Call) -> Answer {
    let options = DeleteOptions::read(content_type(&call.headers), &call.body, &call.query)?;
    ListOptions::read(&call.query, false)?;
    let filter = Filter::of(&call.resource, &call.query)?;
    let revision = server.registry.newest().await?;
    let below = keys::below(&call.resource, call.namespace());
    let (_, objects) = server.registry.cache(&call.resource).list(&below);
    let namespace = call.target.namespace.clone();
    let mut items: Vec<Value> = Vec::new();
    for (_, entry) in objects.into_iter().filter(|(_, entry)| filter.matches(entry)) {
        call.target.namespace = entry.index.namespace.to_string();
        match delete_object(server, call, &entry.index.name, &options).await {
            Ok(deleted) => {
                items.push(
                    read(
                        &server.registry,
                        &call.resource,
                        &deleted.stored,
                        deleted.revision,
                    )
                    .await?,
                );
            }
            Err(status) if status.code == 404 => {}
            Err(refusal) => return Err(refusal),
        }
    }
    call.target.namespace = namespace;
    Ok(answer::json(
        200,
        &json!({
            "kind": call.resource.list_kind, "apiVersion": call.resource.api_version(),
            "metadata": { "resourceVersion": revision.to_string() }, "items": items,
        }),
    ))
}
