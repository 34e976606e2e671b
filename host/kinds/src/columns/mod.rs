//! The columns that kubectl shows of each kind, and the cells of an object.
//! Invariants: `cells` has one value for each column of `of`, in its order; ages and other times are shown
//! relative to the given second. The API server builds Tables from them. Columns of custom resources come
//! from their definition, not from here.

mod age;
mod table;

use serde_json::Value;

use crate::resource::Resource;

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
    table::columns(resource).iter().map(table::Spec::column).collect()
}

/// The cells of an object, one a column; `now_seconds` is the present in seconds since 1970.
pub fn cells(resource: &Resource, object: &Value, now_seconds: i64) -> Vec<Value> {
    table::columns(resource)
        .iter()
        .map(|spec| spec.cell(object, now_seconds))
        .collect()
}

fn string<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
