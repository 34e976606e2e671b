//! From a CustomResourceDefinition to rows of the resource table.
//! Invariants: only what is established has rows; names come from `status.acceptedNames`; every version is
//! compiled once; the storage version's row is there even where it is not served.

use std::sync::Arc;

use serde_json::Value;

use super::columns::PrinterColumn;
use super::{Conversion, Indexed, Path, Scale, Schema, Version};
use crate::resource::{Resource, Subresource};

/// The rows of one definition.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Served versions, the preferred one first.
    pub served: Vec<Arc<Resource>>,
    /// The row by which stored objects are read.
    pub storage: Arc<Resource>,
}

/// Whether a condition of the definition is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let conditions = definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .filter(|one| one["type"] == condition)
        .any(|one| one["status"] == "True")
}

/// What the definition adds to the table; nothing until it is established.
pub fn rows(definition: &Value) -> Option<Rows> {
    if !is_true(definition, "Established") {
        return None;
    }
    let versions = definition["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    let indexed = indexed(versions);
    let storage = Arc::new(row(definition, stored, &indexed, None)?);
    let mut served: Vec<Arc<Resource>> = versions
        .iter()
        .filter(|version| version["served"] == true)
        .filter_map(|version| {
            if version["name"] == stored["name"] {
                return Some(storage.clone());
            }
            row(definition, version, &indexed, Some(storage.clone())).map(Arc::new)
        })
        .collect();
    served.sort_by(|a, b| {
        priority(&b.version)
            .cmp(&priority(&a.version))
            .then(a.version.cmp(&b.version))
    });
    Some(Rows { served, storage })
}

/// Kubernetes' order of versions: stable before beta before alpha, higher numbers first, others last.
pub fn priority(version: &str) -> (u8, u64, u64) {
    fn parse(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        for (word, rank) in [("beta", 2), ("alpha", 1)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((rank, number(major)?, number(minor)?));
            }
        }
        Some((3, number(rest)?, 0))
    }
    fn number(text: &str) -> Option<u64> {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())?
    }
    parse(version).unwrap_or_default()
}

fn row(
    definition: &Value,
    version: &Value,
    indexed: &Indexed,
    storage: Option<Arc<Resource>>,
) -> Option<Resource> {
    let names = &definition["status"]["acceptedNames"];
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let words = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
    let verbs = |list: &[&str]| list.iter().map(|verb| verb.to_string()).collect();
    let subresources = &version["subresources"];
    let mut own = Vec::new();
    let scale = scale(&subresources["scale"]);
    if scale.is_some() {
        own.push(Subresource {
            name: "scale".into(),
            verbs: verbs(&["get", "patch", "update"]),
            group_version_kind: Some(("autoscaling".into(), "v1".into(), "Scale".into())),
        });
    }
    if subresources["status"].is_object() {
        own.push(Subresource {
            name: "status".into(),
            verbs: verbs(&["get", "patch", "update"]),
            group_version_kind: None,
        });
    }
    let name = version["name"].as_str()?;
    let custom = Version {
        definition: definition["metadata"]["name"].as_str()?.into(),
        schema: Schema::compile(&version["schema"]["openAPIV3Schema"]),
        columns: PrinterColumn::all(version),
        selectable: selectable(version)
            .map(|path| path.trim_start_matches('.').into())
            .collect(),
        indexed: indexed.clone(),
        scale,
        deprecation: deprecation(spec, version),
        conversion: Conversion::read(spec).map(Arc::new),
        storage,
        terminating: definition["metadata"]["deletionTimestamp"].is_string(),
    };
    let row = Resource {
        group: text(&spec["group"]),
        version: name.to_string(),
        plural: text(&names["plural"]),
        singular: text(&names["singular"]),
        kind: text(&names["kind"]),
        list_kind: text(&names["listKind"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: verbs(&[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ]),
        short_names: words(&names["shortNames"]),
        categories: words(&names["categories"]),
        subresources: own,
        custom: Some(Arc::new(custom)),
        ..Resource::default()
    };
    Some(row.custom())
}

fn selectable(version: &Value) -> impl Iterator<Item = &str> {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    fields.filter_map(|field| field["jsonPath"].as_str())
}

fn indexed(versions: &[Value]) -> Indexed {
    let mut all: Vec<(Box<str>, Path)> = versions
        .iter()
        .flat_map(selectable)
        .filter_map(|path| Some((path.trim_start_matches('.').into(), Path::parse(path).ok()?)))
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.dedup_by(|(a, _), (b, _)| a == b);
    let (names, paths): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    Indexed {
        names: names.into(),
        paths: paths.into(),
    }
}

fn scale(text: &Value) -> Option<Scale> {
    let path = |name: &str| Path::parse(text[name].as_str()?).ok();
    Some(Scale {
        spec_replicas: path("specReplicasPath")?,
        status_replicas: path("statusReplicasPath")?,
        selector: path("labelSelectorPath"),
    })
}

fn deprecation(spec: &Value, version: &Value) -> Option<Box<str>> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.into());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (group, kind, name) = (
        text(&spec["group"]),
        text(&spec["names"]["kind"]),
        text(&version["name"]),
    );
    let newer = spec["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["served"] == true && one["deprecated"] != true)
        .filter_map(|one| one["name"].as_str())
        .filter(|one| priority(one) > priority(&name))
        .max_by_key(|one| priority(one));
    let mut warning = format!("{group}/{name} {kind} is deprecated");
    if let Some(newer) = newer {
        warning.push_str(&format!("; use {group}/{newer} {kind}"));
    }
    Some(warning.into())
}
