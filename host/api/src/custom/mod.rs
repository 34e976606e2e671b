//! The loop over definitions of custom kinds: it gives them their names, establishes them, and clears up when
//! they are deleted.
//!
//! Level-triggered: each pass looks at every definition as the cache has it; only what changed is decoded.
//! Several API servers on one store may run it at once: each write is conditional, and whoever comes second
//! finds nothing left to do. What a definition means is in `capstan_kinds::custom`; the rows that an
//! established one adds to the table of resources are the feed's work.

mod cleanup;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::custom::{self, Names};
use capstan_kinds::resource::{Resource, find};
use capstan_store::Revision;
use serde_json::Value;

use crate::registry::{Entry, WriteError, canonical, keys};
use crate::server::Server;

/// Pause before looking again at objects that are on their way out, or after a failed write.
const AGAIN: Duration = Duration::from_millis(200);

/// What a pass remembers of each definition: all but its versions, which are large.
type Known = HashMap<Arc<str>, (Revision, Value)>;

/// Looks after definitions for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let Some(definitions) = find("apiextensions.k8s.io", "v1", "customresourcedefinitions") else {
        return;
    };
    let cache = server.registry.cache(&definitions);
    let mut known = Known::new();
    loop {
        let (_, objects, mut cursor) = cache.list_and_cursor("");
        learn(&mut known, &objects);
        let again = pass(&server, &definitions, &known, &objects).await;
        let pause = async {
            match again {
                true => tokio::time::sleep(AGAIN).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cursor.changed() => {}
            () = pause => {}
        }
    }
}

fn learn(known: &mut Known, objects: &[(Arc<str>, Arc<Entry>)]) {
    known.retain(|name, _| objects.iter().any(|(key, _)| key == name));
    for (name, entry) in objects {
        if known
            .get(name)
            .is_some_and(|(revision, _)| *revision == entry.revision)
        {
            continue;
        }
        let mut definition = entry.decode();
        if let Some(spec) = definition["spec"].as_object_mut() {
            spec.remove("versions");
        }
        known.insert(name.clone(), (entry.revision, definition));
    }
}

/// Does what there is to do; says whether to look again soon.
async fn pass(
    server: &Server,
    definitions: &Resource,
    known: &Known,
    objects: &[(Arc<str>, Arc<Entry>)],
) -> bool {
    let mut again = false;
    for (name, entry) in objects {
        let Some((_, definition)) = known.get(name) else {
            continue;
        };
        let outcome = if definition["metadata"]["deletionTimestamp"].is_string() {
            cleanup::step(server, definitions, entry, definition).await
        } else {
            accept(server, definitions, entry, definition, known).await
        };
        again |= outcome.unwrap_or_else(|error| {
            tracing::debug!(%name, %error, "a definition could not be brought up to date");
            true
        });
    }
    again
}

async fn accept(
    server: &Server,
    definitions: &Resource,
    entry: &Entry,
    definition: &Value,
    known: &Known,
) -> Result<bool, WriteError> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let others = known.values().map(|(_, other)| other);
    let taken = Names::taken(group, &entry.index.name, others);
    let now = crate::time::now();
    if custom::accept(definition, &taken, &now).is_none() {
        return Ok(false);
    }
    if let Some(accepted) = custom::accept(&entry.decode(), &taken, &now) {
        put(server, definitions, entry, accepted).await?;
    }
    // The others of the group may have been waiting for a name: its own change brings the next pass.
    Ok(false)
}

/// Writes a definition over what the entry holds.
async fn put(server: &Server, definitions: &Resource, entry: &Entry, new: Value) -> Result<(), WriteError> {
    let key = keys::of(definitions, "", &entry.index.name);
    let Some(stored) = canonical(new) else {
        return Ok(());
    };
    server
        .registry
        .put(&key, stored, entry.revision, false)
        .await
        .map(drop)
}
