//! OpenAPI: v3 by group and version, v2 as one document, both made from the table and `kinds`' schemas.
//!
//! Enough of each operation is told for clients: which kind it is about, what it does, which media types a
//! patch may have, and the query parameters by which kubectl knows that the server validates fields itself.
//! Documents are made when first asked for and kept until the rows that they are made of change; in JSON, and
//! in gnostic's protobuf for who wants that.

mod gnostic;
mod paths;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use capstan_kinds::custom;
use capstan_kinds::resource::Resource;
use capstan_kinds::schema;
use capstan_kinds::status::Status;
use http::HeaderMap;
use http::header::HeaderValue;
use serde_json::{Map, Value, json};

use self::paths::add_paths;
use crate::aggregate::Remote;
use crate::answer::{self, Answer};
use crate::discovery::{hash, versions, with_tag};
use crate::negotiate::{self, JSON};
use crate::present::to_bytes;
use crate::registry::Registry;
use crate::request::Query;

/// Versions of the document's form: v2 and v3 differ in a few places.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edition {
    V2,
    V3,
}

impl Edition {
    /// How references to definitions begin.
    fn prefix(self) -> &'static str {
        match self {
            Edition::V2 => "#/definitions/",
            Edition::V3 => "#/components/schemas/",
        }
    }
}

/// What every custom kind refers to.
const META_ROOTS: [&str; 2] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
];

/// The forms of a document, the first where anything will do; each with the names by which it is asked for.
const FORMS_V2: [(&str, &[&str]); 2] = [
    (JSON, &[JSON]),
    (
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        &[
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        ],
    ),
];
const FORMS_V3: [(&str, &[&str]); 2] = [
    (JSON, &[JSON]),
    (
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        &[
            "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
            "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
        ],
    ),
];
/// How long a document may be kept whose address holds its hash, in seconds.
const KEPT_SECONDS: i64 = 365 * 86_400;

/// A document in its forms.
struct Document {
    edition: Edition,
    json: Bytes,
    /// Made when it is first asked for.
    protobuf: OnceLock<Bytes>,
    hash: String,
}

impl Document {
    /// In one of the edition's forms.
    fn form(&self, position: usize) -> Bytes {
        if position == 0 {
            return self.json.clone();
        }
        let make = || {
            let document: Value = serde_json::from_slice(&self.json).unwrap_or_default();
            match self.edition {
                Edition::V2 => gnostic::v2(&document),
                Edition::V3 => gnostic::v3(&document),
            }
            .into()
        };
        self.protobuf.get_or_init(make).clone()
    }
}

