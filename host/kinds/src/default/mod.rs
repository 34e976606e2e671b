//! What a stored object says though its author did not: the defaults of each kind.
//! Invariants: idempotent; never overrides what was given; after it, quantities are canonical and nulls and
//! unknown fields are gone, as after the original's decoding. The API server applies it on every write and
//! when it reads objects that an older server stored. Defaults that need other objects are admission's.

mod cluster;
mod core;
mod normalize;
mod pod;
mod status;
mod workload;

use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::schema;

pub(crate) use status::complete as complete_status;

type Fields = Map<String, Value>;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings an object into the form in which it is stored.
pub fn apply(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        return custom.decode(object);
    }
    if let Some(schema) = schema::of(&resource.api_version(), &resource.kind) {
        normalize::walk(schema, object);
    }
    let Some(document) = object.as_object_mut() else {
        return;
    };
    match resource.group.as_str() {
        "" => core::apply(&resource.kind, document),
        "apps" | "batch" => workload::apply(&resource.kind, document),
        _ => cluster::apply(resource, document),
    }
}

/// Brings the metadata of any object into the form in which it is stored.
pub(crate) fn metadata(metadata: &mut Value) {
    if let Some(schema) = schema::definition_schema(OBJECT_META) {
        normalize::walk(schema, metadata);
    }
}

/// Sets a field that is absent.
fn put(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if !fields.contains_key(name) {
        fields.insert(name.to_string(), value.into());
    }
}

/// Sets a text field that is absent or empty.
fn put_text(fields: &mut Fields, name: &str, value: &str) {
    if fields
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        fields.insert(name.to_string(), json!(value));
    }
}

/// A member that is an object.
fn object<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name).and_then(Value::as_object_mut)
}

/// A member that is an object, made if absent; None where something else stands there.
fn made<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

/// The objects in a member that is a list.
fn each<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    fields
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a list or an object is absent or has nothing in it.
fn is_empty(fields: &Fields, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::Object(members)) => members.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
