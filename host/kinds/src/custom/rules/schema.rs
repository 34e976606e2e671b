//! The rules of one version's schema, beside being structural: keywords that are not taken, list and map
//! types, defaults that fit, CEL rules that compile.
//! Invariants: as in the original, in its words; CEL is looked at only where nothing else is wrong.

use serde_json::{Value, json};

use super::{Errors, structural, text};
use crate::custom::schema::Schema;
use crate::custom::{check, rule, settle};
use crate::validate::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What the root may say where status is a subresource.
const ROOT_FIELDS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const ROOT_NAMES: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                          MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                          ExternalDocs Example XPreserveUnknownFields XValidations]";

/// What is wrong with the schema of a version. `stored`: it has been stored as it is.
pub(super) fn check(schema: &Value, at: &str, has_status: bool, stored: bool, errors: &mut Errors) {
    let before = errors.len();
    if has_status {
        root(schema, at, errors);
    }
    if schema["nullable"] == true {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(format!("{at}.nullable"), why));
    }
    let structural = structural::check(schema, at);
    let sound = structural.is_empty();
    errors.extend(structural);
    let compiled = Schema::compile(schema);
    if sound {
        defaults(schema, &compiled, at, errors);
    }
    walk(schema, at, Some("root"), errors);
    if errors.len() == before {
        errors.extend(rule::check(schema, &compiled, at, stored));
    }
}

fn root(schema: &Value, at: &str, errors: &mut Errors) {
    for name in schema.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !ROOT_FIELDS.contains(&name.as_str()) && schema[name] != false {
            let why = format!(
                "only {ROOT_NAMES} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            errors.push(FieldError::invalid(at, schema, &why));
            return;
        }
    }
}

/// Defaults are values of their own schema.
fn defaults(text: &Value, schema: &Schema, at: &str, errors: &mut Errors) {
    if let Some(default) = &schema.default {
        let field = format!("{at}.default");
        let unknown = settle::unknown_fields(schema, default);
        if !unknown.is_empty() {
            errors.push(FieldError::invalid(
                field.as_str(),
                default,
                "must not have unknown fields",
            ));
        } else {
            errors.extend(check::fits(schema, default, &field));
        }
    }
    for (name, field) in &schema.properties {
        let at = format!("{at}.properties[{name}]");
        defaults(&text["properties"][&**name], field, &at, errors);
    }
    if let Some(items) = &schema.items {
        defaults(&text["items"], items, &format!("{at}.items"), errors);
    }
}

/// `place` is where the schema stands: at the root, in metadata at the root, or elsewhere.
fn walk(schema: &Value, at: &str, place: Option<&str>, errors: &mut Errors) {
    let Some(fields) = schema.as_object() else { return };
    keywords(schema, at, place, errors);
    let additional = &schema["additionalProperties"];
    let properties = fields.get("properties").and_then(Value::as_object);
    if properties.is_some_and(|all| !all.is_empty()) && (additional.is_object() || *additional == false) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
    if additional.is_object() {
        walk(additional, &format!("{at}.additionalProperties"), None, errors);
    }
    for (name, field) in properties.into_iter().flatten() {
        let inside = match (place, name.as_str()) {
            (Some("root"), meta @ ("metadata" | "kind" | "apiVersion")) => Some(meta),
            (Some(meta @ ("metadata" | "kind" | "apiVersion")), _) => Some(meta),
            _ => None,
        };
        walk(field, &format!("{at}.properties[{name}]"), inside, errors);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{at}.items"), None, errors);
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in schema[list].as_array().into_iter().flatten().enumerate() {
            walk(one, &format!("{at}.{list}[{index}]"), None, errors);
        }
    }
    if schema["not"].is_object() {
        walk(&schema["not"], &format!("{at}.not"), None, errors);
    }
    lists(schema, at, errors);
    rules(schema, at, errors);
}

fn keywords(schema: &Value, at: &str, place: Option<&str>, errors: &mut Errors) {
    let kind = text(&schema["type"]);
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(format!("{at}.type"), why));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(format!("{at}.type"), kind, &TYPES));
    }
    if let Some(place) = place.filter(|place| *place != "root" && !schema["default"].is_null()) {
        let why = format!("must not be set in top-level {place}");
        errors.push(FieldError::forbidden(format!("{at}.default"), &why));
    }
    for name in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        let empty = match &schema[name] {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        };
        if !empty {
            let why = format!("{name} is not supported");
            errors.push(FieldError::forbidden(format!("{at}.{name}"), &why));
        }
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(format!("{at}.items"), why));
    }
    if schema["uniqueItems"] == true {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{at}.uniqueItems"), why));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let field = format!("{at}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(
            field,
            &json!(false),
            "must be true or undefined",
        ));
    }
    let map_type = text(&schema["x-kubernetes-map-type"]);
    if !map_type.is_empty() {
        must_be(schema, "object", "x-kubernetes-map-type", at, errors);
        if !matches!(map_type, "atomic" | "granular") {
            let field = format!("{at}.x-kubernetes-map-type");
            errors.push(FieldError::not_supported(
                field,
                map_type,
                &["atomic", "granular"],
            ));
        }
    }
}

