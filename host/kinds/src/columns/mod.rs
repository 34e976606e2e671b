//! The columns that kubectl shows of each kind, and the cells of an object.
//! Invariants: `cells` has one value for each column of `of`, in its order; ages and other times are shown
//! relative to the given second. The API server builds Tables from them. Columns of custom resources come
//! from their definition (`custom`).

pub(crate) mod age;
mod cluster;
mod core;
mod flow;
mod network;
mod plugins;
mod pod;
mod table;
mod workload;

use serde_json::Value;

use crate::resource::Resource;
use crate::selector::LabelSelector;

/// A column of a Table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Heading, such as `Ready`; kubectl shows it in capitals.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: String,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// What it shows.
    pub description: String,
}

/// The columns of a kind.
pub fn of(resource: &Resource) -> Vec<Column> {
    if let Some(custom) = &resource.custom {
        return crate::custom::columns(custom);
    }
    table::columns(resource).iter().map(table::Spec::column).collect()
}

/// The cells of an object, one a column; `now_seconds` is the present in seconds since 1970.
pub fn cells(resource: &Resource, object: &Value, now_seconds: i64) -> Vec<Value> {
    if let Some(custom) = &resource.custom {
        return crate::custom::cells(custom, object, now_seconds);
    }
    table::columns(resource)
        .iter()
        .map(|spec| spec.cell(object, now_seconds))
        .collect()
}

/// The text at a pointer, empty if there is none.
fn string<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn flag(object: &Value, pointer: &str) -> bool {
    object
        .pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { "<none>" } else { text })
}

/// A number or text as text; `absent` if there is none.
fn shown(value: Option<&Value>, absent: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => absent.to_string(),
        Some(other) => other.to_string(),
    }
}

/// A label selector document, or a plain map of labels, in the form of a query.
fn selector(document: Option<&Value>) -> String {
    let none = || "<none>".to_string();
    let Some(fields) = document.and_then(Value::as_object) else {
        return none();
    };
    let parsed = if fields.contains_key("matchLabels") || fields.contains_key("matchExpressions") {
        LabelSelector::from_value(document.unwrap_or(&Value::Null)).unwrap_or_default()
    } else {
        LabelSelector::from_map_value(document.unwrap_or(&Value::Null))
    };
    match parsed.to_string() {
        text if text.is_empty() => none(),
        text => text,
    }
}

#[cfg(test)]
mod tests;
