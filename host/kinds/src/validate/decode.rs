//! What decoding a document into its kind would refuse or drop: wrong JSON types and unknown fields.
//! Invariants: messages are those of the original's decoder, whose text clients print. The API server calls
//! `types` on every body and `unknown_fields` as field validation asks. Values are judged elsewhere.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use serde_json::Value;

use crate::quantity::Quantity;
use crate::resource::Resource;
use crate::schema::{self, Schema, Shape};

/// Unknown fields that are reported at most.
const UNKNOWN_FIELDS_MAX: usize = 100;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Whether every value has the JSON type that its field has; the text of the 400 otherwise.
pub fn types(resource: &Resource, object: &Value) -> Result<(), String> {
    if resource.custom.is_some() {
        return custom_types(resource, object);
    }
    let Some(schema) = schema::of(&resource.api_version(), &resource.kind) else {
        return Ok(());
    };
    check(schema, object, &mut Vec::new(), "").map_err(|why| {
        let kind = &resource.kind;
        format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {why}",
            resource.version
        )
    })
}

/// Paths of fields that the kind does not have, such as `spec.containers[0].imgae`.
pub fn unknown_fields(resource: &Resource, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(custom) = &resource.custom {
        if let (Some(schema), Some(metadata)) =
            (schema::definition_schema(OBJECT_META), object.get("metadata"))
        {
            unknown(schema, metadata, &mut "metadata".to_string(), &mut found);
        }
        found.extend(crate::custom::unknown_fields(&custom.schema, object));
        return found;
    }
    if let Some(schema) = schema::of(&resource.api_version(), &resource.kind) {
        unknown(schema, object, &mut String::new(), &mut found);
    }
    found
}

/// Of a custom object only the metadata has types that decoding would refuse; its schema judges the rest.
fn custom_types(resource: &Resource, object: &Value) -> Result<(), String> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let Some(schema) = schema::definition_schema(OBJECT_META) else {
        return Ok(());
    };
    check(schema, metadata, &mut vec!["metadata"], "ObjectMeta").map_err(|why| {
        let kind = &resource.kind;
        format!(
            "{kind} in version {:?} cannot be handled as a {kind}: unable to decode metadata: {why}",
            resource.version
        )
    })
}

fn unknown(schema: &'static Schema, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (schema.shape(), value) {
        (Shape::Object(fields), Value::Object(members)) if !fields.is_empty() => {
            for (name, member) in members {
                if found.len() >= UNKNOWN_FIELDS_MAX {
                    return;
                }
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                match schema.field(name) {
                    Some(field) => unknown(field, member, path, found),
                    None => found.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        (Shape::Map(values), Value::Object(members)) => {
            for (name, member) in members {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                unknown(values, member, path, found);
                path.truncate(length);
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                unknown(items, item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// `path` are the names of the fields on the way, without indexes, as Go's decoder tells them.
fn check<'a>(
    schema: &'static Schema,
    value: &'a Value,
    path: &mut Vec<&'a str>,
    owner: &str,
) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let wrong = || Err(unmarshal_error(schema, value, path, owner));
    match (schema.shape(), value) {
        (Shape::Any, _) | (Shape::String, Value::String(_)) | (Shape::Boolean, Value::Bool(_)) => Ok(()),
        (Shape::Number, Value::Number(_)) => Ok(()),
        (Shape::Integer { short }, Value::Number(number)) => match number.as_i64() {
            Some(whole) if !short || i32::try_from(whole).is_ok() => Ok(()),
            _ => wrong(),
        },
        (Shape::IntOrString, Value::Number(number))
            if number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok()) =>
        {
            Ok(())
        }
        (Shape::IntOrString, Value::String(_)) => Ok(()),
        (Shape::Quantity, Value::Number(number)) => quantity(&number.to_string()),
        (Shape::Quantity, Value::String(text)) => quantity(text.trim()),
        (Shape::Time, Value::String(text)) => time(text),
        (Shape::Bytes, Value::String(text)) => base64(text),
        (Shape::Object(fields), Value::Object(members)) => {
            let owner = schema
                .definition()
                .and_then(|name| name.rsplit('.').next())
                .unwrap_or(owner);
            if fields.is_empty() {
                return Ok(());
            }
            for (name, member) in members {
                if let Some(field) = schema.field(name) {
                    path.push(name);
                    check(field, member, path, owner)?;
                    path.pop();
                }
            }
            Ok(())
        }
        (Shape::Map(values), Value::Object(members)) => members
            .iter()
            .try_for_each(|(_, member)| check(values, member, path, owner)),
        (Shape::List(items), Value::Array(list)) => {
            list.iter().try_for_each(|item| check(items, item, path, owner))
        }
        _ => wrong(),
    }
}

fn quantity(text: &str) -> Result<(), String> {
    text.parse::<Quantity>()
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn base64(text: &str) -> Result<(), String> {
    // Line breaks are fine, as in Go's decoder.
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(compact) {
        Ok(_) => Ok(()),
        Err(DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol { offset, .. }) => {
            Err(format!("illegal base64 data at input byte {offset}"))
        }
        Err(_) => Err(format!(
            "illegal base64 data at input byte {}",
            text.len() / 4 * 4
        )),
    }
}

fn time(text: &str) -> Result<(), String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(());
    }
    Err(format!(
        "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
    ))
}

fn unmarshal_error(schema: &'static Schema, value: &Value, path: &[&str], owner: &str) -> String {
    let found = match value {
        Value::Bool(_) => "bool".to_string(),
        Value::Number(number) if matches!(schema.shape(), Shape::Integer { .. }) => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_string(),
        Value::String(_) => "string".to_string(),
        Value::Array(_) => "array".to_string(),
        Value::Object(_) | Value::Null => "object".to_string(),
    };
    let wanted = go_type(schema);
    if path.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
    }
    format!(
        "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {wanted}",
        path.join(".")
    )
}

fn go_type(schema: &'static Schema) -> String {
    match schema.shape() {
        Shape::Any => "interface {}".to_string(),
        Shape::String => "string".to_string(),
        Shape::Bytes => "[]uint8".to_string(),
        Shape::Time => "string".to_string(),
        Shape::Boolean => "bool".to_string(),
        Shape::Integer { short: true } => "int32".to_string(),
        Shape::Integer { short: false } => "int64".to_string(),
        Shape::Number => "float64".to_string(),
        Shape::Quantity => "resource.Quantity".to_string(),
        Shape::IntOrString => "intstr.IntOrString".to_string(),
        Shape::List(items) => format!("[]{}", go_type(items)),
        Shape::Map(values) => format!("map[string]{}", go_type(values)),
        Shape::Object(_) | Shape::Reference(_) => match schema.definition() {
            Some(name) => {
                let mut parts = name.rsplit('.');
                let kind = parts.next().unwrap_or_default();
                format!("{}.{kind}", parts.next().unwrap_or_default())
            }
            None => "object".to_string(),
        },
    }
}
