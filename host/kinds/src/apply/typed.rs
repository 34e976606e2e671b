//! What structured merge knows of a value: whether it is one value, an object, or a list, who may own its
//! parts, and what tells list items apart. Invariants: it is a view, made of a built-in kind's schema, of a
//! custom kind's compiled schema, or of nothing (then it is deduced from the values, lists being atomic).

use serde_json::Value;

use super::element::Element;
use crate::custom::{Additional, Schema as CustomSchema, Type};
use crate::schema::{self, ListType, Schema, Shape};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Typed<'a> {
    /// By the schema of a built-in kind.
    BuiltIn(&'static Schema),
    /// By the schema of a custom kind; whether something above it keeps unknown fields.
    Custom(&'a CustomSchema, bool),
    /// A custom object, or one that is embedded in another: its metadata is known.
    CustomObject(&'a CustomSchema, bool),
    /// Whatever stands there; objects are merged, lists are atomic.
    Deduced,
    /// Whatever stands there, as one value.
    Untyped,
    /// Text.
    Text,
}

/// A value that is one; what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Any scalar.
    Any,
    /// Text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

/// How a value is treated.
#[derive(Debug, Clone, Copy)]
pub enum Atom<'a> {
    /// As one value.
    Scalar(Scalar),
    /// As an object.
    Map(MapAtom<'a>),
    /// As a list.
    List(ListAtom<'a>),
}

/// An object.
#[derive(Debug, Clone, Copy)]
pub struct MapAtom<'a> {
    of: Typed<'a>,
    /// Whether it has one owner as a whole.
    pub atomic: bool,
}

/// A list.
#[derive(Debug, Clone, Copy)]
pub struct ListAtom<'a> {
    /// How items relate.
    pub kind: ListType,
    /// What items are.
    pub items: Typed<'a>,
    keys: Keys<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Keys<'a> {
    BuiltIn(&'a [&'static str]),
    Custom(&'a [Box<str>]),
}

impl<'a> Typed<'a> {
    /// What a built-in kind is; none where it is not in the tables.
    pub fn built_in(api_version: &str, kind: &str) -> Option<Typed<'static>> {
        schema::of(api_version, kind).map(Typed::BuiltIn)
    }

    /// How a value of it is treated; an absent or null value may be anything that the type allows.
    pub fn atom(self, value: Option<&Value>) -> Atom<'a> {
        match self {
            Typed::BuiltIn(schema) => built_in(self, schema, value),
            Typed::Custom(schema, open) | Typed::CustomObject(schema, open) => {
                self.custom(schema, open || schema.preserve, value)
            }
            Typed::Deduced => open(self, value, false),
            Typed::Untyped => open(self, value, true),
            Typed::Text => Atom::Scalar(Scalar::Text),
        }
    }

    /// Every way in which a value of it may be treated.
    pub fn every(self) -> Vec<Atom<'a>> {
        let samples = [Value::Object(Default::default()), Value::Array(Vec::new())];
        let of = |value: &Value| self.atom(Some(value));
        match (of(&samples[0]), of(&samples[1])) {
            (map @ Atom::Map(_), list @ Atom::List(_)) => vec![map, list],
            (map @ Atom::Map(_), _) => vec![map],
            (_, other) => vec![other],
        }
    }

    /// Whether a schema says that the value has one owner; deduced values are not asked.
    pub(super) fn is_atomic(self) -> bool {
        if matches!(self, Typed::Deduced | Typed::Untyped | Typed::Text) {
            return false;
        }
        match self.atom(None) {
            Atom::Map(map) => map.atomic,
            Atom::List(list) => list.kind == ListType::Atomic,
            Atom::Scalar(_) => false,
        }
    }

    /// Whether its schema may have changed since an object was written.
    pub(super) fn may_change(self) -> bool {
        matches!(self, Typed::Custom(..) | Typed::CustomObject(..))
    }

    /// A custom object by the schema of its version.
    pub fn custom_object(schema: &'a CustomSchema) -> Self {
        Self::CustomObject(schema, false)
    }

    fn below(schema: &'a CustomSchema, open: bool) -> Self {
        if schema.embedded {
            Self::CustomObject(schema, open)
        } else {
            Self::Custom(schema, open)
        }
    }

    fn custom(self, schema: &'a CustomSchema, open: bool, value: Option<&Value>) -> Atom<'a> {
        let map = Atom::Map(MapAtom {
            of: self,
            atomic: schema.atomic,
        });
        let list = || {
            Atom::List(ListAtom {
                kind: schema.list,
                items: schema
                    .items
                    .as_deref()
                    .map_or(Typed::Untyped, |items| Self::below(items, open)),
                keys: Keys::Custom(&schema.list_keys),
            })
        };
        match schema.kind {
            Some(Type::Object) => map,
            Some(Type::Array) => list(),
            Some(Type::Integer | Type::Number) => Atom::Scalar(Scalar::Number),
            Some(Type::Boolean) => Atom::Scalar(Scalar::Boolean),
            Some(Type::String) if schema.format().is_none_or(|format| format == "byte") => {
                Atom::Scalar(Scalar::Text)
            }
            Some(Type::String) => Atom::Scalar(Scalar::Any),
            None => match value {
                None | Some(Value::Null | Value::Object(_)) => map,
                Some(Value::Array(_)) => list(),
                Some(_) => Atom::Scalar(Scalar::Any),
            },
        }
    }
}

