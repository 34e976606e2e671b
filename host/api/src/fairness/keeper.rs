//! Keeps the priority levels and flow schemas that every cluster has, and tells of schemas that lead nowhere.
//!
//! As in the original: what is missing is made; the spec of a mandatory object, and of one whose annotation
//! `apf.kubernetes.io/autoupdate-spec` is true, is brought back to what it should be. Each pass looks at
//! everything; writes are conditional, so several API servers do no harm.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use capstan_kinds::default;
use capstan_kinds::resource::Resource;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Fairness;
use super::schema::{CATCH_ALL, EXEMPT, FlowSchema, PriorityLevel};
use crate::registry::{Entry, WriteError, canonical, keys};
use crate::server::Server;
use crate::write::prepare_create;

/// The objects, one document each.
const OBJECTS: &str = include_str!("../../data/flowcontrol.yaml");
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Pause after a pass that wrote or failed, so that a quarrel between servers stays slow.
const AGAIN: Duration = Duration::from_secs(1);

/// What every cluster has.
fn objects() -> &'static [Value] {
    static READ: LazyLock<Vec<Value>> = LazyLock::new(|| {
        serde_norway::Deserializer::from_str(OBJECTS)
            .filter_map(|document| Value::deserialize(document).ok())
            .collect()
    });
    &READ
}

fn named<T: serde::de::DeserializeOwned>(kind: &str, name: &str) -> Option<T> {
    let object = objects()
        .iter()
        .find(|one| one["kind"] == kind && one["metadata"]["name"] == name)?;
    T::deserialize(object).ok()
}

pub(super) fn mandatory_level(name: &str) -> Option<PriorityLevel> {
    named("PriorityLevelConfiguration", name)
}

pub(super) fn mandatory_schema(name: &str) -> Option<FlowSchema> {
    named("FlowSchema", name)
}

/// Keeps them for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let Some(fairness) = &server.fairness else { return };
    let [schemas, levels] = fairness.kinds.each_ref().map(|kind| server.registry.cache(kind));
    loop {
        let (_, seen_schemas, mut schemas_changed) = schemas.list_and_cursor("");
        let (_, seen_levels, mut levels_changed) = levels.list_and_cursor("");
        let mut wrote = false;
        for object in objects() {
            match ensure(&server, fairness, object.clone()).await {
                Ok(revision) => wrote |= revision.is_some(),
                Err(error) => {
                    wrote = true;
                    tracing::debug!(%error, "a flow control object could not be kept");
                }
            }
        }
        let known: HashSet<&str> = seen_levels.iter().map(|(name, _)| &**name).collect();
        for (_, entry) in &seen_schemas {
            match tell(&server, &fairness.kinds[0], entry, &known).await {
                Ok(told) => wrote |= told,
                Err(error) => {
                    wrote = true;
                    tracing::debug!(%error, "a flow schema's condition could not be written");
                }
            }
        }
        if wrote {
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        tokio::select! {
            () = schemas_changed.changed() => {}
            () = levels_changed.changed() => {}
        }
    }
}

/// Makes one object, or brings it back; gives the revision where it wrote.
async fn ensure(server: &Server, fairness: &Fairness, mut object: Value) -> Result<Option<i64>, WriteError> {
    let kind = usize::from(object["kind"] != "FlowSchema");
    let resource = &fairness.kinds[kind];
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let key = keys::of(resource, "", &name);
    default::apply(resource, &mut object);
    let current = server.registry.cached(resource, "", &name);
    let (object, expected) = match current {
        Some(entry) => {
            let mut old = entry.decode();
            let annotation = &old["metadata"]["annotations"][AUTO_UPDATE];
            let kept = matches!(name.as_str(), EXEMPT | CATCH_ALL) || annotation == "true";
            if !kept || old["spec"] == object["spec"] {
                return Ok(None);
            }
            old["spec"] = object["spec"].take();
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            old["metadata"]["generation"] = json!(generation + 1);
            (old, entry.revision)
        }
        None => {
            prepare_create(resource, &mut object);
            (object, 0)
        }
    };
    write(server, &key, object, expected).await
}

/// Says on a schema whether its level exists.
async fn tell(
    server: &Server,
    resource: &Resource,
    entry: &Entry,
    known: &HashSet<&str>,
) -> Result<bool, WriteError> {
    let mut schema = entry.decode();
    let level = schema["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let start = format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\"");
    let (status, reason, message) = if known.contains(level.as_str()) {
        ("False", "Found", format!("{start} and it exists"))
    } else {
        ("True", "NotFound", format!("{start} but there is no such object"))
    };
    let conditions = schema["status"]["conditions"].as_array();
    let mut conditions = conditions.cloned().unwrap_or_default();
    let told = conditions.iter().any(|one| {
        one["type"] == "Dangling"
            && one["status"] == status
            && one["reason"] == reason
            && one["message"] == message.as_str()
    });
    if told {
        return Ok(false);
    }
    conditions.retain(|one| one["type"] != "Dangling");
    conditions.push(json!({
        "type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": crate::time::now(),
    }));
    schema["status"]["conditions"] = Value::Array(conditions);
    let key = keys::of(resource, "", &entry.index.name);
    Ok(write(server, &key, schema, entry.revision).await?.is_some())
}

async fn write(server: &Server, key: &str, object: Value, expected: i64) -> Result<Option<i64>, WriteError> {
    let Some(stored) = canonical(object) else {
        return Ok(None);
    };
    match server.registry.put(key, stored, expected, false).await {
        Ok(revision) => Ok(Some(revision)),
        // Another server was quicker, or the cache lags: the next pass sees it.
        Err(WriteError::Conflict) => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_whole_and_lead_somewhere() {
        let all = objects();
        let levels: Vec<&Value> = all
            .iter()
            .filter(|one| one["kind"] == "PriorityLevelConfiguration")
            .collect();
        assert_eq!((all.len(), levels.len()), (19, 8));
        for level in &levels {
            let level: PriorityLevel = serde_json::from_value((*level).clone()).unwrap();
            assert!(level.is_sound(), "{level:?}");
        }
        for schema in all.iter().filter(|one| one["kind"] == "FlowSchema") {
            let name = &schema["spec"]["priorityLevelConfiguration"]["name"];
            assert!(
                levels.iter().any(|level| level["metadata"]["name"] == *name),
                "{name}"
            );
        }
    }
}
