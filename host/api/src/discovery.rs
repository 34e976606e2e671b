//! Discovery: which groups, versions and resources are served, in the legacy and the aggregated form.
//!
//! Made from the table of resources, whose order is the order of preference. The aggregated documents are
//! kept until the table changes and carry an ETag.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregate::discovery::{extend_aggregated, extend_groups};
use crate::aggregate::{Aggregator, Remote};
use crate::answer::{self, Answer};
use crate::body::Body;
use crate::negotiate::{self, JSON};
use crate::present::to_bytes;
use crate::registry::Table;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The aggregated documents of one generation of the table.
struct Aggregated {
    generation: (u64, u64),
    /// Of `/api`, then of `/apis`: bytes and ETag.
    documents: [(Bytes, String); 2],
}

/// See the module.
pub(crate) struct Discovery {
    held: Mutex<Option<Arc<Aggregated>>>,
    /// Where clients reach this server.
    address: String,
}

impl Discovery {
    pub(crate) fn new(address: String) -> Self {
        Self {
            held: Mutex::default(),
            address,
        }
    }

    pub(crate) fn answer(
        &self,
        table: &Table,
        aggregator: &Aggregator,
        path: &str,
        headers: &HeaderMap,
    ) -> Answer {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let ["api"] | ["apis"] = segments.as_slice()
            && wants_aggregated(headers)
        {
            return Ok(self.aggregated(table, aggregator, segments[0] == "apis", headers));
        }
        let (_, all) = table.all();
        let (_, remotes) = aggregator.remotes();
        let listed = || {
            let mut groups: Vec<Value> = groups(&all).into_iter().map(|name| group(&all, name)).collect();
            extend_groups(&mut groups, &remotes);
            groups
        };
        let document = match segments.as_slice() {
            [] => json!({ "paths": paths(&listed()) }),
            ["api"] => json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": self.address }],
            }),
            ["apis"] => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": listed() }),
            ["apis", name] => {
                let mut groups = listed().into_iter();
                let found = groups.find(|group| group["name"] == *name);
                let Some(mut document) = found else {
                    return Ok(answer::no_page());
                };
                document["kind"] = json!("APIGroup");
                document["apiVersion"] = json!("v1");
                document
            }
            ["api", version] => resources(&all, "", version)?,
            ["apis", name, version] if is_builtin(name) || serves(&all, name, version) => {
                resources(&all, name, version)?
            }
            ["apis", name, ..] if is_builtin(name) => return Err(Status::not_found_path().into()),
            ["api", ..] => return Err(Status::not_found_path().into()),
            _ => return Ok(answer::no_page()),
        };
        Ok(answer::json(200, &document))
    }

    fn aggregated(
        &self,
        table: &Table,
        aggregator: &Aggregator,
        groups: bool,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let (generation, all) = table.all();
        let (remote, remotes) = aggregator.remotes();
        let generation = (generation, remote);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match held.as_ref().filter(|held| held.generation == generation) {
            Some(current) => current.clone(),
            None => {
                let documents = [false, true].map(|groups| {
                    let bytes = to_bytes(&aggregate(&all, &remotes, groups));
                    let tag = format!("\"{}\"", hash(&bytes));
                    (bytes, tag)
                });
                held.insert(Arc::new(Aggregated {
                    generation,
                    documents,
                }))
                .clone()
            }
        };
        drop(held);
        let (bytes, tag) = &current.documents[usize::from(groups)];
        with_tag(AGGREGATED, bytes.clone(), tag, headers)
    }
}

/// An answer that need not be sent again to a client that has it.
pub(crate) fn with_tag(content_type: &str, bytes: Bytes, tag: &str, headers: &HeaderMap) -> Response<Body> {
    let held = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut response = if held.split(',').any(|one| one.trim() == tag) {
        answer::with_type(304, content_type, Body::empty())
    } else {
        answer::with_type(200, content_type, bytes.into())
    };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
        .headers_mut()
        .insert("vary", HeaderValue::from_static("Accept"));
    response
}

/// A short hash of a document, upper-case as the original writes it.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    for header in headers.get_all(http::header::ACCEPT) {
        for choice in header.to_str().unwrap_or_default().split(',') {
            let (media, parameters) = negotiate::split(choice.trim());
            if media != JSON {
                continue;
            }
            let has = |name: &str, value: &str| parameters.clone().any(|one| one == (name, value));
            return has("as", "APIGroupDiscoveryList") && has("v", "v2") && has("g", "apidiscovery.k8s.io");
        }
    }
    false
}

