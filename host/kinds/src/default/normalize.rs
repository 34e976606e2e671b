//! The part of defaulting that schemas tell: nulls and unknown fields go, quantities become canonical,
//! fields get their schema's default. One pass over the document; called first by `apply`.

use serde_json::Value;

use crate::quantity::Quantity;
use crate::schema::{Schema, Shape};

/// Normalizes a value by its schema.
pub(super) fn walk(schema: &'static Schema, value: &mut Value) {
    match schema.shape() {
        Shape::Object(fields) if !fields.is_empty() => {
            let Value::Object(members) = value else { return };
            members.retain(|name, member| match schema.field(name) {
                Some(field) if !member.is_null() => {
                    walk(field, member);
                    true
                }
                _ => false,
            });
            for (name, field) in fields {
                if let Some(default) = field.default_value()
                    && !members.contains_key(*name)
                {
                    members.insert((*name).to_string(), default.clone());
                }
            }
        }
        Shape::Map(values) => {
            if let Value::Object(members) = value {
                for member in members.values_mut() {
                    walk(values, member);
                }
            }
        }
        Shape::List(items) => {
            if let Value::Array(list) = value {
                for item in list {
                    walk(items, item);
                }
            }
        }
        Shape::Quantity => canonical(value),
        _ => {}
    }
}

fn canonical(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => text.trim().to_string(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    if let Ok(quantity) = text.parse::<Quantity>() {
        *value = Value::String(quantity.to_string());
    }
}