fn built_in<'a>(of: Typed<'a>, schema: &'static Schema, value: Option<&Value>) -> Atom<'a> {
    match schema.shape() {
        Shape::Any if schema.definition() == Some(RAW_EXTENSION) => open(Typed::Untyped, value, true),
        Shape::Any => open(Typed::Deduced, value, false),
        Shape::String | Shape::Bytes => Atom::Scalar(Scalar::Text),
        Shape::Boolean => Atom::Scalar(Scalar::Boolean),
        Shape::Integer { .. } | Shape::Number => Atom::Scalar(Scalar::Number),
        Shape::Time | Shape::Quantity | Shape::IntOrString | Shape::Reference(_) => Atom::Scalar(Scalar::Any),
        Shape::Object(_) | Shape::Map(_) => Atom::Map(MapAtom {
            of,
            atomic: schema.is_atomic_map(),
        }),
        Shape::List(items) => Atom::List(ListAtom {
            kind: schema.list_type(),
            items: Typed::BuiltIn(items),
            keys: Keys::BuiltIn(schema.list_keys()),
        }),
    }
}

fn open<'a>(of: Typed<'a>, value: Option<&Value>, atomic: bool) -> Atom<'a> {
    match value {
        None | Some(Value::Null | Value::Object(_)) => Atom::Map(MapAtom { of, atomic }),
        Some(Value::Array(_)) => Atom::List(ListAtom {
            kind: ListType::Atomic,
            items: Typed::Untyped,
            keys: Keys::BuiltIn(&[]),
        }),
        Some(_) => Atom::Scalar(Scalar::Any),
    }
}

impl<'a> MapAtom<'a> {
    /// The step to a field.
    pub(super) fn element(&self, name: &str) -> Element {
        let declared = match self.of {
            Typed::BuiltIn(schema) => schema.fields(),
            _ => &[],
        };
        match declared.binary_search_by(|(own, _)| (*own).cmp(name)) {
            Ok(index) => Element::named(declared[index].0),
            Err(_) => Element::field(name),
        }
    }

    /// Whether an absent field is as good as an empty one: in the original it is no pointer and is written
    /// always, so that nobody adds or removes it.
    pub(super) fn always_has(&self, name: &str, field: Typed<'_>) -> bool {
        let (Typed::BuiltIn(parent), Typed::BuiltIn(field)) = (self.of, field) else {
            return false;
        };
        match field.shape() {
            Shape::Object(_) | Shape::Map(_) => field.defaults_to_zero() || parent.required().contains(&name),
            Shape::List(_) => parent.required().contains(&name),
            _ => false,
        }
    }

