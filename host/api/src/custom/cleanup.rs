//! A definition that is being deleted: its objects go first, then it goes.
//!
//! Objects go as by a deletion of each, finalizers respected, but past admission, as in the original. The
//! definition's own finalizer goes once none is left; with the last finalizer goes the definition.

use capstan_kinds::custom;
use capstan_kinds::resource::Resource;
use serde_json::{Value, json};

use crate::registry::{Entry, WriteError, keys};
use crate::server::Server;
use crate::write::{self, DeleteOptions, Plan};

/// One step; says whether another will be needed without any change of the definition.
pub(super) async fn step(
    server: &Server,
    definitions: &Resource,
    entry: &Entry,
    definition: &Value,
) -> Result<bool, WriteError> {
    let finalizers = definition["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !finalizers.iter().any(|one| one == custom::CLEANUP) {
        return Ok(false);
    }
    let established = custom::is_true(definition, "Established");
    if established && !cleared(server, definition).await? {
        let now = crate::time::now();
        let mut full = entry.decode();
        let before = full.clone();
        let why = "CustomResource deletion is in progress";
        custom::set_condition(
            &mut full,
            "Terminating",
            true,
            "InstanceDeletionInProgress",
            why,
            &now,
        );
        if full != before {
            super::put(server, definitions, entry, full).await?;
        }
        return Ok(true);
    }
    let left: Vec<&Value> = finalizers.iter().filter(|one| **one != custom::CLEANUP).collect();
    if left.is_empty() {
        let key = keys::of(definitions, "", &entry.index.name);
        server.registry.remove(&key, entry.revision).await?;
        return Ok(false);
    }
    let mut full = entry.decode();
    full["metadata"]["finalizers"] = json!(left);
    let (reason, why) = match established {
        true => ("InstanceDeletionCompleted", "removed all instances"),
        false => ("NeverEstablished", "resource was never established"),
    };
    custom::set_condition(&mut full, "Terminating", false, reason, why, &crate::time::now());
    super::put(server, definitions, entry, full).await?;
    Ok(false)
}

/// Deletes every object of the kind; says whether none is left.
async fn cleared(server: &Server, definition: &Value) -> Result<bool, WriteError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plural = text(&definition["status"]["acceptedNames"]["plural"]);
    let prefix = format!("{plural}.{}", text(&definition["spec"]["group"]));
    let Some(resource) = server.registry.table.stored(&prefix) else {
        return Ok(true);
    };
    if resource.custom.is_none() || server.registry.newest().await.is_err() {
        return Ok(resource.custom.is_none());
    }
    let (_, objects) = server.registry.cache(&resource).list("");
    let options = DeleteOptions::default();
    for (_, entry) in &objects {
        let key = keys::of(&resource, &entry.index.namespace, &entry.index.name);
        let outcome = match write::plan(&resource, &entry.decode(), &options) {
            Plan::Wait => continue,
            Plan::Remove => server.registry.remove(&key, entry.revision).await,
            Plan::Mark(marked) => match write::encode(&server.registry, &resource, marked).await {
                Ok(stored) => server.registry.put(&key, stored, entry.revision, false).await,
                Err(_) => continue,
            },
        };
        match outcome {
            Ok(_) | Err(WriteError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(objects.is_empty())
}
