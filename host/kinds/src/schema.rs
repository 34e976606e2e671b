//! Schemas of the built-in kinds: types, defaults, required fields, list kinds, merge keys.
//! Invariants: read once, on first use, from the embedded OpenAPI definitions into a compact tree whose
//! strings and raw definitions are slices of the embedded text; `$ref`s are indexes, so nothing is copied.
//! Patching, defaulting and validation walk it; the API server publishes the raw definitions as OpenAPI.
//! Schemas of custom resources are the API server's own.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const BUILT_IN: &str = include_str!("../data/schemas.json");
const REFERENCE: &str = "#/components/schemas/";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// Definitions that hold any JSON, though their schema may say `object`.
const FREE: [&str; 6] = [
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// The schema of a value: of a whole kind or of one field.
#[derive(Debug)]
pub struct Schema {
    shape: Shape,
    required: Box<[&'static str]>,
    default: Option<Box<Value>>,
    zero_default: bool,
    list_keys: Box<[&'static str]>,
    list: ListType,
    map_atomic: Option<bool>,
    merge_key: Option<&'static str>,
    strategy: Strategy,
    definition: Option<&'static str>,
}

/// What a value is.
#[derive(Debug)]
pub enum Shape {
    /// Any JSON.
    Any,
    /// Text.
    String,
    /// Base64 text.
    Bytes,
    /// RFC 3339 text.
    Time,
    /// True or false.
    Boolean,
    /// A whole number; whether it has 32 bits.
    Integer {
        /// Whether it has 32 bits rather than 64.
        short: bool,
    },
    /// Any number.
    Number,
    /// A resource quantity.
    Quantity,
    /// A whole number, or text such as a percentage.
    IntOrString,
    /// Named fields, sorted.
    Object(Box<[(&'static str, Schema)]>),
    /// Any keys, values of one schema.
    Map(Box<Schema>),
    /// Items of one schema.
    List(Box<Schema>),
    /// Another definition, by index.
    Reference(u16),
}

/// How the items of a list relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Each value at most once.
    Set,
    /// Each combination of the list keys at most once.
    Map,
}

/// What a strategic merge patch does to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strategy {
    /// Lists are merged, by the merge key if their items are objects.
    pub merge: bool,
    /// The value is replaced even where objects would be merged.
    pub replace: bool,
    /// Keys that the patch does not name may be cleared (`$retainKeys`).
    pub retain_keys: bool,
}

impl Schema {
    /// The schema of the value behind a reference; itself otherwise.
    pub fn resolve(&'static self) -> &'static Schema {
        match self.shape {
            Shape::Reference(index) => DEFINITIONS.entries[usize::from(index)].schema.resolve(),
            _ => self,
        }
    }

    /// What a value of it is, references followed.
    pub fn shape(&'static self) -> &'static Shape {
        &self.resolve().shape
    }

    /// The schema of a member: a named field, or any key of a map.
    pub fn field(&'static self, name: &str) -> Option<&'static Schema> {
        match self.shape() {
            Shape::Object(fields) => fields
                .binary_search_by(|(field, _)| (*field).cmp(name))
                .ok()
                .map(|index| &fields[index].1),
            Shape::Map(values) => Some(values),
            _ => None,
        }
    }

    /// Named fields, sorted; empty for anything but an object.
    pub fn fields(&'static self) -> &'static [(&'static str, Schema)] {
        match self.shape() {
            Shape::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The schema of a list's items.
    pub fn items(&'static self) -> Option<&'static Schema> {
        match self.shape() {
            Shape::List(items) => Some(items),
            _ => None,
        }
    }

    /// Fields that must be there.
    pub fn required(&'static self) -> &'static [&'static str] {
        &self.resolve().required
    }

    /// The default, unless it is the zero of its type.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_deref()
    }

    /// Whether the default is the zero of its type: such a field is there even where nobody wrote it.
    pub fn defaults_to_zero(&self) -> bool {
        self.zero_default
    }

    /// Whether an object is one value with one owner; a field may say so for what it refers to.
    pub fn is_atomic_map(&'static self) -> bool {
        self.map_atomic.or(self.resolve().map_atomic).unwrap_or(false)
    }

    /// How a list's items relate.
    pub fn list_type(&self) -> ListType {
        self.list
    }

    /// The keys that tell a map list's items apart.
    pub fn list_keys(&self) -> &[&'static str] {
        &self.list_keys
    }

    /// The key that a strategic merge patch matches items by.
    pub fn merge_key(&self) -> Option<&'static str> {
        self.merge_key
    }

    /// What a strategic merge patch does to the field.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The name of the definition behind it, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(&'static self) -> Option<&'static str> {
        self.resolve().definition
    }
}

struct Definition {
    name: &'static str,
    raw: &'static str,
    schema: Schema,
}

struct Definitions {
    entries: Vec<Definition>,
    kinds: HashMap<String, usize>,
}

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(load);

/// The definition of a kind, such as `io.k8s.api.apps.v1.Deployment`.
pub fn definition_name(api_version: &str, kind: &str) -> Option<&'static str> {
    DEFINITIONS
        .kinds
        .get(&kind_key(api_version, kind))
        .map(|index| DEFINITIONS.entries[*index].name)
}

/// The schema of a kind.
pub fn of(api_version: &str, kind: &str) -> Option<&'static Schema> {
    DEFINITIONS
        .kinds
        .get(&kind_key(api_version, kind))
        .map(|index| &DEFINITIONS.entries[*index].schema)
}

/// Every definition's name and raw JSON, sorted by name.
pub fn definitions() -> impl Iterator<Item = (&'static str, &'static str)> {
    DEFINITIONS
        .entries
        .iter()
        .map(|definition| (definition.name, definition.raw))
}

/// The raw JSON of one definition, with references as in `#/components/schemas/NAME`.
pub fn definition_json(name: &str) -> Option<&'static str> {
    index_of(name).map(|index| DEFINITIONS.entries[index].raw)
}

/// The schema of one definition.
pub fn definition_schema(name: &str) -> Option<&'static Schema> {
    index_of(name).map(|index| &DEFINITIONS.entries[index].schema)
}

/// The given definitions and all that they refer to.
pub fn closure<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let mut open: Vec<usize> = names.into_iter().filter_map(index_of).collect();
    let mut seen = BTreeSet::new();
    while let Some(index) = open.pop() {
        let definition = &DEFINITIONS.entries[index];
        if seen.insert(definition.name) {
            collect(&definition.schema, &mut open);
            // Free-form definitions are read as "any", but their text may still refer to others.
            open.extend(references(definition.raw).filter_map(index_of));
        }
    }
    seen
}

fn collect(schema: &'static Schema, open: &mut Vec<usize>) {
    match &schema.shape {
        Shape::Reference(index) => open.push(usize::from(*index)),
        Shape::Object(fields) => fields.iter().for_each(|(_, field)| collect(field, open)),
        Shape::Map(inner) | Shape::List(inner) => collect(inner, open),
        _ => {}
    }
}

fn references(raw: &'static str) -> impl Iterator<Item = &'static str> {
    raw.split(REFERENCE)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
}

fn index_of(name: &str) -> Option<usize> {
    DEFINITIONS
        .entries
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
}

fn kind_key(api_version: &str, kind: &str) -> String {
    format!("{api_version} {kind}")
}

#[derive(Deserialize)]
struct RawSchema<'a> {
    #[serde(borrow, rename = "$ref")]
    reference: Option<&'a str>,
    #[serde(borrow, default, rename = "allOf")]
    all_of: Vec<RawSchema<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a str>,
    #[serde(borrow)]
    format: Option<&'a str>,
    #[serde(borrow, default)]
    properties: HashMap<&'a str, RawSchema<'a>>,
    #[serde(borrow)]
    items: Option<Box<RawSchema<'a>>>,
    #[serde(borrow, rename = "additionalProperties")]
    additional: Option<Box<RawSchema<'a>>>,
    #[serde(borrow, default)]
    required: Vec<&'a str>,
    default: Option<Value>,
    #[serde(borrow, rename = "x-kubernetes-list-type")]
    list_type: Option<&'a str>,
    #[serde(borrow, default, rename = "x-kubernetes-list-map-keys")]
    list_keys: Vec<&'a str>,
    #[serde(borrow, rename = "x-kubernetes-map-type")]
    map_type: Option<&'a str>,
    #[serde(borrow, rename = "x-kubernetes-patch-merge-key")]
    merge_key: Option<&'a str>,
    #[serde(borrow, rename = "x-kubernetes-patch-strategy")]
    strategy: Option<&'a str>,
    #[serde(default, rename = "x-kubernetes-preserve-unknown-fields")]
    free: bool,
    #[serde(default, rename = "x-kubernetes-int-or-string")]
    int_or_string: bool,
    #[serde(borrow, default, rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<GroupVersionKind<'a>>,
}

#[derive(Deserialize)]
struct GroupVersionKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

/// The embedded text is part of the program: a flaw in it is a flaw of the build, found by the first test.
fn load() -> Definitions {
    let mut raw: Vec<(&'static str, &'static str)> = Vec::new();
    for text in [BUILT_IN, crate::plugin::SCHEMAS] {
        let document: HashMap<&'static str, &'static RawValue> =
            serde_json::from_str(text).expect("embedded schemas are JSON");
        raw.extend(document.into_iter().map(|(name, value)| (name, value.get())));
    }
    raw.sort_unstable();
    let names: Vec<&'static str> = raw.iter().map(|(name, _)| *name).collect();
    let mut kinds = HashMap::new();
    let entries = raw
        .iter()
        .enumerate()
        .map(|(index, (name, text))| {
            let parsed: RawSchema<'static> =
                serde_json::from_str(text).expect("embedded schemas have a known form");
            for one in &parsed.kinds {
                let api_version = if one.group.is_empty() {
                    one.version.to_string()
                } else {
                    format!("{}/{}", one.group, one.version)
                };
                kinds.insert(kind_key(&api_version, one.kind), index);
            }
            Definition {
                name,
                raw: text,
                schema: compact(parsed, Some(name), &names),
            }
        })
        .collect();
    Definitions { entries, kinds }
}

fn compact(raw: RawSchema<'static>, definition: Option<&'static str>, names: &[&'static str]) -> Schema {
    let strategy = raw.strategy.unwrap_or_default();
    Schema {
        required: raw.required.clone().into_boxed_slice(),
        zero_default: raw.default.as_ref().is_some_and(is_zero),
        default: raw.default.clone().filter(|value| !is_zero(value)).map(Box::new),
        map_atomic: raw.map_type.map(|kind| kind == "atomic"),
        list_keys: raw.list_keys.clone().into_boxed_slice(),
        list: match raw.list_type {
            Some("map") => ListType::Map,
            Some("set") => ListType::Set,
            _ => ListType::Atomic,
        },
        merge_key: raw.merge_key,
        strategy: Strategy {
            merge: strategy.contains("merge"),
            replace: strategy.contains("replace"),
            retain_keys: strategy.contains("retainKeys"),
        },
        definition,
        shape: shape(raw, definition, names),
    }
}

fn shape(raw: RawSchema<'static>, definition: Option<&'static str>, names: &[&'static str]) -> Shape {
    match definition {
        Some(QUANTITY) => return Shape::Quantity,
        Some(INT_OR_STRING) => return Shape::IntOrString,
        Some(name) if FREE.contains(&name) => return Shape::Any,
        _ => {}
    }
    let reference = raw
        .reference
        .or_else(|| raw.all_of.first().and_then(|first| first.reference));
    if let Some(index) = reference
        .and_then(|path| path.strip_prefix(REFERENCE))
        .and_then(|name| names.binary_search(&name).ok())
    {
        return Shape::Reference(u16::try_from(index).expect("fewer definitions than 65536"));
    }
    if raw.int_or_string {
        return Shape::IntOrString;
    }
    if let Some(items) = raw.items {
        return Shape::List(Box::new(compact(*items, None, names)));
    }
    if raw.free {
        return Shape::Any;
    }
    if let Some(values) = raw.additional {
        return Shape::Map(Box::new(compact(*values, None, names)));
    }
    match (raw.kind, raw.format) {
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), Some("date-time")) => Shape::Time,
        (Some("string"), _) => Shape::String,
        (Some("boolean"), _) => Shape::Boolean,
        (Some("integer"), format) => Shape::Integer {
            short: format == Some("int32"),
        },
        (Some("number"), _) => Shape::Number,
        (Some("object"), _) => {
            let mut fields: Vec<(&'static str, Schema)> = raw
                .properties
                .into_iter()
                .map(|(name, field)| (name, compact(field, None, names)))
                .collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            Shape::Object(fields.into_boxed_slice())
        }
        _ => Shape::Any,
    }
}

/// Zeros of a type are what decoding gives anyway: the original leaves most of them out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;

    #[test]
    fn every_kind_has_a_schema_and_a_list_schema() {
        for row in resource::all() {
            let api_version = row.api_version();
            assert!(
                of(&api_version, &row.kind).is_some(),
                "{api_version} {}",
                row.kind
            );
            if row.verbs.iter().any(|verb| verb == "list") {
                assert!(
                    of(&api_version, &row.list_kind).is_some(),
                    "{api_version} {}",
                    row.list_kind
                );
            }
        }
    }

    #[test]
    fn walks_to_merge_keys_and_defaults() {
        let deployment = of("apps/v1", "Deployment").unwrap();
        assert_eq!(
            definition_name("apps/v1", "Deployment"),
            Some("io.k8s.api.apps.v1.Deployment")
        );
        let spec = deployment.field("spec").unwrap();
        assert!(spec.field("strategy").unwrap().strategy().retain_keys);
        let containers = spec
            .field("template")
            .unwrap()
            .field("spec")
            .unwrap()
            .field("containers")
            .unwrap();
        assert_eq!(
            (containers.merge_key(), containers.list_type()),
            (Some("name"), ListType::Map)
        );
        let ports = containers.items().unwrap().field("ports").unwrap();
        assert_eq!(ports.list_keys(), ["containerPort", "protocol"]);
        assert_eq!(
            ports.items().unwrap().field("protocol").unwrap().default_value(),
            Some(&Value::from("TCP"))
        );
        assert!(matches!(
            spec.field("replicas").unwrap().shape(),
            Shape::Integer { short: true }
        ));
        assert_eq!(spec.definition(), Some("io.k8s.api.apps.v1.DeploymentSpec"));
    }

    #[test]
    fn closure_is_complete_and_raw_text_is_json() {
        let names = closure(["io.k8s.api.core.v1.Pod"]);
        assert!(
            names.contains("io.k8s.api.core.v1.Container")
                && !names.contains("io.k8s.api.apps.v1.Deployment")
        );
        for name in names {
            let raw = definition_json(name).unwrap();
            assert!(serde_json::from_str::<Value>(raw).is_ok());
            for reference in references(raw) {
                assert!(
                    definition_json(reference).is_some(),
                    "{name} refers to {reference}"
                );
            }
        }
    }
}
