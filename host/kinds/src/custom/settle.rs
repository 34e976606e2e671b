//! Bringing a custom object into the form of its schema: unknown fields go, nulls that may not be go,
//! defaults come. The original's order: prune, drop nulls, default.
//! Invariants: idempotent; `apiVersion`, `kind` and `metadata` of the object and of embedded resources are
//! never pruned by the schema; each function says whether anything changed, so that a reader can keep bytes.
//! Called when an object is decoded, after mutating admission, and when it is read in a version.

use serde_json::{Map, Value};

use super::schema::{Additional, Schema};

/// Unknown fields that are reported at most.
const UNKNOWN_FIELDS_MAX: usize = 100;

/// Prunes and fills in; says whether anything changed.
pub(super) fn settle(schema: &Schema, object: &mut Value) -> bool {
    let mut pruned = false;
    let mut drop = |_: &str| pruned = true;
    prune(schema, object, true, &mut String::new(), &mut drop);
    let nulls = drop_nulls(schema, object);
    let defaulted = default(schema, object);
    pruned || nulls || defaulted
}

/// Paths of the fields that pruning would take away, such as `spec.list[0].nmae`, sorted.
pub(crate) fn unknown_fields(schema: &Schema, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut copy = object.clone();
    let mut note = |path: &str| {
        if found.len() < UNKNOWN_FIELDS_MAX {
            found.push(path.to_string());
        }
    };
    prune(schema, &mut copy, true, &mut String::new(), &mut note);
    found.sort_unstable();
    found
}

fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// Calls `drop` with the path of each field that it removes.
fn prune(schema: &Schema, value: &mut Value, root: bool, path: &mut String, drop: &mut dyn FnMut(&str)) {
    let resource = root || schema.embedded;
    let length = path.len();
    match value {
        Value::Object(fields) => prune_object(schema, fields, resource, path, drop),
        Value::Array(list) => {
            for (index, item) in list.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                match &schema.items {
                    Some(items) => prune(items, item, false, path, drop),
                    None if !schema.preserve => clear(item, path, drop),
                    None => {}
                }
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn prune_object(
    schema: &Schema,
    fields: &mut Map<String, Value>,
    resource: bool,
    path: &mut String,
    drop: &mut dyn FnMut(&str),
) {
    let length = path.len();
    fields.retain(|name, member| {
        if resource && is_meta(name) {
            return true;
        }
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        let keep = match (schema.property(name), &schema.additional) {
            (Some(field), _) => {
                prune(field, member, false, path, drop);
                true
            }
            (None, Additional::Schema(values)) => {
                prune(values, member, false, path, drop);
                true
            }
            (None, Additional::Any) => true,
            (None, _) => schema.preserve,
        };
        if !keep {
            drop(path);
        }
        path.truncate(length);
        keep
    });
}

/// Items of a list whose items have no schema keep nothing.
fn clear(value: &mut Value, path: &mut String, drop: &mut dyn FnMut(&str)) {
    if let Value::Object(fields) = value {
        for name in fields.keys() {
            drop(&format!("{path}.{name}"));
        }
        fields.clear();
    }
}

/// Removes nulls where null is no value and no default takes their place.
fn drop_nulls(schema: &Schema, value: &mut Value) -> bool {
    let mut changed = false;
    match value {
        Value::Object(fields) => fields.retain(|name, member| {
            let Some(field) = schema.field(name) else {
                return true;
            };
            if member.is_null() {
                let keep = field.nullable || field.default.is_some();
                changed |= !keep;
                return keep;
            }
            changed |= drop_nulls(field, member);
            true
        }),
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    changed |= drop_nulls(items, item);
                }
            }
        }
        _ => {}
    }
    changed
}

/// Fills in defaults; says whether there were any to fill in.
pub(super) fn default(schema: &Schema, value: &mut Value) -> bool {
    let mut changed = false;
    match value {
        Value::Object(fields) => {
            for (name, field) in &schema.properties {
                let Some(default) = &field.default else { continue };
                let fill = match fields.get(&**name) {
                    None => true,
                    Some(there) => there.is_null() && !field.nullable,
                };
                if fill {
                    fields.insert(name.to_string(), (**default).clone());
                    changed = true;
                }
            }
            for (name, member) in fields.iter_mut() {
                if let Some(field) = schema.field(name) {
                    changed |= fill_null(field, member);
                    changed |= default(field, member);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    changed |= fill_null(items, item);
                    changed |= default(items, item);
                }
            }
        }
        _ => {}
    }
    changed
}

fn fill_null(schema: &Schema, value: &mut Value) -> bool {
    match &schema.default {
        Some(default) if value.is_null() && !schema.nullable => {
            *value = (**default).clone();
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, object: Value, expected: Value, unknown: &[&str]) {
        let schema = Schema::compile(&schema);
        assert_eq!(unknown_fields(&schema, &object), unknown, "{object}");
        let mut settled = object.clone();
        assert_eq!(settle(&schema, &mut settled), object != expected, "{object}");
        assert_eq!(settled, expected);
        assert!(!settle(&schema, &mut settled), "twice: {object}");
    }

    #[test]
    fn objects_take_the_form_of_their_schema() {
        let spec = |spec: Value| json!({"type": "object", "properties": {"spec": spec}});
        check(
            spec(json!({"type": "object", "properties": {"a": {"type": "integer", "default": 3}}})),
            json!({"kind": "K", "metadata": {"x": 1}, "spec": {"b": 1}, "odd": 1}),
            json!({"kind": "K", "metadata": {"x": 1}, "spec": {"a": 3}}),
            &["odd", "spec.b"],
        );
        let preserve = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}}});
        check(
            spec(preserve),
            json!({"spec": {"free": {"x": 1}, "in": {"a": "b", "c": 1}}}),
            json!({"spec": {"free": {"x": 1}, "in": {"a": "b"}}}),
            &["spec.in.c"],
        );
        check(
            spec(
                json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}}),
            ),
            json!({"spec": {"k": {"a": "b", "z": 1}}}),
            json!({"spec": {"k": {"a": "b"}}}),
            &["spec.k.z"],
        );
        check(
            spec(json!({"type": "object", "properties": {
                "n": {"type": "string"}, "m": {"type": "string", "nullable": true}, "d": {"type": "string", "default": "x"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}}}})),
            json!({"spec": {"n": null, "m": null, "d": null, "list": [{}, {"p": "UDP", "q": 1}]}}),
            json!({"spec": {"m": null, "d": "x", "list": [{"p": "TCP"}, {"p": "UDP"}]}}),
            &["spec.list[1].q"],
        );
        check(
            spec(
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}),
            ),
            json!({"spec": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"x": 1}, "y": 1}}),
            json!({"spec": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {}}}),
            &["spec.spec.x", "spec.y"],
        );
    }
}
