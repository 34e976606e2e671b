//! The part of a status that is there before anybody reports: `{}` where a structure stands, `0`, `""` and `false`
//! where a number, a text or a truth is never left out. Typed clients read through it without a question.
//! Invariants: by schema alone; what is there stays. Called when an object is made and when its status is
//! written, after the rest of the status was settled. Lists and times that nobody wrote stay absent.

use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::schema::{self, Schema, Shape};

/// Makes a built-in object's status as whole as the original sends it.
pub(crate) fn complete(resource: &Resource, document: &mut Map<String, Value>) {
    if resource.custom.is_some() {
        return;
    }
    let Some(status) = schema::of(&resource.api_version(), &resource.kind)
        .and_then(|schema| schema.field("status"))
        .filter(|status| status.defaults_to_zero())
    else {
        return;
    };
    fill(status, document.entry("status").or_insert_with(|| json!({})));
}

fn fill(schema: &'static Schema, value: &mut Value) {
    let Value::Object(members) = value else { return };
    for (name, field) in schema.fields() {
        if !field.defaults_to_zero() {
            continue;
        }
        let zero = match field.shape() {
            Shape::Object(_) => json!({}),
            Shape::Integer { .. } => json!(0),
            Shape::String => json!(""),
            Shape::Boolean => json!(false),
            _ => continue,
        };
        fill(field, members.entry(*name).or_insert(zero));
    }
}
