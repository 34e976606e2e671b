//! One column: its heading and how its cell is read from an object.
//! Invariants: a cell never fails, whatever the object holds; what is absent shows as kubectl shows it.
//! `columns` picks the table of a kind; the tables stand in the sibling modules by group. Nothing here
//! knows HTTP.

use serde_json::{Value, json};

use super::{Column, age};
use crate::resource::Resource;

/// A column's description and reader.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) priority: i32,
    pub(super) cell: fn(&Value, i64) -> Value,
}

impl Spec {
    pub(super) fn column(&self) -> Column {
        Column {
            name: self.name.to_string(),
            kind: self.kind.to_string(),
            format: if self.name == "Name" {
                "name".to_string()
            } else {
                String::new()
            },
            priority: self.priority,
            description: String::new(),
        }
    }

    pub(super) fn cell(&self, object: &Value, now_seconds: i64) -> Value {
        (self.cell)(object, now_seconds)
    }
}

/// A text column that is always shown.
pub(super) const fn text(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "string",
        priority: 0,
        cell,
    }
}

/// A number column that is always shown.
pub(super) const fn integer(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "integer",
        priority: 0,
        cell,
    }
}

/// A text column of the wide form.
pub(super) const fn wide(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "string",
        priority: 1,
        cell,
    }
}

pub(super) const NAME: Spec = text("Name", |object, _| json!(super::string(object, "/metadata/name")));
pub(super) const AGE: Spec = text("Age", |object, now| {
    json!(age::since(object, "/metadata/creationTimestamp", now))
});

static COMMON: [Spec; 2] = [NAME, AGE];

/// The table of a kind.
pub(super) fn columns(_resource: &Resource) -> &'static [Spec] {
    &COMMON
}
