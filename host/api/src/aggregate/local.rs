//! APIService objects of what this server serves itself, so that a list of them is of all groups and versions.
//!
//! Those of built-in groups are made at each start ([`builtin`]); those of custom kinds come and go with their
//! definitions (`run`). Invariants: an object without the original's label is somebody's own and left alone; a
//! built-in group's object that is deleted stays away until the next start. Places among the groups are the
//! original's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::resource::{Resource, find};
use serde_json::{Value, json};

use crate::registry::{Entry, WriteError, canonical, keys};
use crate::server::Server;
use crate::write::prepare_create;

/// Says who keeps an object, and when.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// It is brought back at each start.
const ON_START: &str = "onstart";
/// It is brought back always.
const ALWAYS: &str = "true";
/// The places of groups of custom kinds, and of their versions.
const CUSTOM: (u32, u32) = (1000, 100);
/// Pause before a pass that could not write is repeated.
const AGAIN: Duration = Duration::from_secs(1);

/// Group, its place, and its versions with theirs; higher comes first.
const PLACES: [(&str, u32, &[(&str, u32)]); 20] = [
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v1", 15), ("v2", 30)]),
    ("batch", 17_400, &[("v1", 15)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15)]),
    ("networking.k8s.io", 17_200, &[("v1", 15)]),
    ("policy", 17_100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15)]),
    ("node.k8s.io", 16_300, &[("v1", 15)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15)]),
    ("resource.k8s.io", 16_200, &[("v1", 21)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
];

/// The object of a group and version.
fn service(group: &str, version: &str, (group_place, version_place): (u32, u32), kept: &str) -> Value {
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": group_place, "versionPriority": version_place,
    });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": format!("{version}.{group}"), "labels": { LABEL: kept } },
        "spec": spec,
        "status": { "conditions": [available()] },
    })
}

/// What is said of every service that is served here.
pub(super) fn available() -> Value {
    json!({ "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": crate::time::now(),
        "message": "Local APIServices are always available" })
}

/// Objects of the built-in groups. As in the original, the group of these objects themselves has none.
pub(crate) fn builtin() -> Vec<Value> {
    let versions = PLACES.iter().flat_map(|(group, place, versions)| {
        let own = versions.iter();
        own.map(|(version, own)| service(group, version, (*place, *own), ON_START))
    });
    versions
        .chain([service("plugins.capstan.dev", "v1", CUSTOM, ON_START)])
        .collect()
}

/// Whether an object is one of those that are brought back, and not somebody's own.
pub(crate) fn is_kept(object: &Value) -> bool {
    matches!(
        object["metadata"]["labels"][LABEL].as_str(),
        Some(ON_START | ALWAYS)
    )
}

/// What is to be done about one object.
#[derive(Debug, PartialEq)]
enum Change {
    Make(Value),
    /// To its spec, in place of another.
    Bring(Value),
    Remove(String),
}

/// What the definitions' served versions and the objects that are there lead to.
fn plan(served: &BTreeSet<(String, String)>, objects: &[Value]) -> Vec<Change> {
    let there: BTreeMap<&str, &Value> = objects
        .iter()
        .filter_map(|object| Some((object["metadata"]["name"].as_str()?, object)))
        .collect();
    let wanted = served
        .iter()
        .map(|(group, version)| service(group, version, CUSTOM, ALWAYS));
    let mut names = BTreeSet::new();
    let mut changes = Vec::new();
    for object in wanted {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match there.get(name.as_str()) {
            None => changes.push(Change::Make(object)),
            Some(old) if old["metadata"]["labels"][LABEL] == ALWAYS && places(old) != places(&object) => {
                changes.push(Change::Bring(object));
            }
            Some(_) => {}
        }
        names.insert(name);
    }
    for (name, object) in there {
        if object["metadata"]["labels"][LABEL] == ALWAYS && !names.contains(name) {
            changes.push(Change::Remove(name.to_owned()));
        }
    }
    changes
}

/// What a spec says of a service that is served here; with a service of its own, it says more.
fn places(object: &Value) -> (Value, Value, bool) {
    let spec = &object["spec"];
    let place = |field: &str| spec[field].clone();
    (
        place("groupPriorityMinimum"),
        place("versionPriority"),
        spec["service"].is_object(),
    )
}

