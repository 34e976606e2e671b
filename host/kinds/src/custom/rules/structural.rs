//! The rules by which a schema is structural: types stand outside of `allOf` and its like, every field that
//! is spoken of is declared, metadata is left alone.
//! Invariants: as in the original, in its words.

use serde_json::{Map, Value, json};

use super::{Errors, text};
use crate::custom::pattern;
use crate::custom::schema::DEPTH_MAX;
use crate::validate::FieldError;

/// Where in a document a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What a schema breaks.
pub(super) fn check(schema: &Value, at: &str) -> Errors {
    let mut errors = Errors::new();
    invariants(schema, Level::Root, at, 0, &mut errors);
    complete(schema, schema, at, 0, &mut errors);
    errors.sort_by_cached_key(FieldError::to_string);
    errors.dedup();
    errors
}

fn flag(schema: &Value, name: &str) -> bool {
    schema[name] == true
}

fn members<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    schema[name].as_object().into_iter().flatten()
}

fn list<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    schema[name].as_array().into_iter().flatten().enumerate()
}

fn invariants(schema: &Value, level: Level, at: &str, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        let why = format!("must not be nested more than {DEPTH_MAX} levels deep");
        errors.push(FieldError::forbidden(at, &why));
        return;
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        errors.push(FieldError::required(format!("{at}.items"), "must be specified"));
    }
    if schema["items"].is_object() {
        invariants(
            &schema["items"],
            Level::Item,
            &format!("{at}.items"),
            depth + 1,
            errors,
        );
    }
    for (name, field) in members(schema, "properties") {
        let at = format!("{at}.properties[{name}]");
        invariants(field, Level::Field, &at, depth + 1, errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() && level == Level::Root {
        let why = "must not be used at the root";
        errors.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
    if additional.is_object() {
        let at = format!("{at}.additionalProperties");
        invariants(additional, Level::Field, &at, depth + 1, errors);
    }
    extensions(schema, at, errors);
    value_rules(schema, at, depth, errors);
    kind(schema, level, at, errors);
    meta(schema, level, at, errors);
}

fn extensions(schema: &Value, at: &str, errors: &mut Errors) {
    let why = "must be false if x-kubernetes-int-or-string is true";
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(schema, "x-kubernetes-int-or-string") && flag(schema, name) {
            errors.push(FieldError::invalid(format!("{at}.{name}"), &json!(true), why));
        }
    }
    let free = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let properties = members(schema, "properties").count();
    if flag(schema, "x-kubernetes-embedded-resource") {
        if !free && properties == 0 {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            errors.push(FieldError::required(format!("{at}.properties"), why));
        }
        if !schema["additionalProperties"].is_null() {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
        }
    }
}

fn kind(schema: &Value, level: Level, at: &str, errors: &mut Errors) {
    let (field, kind) = (format!("{at}.type"), text(&schema["type"]));
    let open =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(field.as_str(), why),
            kind => FieldError::invalid_text(field.as_str(), kind, why),
        });
    } else if kind.is_empty() && !open {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(field.as_str(), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid_text(
            field,
            kind,
            "must be object at the root",
        ));
    }
}

fn meta(schema: &Value, level: Level, at: &str, errors: &mut Errors) {
    let checked = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    for name in ["kind", "apiVersion"] {
        let field = &schema["properties"][name];
        if checked && field.is_object() && field["type"] != "string" {
            let path = format!("{at}.properties[{name}].type");
            errors.push(FieldError::invalid_text(
                path,
                text(&field["type"]),
                "must be string",
            ));
        }
    }
    let metadata = &schema["properties"]["metadata"];
    let path = format!("{at}.properties[metadata]");
    if !metadata.is_object() {
        return;
    }
    if checked && metadata["type"] != "object" {
        let field = format!("{path}.type");
        errors.push(FieldError::invalid_text(
            field,
            text(&metadata["type"]),
            "must be object",
        ));
    }
    let only_names =
        members(metadata, "properties").all(|(name, _)| name == "name" || name == "generateName");
    let only_properties = metadata
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .all(|name| matches!(name.as_str(), "type" | "properties" | "default" | "description"));
    if level == Level::Root && !(only_names && only_properties) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(path, why));
    }
}

