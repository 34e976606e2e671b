//! Printer columns of custom kinds.
//! Invariants: a cell never fails; what is absent or of another type is null, as in the original.

use serde_json::{Value, json};

use super::{Path, Version};
use crate::columns::{Column, age};

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
pub(crate) struct PrinterColumn {
    column: Column,
    path: Option<Path>,
}

/// What the original says of the age where a definition lists no columns.
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is \
                   not guaranteed to be set in happens-before order across separate operations. Clients may not set \
                   this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. \
                   Null for lists. More info: \
                   https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources \
                    may allow a client to request the generation of an appropriate name automatically. Name is primarily \
                    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
                    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

impl PrinterColumn {
    /// Reads a version's columns.
    pub(super) fn all(version: &Value) -> Box<[Self]> {
        let listed = version["additionalPrinterColumns"].as_array();
        match listed.filter(|list| !list.is_empty()) {
            Some(list) => list.iter().map(Self::read).collect(),
            None => Box::new([Self::read(&json!({
                "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": AGE,
            }))]),
        }
    }

    fn read(text: &Value) -> Self {
        let word = |name: &str| text[name].as_str().unwrap_or_default();
        let path = word("jsonPath");
        Self {
            column: Column {
                name: word("name").to_string(),
                kind: word("type").to_string(),
                format: word("format").to_string(),
                priority: text["priority"].as_i64().unwrap_or(0) as i32,
                description: match word("description") {
                    "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                    text => text.to_string(),
                },
            },
            path: Path::parse(path).ok(),
        }
    }

    fn cell(&self, object: &Value, now_seconds: i64) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.first(object)) else {
            return Value::Null;
        };
        match (self.column.kind.as_str(), value) {
            ("string", Value::Null) => Value::Null,
            ("string", Value::String(text)) => json!(text),
            ("string", other) => json!(other.to_string()),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(whole) => json!(whole),
                None => json!(number.as_f64().unwrap_or_default() as i64),
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) => match age::seconds(text) {
                Some(then) => json!(age::human(now_seconds - then)),
                None => json!("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}

pub(crate) fn columns(version: &Version) -> Vec<Column> {
    let name = Column {
        name: "Name".to_string(),
        kind: "string".to_string(),
        format: "name".to_string(),
        priority: 0,
        description: NAME.to_string(),
    };
    let own = version.columns.iter().map(|column| column.column.clone());
    std::iter::once(name).chain(own).collect()
}

pub(crate) fn cells(version: &Version, object: &Value, now_seconds: i64) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let own = version
        .columns
        .iter()
        .map(|column| column.cell(object, now_seconds));
    std::iter::once(name).chain(own).collect()
}