/// Looks after the objects of custom kinds for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let kinds = [
        find("apiregistration.k8s.io", "v1", "apiservices"),
        find("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ];
    let [Some(services), Some(definitions)] = kinds else {
        return;
    };
    let caches = [&services, &definitions].map(|kind| server.registry.cache(kind));
    loop {
        let (_, objects, mut objects_changed) = caches[0].list_and_cursor("");
        let (_, defined, mut definitions_changed) = caches[1].list_and_cursor("");
        let served = defined
            .iter()
            .flat_map(|(_, entry)| served(&entry.decode()))
            .collect();
        let seen: Vec<Value> = objects.iter().map(|(_, entry)| entry.decode()).collect();
        let mut wrote = true;
        for change in plan(&served, &seen) {
            if let Err(error) = make(&server, &services, change).await {
                wrote = false;
                tracing::debug!(%error, "a local APIService is not kept");
            }
        }
        tokio::select! {
            () = objects_changed.changed() => {}
            () = definitions_changed.changed() => {}
            () = tokio::time::sleep(AGAIN), if !wrote => {}
        }
    }
}

/// Groups and versions that a definition serves.
fn served(definition: &Value) -> Vec<(String, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    let names = served.filter_map(|version| version["name"].as_str());
    names.map(|name| (group.to_owned(), name.to_owned())).collect()
}

async fn make(server: &Server, kind: &Resource, change: Change) -> Result<(), WriteError> {
    let of = |name: &str| -> (String, Option<Arc<Entry>>) {
        (keys::of(kind, "", name), server.registry.cached(kind, "", name))
    };
    let done = match change {
        Change::Make(mut object) => {
            let status = object["status"].take();
            prepare_create(kind, &mut object);
            object["status"] = status;
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let (key, _) = of(name);
            let Some(stored) = canonical(object) else {
                return Ok(());
            };
            server.registry.put(&key, stored, 0, false).await
        }
        Change::Bring(object) => {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let (key, Some(entry)) = of(name) else {
                return Ok(());
            };
            let mut old = entry.decode();
            old["spec"] = object["spec"].clone();
            let Some(stored) = canonical(old) else {
                return Ok(());
            };
            server.registry.put(&key, stored, entry.revision, false).await
        }
        Change::Remove(name) => {
            let (key, Some(entry)) = of(&name) else {
                return Ok(());
            };
            server.registry.remove(&key, entry.revision).await
        }
    };
    match done {
        // Another server was quicker, or the cache lags: the change that it made is seen.
        Ok(_) | Err(WriteError::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_group_has_its_object() {
        let (_, table) = crate::registry::Table::built_in().all();
        let mut all: BTreeSet<String> = table
            .iter()
            .map(|row| format!("{}.{}", row.version, row.group))
            .collect();
        all.remove("v1.apiregistration.k8s.io");
        let made = builtin();
        let made: BTreeSet<String> = made
            .iter()
            .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(made, all);
    }

    #[test]
    fn objects_follow_what_is_served_but_for_somebodys_own() {
        let served =
            [("a.io", "v1"), ("b.io", "v1")].map(|(group, version)| (group.to_owned(), version.to_owned()));
        let served = BTreeSet::from(served);
        let mut moved = service("a.io", "v1", (5, 5), ALWAYS);
        let gone = service("c.io", "v1", CUSTOM, ALWAYS);
        let builtin = service("apps", "v1", (17_800, 15), ON_START);
        let [first, second] = plan(&served, &[moved.clone(), builtin.clone()])
            .try_into()
            .unwrap();
        assert!(matches!(first, Change::Bring(object) if places(&object).0 == 1000));
        assert!(matches!(second, Change::Make(object) if object["metadata"]["name"] == "v1.b.io"));
        moved["metadata"]["labels"] = json!({});
        let all = [moved, service("b.io", "v1", CUSTOM, ALWAYS), builtin, gone];
        assert_eq!(plan(&served, &all), [Change::Remove("v1.c.io".to_owned())]);
    }
}
