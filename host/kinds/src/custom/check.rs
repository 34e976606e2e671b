//! Judging a custom object by its schema, in the original's words and paths.
//! Invariants: a part that an update leaves as it was is not judged again (ratcheting), unless what judges it
//! stands above it; errors come in the order of the schema's fields. CEL rules are asked last, and only where
//! nothing is wrong that could mislead them.

use serde_json::{Map, Value, json};

use super::limits::is_whole;
use super::schema::{Additional, Limits, ListType, Schema, Type};
use super::{Version, rule};
use crate::validate::{Cause, ERRORS_MAX, FieldError};

/// What is wrong with a new object.
pub(crate) fn create(version: &Version, object: &Value) -> Vec<FieldError> {
    judge(version, object, None)
}

/// What is wrong with a changed object.
pub(crate) fn update(version: &Version, new: &Value, old: &Value) -> Vec<FieldError> {
    judge(version, new, Some(old))
}

fn judge(version: &Version, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let schema = &version.schema;
    let mut walk = Walk::default();
    walk.value(schema, object, old, "");
    let mut errors = walk.errors;
    scale(version, object, &mut errors);
    embedded(schema, object, "", &mut errors);
    let mut unique = Vec::new();
    uniqueness(schema, object, "", &mut unique);
    if !unique.is_empty() {
        let mut before = Vec::new();
        if let Some(old) = old {
            uniqueness(schema, old, "", &mut before);
        }
        if before.is_empty() {
            errors.extend(unique);
        }
    }
    let blocking = |error: &FieldError| {
        matches!(
            error.reason,
            Cause::NotSupported | Cause::Required | Cause::TooLong | Cause::TooMany | Cause::TypeInvalid
        )
    };
    if rule::has_rules(schema) {
        if errors.iter().any(blocking) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.push(FieldError::invalid_text("<nil>", "null", why));
        } else {
            errors.extend(rule::validate(schema, object, old));
        }
    }
    errors.truncate(ERRORS_MAX);
    errors
}

/// Whether a value alone fits a schema, CEL rules left aside: for defaults in definitions.
pub(super) fn fits(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let mut walk = Walk::default();
    walk.value(schema, value, None, path);
    walk.errors
}

#[derive(Default)]
pub(super) struct Walk {
    errors: Vec<FieldError>,
}

impl Walk {
    pub(super) fn add(&mut self, path: &str, reason: Cause, message: String) {
        if self.errors.len() < ERRORS_MAX {
            let field = path.trim_start_matches('.');
            let field = if field.is_empty() { "<nil>" } else { field };
            self.errors.push(FieldError::new(field, reason, message));
        }
    }

    /// An error whose words name the path once more, as the original's do.
    pub(super) fn fail(&mut self, path: &str, value: &Value, what: &str) {
        let why = format!("{path} in body {what}");
        self.push(path, value, &why);
    }