fn int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// The parts of a schema that only judge values.
fn value_rules(schema: &Value, at: &str, depth: usize, errors: &mut Errors) {
    let either = flag(schema, "x-kubernetes-int-or-string");
    if !(either && int_or_string(&schema["anyOf"])) {
        for (index, one) in list(schema, "anyOf") {
            nested(one, false, &format!("{at}.anyOf[{index}]"), depth + 1, errors);
        }
    }
    for (index, one) in list(schema, "allOf") {
        let skip = index == 0 && either && int_or_string(&one["anyOf"]);
        nested(one, skip, &format!("{at}.allOf[{index}]"), depth + 1, errors);
    }
    for (index, one) in list(schema, "oneOf") {
        nested(one, false, &format!("{at}.oneOf[{index}]"), depth + 1, errors);
    }
    if schema["not"].is_object() {
        nested(&schema["not"], false, &format!("{at}.not"), depth + 1, errors);
    }
    let pattern = text(&schema["pattern"]);
    if !pattern.is_empty()
        && let Err(why) = pattern::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid_text(format!("{at}.pattern"), pattern, &why));
    }
}

/// A schema inside of `allOf` and its like: it may judge, but not declare.
fn nested(schema: &Value, skip_any_of: bool, at: &str, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    if !skip_any_of {
        value_rules(schema, at, depth, errors);
    }
    if schema["items"].is_object() {
        nested(&schema["items"], false, &format!("{at}.items"), depth + 1, errors);
    }
    for (name, field) in members(schema, "properties") {
        nested(
            field,
            false,
            &format!("{at}.properties[{name}]"),
            depth + 1,
            errors,
        );
    }
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (name, why) in FORBIDDEN {
        let zero = match &schema[name] {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !zero {
            errors.push(FieldError::forbidden(format!("{at}.{name}"), why));
        }
    }
    if list(schema, "x-kubernetes-validations").next().is_some() {
        let why = "must be empty to be structural";
        errors.push(FieldError::forbidden(
            format!("{at}.x-kubernetes-validations"),
            why,
        ));
    }
    if schema["properties"]["metadata"].is_object() {
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(format!("{at}.properties[metadata]"), why));
    }
}

/// Every field that `allOf` and its like speak of is declared outside of them.
fn complete(judge: &Value, declared: &Value, at: &str, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in list(judge, name) {
            covered(
                one,
                declared,
                &format!("{at}.{name}[{index}]"),
                at,
                depth + 1,
                errors,
            );
        }
    }
    if judge["not"].is_object() {
        covered(
            &judge["not"],
            declared,
            &format!("{at}.not"),
            at,
            depth + 1,
            errors,
        );
    }
    if std::ptr::eq(judge, declared) {
        for (name, field) in members(judge, "properties") {
            complete(
                field,
                field,
                &format!("{at}.properties[{name}]"),
                depth + 1,
                errors,
            );
        }
        for name in ["items", "additionalProperties"] {
            if judge[name].is_object() {
                complete(
                    &judge[name],
                    &judge[name],
                    &format!("{at}.{name}"),
                    depth + 1,
                    errors,
                );
            }
        }
    }
}

fn covered(judge: &Value, declared: &Value, at: &str, home: &str, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    for (name, field) in members(judge, "properties") {
        let own = format!("{home}.properties[{name}]");
        match declared["properties"].get(name) {
            Some(there) => covered(
                field,
                there,
                &format!("{at}.properties[{name}]"),
                &own,
                depth + 1,
                errors,
            ),
            None => {
                let why = format!("because it is defined in {at}.properties[{name}]");
                errors.push(FieldError::required(own, &why));
            }
        }
    }
    if judge["items"].is_object() {
        let own = format!("{home}.items");
        if declared["items"].is_object() {
            covered(
                &judge["items"],
                &declared["items"],
                &format!("{at}.items"),
                &own,
                depth + 1,
                errors,
            );
        } else {
            let why = format!("because it is defined in {at}.items");
            errors.push(FieldError::required(own, &why));
        }
    }
    complete(judge, declared, at, depth + 1, errors);
}
