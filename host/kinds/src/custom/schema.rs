//! The compiled schema of a custom kind: what `spec.versions[*].schema.openAPIV3Schema` says, as a tree.
//! Invariants: made once for each version of a definition and shared by all that read it; whatever the text
//! says, compiling never fails (what is wrong with it is told by `rules`, before it is stored). Pruning,
//! defaulting, checking, server-side apply and CEL walk it. Left out: `$ref`, which CRDs may not have.

use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::rule::Rule;
pub use crate::schema::ListType;

/// Levels of a schema that are read at most; deeper ones say nothing.
pub const DEPTH_MAX: usize = 64;

/// The schema of a value.
#[derive(Debug, Default)]
pub struct Schema {
    /// Its JSON type; none where the schema leaves it open.
    pub kind: Option<Type>,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// Whether null is a value.
    pub nullable: bool,
    /// Named fields, sorted by name.
    pub properties: Box<[(Box<str>, Schema)]>,
    /// The schema of a list's items.
    pub items: Option<Box<Schema>>,
    /// What other keys than the named ones may hold.
    pub additional: Additional,
    /// The value of the field where it is absent.
    pub default: Option<Box<Value>>,
    /// `x-kubernetes-list-type`.
    pub list: ListType,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: Box<[Box<str>]>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// Limits of the value; none where there are none.
    pub limits: Option<Box<Limits>>,
    /// `x-kubernetes-validations`.
    pub rules: Box<[Rule]>,
}

/// A JSON type, as OpenAPI names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    /// Reads OpenAPI's name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => return None,
        })
    }

    /// OpenAPI's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// What keys that no property names may hold.
#[derive(Debug, Default)]
pub enum Additional {
    /// The schema does not say: such keys are unknown.
    #[default]
    None,
    /// Anything.
    Any,
    /// Nothing at all.
    Forbidden,
    /// Values of one schema.
    Schema(Box<Schema>),
}

/// Limits of a value.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Limits {
    pub format: Option<Box<str>>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    /// Empty: anything.
    pub choices: Box<[Value]>,
    pub required: Box<[Box<str>]>,
    pub all_of: Box<[Schema]>,
    pub any_of: Box<[Schema]>,
    pub one_of: Box<[Schema]>,
    pub not: Option<Box<Schema>>,
}

impl Schema {
    /// Compiles the text of a schema.
    pub fn compile(text: &Value) -> Self {
        compile(text, 0)
    }

    /// The schema of a named field.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        let at = self.properties.binary_search_by(|(field, _)| (**field).cmp(name));
        at.ok().map(|index| &self.properties[index].1)
    }

    /// The schema of any key: of a named field, or of all others.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.property(name).or(match &self.additional {
            Additional::Schema(values) => Some(values),
            _ => None,
        })
    }

    /// The value's format, where the schema tells one.
    pub fn format(&self) -> Option<&str> {
        self.limits.as_ref()?.format.as_deref()
    }

    /// Whether anything below may be cut from, filled in or judged: false lets a walk skip the value.
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.properties.iter().any(|(_, field)| field.has_defaults())
            || self.items.as_ref().is_some_and(|items| items.has_defaults())
            || matches!(&self.additional, Additional::Schema(values) if values.has_defaults())
    }
}

fn compile(text: &Value, depth: usize) -> Schema {
    let Some(text) = text.as_object().filter(|_| depth < DEPTH_MAX) else {
        return Schema::default();
    };
    let flag = |name: &str| text.get(name).and_then(Value::as_bool).unwrap_or_default();
    let word = |name: &str| text.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut properties: Vec<(Box<str>, Schema)> = text
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.as_str().into(), compile(field, depth + 1)))
        .collect();
    properties.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Schema {
        kind: Type::parse(word("type")),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        properties: properties.into(),
        items: text
            .get("items")
            .filter(|items| items.is_object())
            .map(|items| Box::new(compile(items, depth + 1))),
        additional: match text.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(Value::Bool(false)) => Additional::Forbidden,
            Some(values @ Value::Object(_)) => Additional::Schema(Box::new(compile(values, depth + 1))),
            _ => Additional::None,
        },
        default: text
            .get("default")
            .filter(|value| !value.is_null())
            .map(|value| Box::new(value.clone())),
        list: match word("x-kubernetes-list-type") {
            "map" => ListType::Map,
            "set" => ListType::Set,
            _ => ListType::Atomic,
        },
        list_keys: words(text, "x-kubernetes-list-map-keys"),
        atomic: word("x-kubernetes-map-type") == "atomic",
        limits: limits(text, depth),
        rules: items(text, "x-kubernetes-validations").map(Rule::read).collect(),
    }
}

fn limits(text: &Map<String, Value>, depth: usize) -> Option<Box<Limits>> {
    const FIELDS: [&str; 18] = [
        "format",
        "maximum",
        "minimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "enum",
        "required",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "uniqueItems",
    ];
    if !FIELDS.iter().any(|name| text.contains_key(*name)) {
        return None;
    }
    let number = |name: &str| text.get(name).and_then(Value::as_f64);
    let count = |name: &str| text.get(name).and_then(Value::as_u64);
    let flag = |name: &str| text.get(name).and_then(Value::as_bool).unwrap_or_default();
    let word = |name: &str| {
        text.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let schemas = |name: &str| items(text, name).map(|one| compile(one, depth + 1)).collect();
    Some(Box::new(Limits {
        format: word("format").map(Into::into),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: word("pattern").map(Pattern::new),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        choices: items(text, "enum").cloned().collect(),
        required: words(text, "required"),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: text
            .get("not")
            .filter(|not| not.is_object())
            .map(|not| Box::new(compile(not, depth + 1))),
    }))
}

fn items<'a>(text: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    text.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn words(text: &Map<String, Value>, name: &str) -> Box<[Box<str>]> {
    items(text, name)
        .filter_map(|word| word.as_str().map(Into::into))
        .collect()
}
