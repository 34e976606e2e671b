//! Required fields as the schema tells them, for what no rule of a kind has looked at.
//! Invariants: only texts and objects count as missing, since a zero number or an empty list may be meant;
//! metadata and status are left alone, since their writers are programs that leave zeros out.

use serde_json::Value;

use super::error::FieldError;
use super::rules::Errors;
use crate::resource::Resource;
use crate::schema::{self, Schema, Shape};

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let Some(schema) = schema::of(&resource.api_version(), &resource.kind) else {
        return;
    };
    walk(schema, object, &mut String::new(), errors);
}

fn walk(schema: &'static Schema, value: &Value, path: &mut String, errors: &mut Errors) {
    let length = path.len();
    match (schema.shape(), value) {
        (Shape::Object(_), Value::Object(members)) => {
            for name in schema.required() {
                if schema
                    .field(name)
                    .is_some_and(|field| is_missing(field, name, members.get(*name)))
                {
                    join(path, name);
                    if !errors.has(path) {
                        errors.add(FieldError::required(path.as_str(), ""));
                    }
                    path.truncate(length);
                }
            }
            for (name, member) in members {
                if length == 0 && matches!(name.as_str(), "metadata" | "status") {
                    continue;
                }
                if let Some(field) = schema.field(name) {
                    join(path, name);
                    walk(field, member, path, errors);
                    path.truncate(length);
                }
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(items, item, path, errors);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn is_missing(field: &'static Schema, name: &str, value: Option<&Value>) -> bool {
    match field.shape() {
        // An empty value is a value.
        Shape::String if name == "value" => false,
        Shape::String => value.and_then(Value::as_str).unwrap_or_default().is_empty(),
        Shape::Object(_) => value.is_none(),
        _ => false,
    }
}

fn join(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