    fn push(&mut self, path: &str, value: &Value, why: &str) {
        let message = FieldError::invalid("", value, why).message;
        self.add(path, Cause::FieldValueInvalid, message);
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) {
            return;
        }
        if !self.of_type(schema, value, path) {
            return;
        }
        if let Some(limits) = &schema.limits {
            self.combined(limits, value, path);
            match value {
                Value::String(text) => self.string(schema, limits, text, path),
                Value::Number(number) => {
                    self.number(limits, value, number.as_f64().unwrap_or_default(), path)
                }
                Value::Array(list) => self.count(limits, list.len(), path),
                _ => {}
            }
            self.choice(limits, value, path);
        }
        match value {
            Value::Array(list) => self.items(schema, list, old, path),
            Value::Object(fields) => self.fields(schema, fields, old, path),
            _ => {}
        }
    }

    fn of_type(&mut self, schema: &Schema, value: &Value, path: &str) -> bool {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() && !is_whole(number.as_f64()) => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let (fits, wanted) = match (schema.kind, schema.int_or_string) {
            (_, true) => (matches!(found, "integer" | "string"), "integer,string"),
            (None, _) => (true, ""),
            (Some(Type::Number), _) => (matches!(found, "integer" | "number"), "number"),
            (Some(kind), _) => (found == kind.as_str(), kind.as_str()),
        };
        if fits || (value.is_null() && schema.nullable) || (value.is_null() && wanted.is_empty()) {
            return true;
        }
        let name = if path.is_empty() { "" } else { path };
        let message = format!("Invalid value: {found:?}: {name} in body must be of type {wanted}: {found:?}");
        self.add(path, Cause::TypeInvalid, message);
        false
    }

    fn items(&mut self, schema: &Schema, list: &[Value], old: Option<&Value>, path: &str) {
        let Some(items) = &schema.items else { return };
        for (index, item) in list.iter().enumerate() {
            let before = correlated(schema, item, old);
            self.value(items, item, before, &format!("{path}[{index}]"));
        }
    }

    fn fields(&mut self, schema: &Schema, fields: &Map<String, Value>, old: Option<&Value>, path: &str) {
        if let Some(limits) = &schema.limits {
            let length = fields.len() as u64;
            if let Some(least) = limits.min_properties.filter(|least| length < *least) {
                let value = json!(length);
                self.fail(path, &value, &format!("should have at least {least} properties"));
            }
            if let Some(most) = limits.max_properties.filter(|most| length > *most) {
                self.add(path, Cause::TooMany, too_many(length, most));
            }
        }
        let old = old.filter(|_| !schema.atomic);
        for (name, value) in fields {
            if let Some(field) = schema.field(name) {
                let before = old.and_then(|old| old.get(name));
                self.value(field, value, before, &join(path, name));
            } else if matches!(schema.additional, Additional::Forbidden) {
                let why = format!("{path}.{name} in body is a forbidden property");
                self.push(path, &json!(name), &why);
            }
        }
        for name in schema.limits.iter().flat_map(|limits| &limits.required) {
            if !fields.contains_key(&**name) {
                self.add(&join(path, name), Cause::Required, "Required value".to_string());
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn combined(&mut self, limits: &Limits, value: &Value, path: &str) {
        let ask = |schema: &Schema| fits(schema, value, path);
        if !limits.any_of.is_empty() {
            let answers: Vec<Vec<FieldError>> = limits.any_of.iter().map(ask).collect();
            if answers.iter().all(|errors| !errors.is_empty()) {
                self.push(
                    "",
                    &json!(""),
                    &format!("{path:?} must validate at least one schema (anyOf)"),
                );
                self.best(answers);
            }
        }
        if !limits.one_of.is_empty() {
            let answers: Vec<Vec<FieldError>> = limits.one_of.iter().map(ask).collect();
            let valid = answers.iter().filter(|errors| errors.is_empty()).count();
            if valid != 1 {
                let found = match valid {
                    0 => "Found none valid".to_string(),
                    more => format!("Found {more} valid alternatives"),
                };
                let why = format!("{path:?} must validate one and only one schema (oneOf). {found}");
                self.push("", &json!(""), &why);
                if valid == 0 {
                    self.best(answers);
                }
            }
        }
        if !limits.all_of.is_empty() {
            let answers: Vec<Vec<FieldError>> = limits.all_of.iter().map(ask).collect();
            let valid = answers.iter().filter(|errors| errors.is_empty()).count();
            let all = answers.len();
            self.errors.extend(answers.into_iter().flatten());
            if valid != all {
                let none = if valid == 0 { ". None validated" } else { "" };
                let why = format!("{path:?} must validate all the schemas (allOf){none}");
                self.push("", &json!(""), &why);
            }
        }
        if limits.not.as_ref().is_some_and(|not| ask(not).is_empty()) {
            self.push(
                "",
                &json!(""),
                &format!("{path:?} must not validate the schema (not)"),
            );
        }
    }

    /// Of several that fail, what is wrong with the one that fits best.
    fn best(&mut self, answers: Vec<Vec<FieldError>>) {
        self.errors
            .extend(answers.into_iter().min_by_key(Vec::len).unwrap_or_default());
    }
}

pub(super) fn too_many(length: u64, most: u64) -> String {
    format!("Too many: {length}: must have at most {most} items")
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

/// The old item of a list that is the same one by its keys.
pub(super) fn correlated<'a>(schema: &Schema, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
    if schema.list != ListType::Map {
        return None;
    }
    let same = |other: &&Value| {
        schema
            .list_keys
            .iter()
            .all(|key| item.get(&**key) == other.get(&**key))
    };
    old?.as_array()?.iter().find(same)
}

fn scale(version: &Version, object: &Value, errors: &mut Vec<FieldError>) {
    let Some(scale) = &version.scale else { return };
    for path in [&scale.spec_replicas, &scale.status_replicas] {
        if let Some(value) = path.first(object)
            && value.as_i64().is_some_and(|number| number < 0)
        {
            let field = path.members().unwrap_or_default().join(".");
            errors.push(FieldError::invalid(
                field,
                value,
                "should be a non-negative integer",
            ));
        }
    }
}

/// Embedded resources say what they are.
fn embedded(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if schema.embedded {
                for name in ["apiVersion", "kind"] {
                    if value[name].as_str().unwrap_or_default().is_empty() {
                        errors.push(FieldError::required(join(path, name), "must not be empty"));
                    }
                }
            }
            for (name, member) in fields {
                if let Some(field) = schema.field(name) {
                    embedded(field, member, &join(path, name), errors);
                }
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                if let Some(items) = &schema.items {
                    embedded(items, item, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

/// Sets hold each value once, maps each combination of keys.
fn uniqueness(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Array(list) => {
            let identity = |item: &Value| match schema.list {
                ListType::Atomic => None,
                ListType::Set => Some(item.clone()),
                ListType::Map => Some(Value::Object(
                    schema
                        .list_keys
                        .iter()
                        .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())))
                        .collect(),
                )),
            };
            let mut seen = std::collections::HashSet::new();
            for (index, item) in list.iter().enumerate() {
                let at = format!("{path}[{index}]");
                if let Some(one) = identity(item)
                    && !seen.insert(one.to_string())
                {
                    errors.push(FieldError::duplicate(at.as_str(), &one));
                }
                if let Some(items) = &schema.items {
                    uniqueness(items, item, &at, errors);
                }
            }
        }
        Value::Object(fields) => {
            for (name, member) in fields {
                if let Some(field) = schema.field(name) {
                    uniqueness(field, member, &join(path, name), errors);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(schema: Value, object: Value) -> Vec<String> {
        let schema = Schema::compile(&json!({"type": "object", "properties": {"spec": schema}}));
        let object = json!({"spec": object});
        let mut found: Vec<String> = fits(&schema, &object, "")
            .iter()
            .map(FieldError::to_string)
            .collect();
        let mut unique = Vec::new();
        uniqueness(&schema, &object, "", &mut unique);
        found.extend(unique.iter().map(FieldError::to_string));
        found
    }

    #[test]
    fn the_originals_words() {
        for (schema, value, expected) in [
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "integer"}),
                json!("x"),
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string"}),
                json!(1),
                r#"spec: Invalid value: "integer": spec in body must be of type string: "integer""#,
            ),
            (
                json!({"type": "string", "pattern": "^a"}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should match '^a'"#,
            ),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                r#"spec: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (
                json!({"type": "string", "maxLength": 1}),
                json!("cc"),
                "spec: Too long: may not be more than 1 bytes",
            ),
            (
                json!({"type": "string", "minLength": 1}),
                json!(""),
                r#"spec: Invalid value: "": spec in body should be at least 1 chars long"#,
            ),
            (
                json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
                json!(["a", "b"]),
                "spec: Too many: 2: must have at most 1 items",
            ),
            (
                json!({"type": "object", "required": ["a"]}),
                json!({}),
                "spec.a: Required value",
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("x"),
                r#"spec: Invalid value: "x": spec in body must be of type ipv4: "x""#,
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                json!(["a", "a"]),
                r#"spec[1]: Duplicate value: "a""#,
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}}}}),
                json!([{"n": "a"}, {"n": "a"}]),
                r#"spec[1]: Duplicate value: {"n":"a"}"#,
            ),
        ] {
            assert_eq!(errors(schema, value), [expected]);
        }
        let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert_eq!(
            errors(one_of.clone(), json!({})),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value"
            ]
        );
        assert!(errors(one_of, json!({"a": "x"})).is_empty());
    }

    #[test]
    fn what_stays_is_not_judged_again() {
        let schema = Schema::compile(&json!({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "integer"}}}));
        let (old, new) = (json!({"a": "long", "b": 1}), json!({"a": "long", "b": 2}));
        let mut walk = Walk::default();
        walk.value(&schema, &new, Some(&old), "");
        assert!(walk.errors.is_empty());
        walk.value(&schema, &json!({"a": "other"}), Some(&old), "");
        assert_eq!(walk.errors.len(), 1);
    }
}