    /// What is at a key, and whether the schema names the key; none where the key may not be there.
    pub fn member(&self, name: &str) -> Option<(Typed<'a>, bool)> {
        match self.of {
            Typed::BuiltIn(schema) => match schema.shape() {
                Shape::Object(fields) if fields.is_empty() => Some((Typed::Deduced, false)),
                Shape::Object(_) => schema.field(name).map(|field| (Typed::BuiltIn(field), true)),
                Shape::Map(values) => Some((Typed::BuiltIn(values), false)),
                _ => Some((Typed::Deduced, false)),
            },
            Typed::CustomObject(..) if matches!(name, "apiVersion" | "kind") => Some((Typed::Text, true)),
            Typed::CustomObject(..) if name == "metadata" => {
                let metadata = schema::definition_schema(OBJECT_META).map(Typed::BuiltIn);
                Some((metadata.unwrap_or(Typed::Deduced), true))
            }
            Typed::Custom(schema, open) | Typed::CustomObject(schema, open) => {
                custom_member(schema, open || schema.preserve, name)
            }
            Typed::Deduced => Some((Typed::Deduced, false)),
            Typed::Untyped => Some((Typed::Untyped, false)),
            Typed::Text => None,
        }
    }
}

fn custom_member<'a>(schema: &'a CustomSchema, open: bool, name: &str) -> Option<(Typed<'a>, bool)> {
    if let Some(field) = schema.property(name) {
        return Some((Typed::below(field, open), true));
    }
    match &schema.additional {
        Additional::Schema(values) => Some((Typed::below(values, open), false)),
        Additional::Any => Some((Typed::Deduced, false)),
        Additional::Forbidden => None,
        Additional::None if open || schema.properties.is_empty() => Some((Typed::Deduced, false)),
        Additional::None => None,
    }
}

impl<'a> ListAtom<'a> {
    /// The item's name in sets of fields.
    pub fn element(&self, item: &Value) -> Result<Element, String> {
        if self.kind == ListType::Set {
            return match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                value => Ok(Element::Value(Box::new(value.clone()))),
            };
        }
        let Value::Object(fields) = item else {
            return Err(match item {
                Value::Null => "associative list with keys may not have a null element".into(),
                _ => "associative list with keys may not have non-map elements".into(),
            });
        };
        let mut keys: Vec<(Box<str>, Value)> = Vec::new();
        self.each_key(|name| {
            let key = fields.get(name).cloned().or_else(|| self.default_of(name));
            keys.extend(key.map(|key| (name.into(), key)));
        });
        if keys.is_empty() {
            let names = self.key_names();
            return Err(format!(
                "associative list with keys has an element that omits all key fields {names} (and doesn't have \
                 default values for any key fields)"
            ));
        }
        Ok(Element::keys(keys.into_iter()))
    }

    fn each_key(&self, mut visit: impl FnMut(&str)) {
        match self.keys {
            Keys::BuiltIn(keys) => keys.iter().for_each(|key| visit(key)),
            Keys::Custom(keys) => keys.iter().for_each(|key| visit(key)),
        }
    }

    fn key_names(&self) -> String {
        let mut names = Vec::new();
        self.each_key(|name| names.push(format!("{name:?}")));
        format!("[{}]", names.join(" "))
    }

    fn default_of(&self, key: &str) -> Option<Value> {
        match self.items {
            Typed::BuiltIn(schema) => {
                let field = schema.field(key)?;
                let zero = || match field.shape() {
                    Shape::String => Value::from(""),
                    Shape::Integer { .. } => Value::from(0),
                    _ => Value::Null,
                };
                let stated = field.default_value().cloned();
                stated.or_else(|| field.defaults_to_zero().then(zero).filter(|zero| !zero.is_null()))
            }
            Typed::Custom(schema, _) | Typed::CustomObject(schema, _) => {
                schema.property(key)?.default.as_deref().cloned()
            }
            _ => None,
        }
    }
}