fn must_be(schema: &Value, wanted: &str, because: &str, at: &str, errors: &mut Errors) {
    let (field, kind) = (format!("{at}.type"), text(&schema["type"]));
    let why = format!("must be {wanted} if {because} is specified");
    if kind.is_empty() {
        errors.push(FieldError::required(field, &why));
    } else if kind != wanted {
        errors.push(FieldError::invalid_text(field, kind, &why));
    }
}

fn lists(schema: &Value, at: &str, errors: &mut Errors) {
    let (list, items) = (text(&schema["x-kubernetes-list-type"]), &schema["items"]);
    let keys = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let field = |name: &str| format!("{at}.{name}");
    if !list.is_empty() {
        must_be(schema, "array", "x-kubernetes-list-type", at, errors);
        if !matches!(list, "atomic" | "set" | "map") {
            let known = ["atomic", "set", "map"];
            errors.push(FieldError::not_supported(
                field("x-kubernetes-list-type"),
                list,
                &known,
            ));
        }
    }
    if !keys.is_empty() && list != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let field = field("x-kubernetes-list-type");
        errors.push(match list {
            "" => FieldError::required(field, why),
            list => FieldError::invalid_text(field, list, why),
        });
    }
    if matches!(list, "set" | "map") && items["nullable"] == true {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list}");
        errors.push(FieldError::forbidden(field("items.nullable"), &why));
    }
    if list == "set" {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (name, ok) = match text(&items["type"]) {
            "array" => (
                "x-kubernetes-list-type",
                matches!(text(&items["x-kubernetes-list-type"]), "" | "atomic"),
            ),
            "object" => (
                "x-kubernetes-map-type",
                items["x-kubernetes-map-type"] == "atomic",
            ),
            _ => ("", true),
        };
        if !ok {
            let value = text(&items[name]);
            errors.push(FieldError::invalid_text(
                field(&format!("items.{name}")),
                value,
                why,
            ));
        }
    }
    if list == "map" {
        map_keys(&keys, schema, at, errors);
    }
}

fn map_keys(keys: &[Value], schema: &Value, at: &str, errors: &mut Errors) {
    let (items, listed) = (&schema["items"], &schema["x-kubernetes-list-map-keys"]);
    let field = format!("{at}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(field.as_str(), why));
    }
    if !items.is_object() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(format!("{at}.items"), why));
        return;
    }
    if items["type"] != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid_text(
            format!("{at}.items.type"),
            text(&items["type"]),
            why,
        ));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let name = text(key);
        let Some(property) = items["properties"].get(name) else {
            let why = "entries must all be names of item properties";
            errors.push(FieldError::invalid(field.as_str(), listed, why));
            continue;
        };
        let own = format!("{at}.items.properties[{name}]");
        if matches!(text(&property["type"]), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid_text(format!("{own}.type"), "object", why));
        }
        if keys[..index].contains(key) {
            let why = "must not contain duplicate entries";
            errors.push(FieldError::invalid(field.as_str(), listed, why));
        }
        let required = items["required"].as_array().is_some_and(|all| all.contains(key));
        if !required && property["default"].is_null() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{own}.default"), why));
        }
        if property["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{own}.nullable"), why));
        }
    }
}

/// The form of CEL rules; whether they compile is looked at later.
fn rules(schema: &Value, at: &str, errors: &mut Errors) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    let lines = |text: &str| text.contains(['\n', '\r']);
    for (index, one) in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = |name: &str| format!("{at}.x-kubernetes-validations[{index}].{name}");
        let (rule, message) = (text(&one["rule"]), text(&one["message"]));
        if rule.trim().is_empty() {
            errors.push(FieldError::required(field("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid_text(field("message"), message, why));
        } else if lines(message.trim()) {
            let why = "must not contain line breaks";
            errors.push(FieldError::invalid_text(field("message"), message, why));
        } else if lines(rule.trim()) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(field("message"), why));
        }
        let expression = text(&one["messageExpression"]);
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(field("messageExpression"), why));
        }
        if let Some(reason) = one["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(FieldError::not_supported(field("reason"), reason, &REASONS));
        }
        let path = text(&one["fieldPath"]);
        if !path.is_empty() {
            let why = if path.trim().is_empty() {
                "must be non-empty if specified"
            } else if lines(path) {
                "must not contain line breaks"
            } else if !leads_somewhere(schema, path) {
                "must be a valid path"
            } else {
                continue;
            };
            errors.push(FieldError::invalid_text(field("fieldPath"), path, why));
        }
    }
}

fn leads_somewhere(schema: &Value, path: &str) -> bool {
    let Some(path) = crate::custom::Path::parse(path)
        .ok()
        .filter(|_| path.starts_with(['.', '[']))
    else {
        return false;
    };
    let step = |schema, name: &&str| {
        let schema: &Value = schema;
        let declared = schema["properties"].get(name);
        declared.or_else(|| schema.get("additionalProperties").filter(|one| one.is_object()))
    };
    path.members()
        .is_some_and(|members| members.iter().try_fold(schema, step).is_some())
}