/// Names of the groups but the core, in order.
/// Whether a group is there whatever the cluster holds: such a one answers for what it has not.
pub(crate) fn is_builtin(group: &str) -> bool {
    capstan_kinds::resource::all()
        .iter()
        .any(|row| row.group == group)
}

fn serves(all: &[Arc<Resource>], group: &str, version: &str) -> bool {
    versions(all, group).contains(&version)
}

fn groups(all: &[Arc<Resource>]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for resource in all.iter().filter(|resource| !resource.group.is_empty()) {
        if !names.contains(&resource.group.as_str()) {
            names.push(&resource.group);
        }
    }
    names
}

/// Versions of a group, the preferred one first.
pub(crate) fn versions<'a>(all: &'a [Arc<Resource>], group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for resource in all.iter().filter(|resource| resource.group == group) {
        if !versions.contains(&resource.version.as_str()) {
            versions.push(&resource.version);
        }
    }
    versions
}

fn group(all: &[Arc<Resource>], name: &str) -> Value {
    let versions: Vec<Value> = versions(all, name)
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "preferredVersion": versions.first(), "versions": versions })
}

fn resources(all: &[Arc<Resource>], group: &str, version: &str) -> Result<Value, crate::refusal::Refusal> {
    let mut list = Vec::new();
    for resource in all
        .iter()
        .filter(|resource| resource.group == group && resource.version == version)
    {
        let mut row = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            row["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            row["categories"] = json!(resource.categories);
        }
        if resource.is_stored() {
            row["storageVersionHash"] = json!(storage_version_hash(all, resource));
        }
        list.push(row);
        for sub in &resource.subresources {
            let mut row = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": sub.verbs,
            });
            if let Some((group, version, kind)) = &sub.group_version_kind {
                row["kind"] = json!(kind);
                row["group"] = json!(group);
                row["version"] = json!(version);
            }
            list.push(row);
        }
    }
    if list.is_empty() {
        return Err(Status::not_found_path().into());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list,
    }))
}

/// As the original makes it of the version that is stored; the first that is served, for a built-in kind.
fn storage_version_hash(all: &[Arc<Resource>], resource: &Resource) -> String {
    let custom = resource
        .custom
        .as_ref()
        .and_then(|custom| custom.storage.as_ref());
    let same = |one: &&Arc<Resource>| one.is_stored() && one.storage_prefix() == resource.storage_prefix();
    let stored = match custom {
        Some(stored) => stored,
        None => all.iter().find(same).map_or(resource, |one| one),
    };
    let name = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    STANDARD.encode(&Sha256::digest(name.as_bytes())[..8])
}

fn aggregate(all: &[Arc<Resource>], remotes: &[Arc<Remote>], named_groups: bool) -> Value {
    let names = if named_groups { groups(all) } else { vec![""] };
    let mut items: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let versions: Vec<Value> = versions(all, name)
                .into_iter()
                .map(|version| {
                    let rows = all
                        .iter()
                        .filter(|one| one.group == name && one.version == version);
                    let resources: Vec<Value> = rows.map(|resource| aggregated_resource(resource)).collect();
                    json!({ "version": version, "freshness": "Current", "resources": resources })
                })
                .collect();
            let metadata = if name.is_empty() {
                json!({})
            } else {
                json!({ "name": name })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    if named_groups {
        extend_aggregated(&mut items, remotes);
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    // Those of the group and version that it stands in are left to the reader.
    let own = kind("", "", &resource.kind);
    let mut row = json!({
        "resource": resource.plural, "singularResource": resource.singular, "responseKind": own,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        row["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        row["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let response = match &sub.group_version_kind {
                Some((group, version, name)) => kind(group, version, name),
                None => own.clone(),
            };
            json!({ "subresource": sub.name, "responseKind": response, "verbs": sub.verbs })
        })
        .collect();
    if !subresources.is_empty() {
        row["subresources"] = json!(subresources);
    }
    row
}

fn paths(groups: &[Value]) -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for group in groups {
        paths.push(format!("/apis/{}", group["name"].as_str().unwrap_or_default()));
        let versions = group["versions"].as_array().into_iter().flatten();
        let versions = versions.filter_map(|version| version["groupVersion"].as_str());
        paths.extend(versions.map(|version| format!("/apis/{version}")));
    }
    let fixed = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    paths.extend(fixed.map(str::to_owned));
    paths
}
