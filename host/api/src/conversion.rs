//! Objects from one version of their kind to another, by the kind's webhook where it has one.
//!
//! What needs no webhook is `capstan_kinds::convert`'s and done in place. With one, objects stand in store and
//! caches as they were written, of whatever version; every read brings those of another version than the
//! asked one into it with one call for all, and every write brings its object into the version in which the
//! kind is stored. Left out: a cache of converted objects; selectable fields of an object are those that it
//! has in the version in which it is stored.

use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::convert;
use capstan_kinds::custom::Conversion;
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use serde_json::Value;

use crate::refusal::Refusal;
use crate::registry::{Entry, Registry, canonical};

/// How long a webhook may take to convert; watches have no other bound.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The webhook that objects of a resource need.
fn webhook(resource: &Resource) -> Option<&Conversion> {
    resource.custom.as_ref()?.conversion.as_deref()
}

/// Whether an object may have to be converted by a webhook.
pub(crate) fn needs_webhook(resource: &Resource) -> bool {
    webhook(resource).is_some()
}

/// One object in the version of the resource.
pub(crate) async fn to_version(
    registry: &Registry,
    resource: &Resource,
    object: Value,
) -> Result<Value, Refusal> {
    if needs_webhook(resource) && object["apiVersion"] != resource.api_version() {
        let mut all = asked(registry, resource, vec![object]).await?;
        return all
            .pop()
            .ok_or_else(|| Status::internal("a conversion lost its object").into());
    }
    Ok(convert::to_version(resource, object))
}

/// One object in the version in which its kind is stored.
pub(crate) async fn to_storage(
    registry: &Registry,
    resource: &Resource,
    object: Value,
) -> Result<Value, Refusal> {
    let storage = resource.custom.as_ref().and_then(|custom| custom.storage.clone());
    match storage {
        Some(storage) if needs_webhook(resource) => to_version(registry, &storage, object).await,
        _ => Ok(convert::to_storage(resource, object)),
    }
}

/// Objects as the cache holds them, in the version of the resource.
pub(crate) async fn entries(
    registry: &Registry,
    resource: &Resource,
    mut entries: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, Refusal> {
    if !needs_webhook(resource) {
        return Ok(entries);
    }
    let version = resource.api_version();
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{version}\",", resource.kind);
    let others: Vec<usize> = (0..entries.len())
        .filter(|index| !entries[*index].bytes.starts_with(head.as_bytes()))
        .collect();
    if others.is_empty() {
        return Ok(entries);
    }
    let objects = others.iter().map(|index| entries[*index].decode()).collect();
    let converted = asked(registry, resource, objects).await?;
    for (index, object) in others.into_iter().zip(converted) {
        let revision = entries[index].revision;
        let entry = canonical(object).and_then(|stored| Entry::read(Some(resource), &stored, revision));
        let entry = entry.ok_or_else(|| Status::internal("a converted object lost its form"))?;
        entries[index] = Arc::new(entry);
    }
    Ok(entries)
}

/// One object as [`entries`].
pub(crate) async fn entry(
    registry: &Registry,
    resource: &Resource,
    entry: Arc<Entry>,
) -> Result<Arc<Entry>, Refusal> {
    let mut all = entries(registry, resource, vec![entry]).await?;
    all.pop()
        .ok_or_else(|| Status::internal("a conversion lost its object").into())
}

/// What the webhook makes of objects.
async fn asked(registry: &Registry, resource: &Resource, objects: Vec<Value>) -> Result<Vec<Value>, Refusal> {
    let failed = |why: String| Refusal::from(Status::failure(500, "", why));
    let Some(conversion) = webhook(resource) else {
        return Ok(objects);
    };
    let version = resource.api_version();
    let uid = uuid::Uuid::new_v4().to_string();
    let review = conversion.ask(&uid, &version, &objects).map_err(failed)?;
    let from = &objects[0];
    let text = |field: &str| from[field].as_str().unwrap_or_default();
    let shown = format!("{}, Kind={}", text("apiVersion"), text("kind"));
    let call = |why: String| failed(format!("conversion webhook for {shown} failed: {why}"));
    let caller = registry.callers.to(&conversion.client).map_err(call)?;
    let answer = tokio::time::timeout(ANSWER_MAX, caller.post(&review, None)).await;
    let answer = answer.map_err(|_| call("context deadline exceeded".to_owned()))?;
    let answer = answer.map_err(|failure| call(failure.to_string()))?;
    let mut all = conversion
        .read_answer(&uid, &version, &objects, &answer)
        .map_err(failed)?;
    if let Some(custom) = &resource.custom {
        for object in &mut all {
            custom.settle(object);
        }
    }
    Ok(all)
}