/// Which of the forms the client asks for, in its order.
fn accepted(headers: &HeaderMap, forms: &[(&'static str, &[&str])]) -> Option<usize> {
    let choices = negotiate::choices(headers);
    if choices.is_empty() {
        return Some(0);
    }
    choices.iter().find_map(|(_, choice)| {
        let media = negotiate::split(choice).0;
        forms
            .iter()
            .position(|(_, names)| matches!(media, "*/*" | "application/*") || names.contains(&media))
    })
}

/// A document and the rows that it was made of.
struct Held {
    rows: Vec<Arc<Resource>>,
    document: Arc<Document>,
}

/// See the module. By path, such as `apis/apps/v1`; v2 under the empty path.
#[derive(Default)]
pub(crate) struct OpenApi(Mutex<HashMap<String, Held>>);

impl OpenApi {
    pub(crate) fn v2(&self, registry: &Registry, headers: &HeaderMap) -> Answer {
        let Some(form) = accepted(headers, &FORMS_V2) else {
            return Ok(answer::with_type(406, JSON, crate::Body::empty()));
        };
        let (_, all) = registry.table.all();
        let document = self.document("", all, Edition::V2, |rows| {
            let mut document = document(registry, rows, Edition::V2);
            document["swagger"] = json!("2.0");
            document
        });
        let tag = format!("\"{}\"", document.hash);
        Ok(with_tag(FORMS_V2[form].0, document.form(form), &tag, headers))
    }

    /// The index of groups and versions, or the document of one.
    ///
    /// `remotes` are listed; their documents are their own servers' business.
    pub(crate) fn v3(
        &self,
        registry: &Registry,
        remotes: &[Arc<Remote>],
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Answer {
        let path = path.trim_start_matches("/openapi/v3").trim_start_matches('/');
        let (_, all) = registry.table.all();
        let served = group_versions(&all);
        if path.is_empty() {
            self.forget(&served);
            let mut paths = Map::new();
            for (path, _, _) in &served {
                let document = self.group_version(registry, &all, path, &served)?;
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
            }
            for remote in remotes.iter().filter(|remote| remote.is_available) {
                let path = format!("apis/{}/{}", remote.group, remote.version);
                let url = format!("/openapi/v3/{path}");
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
            let bytes = to_bytes(&json!({ "paths": paths }));
            let tag = format!("\"{}\"", hash(&bytes));
            return Ok(with_tag(JSON, bytes, &tag, headers));
        }
        let document = self.group_version(registry, &all, path, &served)?;
        let Some(form) = accepted(headers, &FORMS_V3) else {
            return Ok(answer::with_type(406, JSON, crate::Body::empty()));
        };
        if let Some(asked) = query.get("hash")
            && asked != document.hash
        {
            let mut response = answer::with_type(301, JSON, crate::Body::empty());
            let location = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={}", document.hash));
            if let Ok(location) = location {
                response.headers_mut().insert("location", location);
            }
            return Ok(response);
        }
        let tag = format!("\"{}\"", document.hash);
        let mut response = with_tag(FORMS_V3[form].0, document.form(form), &tag, headers);
        if query.get("hash").is_some() {
            let headers = response.headers_mut();
            headers.insert("cache-control", HeaderValue::from_static("public, immutable"));
            if let Ok(end) = HeaderValue::from_str(&crate::time::http_date(KEPT_SECONDS)) {
                headers.insert("expires", end);
            }
        }
        Ok(response)
    }

    fn group_version(
        &self,
        registry: &Registry,
        all: &[Arc<Resource>],
        path: &str,
        served: &[(String, String, String)],
    ) -> Result<Arc<Document>, crate::refusal::Refusal> {
        let Some((_, group, version)) = served.iter().find(|(one, _, _)| one == path) else {
            return Err(Status::not_found_path().into());
        };
        let own = |one: &&Arc<Resource>| one.group == *group && one.version == *version;
        let rows = all.iter().filter(own).cloned().collect();
        Ok(self.document(path, rows, Edition::V3, |rows| {
            let mut document = document(registry, rows, Edition::V3);
            document["openapi"] = json!("3.0.0");
            document
        }))
    }

    /// The document of these rows: as it was made before, or made now.
    fn document(
        &self,
        path: &str,
        rows: Vec<Arc<Resource>>,
        edition: Edition,
        make: impl FnOnce(&[Arc<Resource>]) -> Value,
    ) -> Arc<Document> {
        let same = |held: &&Held| {
            held.rows.len() == rows.len() && held.rows.iter().zip(&rows).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get(path).filter(same) {
            return held.document.clone();
        }
        drop(held);
        let json = to_bytes(&make(&rows));
        let document = Arc::new(Document {
            edition,
            hash: hash(&json),
            json,
            protobuf: OnceLock::new(),
        });
        let new = Held {
            rows,
            document: document.clone(),
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(path.to_owned(), new);
        document
    }

    /// Drops the documents of groups that are not served any more.
    fn forget(&self, served: &[(String, String, String)]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|path, _| path.is_empty() || served.iter().any(|(one, _, _)| one == path));
    }
}

/// Path, group and version of each document.
fn group_versions(all: &[Arc<Resource>]) -> Vec<(String, String, String)> {
    let mut served: Vec<(String, String, String)> = Vec::new();
    for resource in all {
        let (group, version) = (&resource.group, &resource.version);
        if served.iter().any(|(_, g, v)| g == group && v == version) {
            continue;
        }
        debug_assert!(versions(all, group).contains(&version.as_str()));
        let path = if group.is_empty() {
            format!("api/{version}")
        } else {
            format!("apis/{group}/{version}")
        };
        served.push((path, group.clone(), version.clone()));
    }
    served
}

fn document(registry: &Registry, rows: &[Arc<Resource>], edition: Edition) -> Value {
    let mut paths = Map::new();
    let mut roots = Vec::new();
    let mut definitions = Map::new();
    for resource in rows {
        add_paths(&mut paths, resource, edition);
        let bodies = resource
            .subresources
            .iter()
            .filter_map(|sub| sub.group_version_kind.as_ref());
        roots.extend(bodies.filter_map(|(group, version, kind)| definition_of(group, version, kind)));
        if resource.custom.is_some() {
            let text = custom_schema(registry, resource);
            let swagger = edition == Edition::V2;
            definitions.extend(custom::definitions(resource, &text, edition.prefix(), swagger));
            roots.extend(META_ROOTS);
        } else {
            let (group, version) = (&resource.group, &resource.version);
            roots.extend(definition_of(group, version, &resource.kind));
            roots.extend(definition_of(group, version, &resource.list_kind));
        }
    }
    for name in schema::closure(roots) {
        let Some(raw) = schema::definition_json(name) else {
            continue;
        };
        let raw = match edition {
            Edition::V3 => raw.to_owned(),
            Edition::V2 => raw.replace(Edition::V3.prefix(), Edition::V2.prefix()),
        };
        if let Ok(mut definition) = serde_json::from_str::<Value>(&raw) {
            if edition == Edition::V2 {
                flatten(&mut definition);
            }
            definitions.insert(name.to_owned(), definition);
        }
    }
    let info = json!({ "title": "Kubernetes", "version": "v1.36.0" });
    match edition {
        Edition::V3 => json!({ "info": info, "paths": paths, "components": { "schemas": definitions } }),
        Edition::V2 => json!({ "info": info, "paths": paths, "definitions": definitions }),
    }
}

fn definition_of(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    schema::definition_name(&api_version, kind)
}

/// The text of a custom kind's schema, from its definition.
fn custom_schema(registry: &Registry, resource: &Resource) -> Value {
    let definitions =
        capstan_kinds::resource::find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let name = resource.custom.as_ref().map(|custom| &*custom.definition);
    let entry = definitions
        .zip(name)
        .and_then(|(kind, name)| registry.cached(&kind, "", name));
    let mut definition = entry.map(|entry| entry.decode()).unwrap_or_default();
    let versions = definition["spec"]["versions"]
        .as_array_mut()
        .into_iter()
        .flatten();
    versions
        .filter(|version| version["name"] == resource.version.as_str())
        .map(|version| version["schema"]["openAPIV3Schema"].take())
        .next()
        .unwrap_or_default()
}

/// v2 has no `allOf` around references and no `oneOf`.
fn flatten(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        if let Some(Value::Array(mut all)) = map.remove("allOf") {
            match all.pop() {
                Some(Value::Object(only)) if all.is_empty() => map.extend(only),
                Some(last) => {
                    all.push(last);
                    map.insert("allOf".into(), Value::Array(all));
                }
                None => {}
            }
        }
        if map.contains_key("$ref") {
            map.remove("default");
        }
        if map.remove("oneOf").is_some() {
            map.entry("type").or_insert_with(|| json!("string"));
        }
        map.values_mut().for_each(flatten);
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(flatten);
    }
}
