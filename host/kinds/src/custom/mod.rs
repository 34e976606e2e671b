//! Custom kinds: what a CustomResourceDefinition says, compiled for the server that serves its objects.
//!
//! A definition becomes rows of the resource table (`definition`), each with its [`Version`]: one compiled
//! schema, its columns, selectable fields and subresources, shared by all requests. `default`, `validate`,
//! `columns`, `fields` and `convert` turn to it where a row has one, so that a custom kind takes the path of
//! a built-in one. `rules` judges definitions themselves, `names` gives them their names. Pure.
//! `conversion` is what a webhook is asked that tells one version from another. Left out: calling it.

mod bounds;
mod check;
mod columns;
mod conversion;
mod definition;
pub(crate) mod formats;
mod names;
mod path;
pub mod pattern;
mod publish;
mod rule;
mod rules;
pub(crate) mod schema;
mod settle;

use std::sync::Arc;

use serde_json::Value;

pub use conversion::Conversion;
pub use definition::{Rows, is_true, priority as version_priority, rows};
pub use names::{CLEANUP, Names, accept, set_condition};
pub use path::Path;
pub use publish::{definition_name, definitions};
pub use schema::{Additional, DEPTH_MAX, Limits, ListType, Schema, Type};

pub(crate) use check::{create, update};
pub(crate) use columns::{cells, columns};
pub(crate) use rules::{check_definition, check_definition_change};
pub(crate) use settle::unknown_fields;

use crate::resource::Resource;

/// One version of a custom kind.
#[derive(Debug)]
pub struct Version {
    /// The definition's name, such as `crontabs.stable.example.com`.
    pub definition: Box<str>,
    /// Of its objects.
    pub schema: Schema,
    /// After the name, as the definition lists them; the age where it lists none.
    pub(crate) columns: Box<[columns::PrinterColumn]>,
    /// Paths that lists of this version may be selected by, without the leading dot.
    pub selectable: Box<[Box<str>]>,
    /// The selectable fields of all versions, which the cache keeps of each object.
    pub indexed: Indexed,
    /// The scale subresource.
    pub scale: Option<Scale>,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<Box<str>>,
    /// The row of the version in which objects are stored; none if it is this one.
    pub storage: Option<Arc<Resource>>,
    /// Whether the definition is being deleted: nothing may be created any more.
    pub terminating: bool,
    /// The webhook that alone can tell what an object of one version is in another; none where versions
    /// differ in nothing but their schemas.
    pub conversion: Option<Arc<Conversion>>,
}

/// Where the scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Of `spec.replicas`.
    pub spec_replicas: Path,
    /// Of `status.replicas`.
    pub status_replicas: Path,
    /// Of a label selector as text.
    pub selector: Option<Path>,
}

/// Selectable fields that are kept of each object.
#[derive(Debug, Clone, Default)]
pub struct Indexed {
    /// Without the leading dot.
    pub names: Arc<[Box<str>]>,
    paths: Arc<[Path]>,
}

impl Indexed {
    /// The values of an object, in the order of the names.
    pub fn values(&self, object: &Value) -> impl Iterator<Item = String> {
        self.paths.iter().map(|path| text(path.first(object)))
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Versions are the same only if they are one.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Version {}

impl Version {
    /// Brings a stored object into the form of this version; says whether anything changed.
    pub fn settle(&self, object: &mut Value) -> bool {
        settle::settle(&self.schema, object)
    }

    /// Brings a sent object into the form of this version, its metadata and that of embedded resources too.
    pub fn decode(&self, object: &mut Value) {
        settle::settle(&self.schema, object);
        embedded(&self.schema, object, true);
    }
}

/// Normalizes the metadata of the object and of the resources in it.
fn embedded(schema: &Schema, value: &mut Value, root: bool) {
    if (root || schema.embedded)
        && let Some(metadata) = value.get_mut("metadata")
    {
        crate::default::metadata(metadata);
    }
    match value {
        Value::Object(fields) => {
            for (name, member) in fields {
                if let Some(field) = schema.field(name) {
                    embedded(field, member, false);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    embedded(items, item, false);
                }
            }
        }
        _ => {}
    }
}
